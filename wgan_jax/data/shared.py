"""Memory that the processes of one machine share: one of them fills it, and the others read it.

It has no name in any file system (`memfd_create`), so the system frees it with the last process that has it mapped,
however that ends, and no other run can find something stale. What remains is a small lock file in the folder for
temporary files.
"""

import fcntl
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TextIO

import numpy as np

PROCESSES = Path("/proc")


class NotSharedError(Exception):
    """Why memory cannot be shared here."""


def once(key: str, size: int, fill: Callable[[np.ndarray], None], room: Callable[[], bool]) -> np.ndarray | None:
    """Returns memory that one process of this machine has filled, in every process of this user that gives this `key`.

    The first to come fills it, and the others wait.

    Args:
      key: letters and digits that name the content.
      size: how many bytes, above 0.
      fill: writes the content into `[size]` uint8.
      room: whether so much memory may be taken; not asked where the content is there already.

    Returns:
      `[size]` uint8, not to be written to; None if there is no room.

    Raises:
      NotSharedError: if the system, or the folder for temporary files, does not allow it.
    """
    with _locked(key) as lock:
        found = _find(lock.read(), key, size)
        if found is not None or not room():
            return found
        try:
            file = os.memfd_create(key)  # stays open: the others open it through this process
            os.truncate(file, size)
            memory = _mapped(_path(os.getpid(), file), "r+", size)
        except (OSError, AttributeError) as error:
            raise NotSharedError(str(error)) from None
        try:
            fill(memory)
        except BaseException:
            os.close(file)
            raise
        lock.seek(0)
        lock.truncate()
        lock.write(json.dumps({"process": os.getpid(), "file": file}))
        lock.flush()
        return memory


@contextmanager
def _locked(key: str) -> Iterator[TextIO]:
    """The lock file of a key, locked. Everyone may write to its folder: no link and no other user's file is trusted."""
    path = Path(tempfile.gettempdir()) / f"wgan_jax-{os.getuid()}-{key}.lock"
    try:
        lock = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+")
    except OSError as error:
        raise NotSharedError(str(error)) from None
    with lock:
        try:
            if os.fstat(lock.fileno()).st_uid != os.getuid():
                raise NotSharedError(f"{path} belongs to another user")
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            raise NotSharedError(f"{path}: {error}") from None
        yield lock


def _path(process: int, file: int) -> Path:
    return PROCESSES / str(process) / "fd" / str(file)


def _mapped(path: Path, mode: Literal["r", "r+"], size: int) -> np.ndarray:
    return np.memmap(path, np.uint8, mode, shape=(size,)).view(np.ndarray)


def _find(place: str, key: str, size: int) -> np.ndarray | None:
    """Returns the memory that another process, by its own word in the lock file, has filled; None if it is gone."""
    try:
        said = json.loads(place)
        path = _path(int(said["process"]), int(said["file"]))
        # The number may by now be another process's: the name tells.
        if os.readlink(path) == f"/memfd:{key} (deleted)" and path.stat().st_size == size:
            return _mapped(path, "r", size)
    except (OSError, ValueError, TypeError, KeyError):
        pass
    return None
