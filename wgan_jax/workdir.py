"""A run's folder: whose it is, and with which settings."""

import fcntl
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ml_collections import ConfigDict

from wgan_jax import config as configs
from wgan_jax.errors import UserError
from wgan_jax.version import __version__


@contextmanager
def claimed(workdir: Path) -> Iterator[None]:
    """Makes `workdir` if it is not there, and keeps other processes out of it.

    The system lets the folder go when the process ends, however it ends.

    Raises:
      UserError: if another process runs there, or if it cannot be written.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = (workdir / "lock").open("a+")
    except OSError as error:
        raise UserError(f"--workdir={workdir}: cannot be written: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "another process"
            raise UserError(f"{workdir} is in use by {holder}; wait for it, stop it, or use another workdir") from None
        with disk_errors(workdir):
            lock.truncate(0)
            lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            lock.flush()
        yield


@contextmanager
def disk_errors(workdir: Path) -> Iterator[None]:
    """Turns what the disk refuses into one clear `UserError`."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{error.filename or workdir}: cannot be written: {error.strerror or error}; the checkpoints before it are "
            "whole: free the disk or mend the permissions, and start again to go on with the run"
        ) from error


def write_atomically(path: Path, text: str) -> None:
    """Writes a file that is either as it was or whole, whenever the machine stops; never through a link."""
    partial = path.with_name(f"{path.name}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o666)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    partial.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def update(path: Path, text: str) -> None:
    """Writes a file atomically, if it does not hold this text already."""
    if path.is_symlink() or not path.exists() or path.read_text(encoding="utf-8") != text:
        write_atomically(path, text)


def say(line: str) -> None:
    """Prints a line for the user on stderr."""
    print(line, file=sys.stderr, flush=True)


def read_config(workdir: Path, warn: Callable[[str], None] = say) -> ConfigDict:
    """Reads the settings of the run in `workdir`; those that are newer than the run get their defaults.

    Args:
      workdir: the run's folder.
      warn: gets a line that names the settings which got their defaults, if there are any.

    Raises:
      UserError: if there is no run, its `config.json` cannot be read, or a setting in it is unknown here.
    """
    path = workdir / "config.json"
    if not path.is_file():
        raise UserError(
            f"{workdir} holds no run: {path} is missing; train one first: "
            f"python -m wgan_jax.train --config=… --workdir={workdir}"
        )
    try:
        written = configs.from_json(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error}); restore it, or start in another workdir") from None
    config, absent = configs.complete(written)
    unknown = [key for key, _ in configs.flatten(config) if key not in dict(configs.flatten(configs.default()))]
    if unknown:
        raise UserError(
            f"{path}: config.{unknown[0]} is unknown to wgan_jax {__version__}; use the version that wrote it"
        )
    if absent:
        values = ", ".join(f"config.{key} = {value!r}" for key, value in absent.items())
        warn(f"{path} is of an older version of wgan_jax; what it does not set has its default: {values}")
    return config
