"""Files on the disk: written whole or not at all, and never through a link."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wgan_jax.errors import UserError

PARTIAL = ".wgan_jax-partial"
"""Ending of a file or folder that is not whole yet. A leftover of a killed run is overwritten or removed."""


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file and puts it on the disk: a reader, or a machine that loses power, has the old one or the new one.

    Raises:
      OSError: if it cannot be written, or if `path` is a link: what a link points to is not ours.
    """
    if path.is_symlink():
        raise OSError(errno.ELOOP, "it is a link, and nothing is written through a link", str(path))
    partial = path.with_name(path.name + PARTIAL)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o666), "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync(path.parent)


def there(path: Path) -> bool:
    """Returns whether something has this name; what cannot be looked at is there."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def sync(path: Path) -> None:
    """Puts a file's content, or a folder's list of names, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF):  # some network file systems cannot sync a folder
            raise
    finally:
        os.close(descriptor)


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
