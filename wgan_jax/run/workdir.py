"""The folder of a run: which process uses it, and which settings the run has."""

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
"""Pattern of the names of pictures that a run may overwrite, because it draws them again."""


@contextmanager
def claimed(workdir: Path) -> Iterator[None]:
    """Creates `workdir` if it does not exist, and keeps other runs out of it.

    The system releases the lock when the process ends, in whatever way.

    Raises:
      UserError: if another process runs there, if the folder contains no run but files that a run would overwrite, or
        if it cannot be written.
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
    """Locks a file until it is closed. Raises `UserError` if another process has locked it."""
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
    """Raises `UserError` if a folder without a run contains files that a run would treat as its own."""
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
    """Tells whether a folder contains a run.

    Raises:
      UserError: if the folder cannot be examined.
    """
    try:
        os.lstat(workdir / CONFIG)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:  # there may be a run or not
        raise UserError(f"{workdir}: {error.strerror}; use another path, or correct its permissions") from None
    return True


def update(path: Path, text: str) -> None:
    """Writes a file atomically, unless it contains this text already."""
    if path.is_symlink() or not path.exists() or path.read_text(encoding="utf-8") != text:
        write_atomically(path, text)


def read_config(workdir: Path, warn: Callable[[str], None] = say) -> ConfigDict:
    """Returns the settings of the run in `workdir`. Settings that are newer than the run have their defaults.

    Args:
      workdir: folder of the run.
      warn: function that receives a line with the settings that have their defaults, if there are any.

    Raises:
      UserError: if there is no run, if its `config.json` cannot be read, or if this version does not know one of its
        settings.
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
