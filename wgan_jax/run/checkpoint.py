"""Saving and restoring a run's state with orbax.

A checkpoint gets its name, `checkpoints/<step>`, when all of it is on the disk and sealed (see `seal`): before that it
is a folder with another ending, which the next start removes. So damage of any kind is found before a state is used.
Its record has the name, type and digest of every array, so one of another network is refused by name.
A checkpoint is data: nothing in it is executed.
"""

import functools
import json
import math
import re
import threading
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from orbax.checkpoint import v1 as ocp

from wgan_jax.config import build
from wgan_jax.errors import UserError, say
from wgan_jax.files import PARTIAL, sync, there, write_atomically
from wgan_jax.method.gan import Gan
from wgan_jax.method.state import TrainState, init_state, named_arrays
from wgan_jax.run import seal
from wgan_jax.run.seal import METADATA, RECORD, SEAL, Damaged
from wgan_jax.run.workdir import read_config

FORMAT = 1
"""Format of the state in a checkpoint; one of another format is refused."""
RISING = ("critic_class_accuracy",)
"""Metrics that are better the higher they are. An estimate is better the nearer it is to 0, any other the lower."""
NAME = re.compile(r"0|[1-9]\d*")
"""Names of checkpoints."""
BEGINNINGS = re.compile(rf"(\d+)({re.escape(PARTIAL)})?(\.orbax-checkpoint-tmp.*)?")
"""Names of checkpoints, and of what becomes one, orbax's own temporaries among them."""
_ORBAX = threading.Lock()
"""Held while orbax saves or loads. It numbers its operations, and one that begins disturbs one that is under way."""


def begin(path: Path, state: TrainState) -> Callable[[], None]:
    """Copies the state's arrays and begins to write them: the first half of a checkpoint, done by all hosts together.

    Returns what waits until they are written.

    Raises:
      UserError: if something that is not of this run has the checkpoint's name already.
    """
    _refuse_obstacle(path)
    _ORBAX.acquire()
    try:
        writing = ocp.save_async(
            path.with_name(path.name + PARTIAL), state, checkpointable_name="state", overwrite=True
        )
    except BaseException:
        _ORBAX.release()
        raise

    def written() -> None:
        try:
            writing.result()
        finally:
            _ORBAX.release()

    return written


