"""Images that are stored encoded, as files or bytes. Pillow decodes them when they are read."""

import functools
import io
import os
import stat
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Self, TypeVar

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import BITSPERSAMPLE, TiffImageFile

from wgan_jax.data.digest import sha256
from wgan_jax.data.source import Examples, ranks
from wgan_jax.errors import UserError

Encoded = bytes | Path
T = TypeVar("T")

MODES = {1: "L", 3: "RGB"}
"""Pillow mode for each number of channels: grey and colour."""

# Pillow only warns of a decompression bomb up to twice its limit. This makes the warning an error.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


class Form(NamedTuple):
    """The form of a decoded image: uint8 `[size, size, channels]`, resized from the central square of the original.

    The side of that square is `crop` pixels, or the shorter side of the image if `crop` is 0 or larger than that.
    """

    size: int
    channels: int
    crop: int = 0

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of one image."""
        return self.size, self.size, self.channels

    def draft(self, image: Image.Image) -> None:
        """Lets a JPEG decode faster, at 1/2, 1/4 or 1/8 of its size, if at least twice `size` remains."""
        if not self.crop:
            image.draft(None, (2 * self.size, 2 * self.size))

    def fit(self, image: Image.Image) -> Image.Image:
        """Returns the central square of an image, resized with antialiasing."""
        box = central_box(image.height, image.width, self.crop)
        return image.resize((self.size, self.size), Image.Resampling.BICUBIC, box=box)


class WholeForm(NamedTuple):
    """The form of decoded images that all have one size and keep it: uint8 `[height, width, channels]`."""

    height: int
    width: int
    channels: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of one image."""
        return self.height, self.width, self.channels

    def draft(self, image: Image.Image) -> None:
        """Does nothing: the image is decoded at its full size."""

    def fit(self, image: Image.Image) -> Image.Image:
        """Returns the image. Raises `UnreadableError` if it has another size."""
        if image.size != (self.width, self.height):
            raise UnreadableError(
                f"has {image.width}×{image.height} pixels, and the first image has {self.width}×{self.height}"
            )
        return image


class UnreadableError(ValueError):
    """Raised for an image that cannot be decoded; its message gives the reason."""


def decode(encoded: Encoded, form: Form | WholeForm) -> np.ndarray:
    """Decodes an image of any size and mode into uint8 `[height, width, channels]`.

    The image is rotated as its EXIF data say, its transparent parts become white, and it is brought to its form. Grey
    values of more than 8 bits are scaled to 8 bits by a range that depends on the type of the image alone: 0 to 65535
    for 16 bits (0 to 4095 for a TIFF of 12 bits), 0 to 255 for 32-bit integers, and 0 to 1 for floats.

    Raises:
      UnreadableError: if the image is damaged, is not an image or not a regular file, has more pixels than
        `PIL.Image.MAX_IMAGE_PIXELS`, has values outside its range, or has values so small that it would be black.
    """
    with _opened(encoded) as image:
        form.draft(image)
        bits = _bits(image)
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith(("I", "F")):
            upright = _eight_bits(upright, bits)
        fitted = form.fit(_flatten(upright, MODES[form.channels]))
        return np.asarray(fitted).reshape(form.shape)


def whole_form(encoded: Encoded) -> WholeForm:
    """Returns the form of an image as it is, upright, in grey or in colour.

    Only the head of its file is read, unless that says that the image must be turned.

    Raises:
      UnreadableError: if it is not an image or not a regular file, or has more pixels than
        `PIL.Image.MAX_IMAGE_PIXELS`.
    """
    with _opened(encoded) as image:
        exif = Image.Image.getexif(image)  # a PNG's own method would decode it first
        turned = exif.get(ExifTags.Base.Orientation) in range(5, 9)
        width, height = (ImageOps.exif_transpose(image) if turned else image).size
        return WholeForm(height, width, 1 if Image.getmodebase(image.mode) == "L" else 3)


@contextmanager
def _opened(encoded: Encoded) -> Iterator[Image.Image]:
    """Opens an image. Raises `UnreadableError` if anything goes wrong with it, also while it is in use."""
    try:
        if isinstance(encoded, Path):
            _check_file(encoded)
        with Image.open(io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded) as image:
            yield image
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


