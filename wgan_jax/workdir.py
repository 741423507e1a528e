"""A run's folder: whose it is, and with which settings."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ml_collections import ConfigDict

from wgan_jax import config as configs
from wgan_jax.errors import UserError


@contextmanager
def claimed(workdir: Path, config: ConfigDict) -> Iterator[None]:
    """Makes `workdir` the folder of a run with these settings, and keeps other processes out of it.

    The system lets the folder go when the process ends, however it ends.

    Raises:
      UserError: if another process runs there, if it holds a run with other settings, or if it cannot be written.
    """
    path = workdir / "config.json"
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
        if path.exists():
            different = configs.differences(read_config(workdir), config)
            if different:
                raise UserError(
                    f"{workdir} holds a run with other settings: {'; '.join(different)}; use those, or another workdir"
                )
        with disk_errors(workdir):
            lock.truncate(0)
            lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            lock.flush()
            if not path.exists():
                partial = path.with_suffix(".partial")
                partial.write_text(configs.to_json(config))
                partial.replace(path)
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


def read_config(workdir: Path) -> ConfigDict:
    """The settings of the run in `workdir`.

    Raises:
      UserError: if there is no run, or its `config.json` cannot be read.
    """
    path = workdir / "config.json"
    if not path.is_file():
        raise UserError(
            f"{workdir} holds no run: {path} is missing; train one first: "
            f"python -m wgan_jax.train --config=… --workdir={workdir}"
        )
    try:
        return configs.without_unread(configs.from_json(path.read_text()))
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); restore it, or start in another workdir") from None
