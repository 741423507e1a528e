"""Saves and restores the state of a run with orbax.

A checkpoint gets its name, `checkpoints/<step>`, only when all of it is on the disk and sealed (see `seal`). Before
that, the name of the folder has an extra ending, and the next start removes such folders. Damage of any kind is found
before a state is used. The record of a checkpoint contains the name, type and digest of every array, so a checkpoint of
another network is refused with the names of the arrays that differ. A checkpoint is only data: nothing in it is
executed.
"""

import dataclasses
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

from wgan_jax.config import stages as stages_of
from wgan_jax.errors import UserError, say
from wgan_jax.files import PARTIAL, sync, there, write_atomically
from wgan_jax.method.gan import Gan
from wgan_jax.method.player import Player
from wgan_jax.method.stages import Stages, stage_after
from wgan_jax.method.state import TrainState, init_state, named_arrays
from wgan_jax.run import seal
from wgan_jax.run.best import score
from wgan_jax.run.seal import METADATA, RECORD, SEAL, Damaged
from wgan_jax.run.workdir import read_config

FORMAT = 1
"""Format of the state in a checkpoint. Checkpoints of other formats are refused."""
NAME = re.compile(r"0|[1-9]\d*")
"""Pattern of the names of checkpoints."""
BEGINNINGS = re.compile(rf"(\d+)({re.escape(PARTIAL)})?(\.orbax-checkpoint-tmp.*)?")
"""Pattern of the names of checkpoints and of unfinished ones, including the temporary folders of orbax."""
_ORBAX = threading.Lock()
"""A lock that is held while orbax saves or loads.

Orbax numbers its operations, and an operation that begins would disturb another that is still running.
"""