def _check_file(path: Path) -> None:
    """Raises `UnreadableError` if a path is no regular file: opening a named pipe, for instance, would wait forever."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if path.is_symlink():
            raise UnreadableError(f"a link to {os.readlink(path)}, which does not exist") from None
        raise
    if not stat.S_ISREG(mode):
        raise UnreadableError("a named pipe, a socket or a device, and no file")


def _bits(image: Image.Image) -> int:
    """Returns how many bits of a 16-bit image are in use: 16, unless a TIFF says otherwise."""
    return image.tag_v2.get(BITSPERSAMPLE, (16,))[0] if isinstance(image, TiffImageFile) else 16


def _eight_bits(image: Image.Image, bits: int) -> Image.Image:
    """Scales a grey image of more than 8 bits to 8 bits. Pillow's own conversion would clip it.

    The scale depends on the type alone, never on the values, so that dark images stay dark.
    """
    values = np.asarray(image)
    low, high = values.min(), values.max()
    if image.mode == "I":
        scaled, top, rule = values, 255, "integers of 32 bits or with a sign must be from 0 to 255"
    elif image.mode == "F":
        scaled, top, rule = np.round(values * 255), 1, "floats must be from 0 to 1"
    else:
        scaled, top, rule = values >> (bits - 8), (1 << bits) - 1, f"integers of {bits} bits go up to {(1 << bits) - 1}"
    if not 0 <= low <= high <= top:  # also true for NaN
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
    """A source of encoded images, which threads decode to uint8 at every read."""

    can_be_damaged = False
    """Whether images may be damaged, so that all are decoded once before a run starts."""

    def __init__(self, form: Form | WholeForm, index: np.ndarray, num_classes: int = 0):
        self.form = form
        self.num_classes = num_classes
        self._index, self._total = index, len(index)

    @property
    @abstractmethod
    def content(self) -> Iterable[str | bytes | np.ndarray]:
        """The parts that the digest hashes: names or data that identify images and labels and are cheap to read."""

    @property
    def digest(self) -> str:
        """The identity of the examples, whether or not they are kept decoded: see `source.fingerprint`."""
        return sha256(self.content)

    @property
    def rank(self) -> np.ndarray:
        return ranks(self._total)[self._index]

    @abstractmethod
    def fetch(self, index: np.ndarray) -> tuple[Sequence[Encoded], np.ndarray | None]:
        """Returns the encoded images at positions `index [B]` of the whole set, and their labels `[B]` or None.

        Positions count all images of the split, before `only` takes a part of them.
        """

    def name(self, i: int) -> str:
        """Returns a name of example `i` for messages."""
        return f"image {self._index[i]}"

    def only(self, index: np.ndarray) -> Self:
        """Returns a source that contains only the examples at `index`, in that order."""
        source = type(self).__new__(type(self))
        source.__dict__ |= self.__dict__ | {"_index": self._index[index]}
        return source

    @property
    def image_shape(self) -> tuple[int, ...]:
        return self.form.shape

    def __len__(self) -> int:
        return len(self._index)

    def attempt(self, index: np.ndarray) -> tuple[Iterator[np.ndarray | UnreadableError], np.ndarray | None]:
        """Decodes the examples at `index [B]`.

        Returns:
          An iterator over the B images, with an `UnreadableError` in place of each that cannot be read; and the labels
          `[B]`, or None if there are none.
        """
        encoded, label = self.fetch(self._index[index])
        return in_threads(functools.partial(decode, form=self.form), encoded), label

    def read(self, index: np.ndarray) -> Examples:
        images, label = self.attempt(index)
        image = np.empty((len(index), *self.image_shape), np.uint8)
        for row, (i, pixels) in enumerate(zip(index, images, strict=True)):
            if isinstance(pixels, UnreadableError):
                raise self.unreadable(i, pixels)
            image[row] = pixels
        return {"image": image} if label is None else {"image": image, "label": label.astype(np.int32)}

    def unreadable(self, i: int, error: UnreadableError) -> UserError:
        """Returns the error that ends a run when example `i`, which was readable when it started, is not."""
        return UserError(f"{self.name(i)}: cannot be read any more ({error}); put it back, and start again")


def in_threads(function: Callable[[Encoded], T], encoded: Iterable[Encoded]) -> Iterator[T | UnreadableError]:
    """Calls a function with each encoded image, in threads.

    Yields the results in order, with an `UnreadableError` in place of each that the function raises.
    """

    def attempt(one: Encoded) -> T | UnreadableError:
        try:
            return function(one)
        except UnreadableError as error:
            return error

    return _threads().map(attempt, encoded)


def central_box(height: int, width: int, side: int = 0) -> tuple[int, int, int, int]:
    """Returns the central square of an image, as `(left, top, right, bottom)` in pixels.

    Args:
      height: height of the image.
      width: width of the image.
      side: side of the square. If it is 0, or larger than the shorter side of the image, the shorter side is used.
    """
    side = min(height, width, side or height)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side
