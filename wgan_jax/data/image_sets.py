"""Sets of images that are measured without a run: folders of pictures, and `.npz` files.

All images of a set have one size, and keep it: nothing is resized or cropped.
"""

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from wgan_jax.data import memory
from wgan_jax.data.arrays import ArraySource
from wgan_jax.data.folders import ENDINGS, FolderSource, image_names
from wgan_jax.data.images import MODES, UnreadableError, WholeForm, in_threads, whole_form
from wgan_jax.data.source import Source, fixed_subset
from wgan_jax.errors import UserError, one_line

ARRAYS = ("image", "images", "arr_0")
"""Names that the images of an `.npz` file with several arrays may have: those of `wgan_jax.sample` and `np.savez`."""

PEEKED = 64
"""Number of pictures of a folder whose bytes are part of its digest."""


class PictureSet(FolderSource):
    """The pictures of a folder in the order of their names. Threads decode them when they are read."""

    @property
    def content(self) -> Iterator[str | bytes]:  # type: ignore[override]
        """The name and size of each file, and the bytes of a few: samples of two models may have equal sizes."""
        yield from super().content
        paths, _ = self.fetch(self._index[fixed_subset(self, PEEKED)])
        yield from (path.read_bytes() for path in paths)

    def name(self, i: int) -> str:
        return f"{self._folder}/{super().name(i)}"

    def unreadable(self, i: int, error: UnreadableError) -> UserError:
        return UserError(f"{self.name(i)}: cannot be read ({error}); fix or remove it")


def load(path: str | Path) -> Source:
    """Opens a set of images: uint8 `[H, W, C]`, where C is 1 if all images are grey, and 3 otherwise.

    Args:
      path: a folder of pictures, which may lie in sub-folders, or an `.npz` file. If the file holds several arrays,
        the images are the one that is named `image`, `images` or `arr_0`. They are uint8 `[N, H, W, C]` or `[N, H, W]`.

    Returns:
      The images in a fixed order, without labels. Pictures of a folder are decoded when they are read: their
      transparent parts become white, and grey values of more than 8 bits are scaled, as in training.

    Raises:
      UserError: if `path` is neither, or holds fewer than two images, images of several sizes, unreadable images or
        arrays of other types. A picture whose pixels are damaged is found when it is read.
    """
    path = Path(path)
    if path.is_dir():
        return _pictures(path)
    if path.suffix.lower() == ".npz" and path.is_file():
        return _array(path)
    what = "is neither" if path.exists() else "does not exist"
    raise UserError(f"{path}: {what}; give a folder of images, or an .npz file with an array of bytes [N, H, W, C]")


def _pictures(folder: Path) -> PictureSet:
    names = image_names(folder)
    _check_number(folder, len(names), f"; images are files that end in {', '.join(ENDINGS)}")
    forms = _forms(folder, names)
    first = next(forms)
    channels = first.channels
    for name, form in zip(names[1:], forms, strict=True):
        if form[:2] != first[:2]:
            raise UserError(
                f"{folder / name}: has {form.width}×{form.height} pixels, and {names[0]} has "
                f"{first.width}×{first.height}; bring all images to one size"
            )
        channels = max(channels, form.channels)
    return PictureSet(folder, names, first._replace(channels=channels))


def _forms(folder: Path, names: list[str]) -> Iterator[WholeForm]:
    """Yields the form of each picture, from the heads of the files alone."""
    with memory.Counter("checking images", len(names)) as counter:
        for start in range(0, len(names), memory.CHUNK):
            part = names[start : start + memory.CHUNK]
            for name, form in zip(part, in_threads(whole_form, [folder / name for name in part]), strict=True):
                if isinstance(form, UnreadableError):
                    raise UserError(f"{folder / name}: cannot be read ({form}); fix or remove it")
                yield form
            counter.add(len(part))


def _array(path: Path) -> ArraySource:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
            info = archive.getinfo(f"{_images_of(path, names)}.npy")
            with archive.open(info) as file:
                _check_head(path, file, info.file_size)
            with archive.open(info) as file:
                images = npy.read_array(file, allow_pickle=False)
    except (MemoryError, UserError):
        raise
    except Exception as error:  # damaged files raise errors of many kinds
        raise UserError(f"{path}: cannot be read as an .npz file ({one_line(error)}); write it anew") from None
    _check_number(path, len(images))
    return ArraySource(images[..., None] if images.ndim == 3 else images)


def _images_of(path: Path, names: list[str]) -> str:
    """Returns the name of the images among the names of all arrays."""
    known = names if len(names) == 1 else [name for name in ARRAYS if name in names]
    if known:
        return known[0]
    raise UserError(
        f"{path}: has {len(names)} arrays ({', '.join(names)}); give it one, or name the images {' or '.join(ARRAYS)}"
    )


def _check_head(path: Path, file: IO[bytes], size: int) -> None:
    """Checks type and shape of an array of `size` bytes before it is read, so that it takes no more memory than it may.

    Raises:
      UserError: if it is not an array of images, or is larger than the free memory.
      ValueError: if it is not an array, or its head and its size disagree.
    """
    read_head = npy.read_array_header_1_0 if npy.read_magic(file) == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read_head(file)
    if dtype != np.uint8:
        raise UserError(
            f"{path}: its images are {dtype}, and must be uint8; convert them, for values from −1 to 1 by "
            "np.clip(np.rint((x + 1) * 127.5), 0, 255).astype(np.uint8)"
        )
    grey = len(shape) == 3 and shape[-1] not in (3, 4)  # a single colour image is not many narrow grey ones
    if not (grey or (len(shape) == 4 and shape[-1] in MODES)) or 0 in shape[1:]:
        raise UserError(f"{path}: its images are {shape}, and must be [N, H, W], [N, H, W, 1] or [N, H, W, 3]")
    if math.prod(shape) != size - file.tell():
        raise ValueError(f"{shape} is not the shape of {size - file.tell():,} bytes")
    if size > memory.available():
        raise UserError(
            f"{path}: its images take {size / 1e9:,.1f} GB of memory, and {memory.available() / 1e9:,.1f} are free; "
            "write them to a folder of pictures, which are read a few at a time"
        )


def _check_number(path: Path, number: int, where: str = "") -> None:
    if number < 2:
        raise UserError(f"{path}: {number} images there, and two are needed at least{where}")
