"""Saving and restoring a run's state with orbax.

Each checkpoint carries the name and type of every array, in the same atomic commit, so that one of another network is
refused by name. Once it is on the disk it is sealed with a digest of each of its files, so that damage of any kind is
found before anything is read; one that a kill left unsealed is guarded by the checksums inside orbax's own format.
A checkpoint is data: nothing in it is executed.
"""

import hashlib
import json
import math
import shutil
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import jax
from orbax.checkpoint import v1 as ocp

from wgan_jax.errors import UserError
from wgan_jax.gan import Gan, build
from wgan_jax.state import TrainState, init_state, named_arrays
from wgan_jax.workdir import read_config

FORMAT = 1
"""Of the state in a checkpoint; one of another format is refused."""
SEAL = "files.sha256.json"


class Damaged(Exception):  # noqa: N818
    """A checkpoint that cannot be read, or is not what was written."""


class Checkpointer:
    """Writes the checkpoints of one run under `workdir/checkpoints/<step>`.

    The newest `keep` stay, and the one where the metric `best`, if it is named, was lowest.
    All hosts of a run must save the same steps, each with its part of the state; the first one tidies up.
    Writing goes on in the background; leaving the `with` block waits for it. What a killed run left unfinished is
    cleaned up at the start.
    """

    def __init__(self, workdir: Path, keep: int = 3, best: str = ""):
        self._workdir, self._keep, self._best = workdir, keep, best
        self._folder = folder(workdir).absolute()
        self._first = jax.process_index() == 0
        if self._first:
            self._folder.mkdir(parents=True, exist_ok=True)
            for path in self._folder.iterdir():
                if path.is_dir() and not path.name.isdecimal():
                    shutil.rmtree(path)
        self._values = (
            {step: value(self._folder / str(step), best) for step in steps(workdir)} if best and self._first else {}
        )
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
        """Copies the state to the host, and lets a thread write it while the run goes on.

        Args:
          step: iterations done.
          state: after them.
          metrics: of that step, where the best one is to be kept.

        Raises:
          UserError: if the checkpoint before this one could not be written.
        """
        self.wait()
        record: dict[str, Any] = {"format": FORMAT, "arrays": describe(state)}
        if metrics and self._best in metrics:
            record["metrics"] = {self._best: metrics[self._best]}
            self._values[step] = metrics[self._best]
        path = self._folder / str(step)
        response = ocp.save_async(path, state, checkpointable_name="state", overwrite=True, custom_metadata=record)

        def finish() -> None:
            response.result()
            if self._first:
                seal(path)
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
        except Exception as error:  # orbax and the file systems below it raise what they like
            raise UserError(
                f"a checkpoint in {self._folder} could not be written: {_short(error)}; the ones before it are whole: "
                "free the disk or mend the permissions, and start again to go on with the run"
            ) from error

    def _prune(self) -> None:
        """Deletes the checkpoints that are not to be kept."""
        there = steps(self._workdir)
        kept = there[: self._keep]
        if self._best:
            kept += [min(there, key=lambda step: self._values.get(step, math.inf))]
        for step in set(there) - set(kept):
            path = self._folder / str(step)
            shutil.rmtree(path.rename(path.with_suffix(".deleted")))


def value(path: Path, metric: str) -> float:
    """What a metric was at a checkpoint; infinite if that is not known."""
    try:
        with alone():
            record = ocp.metadata(path).custom_metadata or {}
        return float(dict(record["metrics"])[metric])
    except Exception:  # a damaged checkpoint, or one that was saved without
        return math.inf


def alone() -> ocp.Context:
    """Keeps orbax to this host: the first one of a run reads a checkpoint, and tells the others."""
    context, here = ocp.Context(), jax.process_index()
    if jax.process_count() > 1:
        context.multiprocessing_options.primary_host = here
        context.multiprocessing_options.active_processes = {here}
    return context


def folder(workdir: Path) -> Path:
    """Where a run's checkpoints are."""
    return workdir / "checkpoints"


def steps(workdir: Path) -> list[int]:
    """The steps of a run's checkpoints, the newest first."""
    if not folder(workdir).is_dir():
        return []
    return sorted((int(path.name) for path in folder(workdir).iterdir() if path.name.isdecimal()), reverse=True)


def load(workdir: Path, step: int, gan: Gan) -> TrainState:
    """The state of one checkpoint, on this process's first device.

    Raises:
      Damaged: if it cannot be read, or differs from what was written.
      UserError: if it is of another network or another version, naming the differences.
    """
    path = folder(workdir) / str(step)
    check_seal(path)
    try:
        with alone():
            record = ocp.metadata(path.absolute()).custom_metadata or {}
        arrays = dict(record["arrays"])
    except Exception as error:
        raise Damaged(f"its metadata cannot be read: {_short(error)}") from error
    _check_same_arrays(path, record.get("format"), arrays, describe(abstract_state(gan)))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with alone():
                state = ocp.load(path.absolute(), abstract_state(gan), checkpointable_name="state")
    except Exception as error:
        raise Damaged(f"its arrays cannot be read: {_short(error)}") from error
    if describe(state) != arrays:
        raise Damaged("its arrays have not the types that were written")
    return state


