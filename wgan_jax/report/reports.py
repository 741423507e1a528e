"""The reports of a run while it goes on: records, events, progress and pictures."""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self, TypeVar

import jax

from wgan_jax.data import Source
from wgan_jax.method.gan import Gan
from wgan_jax.method.state import TrainState
from wgan_jax.report.events import Events
from wgan_jax.report.gallery import draw_samples
from wgan_jax.report.progress import Progress
from wgan_jax.report.records import Record, Records

T = TypeVar("T")


class Reports:
    """The reports that a training loop makes. This class writes nothing, for all hosts but the first: see `Files`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def waiting(self, stream: Iterable[T]) -> Iterable[T]:
        """Returns the items of a stream. The time until each arrives counts as waiting for data."""
        return stream

    def write(self, record: Record) -> None:
        """Takes the record of an iteration. Each comes exactly once, in order."""

    def highlight(self, record: Record) -> None:
        """Takes a record that `write` has taken already and that people want to see."""

    def progress(self, step: int, images: int, name: str, value: float) -> None:
        """Says that `step` iterations are done, with `images` more real images than before, and shows one number."""

    def picture(self, gan: Gan, state: TrainState, step: int) -> None:
        """Draws samples of the state after `step` iterations."""

    def flush(self) -> None:
        """Puts all records on the disk. A checkpoint must not be there before the records up to its step are."""


class Files(Reports):
    """Writes a run's records, events for TensorBoard and pictures into its folder, and its progress for people."""

    def __init__(self, workdir: Path, start: int, steps: int, *, key: jax.Array, real: Source):
        """Begins nothing yet.

        Args:
          workdir: the run's folder.
          start: number of iterations done.
          steps: number of iterations of the whole run.
          key: key of the latents of the pictures.
          real: examples that pictures compare samples with.
        """
        self._workdir, self._start, self._steps, self._key, self._real = workdir, start, steps, key, real

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._records = stack.enter_context(Records(self._workdir, self._start))
            self._events = stack.enter_context(Events(self._workdir, self._start))
            self._progress = stack.enter_context(Progress(self._start, self._steps))
            self._open = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def waiting(self, stream: Iterable[T]) -> Iterator[T]:
        return self._progress.waiting(stream)

    def write(self, record: Record) -> None:
        self._records.write(record)

    def highlight(self, record: Record) -> None:
        self._events.write(record)
        self._events.flush()

    def progress(self, step: int, images: int, name: str, value: float) -> None:
        self._progress.update(step, images, name, value)

    def picture(self, gan: Gan, state: TrainState, step: int) -> None:
        draw_samples(self._workdir, gan, state, self._key, step, self._real)

    def flush(self) -> None:
        self._records.flush()
