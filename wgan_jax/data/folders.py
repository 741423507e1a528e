"""A folder of pictures as a data set.

The pictures may have any size and mode and lie in any sub-folders. Sub-folders can serve as classes.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from wgan_jax.data.images import Form, ImageSource, WholeForm
from wgan_jax.errors import UserError

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
"""File name endings of images, in lower case. Files with other endings are ignored."""


class FolderSource(ImageSource):
    """The pictures of one split of a folder, in the order of their names, with labels if the folder has classes."""

    can_be_damaged = True

    def __init__(self, folder: Path, names: list[str], form: Form | WholeForm, classes: Sequence[str] = ()):
        super().__init__(form, np.arange(len(names)), len(classes))
        self._folder, self._names, self._classes = folder, names, classes
        self._label = np.array([classes.index(_first(name)) for name in names]) if classes else None

    def fetch(self, index: np.ndarray) -> tuple[Sequence[Path], np.ndarray | None]:
        return [self._folder / self._names[i] for i in index], None if self._label is None else self._label[index]

    @property
    def content(self) -> Iterator[str]:
        """The classes, and the name and size of each file.

        The path of the folder and the dates of its files are not part of it, so the folder may be moved.
        """
        yield from ("folder", *self._classes)
        for i in self._index:
            yield from (self._names[i], str(_size(f"{self._folder}/{self._names[i]}")))

    def name(self, i: int) -> str:
        return self._names[self._index[i]]


def load(folder: Path, split: str, form: Form, held_out_fraction: float) -> FolderSource:
    """Opens the pictures of `train` or `held_out`, with labels if the folder has classes (see `class_names`).

    The names of the files alone decide which pictures are held out, so every run holds out the same ones.

    Args:
      folder: the folder of pictures.
      split: `train` or `held_out`.
      form: size and channels of the decoded images.
      held_out_fraction: fraction of the pictures that are held out.

    Raises:
      UserError: if the folder does not exist, cannot be listed, or contains fewer than two images.
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
    here = [name for name in names if (name in held_out) == (split == "held_out")]
    return FolderSource(folder, here, form, class_names(names))


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:  # gone, or unreadable: reading the image reports that
        return -1


def image_names(folder: Path) -> list[str]:
    """Returns the sorted paths of all images below a folder, relative to that folder.

    Hidden files and folders are ignored. Links are followed, except a link to a folder that contains the link itself:
    following it would never end.
    """
    return sorted(_below(folder, "", frozenset()))


def _below(folder: Path, prefix: str, above: frozenset[str]) -> Iterator[str]:
    real = os.path.realpath(folder)
    if real in above:
        return
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        raise UserError(f"{folder}: cannot be listed: {error.strerror}; fix its permissions, or remove it") from None
    for entry in entries:
        if entry.name.startswith("."):
            continue
        # A link may be broken, or lead back to itself: `os.path.isdir` returns False for both.
        if os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir():
            yield from _below(Path(entry.path), f"{prefix}{entry.name}/", above | {real})
        elif entry.name.lower().endswith(ENDINGS):
            yield prefix + entry.name


def class_names(names: list[str]) -> list[str]:
    """Returns the sorted names of the top-level sub-folders that contain the images with these paths.

    These are the classes. The list is empty if an image lies outside all sub-folders, or if there is only one
    sub-folder. The label of an image is the index of its sub-folder in the list.
    """
    classes = sorted({_first(name) for name in names})
    return classes if len(classes) > 1 and all("/" in name for name in names) else []


def _first(name: str) -> str:
    return name.partition("/")[0]


def held_out_names(names: list[str], fraction: float) -> set[str]:
    """Returns a fixed pseudo-random subset of the names: `fraction` of them, but at least one and not all."""
    count = min(max(1, round(fraction * len(names))), len(names) - 1)
    return set(sorted(names, key=lambda name: hashlib.sha256(os.fsencode(name)).digest())[:count])
