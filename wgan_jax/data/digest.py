"""Hashes that identify a data set."""

import hashlib
from collections.abc import Iterable

import numpy as np


def sha256(parts: Iterable[str | bytes | np.ndarray]) -> str:
    """Returns the SHA-256 hash of strings, bytes and arrays, in the given order, as hexadecimal digits."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            total.update(f"{part.dtype.str} {part.shape}\n".encode())
            total.update(np.ascontiguousarray(part).data)
        else:
            content = part if isinstance(part, bytes) else part.encode(errors="surrogateescape")
            total.update(f"{len(content)}\n".encode())
            total.update(content)
    return total.hexdigest()