def seal(path: Path) -> None:
    """Writes the digest of every file of a checkpoint beside them."""
    digests = {str(file.relative_to(path)): _digest(file) for file in sorted(path.rglob("*")) if file.is_file()}
    partial = path / f"{SEAL}.partial"
    partial.write_text(json.dumps(digests, indent=1))
    partial.rename(path / SEAL)


def check_seal(path: Path) -> None:
    """Raises `Damaged` if a file of a sealed checkpoint is not what it was, or a link leads out of it."""
    if any(entry.is_symlink() for entry in [path, *path.rglob("*")]):
        raise Damaged("it holds a symbolic link")
    if not (path / SEAL).exists():
        return
    try:
        digests = {str(name): str(digest) for name, digest in json.loads((path / SEAL).read_bytes()).items()}
    except (ValueError, AttributeError):
        raise Damaged(f"its {SEAL} cannot be read") from None
    for name, digest in digests.items():
        file = path / name
        if not file.is_file():
            raise Damaged(f"its file {name} is missing")
        if _digest(file) != digest:
            raise Damaged(f"its file {name} has changed")


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def newest(workdir: Path, gan: Gan, warn: Callable[[str], None] = print) -> tuple[int, TrainState] | None:
    """The step and state of the newest checkpoint that is whole; None if there is none at all.

    Raises:
      UserError: if every checkpoint is damaged, or one is of another network.
    """
    damaged = {}
    for step in steps(workdir):
        try:
            state = load(workdir, step, gan)
        except Damaged as error:
            damaged[step] = str(error)
            continue
        for bad, why in damaged.items():
            warn(f"checkpoint {folder(workdir) / str(bad)} is damaged ({why}); using that of step {step}")
        return step, state
    if damaged:
        reasons = "; ".join(f"{step}: {why}" for step, why in damaged.items())
        raise UserError(
            f"every checkpoint in {folder(workdir)} is damaged ({reasons}); nothing was deleted: "
            "restore one from a backup, or start in another workdir"
        )
    return None


def set_aside(workdir: Path, beyond: int) -> None:
    """Moves checkpoints newer than a step to `workdir/damaged`, out of the way of the run that repeats their steps."""
    for step in steps(workdir):
        if step > beyond:
            place = workdir / "damaged" / str(step)
            place.parent.mkdir(exist_ok=True)
            number = 1
            while place.exists():
                place = place.with_name(f"{step}-{number}")
                number += 1
            (folder(workdir) / str(step)).rename(place)


def restore(workdir: str | Path) -> tuple[Gan, TrainState]:
    """The GAN and the newest state of the run in `workdir`.

    Raises:
      UserError: if there is no run, no checkpoint, or none that is whole.
    """
    workdir = Path(workdir)
    gan = build(read_config(workdir))
    found = newest(workdir, gan)
    if found is None:
        raise UserError(f"{folder(workdir)} holds no checkpoint yet; start the run again to go on with it")
    return gan, found[1]


def abstract_state(gan: Gan) -> TrainState:
    """Shapes, types and placement of a state, without its arrays."""
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    shapes = jax.eval_shape(lambda key: init_state(gan, key), jax.random.key(0))
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), shapes)


def describe(state: TrainState) -> dict[str, str]:
    """Every array by name: `{"critic/variables/params/…": "float32[256,1]", …}`."""
    return {name: f"{x.dtype}{list(x.shape)}" for name, x in named_arrays(state).items()}


def _check_same_arrays(path: Path, number: Any, there: dict[str, str], here: dict[str, str]) -> None:
    if number != FORMAT:
        raise UserError(
            f"{path} has format {number}, and this version of wgan_jax reads format {FORMAT}; "
            "go on with the version that wrote it, or start in another workdir"
        )
    names = sorted(name for name in there.keys() | here.keys() if there.get(name) != here.get(name))
    if names:
        shown = "; ".join(f"{n}: {there.get(n, 'absent')} there, {here.get(n, 'absent')} here" for n in names[:3])
        more = f"; and {len(names) - 3} more" if len(names) > 3 else ""
        raise UserError(f"{path} is a checkpoint of another network: {shown}{more}; start in another workdir")


def _short(error: BaseException) -> str:
    """The innermost cause on one line: its first words, and its last, where the system's own reason stands."""
    while error.__cause__ is not None:
        error = error.__cause__
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= 160 else f"{words[:40]} … {words[-110:]}"
