"""Files on the disk: how to write one completely or not at all, and never through a link."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wgan_jax.errors import UserError

PARTIAL = ".wgan_jax-partial"
"""Ending of the name of a file or folder that is not complete yet.

The next start overwrites or removes what a killed run has left under such a name.
"""


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file through to the disk, and replaces the old file in one operation.

    A reader finds either the old content or the new one, complete, even if the machine loses power in between.

    Raises:
      OSError: if the file cannot be written, or if `path` is a link: the target of a link is not ours to overwrite.
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
    """Tells whether something has this name: a file, a folder, or a link, even a broken one.

    If the path cannot be examined, the answer is True, to be safe.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def sync(path: Path) -> None:
    """Writes the content of a file, or the list of names in a folder, through to the disk."""
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
    """Turns errors of the disk into a one-line `UserError`."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{error.filename or workdir}: cannot be read or written: {error.strerror or error}; the checkpoints "
            "before it are whole: free the disk or correct the permissions, and start again to go on with the run"
        ) from error
