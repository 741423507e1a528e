"""A folder of pictures as a data set: any sizes and modes, in any sub-folders."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from wgan_jax.data.images import Form, ImageSource
from wgan_jax.errors import UserError

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
"""Files with other names are passed over."""


class FolderSource(ImageSource):
    """The pictures of one split of a folder, in the order of their names."""

    can_be_damaged = True

    def __init__(self, folder: Path, names: list[str], form: Form):
        super().__init__(form, np.arange(len(names)))
        self._folder, self._names = folder, names

    def fetch(self, index: np.ndarray) -> tuple[Sequence[Path], None]:
        return [self._folder / self._names[i] for i in index], None

    def name(self, i: int) -> str:
        return self._names[self._index[i]]


def load(folder: Path, split: str, form: Form, held_out_fraction: float) -> FolderSource:
    """The pictures of `train` or `held_out`.

    Which are held out depends on the names of the files alone, so it is the same in every run.

    Raises:
      UserError: if there is no such folder, or it holds too few images for two splits.
    """
    if not folder.is_dir():
        raise UserError(f"config.data.name = 'folder:{folder}': no such folder; give the path of a folder of images")
    names = image_names(folder)
    if len(names) < 2:
        raise UserError(
            f"config.data.name = 'folder:{folder}': {len(names)} images there, and two are needed at least, one to "
            f"train on and one held out; images are files that end in {', '.join(ENDINGS)}"
        )
    held_out = held_out_names(names, held_out_fraction)
    return FolderSource(folder, [name for name in names if (name in held_out) == (split == "held_out")], form)


def image_names(folder: Path) -> list[str]:
    """The paths of all images below a folder, relative to it, sorted; hidden files and folders are passed over."""
    names = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        here = Path(parent).relative_to(folder)
        names += [
            (here / name).as_posix() for name in files if name.lower().endswith(ENDINGS) and not name.startswith(".")
        ]
    return sorted(names)


def held_out_names(names: list[str], fraction: float) -> set[str]:
    """A fixed pseudo-random share of names, one at least and all but one at most."""
    count = min(max(1, round(fraction * len(names))), len(names) - 1)
    return set(sorted(names, key=lambda name: hashlib.sha256(os.fsencode(name)).digest())[:count])
