"""Memory that the processes of one machine share: one of them fills it, and the others read it.

The memory comes from `memfd_create` and has no name in any file system. The system therefore frees it when the last
process that maps it ends, in whatever way, and no other run can find stale content. Only a small lock file remains, in
the folder for temporary files.
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
    """Raised where memory cannot be shared; its message gives the reason."""


def once(key: str, size: int, fill: Callable[[np.ndarray], None], room: Callable[[], bool]) -> np.ndarray | None:
    """Returns the same memory in every process of this user and machine that calls with the same `key`.

    The first process fills the memory while the others wait.

    Args:
      key: name of the content, made of letters and digits.
      size: number of bytes, above 0.
      fill: function that writes the content into its argument, `[size]` uint8.
      room: function that tells whether `size` bytes may be taken. It is not called if the content exists already.

    Returns:
      `[size]` uint8, which must not be written to; None if there is no room.

    Raises:
      NotSharedError: if the system or the folder for temporary files does not allow it.
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
    """Opens and locks the lock file of a key, and yields it.

    Every user may write to the folder for temporary files, so a link or a file of another user is refused.
    """
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
    """Maps the memory of the process that the lock file names, and returns it; None if it is gone."""
    try:
        said = json.loads(place)
        path = _path(int(said["process"]), int(said["file"]))
        # Another process may have this number by now, so the name and the size are checked.
        if os.readlink(path) == f"/memfd:{key} (deleted)" and path.stat().st_size == size:
            return _mapped(path, "r", size)
    except (OSError, ValueError, TypeError, KeyError):
        pass
    return None
