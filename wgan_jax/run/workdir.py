"""A run's folder: whose it is, and with which settings."""

import fcntl
import os
import re
import shlex
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ml_collections import ConfigDict

from wgan_jax.config import default
from wgan_jax.config.check import without_unread
from wgan_jax.config.settings import complete, flatten, from_json
from wgan_jax.errors import UserError, say
from wgan_jax.files import disk_errors, write_atomically
from wgan_jax.version import __version__

CONFIG = "config.json"
LOCK = "wgan_jax.lock"
FILES = (CONFIG, "run.json", "metrics.jsonl", LOCK)
FOLDERS = ("checkpoints", "damaged", "samples", "plots", "tensorboard")
PICTURES = re.compile(r"samples/\d{7,}\.png|plots/(estimate|losses)\.png")
"""Pictures of a run, which it draws anew."""


@contextmanager
def claimed(workdir: Path) -> Iterator[None]:
    """Makes `workdir` if it is not there, and keeps other processes out of it.

    The system lets the folder go when the process ends, however it ends.

    Raises:
      UserError: if another process runs there, if it holds no run but files that a run would overwrite, or if it
        cannot be written.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        _refuse_links(workdir)
        lock = os.fdopen(os.open(workdir / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+")
    except OSError as error:
        raise UserError(f"--workdir={workdir}: cannot be written: {error.strerror}; use another workdir") from None
    with lock:
        _take(lock.fileno(), workdir)
        if not holds_run(workdir):
            _refuse_foreign(workdir)
        with disk_errors(workdir):
            lock.truncate(0)
            lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            lock.flush()
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


def holds_run(workdir: Path) -> bool:
    """Tells whether a run has claimed a folder.

    Raises:
      UserError: if the folder cannot be looked into.
    """
    try:
        os.lstat(workdir / CONFIG)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:  # whether there is one cannot be told
        raise UserError(f"{workdir}: {error.strerror}; use another path, or correct its permissions") from None
    return True


def update(path: Path, text: str) -> None:
    """Writes a file atomically, if it does not hold this text already."""
    if path.is_symlink() or not path.exists() or path.read_text(encoding="utf-8") != text:
        write_atomically(path, text)


def read_config(workdir: Path, warn: Callable[[str], None] = say) -> ConfigDict:
    """Returns the settings of the run in `workdir`; those that are newer than the run have their defaults.

    Args:
      workdir: the run's folder.
      warn: gets a line that names the settings which got their defaults, if there are any.

    Raises:
      UserError: if there is no run, its `config.json` cannot be read, or a setting in it is unknown here.
    """
    path = workdir / CONFIG
    if not holds_run(workdir):
        raise UserError(
            f"{workdir} holds no run: {path} is missing; train one first: "
            f"python -m wgan_jax.train --config=… --workdir={shlex.quote(str(workdir))}"
        )
    try:
        written = from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{path} is damaged ({reason}); restore it, or start in another workdir") from None
    config, absent = complete(written)
    known = dict(flatten(default()))
    unknown = [key for key, _ in flatten(config) if key not in known]
    if unknown:
        raise UserError(
            f"{path}: config.{unknown[0]} is unknown to wgan_jax {__version__}; use the version that wrote it"
        )
    if "steps" in absent:
        raise UserError(f"{path} does not hold the settings of a run; restore it, or start in another workdir")
    if absent:
        values = ", ".join(f"config.{key} = {value!r}" for key, value in absent.items())
        warn(f"{path} is of an older version of wgan_jax; what it does not set has its default: {values}")
    return without_unread(config)
