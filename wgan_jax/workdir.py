"""A run's folder: whose it is, and with which settings."""

import fcntl
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ml_collections import ConfigDict

from wgan_jax import config as configs
from wgan_jax.errors import UserError
from wgan_jax.files import write_atomically

CONFIG = "config.json"
LOCK = "wgan_jax.lock"
FILES = (CONFIG, "metrics.jsonl", LOCK)
FOLDERS = ("checkpoints", "damaged", "samples", "plots", "tensorboard")
PICTURES = re.compile(r"samples/\d{7,}\.png|plots/(estimate|losses)\.png")
"""Pictures of a run, which it draws anew."""


@contextmanager
def claimed(workdir: Path, config: ConfigDict) -> Iterator[None]:
    """Makes `workdir` the folder of a run with these settings, and keeps other processes out of it.

    The system lets the folder go when the process ends, however it ends.

    Raises:
      UserError: if another process runs there, if it holds a run with other settings or files that a run would
        overwrite, or if it cannot be written.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        _refuse_links(workdir)
        lock = os.fdopen(os.open(workdir / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+")
    except OSError as error:
        raise UserError(f"--workdir={workdir}: cannot be written: {error.strerror}; use another workdir") from None
    with lock:
        _take(lock.fileno(), workdir)
        if _holds_run(workdir):
            different = configs.differences(read_config(workdir), config)
            if different:
                raise UserError(
                    f"{workdir} holds a run with other settings: {'; '.join(different)}; use those, or another workdir"
                )
        else:
            _refuse_foreign(workdir)
        with disk_errors(workdir):
            lock.truncate(0)
            lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            lock.flush()
            if not _holds_run(workdir):
                write_atomically(workdir / CONFIG, configs.to_json(config))
        yield


def _take(lock: int, workdir: Path) -> None:
    """Locks a file, until the process ends."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 200, 0).decode(errors="replace").strip() or "another process"
        raise UserError(f"{workdir} is in use by {holder}; wait for it, stop it, or use another workdir") from None
    except OSError as error:
        raise UserError(
            f"--workdir={workdir}: its file system cannot lock files ({error.strerror}), so nothing would keep a "
            "second run out; use a folder on another one"
        ) from None


def _refuse_links(workdir: Path) -> None:
    for name in (*FILES, *FOLDERS):
        if (workdir / name).is_symlink():
            raise UserError(
                f"{workdir / name} is a link, and a run neither writes nor deletes through one: remove the link, or "
                "give the folder it should be in as --workdir"
            )


def _refuse_foreign(workdir: Path) -> None:
    """Refuses a folder that no run has claimed, if it holds what a run would take for its own."""
    names = ("metrics.jsonl", "checkpoints/*", "samples/*", "plots/*")
    for path in sorted(path for name in names for path in workdir.glob(name)):
        name = path.relative_to(workdir).as_posix()
        if path.parent.name in ("samples", "plots") and not PICTURES.fullmatch(name):
            continue
        raise UserError(
            f"{workdir} holds no run ({CONFIG} is missing), but {name}, which a run would take for its own; "
            "use another workdir, or move it elsewhere"
        )


def _holds_run(workdir: Path) -> bool:
    return os.path.lexists(workdir / CONFIG)


@contextmanager
def disk_errors(workdir: Path) -> Iterator[None]:
    """Turns what the disk refuses into one clear `UserError`."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{error.filename or workdir}: cannot be read or written: {error.strerror or error}; the checkpoints "
            "before it are whole: free the disk or correct the permissions, and start again to go on with the run"
        ) from error


def read_config(workdir: Path) -> ConfigDict:
    """Returns the settings of the run in `workdir`.

    Raises:
      UserError: if there is no run, or its `config.json` cannot be read.
    """
    path = workdir / CONFIG
    if not _holds_run(workdir):
        raise UserError(
            f"{workdir} holds no run: {path} is missing; train one first: "
            f"python -m wgan_jax.train --config=… --workdir={workdir}"
        )
    try:
        return configs.without_unread(configs.from_json(path.read_text(encoding="utf-8")))
    except OSError as error:
        reason = error.strerror or str(error)
    except RecursionError:
        reason = "nested too deeply"
    except ValueError as error:
        reason = str(error)
    raise UserError(f"{path} is damaged ({reason}); restore it from a backup, or start in another workdir")
