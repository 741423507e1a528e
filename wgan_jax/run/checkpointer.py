"""Writes checkpoints in the background while a run trains, and deletes those that are no longer wanted."""

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
from wgan_jax.run.best import score
from wgan_jax.run.seal import SEAL

DELETED = ".deleted"
TEMPORARY = re.compile(rf"\d+({re.escape(PARTIAL)}|({re.escape(PARTIAL)})?\.orbax-checkpoint-tmp.*)")
"""Pattern of the names of unfinished checkpoints, including the temporary folders of orbax."""
LEAVING = re.compile(rf"\d+{re.escape(DELETED)}")
"""Pattern of the names of checkpoints that are being deleted. Such a folder contains its seal until it is empty."""


class Checkpointer:
    """A writer of the checkpoints of one run, as `workdir/checkpoints/<step>`.

    Checkpoints are written in the background. Leaving the `with` block waits until the last one is written.

    If several hosts share a run, all of them must create a checkpointer together and save the same steps, each with
    its part of the state. The first host writes the seals and deletes old checkpoints.

    Creating a checkpointer removes what a killed run has left unfinished. It never removes or overwrites anything that
    the run has not written, nor a checkpoint that contains a foreign file.

    Args:
      workdir: folder of the run.
      keep: number of the newest checkpoints to keep.
      best: name of a metric. The checkpoint that is best by it is kept too; "" keeps only the newest.
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
        """Copies the state to the host. Threads then write, digest and seal it while the run continues.

        Args:
          step: number of iterations done.
          state: state after them. If several hosts share the run, each passes its part.
          metrics: metrics of that step, which the record of the checkpoint keeps.

        Raises:
          UserError: if the previous checkpoint could not be written, or if something else has the name of this one.
        """
        self.wait()
        metrics = {name: float(number) for name, number in (metrics or {}).items()}
        if self._best in metrics:
            self._values[step] = score(self._best, metrics[self._best])
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
          UserError: if it could not be written; the message gives the reason.
        """
        writing, self._writing = self._writing, None
        try:
            if writing:
                writing.result()
        except UserError:
            raise
        except Exception as error:  # orbax and the file systems below it raise errors of any type
            raise UserError(
                f"a checkpoint in {self._folder} could not be written: {checkpoint.short(error)}; the ones before it "
                "are whole: free the disk or correct the permissions, and start again to go on with the run"
            ) from error

    def _prune(self) -> None:
        """Deletes the checkpoints that need not be kept, except those that are being read or contain foreign files."""
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
    """Returns a copy of an array in the memory of this host, or of the integers of a random key.

    A copy is needed because the next step reuses the memory of the array.
    """
    return np.array(seal.numbers(x).addressable_data(0))


def _remove_leftovers(place: Path) -> None:
    """Removes the folders that a killed run has left unfinished, found by their names and contents."""
    for path in place.iterdir():
        if path.is_symlink() or not path.is_dir():
            continue
        if TEMPORARY.fullmatch(path.name):
            shutil.rmtree(path)
        elif LEAVING.fullmatch(path.name) and ((path / SEAL).is_file() or not any(path.iterdir())):
            seal.remove(path)
