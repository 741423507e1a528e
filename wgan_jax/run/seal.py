"""Digests that prove that a checkpoint is unchanged: one of every file, and one of every array.

The digests of the files are the seal, `files.sha256.json`. It is in the folder of a checkpoint before the checkpoint
gets its name, and it reveals any changed bit. The digests of the arrays are in the record of the checkpoint, together
with a digest of the record itself. They still prove the state if the seal is lost.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from wgan_jax.files import PARTIAL, sync, there, write_atomically

SEAL = "files.sha256.json"
RECORD = "record.json"
METADATA = "_CHECKPOINT_METADATA"
"""Name of orbax's own record. Old checkpoints without digests contain our record in this file."""
FORM = re.compile(
    rf"({SEAL}|{RECORD})({re.escape(PARTIAL)})?|{METADATA}|orbax\.checkpoint|commit_success\.txt"
    r"|state(/(_METADATA|_sharding|array_metadatas(/process_\d+)?"
    r"|(ocdbt\.process_\d+)|(ocdbt\.process_\d+/)?(manifest\.ocdbt|d|d/[0-9a-f]{32})))?"
)
"""Pattern of the names of all files and folders in a checkpoint."""


class Damaged(Exception):  # noqa: N818
    """Raised for a checkpoint that cannot be read, or that has changed since it was written."""


def write_seal(path: Path) -> None:
    """Writes the seal of a checkpoint, with the digest of every file, and syncs all its files to the disk.

    Every file in the folder must belong to the checkpoint: see `foreign`.
    """
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.name not in (SEAL, SEAL + PARTIAL))
    digests = {str(file.relative_to(path)): _digest(file) for file in files}
    for file in files:
        sync(file)
    for folder in {file.parent for file in files} - {path}:
        sync(folder)
    write_atomically(path / SEAL, json.dumps(digests, indent=1))


def sealed(path: Path) -> bool:
    """Tells whether a checkpoint has a seal, even a damaged one."""
    return there(path / SEAL)


def check_seal(path: Path) -> None:
    """Compares every file of a checkpoint with its digest in the seal.

    Raises:
      Damaged: if the seal cannot be read, or a file is missing, has changed, cannot be read, or lies behind a link.
    """
    for name, digest in _read_seal(path).items():
        file = path / name
        if any(part.is_symlink() for part in (file, *file.parents[: len(Path(name).parts)])):
            raise Damaged(f"its file {name} is behind a symbolic link")
        if not file.is_file():
            raise Damaged(f"its file {name} is missing")
        if _digest(file) != digest:
            raise Damaged(f"its file {name} has changed")


def foreign(path: Path) -> list[Path]:
    """Returns the paths in a checkpoint that do not belong to it: all links, and all that the seal does not name.

    If the seal is missing or cannot be read, the names decide: a file belongs to the checkpoint if orbax or this
    package writes files of that name.
    """
    try:
        names = {*_read_seal(path), SEAL, SEAL + PARTIAL}
    except Damaged:
        names = set()
    ours = names | {str(parent) for name in names for parent in Path(name).parents}

    def known(name: str) -> bool:
        return name in ours if ours else bool(FORM.fullmatch(name))

    return [
        entry
        for entry in sorted(path.rglob("*"))
        if entry.is_symlink() or not known(entry.relative_to(path).as_posix())
    ]


def remove(path: Path) -> None:
    """Deletes the folder of a checkpoint, and its seal last.

    If the deletion is killed, the seal that remains shows that the folder is ours.
    """
    for entry in sorted(path.iterdir(), key=lambda entry: entry.name == SEAL):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    path.rmdir()


@contextmanager
def held(path: Path, *, exclusive: bool = False) -> Iterator[bool]:
    """Locks a checkpoint, so that no process deletes it while another one reads it.

    Args:
      path: folder of the checkpoint.
      exclusive: whether to lock it for deletion. The default is for reading, which several processes may do at once.

    Yields:
      Whether the checkpoint is locked. It is not locked if it has no seal, or if `exclusive` is set while another
      process reads it. A file system without locks yields False for reading, but True for deletion, which then goes
      ahead.
    """
    kind = fcntl.LOCK_EX | fcntl.LOCK_NB if exclusive else fcntl.LOCK_SH
    try:
        descriptor = os.open(path / SEAL, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        yield False
        return
    try:
        try:
            fcntl.flock(descriptor, kind)
            free = True
        except BlockingIOError:
            free = False
        except OSError:
            free = exclusive  # no locks here: delete as if nobody read
        yield free
    finally:
        os.close(descriptor)


def signed(record: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns a copy of a record with two more entries: the digests of the arrays and a digest of the record itself."""
    whole = dict(record) | {"digests": {name: array_digest(x) for name, x in arrays.items()}}
    return whole | {"digest": _record_digest(whole)}


def check_record(record: Mapping[str, Any]) -> None:
    """Raises `Damaged` if a record has changed since `signed` made it.

    A record of an older version has no digest, and passes.
    """
    if "digests" in record or "digest" in record:
        rest = {name: value for name, value in record.items() if name != "digest"}
        if record.get("digest") != _record_digest(rest):
            raise Damaged("its record has changed")


def check_arrays(record: Mapping[str, Any], arrays: Mapping[str, jax.Array | np.ndarray]) -> None:
    """Raises `Damaged` if an array does not have the digest that the record contains for its name."""
    digests = record.get("digests", {})
    for name, x in arrays.items():
        if name in digests and array_digest(x) != digests[name]:
            raise Damaged(f"its array {name} has changed")


def array_digest(x: jax.Array | np.ndarray) -> str:
    """Returns the SHA-256 hash of the bytes of an array, as hexadecimal digits."""
    return hashlib.sha256(np.ascontiguousarray(numbers(x)).reshape(-1).view(np.uint8).data).hexdigest()


def numbers(x: Any) -> Any:
    """Returns an array unchanged, and the underlying integers of a random key."""
    return jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x


def _record_digest(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _read_seal(path: Path) -> dict[str, str]:
    """Returns the digests in a seal, by file name. Raises `Damaged` if it cannot be read or names files elsewhere."""
    try:
        with os.fdopen(os.open(path / SEAL, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
            digests = json.load(file)
        names = {str(name): str(digest) for name, digest in digests.items()}
    except (OSError, ValueError, AttributeError, RecursionError):
        raise Damaged(f"its {SEAL} cannot be read") from None
    if any(Path(name).is_absolute() or ".." in Path(name).parts for name in names):
        raise Damaged(f"its {SEAL} names a file outside of it")
    return names


def _digest(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise Damaged(f"its file {file.name} cannot be read: {error.strerror or error}") from error
