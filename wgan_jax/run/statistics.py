"""Keeps the statistics of data sets in files, so that a set goes through a feature network once."""

import io
import zipfile
from collections.abc import Iterator, MutableMapping
from pathlib import Path

import numpy as np

from wgan_jax.files import write_atomically
from wgan_jax.metrics.kept import Arrays


class StatisticsFiles(MutableMapping[str, Arrays]):
    """Arrays by the digest of what they were made of: one file for each digest.

    A file that is damaged or cannot be written costs only time: it counts as absent.

    Args:
      folder: where the files are; it is made when the first one is written.
    """

    def __init__(self, folder: Path):
        self._folder = folder

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.npz"

    def __getitem__(self, key: str) -> Arrays:
        try:
            with self._path(key).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                return dict(arrays)
        except (OSError, ValueError, EOFError, KeyError, TypeError, RuntimeError, zipfile.BadZipFile):
            raise KeyError(key) from None

    def __setitem__(self, key: str, arrays: Arrays) -> None:
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path(key), buffer.getvalue())
        except OSError:
            pass

    def __delitem__(self, key: str) -> None:
        self._path(key).unlink()

    def __iter__(self) -> Iterator[str]:
        return (path.stem for path in self._folder.glob("*.npz"))

    def __len__(self) -> int:
        return sum(1 for _ in self)
