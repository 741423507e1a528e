"""Images that are stored encoded, as files or bytes, and decoded with Pillow when they are read."""

import functools
import io
import os
import stat
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import BITSPERSAMPLE, TiffImageFile

from wgan_jax.data.digest import sha256
from wgan_jax.data.source import Examples, ranks
from wgan_jax.errors import UserError

Encoded = bytes | Path

MODES = {1: "L", 3: "RGB"}
"""Pillow's names of grey and of colour, by the number of channels."""

# Pillow warns of a decompression bomb where it should refuse.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


class Form(NamedTuple):
    """What every image is brought to: uint8, `[size, size, channels]`, from a central square of `crop` pixels."""

    size: int
    channels: int
    crop: int = 0

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of one image."""
        return self.size, self.size, self.channels


class UnreadableError(ValueError):
    """An image that cannot be decoded, and why."""


def decode(encoded: Encoded, form: Form) -> np.ndarray:
    """Returns an image of any size and mode as uint8 `[size, size, channels]`.

    It is turned upright as its EXIF data say, and its transparent parts become white; the square in its middle is
    resized with antialiasing. Grey values of more than 8 bits have one scale for all images: 16 bits are 0 to 65535
    (and 12 bits in a TIFF 0 to 4095), 32-bit integers are bytes, 0 to 255, and floats are 0 to 1.

    Raises:
      UnreadableError: if it is damaged, no image, no regular file, larger than `PIL.Image.MAX_IMAGE_PIXELS`, or has
        values outside its scale, or so small on it that the image would be black.
    """
    try:
        if isinstance(encoded, Path):
            _check_file(encoded)
        with Image.open(io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded) as image:
            if not form.crop:  # JPEGs decode faster at a half, quarter or eighth, as long as twice the size is left
                image.draft(None, (2 * form.size, 2 * form.size))
            bits = _bits(image)
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith(("I", "F")):
                upright = _eight_bits(upright, bits)
            upright = _flatten(upright, MODES[form.channels])
            box = central_box(upright.height, upright.width, form.crop)
            resized = upright.resize((form.size, form.size), Image.Resampling.BICUBIC, box=box)
    except UnidentifiedImageError:
        raise UnreadableError("not an image") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UnreadableError(
            f"more than {Image.MAX_IMAGE_PIXELS:,} pixels, as decompression bombs have; make it smaller"
        ) from None
    except (MemoryError, UnreadableError):
        raise
    except Exception as error:  # damaged files make Pillow raise errors of many kinds
        raise UnreadableError(str(error) or type(error).__name__) from None
    return np.asarray(resized).reshape(form.shape)


def _check_file(path: Path) -> None:
    """Raises `UnreadableError` for what is no file: opening a named pipe, for instance, would wait for ever."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if path.is_symlink():
            raise UnreadableError(f"a link to {os.readlink(path)}, which does not exist") from None
        raise
    if not stat.S_ISREG(mode):
        raise UnreadableError("a named pipe, a socket or a device, and no file")


def _bits(image: Image.Image) -> int:
    """Returns the bits of a 16-bit image that are in use, as far as its file says so."""
    return image.tag_v2.get(BITSPERSAMPLE, (16,))[0] if isinstance(image, TiffImageFile) else 16


def _eight_bits(image: Image.Image, bits: int) -> Image.Image:
    """Returns a grey image of more than 8 bits scaled to 8, where Pillow would clip it.

    The scale comes from the type alone, never from the values: a dark image must not get brighter than its neighbours.
    """
    values = np.asarray(image)
    low, high = values.min(), values.max()
    if image.mode == "I":
        scaled, top, rule = values, 255, "integers of 32 bits or with a sign must be from 0 to 255"
    elif image.mode == "F":
        scaled, top, rule = np.round(values * 255), 1, "floats must be from 0 to 1"
    else:
        scaled, top, rule = values >> (bits - 8), (1 << bits) - 1, f"integers of {bits} bits go up to {(1 << bits) - 1}"
    if not 0 <= low <= high <= top:  # true of NaN, too
        raise UnreadableError(f"has values from {low:g} to {high:g}, but {rule}; convert it to 8 bits")
    if low < high and not scaled.any():
        raise UnreadableError(f"would be black: has values from {low:g} to {high:g}, but {rule}; convert it to 8 bits")
    return Image.fromarray(scaled.astype(np.uint8))


def _flatten(image: Image.Image, mode: str) -> Image.Image:
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="decode")


class ImageSource(ABC):
    """Encoded images as a source: uint8, decoded in threads at every read."""

    can_be_damaged = False
    """Whether the images must be looked at before a run can rely on them."""

    def __init__(self, form: Form, index: np.ndarray, num_classes: int = 0):
        self.form = form
        self.num_classes = num_classes
        self._index, self._total = index, len(index)

    @property
    @abstractmethod
    def content(self) -> Iterable[str | bytes | np.ndarray]:
        """Returns what names or holds these images and their labels, cheap to have, for the digest."""

    @property
    def digest(self) -> str:
        """Tells these examples from others, decoded or not: see `source.fingerprint`."""
        return sha256(self.content)

    @property
    def rank(self) -> np.ndarray:
        return ranks(self._total)[self._index]

    @abstractmethod
    def fetch(self, index: np.ndarray) -> tuple[Sequence[Encoded], np.ndarray | None]:
        """The encoded images at positions of the underlying set, and their labels if there are any."""

    def name(self, i: int) -> str:
        """What a person calls example i."""
        return f"image {self._index[i]}"

    def only(self, index: np.ndarray) -> Self:
        """The source with those of its examples that `index` has, in that order."""
        source = type(self).__new__(type(self))
        source.__dict__ |= self.__dict__ | {"_index": self._index[index]}
        return source

    @property
    def image_shape(self) -> tuple[int, ...]:
        return self.form.shape

    def __len__(self) -> int:
        return len(self._index)

    def attempt(self, index: np.ndarray) -> tuple[Iterator[np.ndarray | UnreadableError], np.ndarray | None]:
        """The images at `index [B]`, one after another, or why one cannot be read; and the labels `[B]`."""
        encoded, label = self.fetch(self._index[index])
        return _threads().map(functools.partial(_attempt, form=self.form), encoded), label

    def read(self, index: np.ndarray) -> Examples:
        images, label = self.attempt(index)
        image = np.empty((len(index), *self.image_shape), np.uint8)
        for row, (i, pixels) in enumerate(zip(index, images, strict=True)):
            if isinstance(pixels, UnreadableError):
                raise UserError(f"{self.name(i)}: cannot be read any more ({pixels}); put it back, and start again")
            image[row] = pixels
        return {"image": image} if label is None else {"image": image, "label": label.astype(np.int32)}


def _attempt(encoded: Encoded, form: Form) -> np.ndarray | UnreadableError:
    try:
        return decode(encoded, form)
    except UnreadableError as error:
        return error


def central_box(height: int, width: int, side: int = 0) -> tuple[int, int, int, int]:
    """The square in the middle of an image, as `(left, top, right, bottom)`.

    Args:
      height: of the image.
      width: of the image.
      side: of the square; the image's shorter side if that is smaller, or if this is 0.
    """
    side = min(height, width, side or height)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side