def begin(path: Path, state: TrainState) -> Callable[[], None]:
    """Copies the arrays of a state and begins to write them: the first half of a checkpoint.

    All hosts of a run must call it together.

    Args:
      path: final path of the checkpoint.
      state: the state.

    Returns:
      A function that waits until the arrays are written. It must be called: orbax is locked for other operations until
      then.

    Raises:
      UserError: if something else has the name of the checkpoint already.
    """
    _refuse_obstacle(path)
    _ORBAX.acquire()
    try:
        writing = ocp.save_async(
            path.with_name(path.name + PARTIAL), stored(state), checkpointable_name="state", overwrite=True
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
    """Adds the record and the seal to the arrays that `begin` has written, and then gives the checkpoint its name.

    Args:
      path: final path of the checkpoint.
      record: record of the state, from `record_of`.
      arrays: arrays of the state by name, as they were when `begin` was called.
    """
    partial = path.with_name(path.name + PARTIAL)
    write_atomically(partial / RECORD, json.dumps(seal.signed(record, arrays), indent=1))
    seal.write_seal(partial)
    partial.rename(path)
    sync(path.parent)


def record_of(state: TrainState, metrics: Mapping[str, float]) -> dict[str, Any]:
    """Returns the record of a state: the format, the metrics, and the type and shape of every array by name."""
    return {"format": FORMAT, "metrics": dict(metrics), "arrays": describe(state)}


def describe(state: TrainState) -> dict[str, str]:
    """Returns the type and shape of every array by name: `{"critic/variables/params/…": "float32[256, 1]", …}`."""
    return {name: f"{x.dtype}{list(x.shape)}" for name, x in named_arrays(state).items()}


def value(workdir: Path, step: int, metric: str) -> float:
    """Returns the `score` of a metric at a checkpoint; infinity if the checkpoint has no value of it."""
    try:
        return score(metric, float(read_record(folder(workdir) / str(step))["metrics"][metric]))
    except (Damaged, OSError, KeyError, TypeError, ValueError):
        return math.inf


def read_record(path: Path) -> dict[str, Any]:
    """Returns a checkpoint's record: `format`, `arrays`, `digests` and `metrics`.

    Raises:
      Damaged: if the record cannot be read, or has changed since it was written.
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
    """Returns a context in which orbax works on this host alone, and waits for no other host."""
    context, here = ocp.Context(), jax.process_index()
    if jax.process_count() > 1:
        context.multiprocessing_options.primary_host = here
        context.multiprocessing_options.active_processes = {here}
    return context


def count_alike() -> None:
    """Sets orbax's count of operations to the same number on all hosts.

    All hosts must call it before they save together. Orbax counts its operations in each process, and hosts that save
    wait for each other under that number. Only the first host reads checkpoints, so its count is higher than the
    count of the others, and they would wait forever.
    """
    if jax.process_count() == 1:
        return
    from orbax.checkpoint._src.futures.synchronization import OperationIdGenerator as Operations

    number = int(Operations.get_current_operation_id())
    for _ in range(int(multihost_utils.process_allgather(np.int32(number)).max()) - number):
        Operations.next_operation_id()


def folder(workdir: Path) -> Path:
    """Returns the folder of a run's checkpoints."""
    return workdir / "checkpoints"


def steps(workdir: Path) -> list[int]:
    """Returns the steps of a run's checkpoints, newest first. Folders that are not checkpoints are ignored."""
    while True:
        try:
            named = [path for path in folder(workdir).iterdir() if NAME.fullmatch(path.name) and not path.is_symlink()]
        except (FileNotFoundError, NotADirectoryError):
            return []
        found = [int(path.name) for path in named if _is_ours(path)]
        if all(map(there, named)):  # otherwise one was just deleted, and there may be a newer one
            return sorted(found, reverse=True)


def _is_ours(path: Path) -> bool:
    """Tells whether a folder is a checkpoint that this package wrote, even a damaged one."""
    if there(path / SEAL) or there(path / RECORD):
        return True
    try:  # the form of checkpoints from before there were records
        return b'"arrays"' in (path / METADATA).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True


def refuse_obstacles(workdir: Path, start: int, stop: int, every: int) -> None:
    """Raises `UserError` if something else has the name of a checkpoint that a run will write.

    A link is refused even if it has one of the names that the checkpoint has before it is complete.

    Args:
      workdir: folder of the run.
      start: number of iterations done.
      stop: number of iterations at the end of the run.
      every: number of iterations between two checkpoints.
    """
    for path in sorted(folder(workdir).iterdir()) if folder(workdir).is_dir() else ():
        named = BEGINNINGS.fullmatch(path.name)
        step = int(named[1]) if named else 0
        due = start < step <= stop and (step % every == 0 or step == stop)
        if due and (NAME.fullmatch(path.name) or path.is_symlink()):
            _refuse_obstacle(path)


def _refuse_obstacle(path: Path) -> None:
    if there(path):
        raise UserError(f"{path} is in the way, and no checkpoint of this run: move it elsewhere, and start again")


def load(workdir: Path, step: int, gan: Gan | Stages) -> TrainState:
    """Returns the state of one checkpoint, on this process's first device.

    Args:
      workdir: the run's folder.
      step: the checkpoint's.
      gan: what the run trains, or its stages, of which the checkpoint has the arrays of one: see `stage_after`.

    Raises:
      Damaged: if it cannot be read, or differs from what was written.
      UserError: if it is of another network or another version, naming the differences.
    """
    jax.local_devices()  # a backend that is missing is no damage
    path = folder(workdir) / str(step)
    with seal.held(path):
        try:
            return _load(path.absolute(), gan if isinstance(gan, Gan) else stage_after(gan, step).gan)
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
        tree = ocp.load(path, stored(abstract_state(gan)), checkpointable_name="state")
    state = from_stored(tree, abstract_state(gan))
    if describe(state) != record["arrays"]:
        raise Damaged("its arrays do not have the types that were written")
    seal.check_arrays(record, named_arrays(state))
    return state


def seal_what_is_whole(workdir: Path, gan: Gan | Stages) -> None:
    """Seals the checkpoints that have lost their seal, or never had one, and are whole."""
    for step in steps(workdir):
        path = folder(workdir) / str(step)
        if not seal.sealed(path) and not seal.foreign(path):
            try:
                load(workdir, step, gan)
            except Damaged:
                continue
            seal.write_seal(path)


def newest(workdir: Path, gan: Gan | Stages, warn: Callable[[str], None] = say) -> tuple[int, TrainState] | None:
    """Returns the step and state of the newest checkpoint that is whole; None if there is none at all.

    Raises:
      UserError: if every checkpoint is damaged, or one belongs to another network.
    """
    return _first_whole(workdir, gan, lambda: steps(workdir), warn)


def best(workdir: Path, gan: Gan | Stages, metric: str, warn: Callable[[str], None] = say) -> tuple[int, TrainState]:
    """Returns the step and state of the checkpoint that is best by a metric, and whole.

    Raises:
      UserError: if no checkpoint has a value of the metric, if all checkpoints that have one are damaged, or if one
        belongs to another network.
    """

    def order() -> list[int]:
        scores = {step: value(workdir, step, metric) for step in steps(workdir)}
        return sorted((step for step in scores if scores[step] < math.inf), key=lambda step: scores[step])

    found = _first_whole(workdir, gan, order, warn)
    if found is None:
        raise UserError(f"--step=best: no checkpoint of {workdir} has a value of {metric}; {_others(workdir)}")
    return found


def _first_whole(
    workdir: Path, gan: Gan | Stages, order: Callable[[], list[int]], warn: Callable[[str], None]
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
            else:  # the run deleted it while it was read: look again
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
    """Moves the checkpoints after step `beyond` to `workdir/damaged`.

    The run is about to repeat their steps, and needs their names.

    Raises:
      UserError: if one of them contains a file that is not part of it, and so must not be moved.
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


def restore(workdir: str | Path, step: int | str = "latest", stages: Stages | None = None) -> tuple[Gan, TrainState]:
    """Returns the GAN and a state of the run in `workdir`, which may be under way in another process.

    Args:
      workdir: the run's folder.
      step: "latest", the newest whole checkpoint; "best" by the run's `config.report.best`; or the step of one.
      stages: the run's, if they are not those of its config.

    Raises:
      UserError: if there is no run, no such checkpoint, or none that is whole.
    """
    workdir = Path(workdir)
    config = read_config(workdir)
    stages = stages or stages_of(config)
    done, state = choose(workdir, stages, step, config.report.best)
    return stage_after(stages, done).gan, state


def choose(
    workdir: Path, gan: Gan | Stages, step: int | str, metric: str, warn: Callable[[str], None] = say
) -> tuple[int, TrainState]:
    """Returns the step and state of the checkpoint that `step` names: a number, "latest", or "best" by a metric.

    Raises:
      UserError: if the checkpoint does not exist or is damaged, or if `step` chooses among several and all are damaged.
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
        if int(step) not in steps(workdir):  # the run deleted it while it was read
            return choose(workdir, gan, step, metric, warn)
        others = _others(workdir, but=int(step))
        raise UserError(f"--step={step}: that checkpoint of {workdir} is damaged ({error}); {others}") from None


def _others(workdir: Path, but: int | None = None) -> str:
    """Returns advice for a user who asked for a checkpoint that does not exist or is damaged.

    Args:
      workdir: folder of the run.
      but: step of the damaged checkpoint; None if the checkpoint does not exist.
    """
    others = [str(step) for step in steps(workdir) if step != but]
    if others:
        return f"use latest, or one of {', '.join(others)}"
    if but is not None:
        return "no other is there: restore it from a backup, or start in another workdir"
    return "no checkpoint is there yet: start the run again to go on with it"


@functools.lru_cache(maxsize=4)
def abstract_state(gan: Gan) -> TrainState:
    """Returns the shapes, types and placement of a state, without its arrays."""
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    shapes = jax.eval_shape(lambda key: init_state(gan, key), jax.random.key(0))
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), shapes)