def finish(path: Path, record: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Adds the record and the seal to what `begin` has written, and gives the checkpoint its name last.

    Args:
      path: of the checkpoint.
      record: what `record_of` made of the state.
      arrays: the state's, by name, as they were when `begin` was called.
    """
    partial = path.with_name(path.name + PARTIAL)
    write_atomically(partial / RECORD, json.dumps(seal.signed(record, arrays), indent=1))
    seal.write_seal(partial)
    partial.rename(path)
    sync(path.parent)


def record_of(state: TrainState, metrics: Mapping[str, float]) -> dict[str, Any]:
    """Returns what a checkpoint says of a state: format, metrics, and the type and shape of every array by name."""
    return {"format": FORMAT, "metrics": dict(metrics), "arrays": describe(state)}


def describe(state: TrainState) -> dict[str, str]:
    """Returns the type and shape of every array by name: `{"critic/variables/params/…": "float32[256, 1]", …}`."""
    return {name: f"{x.dtype}{list(x.shape)}" for name, x in named_arrays(state).items()}


def score(metric: str, number: float) -> float:
    """Returns a number that is lower where a metric is better."""
    if metric in RISING:
        return -number
    return abs(number) if metric.endswith("estimate") else number


def value(workdir: Path, step: int, metric: str) -> float:
    """Returns the `score` of a metric at a checkpoint; infinite if it is not known there."""
    try:
        return score(metric, float(read_record(folder(workdir) / str(step))["metrics"][metric]))
    except (Damaged, OSError, KeyError, TypeError, ValueError):
        return math.inf


def read_record(path: Path) -> dict[str, Any]:
    """Returns a checkpoint's record: `format`, `arrays`, `digests` and `metrics`.

    Raises:
      Damaged: if it cannot be read, or is not what was written.
    """
    name = RECORD if (path / RECORD).exists() else METADATA
    try:
        content = json.loads((path / name).read_bytes())
        record = dict(content if name == RECORD else content["custom_metadata"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise Damaged(f"its {name} cannot be read") from error
    seal.check_record(record)
    return record


def alone() -> ocp.Context:
    """Keeps orbax to this host, which waits for no other."""
    context, here = ocp.Context(), jax.process_index()
    if jax.process_count() > 1:
        context.multiprocessing_options.primary_host = here
        context.multiprocessing_options.active_processes = {here}
    return context


def count_alike() -> None:
    """Brings all hosts to one number of orbax operations; to be called by all of them before they save together.

    Orbax counts its operations in each process, and hosts that save wait for each other under that number. The first
    host, which alone reads checkpoints, is ahead of the others: they would wait for ever.
    """
    if jax.process_count() == 1:
        return
    from orbax.checkpoint._src.futures.synchronization import OperationIdGenerator as Operations

    number = int(Operations.get_current_operation_id())
    for _ in range(int(multihost_utils.process_allgather(np.int32(number)).max()) - number):
        Operations.next_operation_id()


def folder(workdir: Path) -> Path:
    """Returns where a run's checkpoints are."""
    return workdir / "checkpoints"


def steps(workdir: Path) -> list[int]:
    """Returns the steps of a run's checkpoints, the newest first; a folder without their form is passed over."""
    while True:
        try:
            named = [path for path in folder(workdir).iterdir() if NAME.fullmatch(path.name) and not path.is_symlink()]
        except (FileNotFoundError, NotADirectoryError):
            return []
        found = [int(path.name) for path in named if _is_ours(path)]
        if all(map(there, named)):  # or else one was pruned just now, and a newer one may have come
            return sorted(found, reverse=True)


def _is_ours(path: Path) -> bool:
    """Tells whether a folder has the form of a checkpoint of ours, whole or damaged."""
    if there(path / SEAL) or there(path / RECORD):
        return True
    try:  # as it was before there were records
        return b'"arrays"' in (path / METADATA).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True


def refuse_obstacles(workdir: Path, start: int, stop: int, every: int) -> None:
    """Raises `UserError` if something else has the name of a checkpoint that a run will write, or of its beginnings."""
    for path in sorted(folder(workdir).iterdir()) if folder(workdir).is_dir() else ():
        named = BEGINNINGS.fullmatch(path.name)
        step = int(named[1]) if named else 0
        due = start < step <= stop and (step % every == 0 or step == stop)
        if due and (NAME.fullmatch(path.name) or path.is_symlink()):
            _refuse_obstacle(path)


def _refuse_obstacle(path: Path) -> None:
    if there(path):
        raise UserError(f"{path} is in the way, and no checkpoint of this run: move it elsewhere, and start again")


def load(workdir: Path, step: int, gan: Gan) -> TrainState:
    """Returns the state of one checkpoint, on this process's first device.

    Raises:
      Damaged: if it cannot be read, or differs from what was written.
      UserError: if it is of another network or another version, naming the differences.
    """
    jax.local_devices()  # a backend that is missing is no damage
    path = folder(workdir) / str(step)
    with seal.held(path):
        try:
            return _load(path.absolute(), gan)
        except (Damaged, UserError, MemoryError, jax.errors.JaxRuntimeError):
            raise  # neither a full memory nor a missing device says anything of the checkpoint
        except Exception as error:  # what a disk and the libraries make of damage
            raise Damaged(f"it cannot be read: {short(error)}") from error


def _load(path: Path, gan: Gan) -> TrainState:
    if seal.sealed(path):
        seal.check_seal(path)
    elif any(entry.is_symlink() for entry in [path, *path.rglob("*")]):
        raise Damaged("it holds a symbolic link")
    record = read_record(path)
    if not seal.sealed(path) and "digests" not in record:
        raise Damaged("it has no seal, and no digests of its arrays")
    _check_same_arrays(path, record, describe(abstract_state(gan)))
    with _ORBAX, warnings.catch_warnings(), alone():
        warnings.simplefilter("ignore")
        state = ocp.load(path, abstract_state(gan), checkpointable_name="state")
    if describe(state) != record["arrays"]:
        raise Damaged("its arrays have not the types that were written")
    seal.check_arrays(record, named_arrays(state))
    return state


def seal_what_is_whole(workdir: Path, gan: Gan) -> None:
    """Seals the checkpoints that have lost their seal, or never had one, and are whole."""
    for step in steps(workdir):
        path = folder(workdir) / str(step)
        if not seal.sealed(path) and not seal.foreign(path):
            try:
                load(workdir, step, gan)
            except Damaged:
                continue
            seal.write_seal(path)


def newest(workdir: Path, gan: Gan, warn: Callable[[str], None] = say) -> tuple[int, TrainState] | None:
    """Returns the step and state of the newest checkpoint that is whole; None if there is none at all.

    Raises:
      UserError: if every checkpoint is damaged, or one is of another network.
    """
    return _first_whole(workdir, gan, lambda: steps(workdir), warn)


def best(workdir: Path, gan: Gan, metric: str, warn: Callable[[str], None] = say) -> tuple[int, TrainState]:
    """Returns the step and state of the checkpoint that is best by a metric, and whole.

    Raises:
      UserError: if no checkpoint knows the metric, every one that does is damaged, or one is of another network.
    """

    def order() -> list[int]:
        scores = {step: value(workdir, step, metric) for step in steps(workdir)}
        return sorted((step for step in scores if scores[step] < math.inf), key=lambda step: scores[step])

    found = _first_whole(workdir, gan, order, warn)
    if found is None:
        raise UserError(f"--step=best: no checkpoint of {workdir} has a value of {metric}; {_others(workdir)}")
    return found


def _first_whole(
    workdir: Path, gan: Gan, order: Callable[[], list[int]], warn: Callable[[str], None]
) -> tuple[int, TrainState] | None:
    damaged: dict[int, str] = {}
    ahead = order()
    while ahead:
        step = ahead.pop(0)
        try:
            state = load(workdir, step, gan)
        except Damaged as error:
            if step in steps(workdir):
                damaged[step] = str(error)
            else:  # the run pruned it while it was read: look again
                damaged, ahead = {}, order()
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
    """Moves checkpoints newer than a step to `workdir/damaged`, out of the way of the run that repeats their steps.

    Raises:
      UserError: if one holds a file that is not of this run, and so cannot be moved.
    """
    for step in steps(workdir):
        if step > beyond:
            path = folder(workdir) / str(step)
            for other in seal.foreign(path):
                raise UserError(
                    f"{path} must make way for the run, and holds {other.name}, which is not of the run: move that "
                    "elsewhere, and start again"
                )
            place = workdir / "damaged" / str(step)
            place.parent.mkdir(exist_ok=True)
            number = 1
            while there(place):
                place = place.with_name(f"{step}-{number}")
                number += 1
            path.rename(place)


def restore(workdir: str | Path, step: int | str = "latest") -> tuple[Gan, TrainState]:
    """Returns the GAN and a state of the run in `workdir`, which may be under way in another process.

    Args:
      workdir: the run's folder.
      step: "latest", the newest whole checkpoint; "best" by the run's `config.report.best`; or the step of one.

    Raises:
      UserError: if there is no run, no such checkpoint, or none that is whole.
    """
    workdir = Path(workdir)
    config = read_config(workdir)
    gan = build(config)
    return gan, choose(workdir, gan, step, config.report.best)[1]


def choose(
    workdir: Path, gan: Gan, step: int | str, metric: str, warn: Callable[[str], None] = say
) -> tuple[int, TrainState]:
    """Returns the step and state of the checkpoint that `step` names: a number, "latest", or "best" by a metric.

    Raises:
      UserError: if there is no such checkpoint, or none that is whole.
    """
    if step == "best":
        if not metric:
            raise UserError(f"--step=best: {workdir} was trained without config.report.best; {_others(workdir)}")
        return best(workdir, gan, metric, warn)
    if step == "latest":
        found = newest(workdir, gan, warn)
        if found is None:
            raise UserError(f"{folder(workdir)} holds no checkpoint yet; start the run again to go on with it")
        return found
    if str(step) not in map(str, steps(workdir)):
        raise UserError(f"--step={step}: {workdir} has no such checkpoint; {_others(workdir)}")
    try:
        return int(step), load(workdir, int(step), gan)
    except Damaged as error:
        if int(step) not in steps(workdir):  # the run pruned it while it was read
            return choose(workdir, gan, step, metric, warn)
        others = _others(workdir, but=int(step))
        raise UserError(f"--step={step}: that checkpoint of {workdir} is damaged ({error}); {others}") from None


def _others(workdir: Path, but: int | None = None) -> str:
    """Says what to do instead of asking for a checkpoint that cannot be had, such as the damaged one `but`."""
    others = [str(step) for step in steps(workdir) if step != but]
    if others:
        return f"use latest, or one of {', '.join(others)}"
    if but is not None:
        return "no other is there: restore it from a backup, or start in another workdir"
    return "no checkpoint is there yet: start the run again to go on with it"


@functools.lru_cache(maxsize=4)
def abstract_state(gan: Gan) -> TrainState:
    """Returns shapes, types and placement of a state, without its arrays."""
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    shapes = jax.eval_shape(lambda key: init_state(gan, key), jax.random.key(0))
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), shapes)


def _check_same_arrays(path: Path, record: Mapping[str, Any], here: dict[str, str]) -> None:
    if record.get("format") != FORMAT:
        raise UserError(
            f"{path} has format {record.get('format')}, and this version of wgan_jax reads format {FORMAT}; "
            "go on with the version that wrote it, or start in another workdir"
        )
    names, shown = differences(record["arrays"], here)
    if names:
        raise UserError(f"{path} is a checkpoint of another network: {shown}; start in another workdir")


def differences(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[list[str], str]:
    """Returns the names of the arrays whose types or shapes differ, and the first three of them in words.

    Args:
      old: of a checkpoint, as `describe` has them.
      new: of this program's state.
    """
    names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    shown = "; ".join(f"{n}: {old.get(n, 'absent')} there, {new.get(n, 'absent')} here" for n in names[:3])
    return names, shown + (f"; and {len(names) - 3} more" if len(names) > 3 else "")


def short(error: BaseException) -> str:
    """Returns the innermost cause on one line: its first words, and its last, where the system's own reason stands."""
    while error.__cause__ is not None:
        error = error.__cause__
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= 160 else f"{words[:40]} … {words[-110:]}"
