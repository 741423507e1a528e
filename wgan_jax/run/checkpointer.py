"""Writes a run's checkpoints while it goes on, and keeps those that are asked for."""

import math
import re
import shutil
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Self

import jax
import numpy as np

from wgan_jax.errors import UserError
from wgan_jax.files import PARTIAL
from wgan_jax.method.state import TrainState, named_arrays
from wgan_jax.run import checkpoint, seal
from wgan_jax.run.seal import SEAL

DELETED = ".deleted"
TEMPORARY = re.compile(rf"\d+({re.escape(PARTIAL)}|({re.escape(PARTIAL)})?\.orbax-checkpoint-tmp.*)")
"""Names of checkpoints that are not whole yet, orbax's own temporaries among them."""
LEAVING = re.compile(rf"\d+{re.escape(DELETED)}")
"""Names of checkpoints that are being deleted; as long as anything is in one, its seal is."""


class Checkpointer:
    """Writes the checkpoints of one run under `workdir/checkpoints/<step>`.

    The newest `keep` stay, and the one that is best by the metric `best`, if it is named. Writing goes on in the
    background; leaving the `with` block waits for it. All hosts of a run must make one together, and save the same
    steps, each with its share of the state; the first one seals and tidies up. What a killed run left unfinished is
    removed at the start. Nothing is removed or overwritten that the run did not write itself, nor a checkpoint that
    holds somebody else's file.
    """

    def __init__(self, workdir: Path, keep: int = 3, best: str = ""):
        self._workdir, self._keep, self._best = workdir, keep, best
        self._folder = checkpoint.folder(workdir).absolute()
        self._first = jax.process_index() == 0
        checkpoint.count_alike()
        self._values: dict[int, float] = {}
        if self._first:
            self._folder.mkdir(parents=True, exist_ok=True)
            _remove_leftovers(self._folder)
            if best:
                self._values = {step: checkpoint.value(workdir, step, best) for step in checkpoint.steps(workdir)}
            self._prune()
        self._writer = ThreadPoolExecutor(max_workers=1)
        self._writing: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.wait()
        finally:
            self._writer.shutdown()

    def save(self, step: int, state: TrainState, metrics: Mapping[str, float] | None = None) -> None:
        """Copies the state to the host, and lets threads write, digest and seal it while the run goes on.

        Args:
          step: iterations done.
          state: after them; of several hosts, each gives its share.
          metrics: of that step, kept in the checkpoint's record.

        Raises:
          UserError: if the checkpoint before this one could not be written, or something else has this one's name.
        """
        self.wait()
        metrics = {name: float(number) for name, number in (metrics or {}).items()}
        if self._best in metrics:
            self._values[step] = checkpoint.score(self._best, metrics[self._best])
        path = self._folder / str(step)
        written = checkpoint.begin(path, state)
        record = checkpoint.record_of(state, metrics)
        copies = {name: _copy(x) for name, x in named_arrays(state).items()} if self._first else {}

        def finish() -> None:
            written()
            if self._first:
                checkpoint.finish(path, record, copies)
                self._prune()

        self._writing = self._writer.submit(finish)

    def wait(self) -> None:
        """Waits until the last checkpoint is on the disk.

        Raises:
          UserError: if it could not be written.
        """
        writing, self._writing = self._writing, None
        try:
            if writing:
                writing.result()
        except UserError:
            raise
        except Exception as error:  # orbax and the file systems below it raise what they like
            raise UserError(
                f"a checkpoint in {self._folder} could not be written: {checkpoint.short(error)}; the ones before it "
                "are whole: free the disk or correct the permissions, and start again to go on with the run"
            ) from error

    def _prune(self) -> None:
        """Deletes the checkpoints that are not to be kept, but for one that is being read or holds foreign files."""
        there = checkpoint.steps(self._workdir)
        kept = there[: self._keep]
        if self._best and there:
            kept += [min(there, key=lambda step: self._values.get(step, math.inf))]
        for step in set(there) - set(kept):
            path = self._folder / str(step)
            with seal.held(path, exclusive=True) as free:
                if free and not seal.foreign(path):
                    seal.remove(path.rename(path.with_name(path.name + DELETED)))


def _copy(x: jax.Array) -> np.ndarray:
    """An array's copy on this host, since the next step is given the array's memory; of a key its numbers."""
    return np.array(seal.numbers(x).addressable_data(0))


def _remove_leftovers(place: Path) -> None:
    """Removes what a killed run left unfinished, by name and form."""
    for path in place.iterdir():
        if path.is_symlink() or not path.is_dir():
            continue
        if TEMPORARY.fullmatch(path.name):
            shutil.rmtree(path)
        elif LEAVING.fullmatch(path.name) and ((path / SEAL).is_file() or not any(path.iterdir())):
            seal.remove(path)
