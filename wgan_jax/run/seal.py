"""Proof that a checkpoint is what was written: a digest of every file, and one of every array.

The seal, `files.sha256.json`, lies beside the files of a checkpoint from the moment it has its name, and finds any
changed bit. The digests of the arrays are in the checkpoint's record, with a digest of the record itself: they vouch
for the state where the seal has been lost.
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
"""Orbax's own record; a checkpoint of before the digests has ours in it."""
FORM = re.compile(
    rf"({SEAL}|{RECORD})({re.escape(PARTIAL)})?|{METADATA}|orbax\.checkpoint|commit_success\.txt"
    r"|state(/(_METADATA|_sharding|array_metadatas(/process_\d+)?"
    r"|(ocdbt\.process_\d+)|(ocdbt\.process_\d+/)?(manifest\.ocdbt|d|d/[0-9a-f]{32})))?"
)
"""Names of the files and folders of a checkpoint."""


class Damaged(Exception):  # noqa: N818
    """A checkpoint that cannot be read, or is not what was written."""


def write_seal(path: Path) -> None:
    """Writes the digest of every file of a checkpoint beside them, and puts all of it on the disk.

    All files must be of the checkpoint: see `foreign`.
    """
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.name not in (SEAL, SEAL + PARTIAL))
    digests = {str(file.relative_to(path)): _digest(file) for file in files}
    for file in files:
        sync(file)
    for folder in {file.parent for file in files} - {path}:
        sync(folder)
    write_atomically(path / SEAL, json.dumps(digests, indent=1))


def sealed(path: Path) -> bool:
    """Returns whether a checkpoint has a seal, whole or not."""
    return there(path / SEAL)


def check_seal(path: Path) -> None:
    """Compares every file of a checkpoint with its seal.

    Raises:
      Damaged: if a file is missing, has changed, cannot be read, or is a link.
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
    """Returns what in a checkpoint is not of it: all links, and what the seal does not name.

    Without a seal that can be read, what has not the names that orbax and this package give.
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
    """Deletes a folder, its seal last: so a deletion that was killed can be told from a folder of someone else."""
    for entry in sorted(path.iterdir(), key=lambda entry: entry.name == SEAL):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    path.rmdir()


@contextmanager
def held(path: Path, *, exclusive: bool = False) -> Iterator[bool]:
    """Keeps a checkpoint from being pruned while it is read, or from being read while it is pruned.

    Yields whether it is held. A checkpoint without a seal cannot be held, nor can any on a file system without locks;
    an exclusive hold is refused while another process reads.
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
            free = exclusive  # no locks here: prune as if nobody read
        yield free
    finally:
        os.close(descriptor)


def signed(record: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns a record with the digest of each array, and a digest of all that the record says."""
    whole = dict(record) | {"digests": {name: array_digest(x) for name, x in arrays.items()}}
    return whole | {"digest": _record_digest(whole)}


def check_record(record: Mapping[str, Any]) -> None:
    """Raises `Damaged` if a record is not what `signed` made. One of an older version has no digest to check."""
    if "digests" in record or "digest" in record:
        rest = {name: value for name, value in record.items() if name != "digest"}
        if record.get("digest") != _record_digest(rest):
            raise Damaged("its record has changed")


def check_arrays(record: Mapping[str, Any], arrays: Mapping[str, jax.Array | np.ndarray]) -> None:
    """Raises `Damaged` if an array is not the one that the record is about."""
    digests = record.get("digests", {})
    for name, x in arrays.items():
        if name in digests and array_digest(x) != digests[name]:
            raise Damaged(f"its array {name} has changed")


def array_digest(x: jax.Array | np.ndarray) -> str:
    """Returns the SHA-256 of an array's bytes."""
    return hashlib.sha256(np.ascontiguousarray(numbers(x)).reshape(-1).view(np.uint8).data).hexdigest()


def numbers(x: Any) -> Any:
    """Returns an array as it is, and a key as its numbers."""
    return jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x


def _record_digest(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _read_seal(path: Path) -> dict[str, str]:
    """The digests in a seal, by the files' names."""
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
