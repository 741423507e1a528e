"""Images that are stored encoded, as files or bytes, and decoded with Pillow when they are read."""

import functools
import io
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from wgan_jax.data.source import Examples
from wgan_jax.errors import UserError
from wgan_jax.preprocess import central_box

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
    """An image of any size and mode as uint8 `[size, size, channels]`.

    It is turned upright as its EXIF data say, and its transparent parts become white; the square in its middle is
    resized with antialiasing.

    Raises:
      UnreadableError: if it is damaged, no image, or larger than `PIL.Image.MAX_IMAGE_PIXELS`.
    """
    try:
        with Image.open(io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded) as image:
            if not form.crop:  # JPEGs decode faster at a half, quarter or eighth, as long as twice the size is left
                image.draft(None, (2 * form.size, 2 * form.size))
            upright = _flatten(ImageOps.exif_transpose(image), MODES[form.channels])
            box = central_box(upright.height, upright.width, form.crop)
            resized = upright.resize((form.size, form.size), Image.Resampling.BICUBIC, box=box)
    except UnidentifiedImageError:
        raise UnreadableError("not an image") from None
    except MemoryError:
        raise
    except Exception as error:  # damaged files make Pillow raise errors of many kinds
        raise UnreadableError(str(error) or type(error).__name__) from None
    return np.asarray(resized).reshape(form.shape)


def _flatten(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits, which Pillow would clip rather than scale
        image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
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
        self._index = index

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