def stored(state: TrainState) -> dict[str, Any]:
    """Returns a state as nested dictionaries, without the constraints that have no arrays.

    Orbax stores an empty one too, and refuses checkpoints from before players had constraints.
    """

    def player(player: Player) -> dict[str, Any]:
        arrays = {"variables": player.variables, "opt_state": player.opt_state}
        return arrays | ({"constraint": player.constraint} if jax.tree.leaves(player.constraint) else {})

    rest = {name: getattr(state, name) for name in ("step", "key", "ema")}
    return rest | {name: player(getattr(state, name)) for name in ("generator", "critic")}


def from_stored(tree: dict[str, Any], like: TrainState) -> TrainState:
    """Returns the state that `stored` was made of; `like` has the constraints without arrays."""
    players = {name: dataclasses.replace(getattr(like, name), **tree[name]) for name in ("generator", "critic")}
    return dataclasses.replace(like, **(tree | players))


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
    """Returns the names of the arrays whose types or shapes differ, and a text that describes the first three of them.

    Args:
      old: types and shapes in a checkpoint, as `describe` returns them.
      new: types and shapes in the state of this program.
    """
    names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    shown = "; ".join(f"{n}: {old.get(n, 'absent')} there, {new.get(n, 'absent')} here" for n in names[:3])
    return names, shown + (f"; and {len(names) - 3} more" if len(names) > 3 else "")


def short(error: BaseException) -> str:
    """Returns the message of an error's innermost cause, on one line.

    A long message is shortened in the middle: the reason that the system gives is at its end.
    """
    while error.__cause__ is not None:
        error = error.__cause__
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= 160 else f"{words[:40]} … {words[-110:]}"
