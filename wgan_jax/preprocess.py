"""From bytes to what a critic sees: range, dequantisation, flips and crops.

Pure functions of images `[..., H, W, C]`, numpy's or JAX's; what is random comes in as an argument.
"""

from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

Array = TypeVar("Array", np.ndarray, jax.Array)


def to_range(images: Array) -> Array:
    """uint8 to float32 in [−1, 1], `x / 127.5 − 1`; floats stay as they are.

    Raises:
      ValueError: if the images are other integers.
    """
    if images.dtype == np.uint8:
        return images.astype(np.float32) / np.float32(127.5) - 1
    if jnp.issubdtype(images.dtype, jnp.floating):
        return images
    raise ValueError(f"images of type {images.dtype}: must be uint8, or float32 in [−1, 1]")


def dequantise(images: Array, noise: Array) -> Array:
    """uint8 to float32 in [−1, 1], `2(x / 256 − ½) + noise`, with noise U(0, 1/128) of the images' shape.

    Every byte becomes an interval of the width that lies between two bytes, as in WGAN-GP's CIFAR-10 code
    (arXiv 1704.00028, `gan_cifar_resnet.py`).
    """
    return 2 * (images.astype(np.float32) / 256 - 0.5) + noise


def flip(images: Array, flipped: Array) -> Array:
    """Images `[B, H, W, C]`, left and right exchanged where `flipped [B]` is true."""
    where = jnp.where if isinstance(images, jax.Array) else np.where
    return where(flipped[:, None, None, None], images[:, :, ::-1], images)


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


def central_crop(images: Array, side: int = 0) -> Array:
    """The square in the middle of images `[..., H, W, C]`: `[..., side, side, C]`, or less if they are smaller."""
    left, top, right, bottom = central_box(images.shape[-3], images.shape[-2], side)
    return images[..., top:bottom, left:right, :]
