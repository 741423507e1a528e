"""Turns a batch of bytes into what a critic sees: its range, dequantisation and flips.

These are pure functions of images `[..., H, W, C]`, which may be numpy's or JAX's. Random numbers are arguments.
"""

from typing import TypeVar

import chex
import jax
import jax.numpy as jnp
import numpy as np

from wgan_jax.method import draws
from wgan_jax.method.gan import Gan

Batch = dict[str, jax.Array]
Label = jax.Array | None
"""Classes `[B]` int32, or None for an unconditional GAN."""

Array = TypeVar("Array", np.ndarray, jax.Array)


def to_range(images: Array) -> Array:
    """Converts uint8 to float32 in [−1, 1] by `x / 127.5 − 1`. Floats stay as they are.

    Raises:
      ValueError: if the images are other integers.
    """
    if images.dtype == np.uint8:
        return images.astype(np.float32) / np.float32(127.5) - 1
    if jnp.issubdtype(images.dtype, jnp.floating):
        return images
    raise ValueError(f"images of type {images.dtype}: must be uint8, or float32 in [−1, 1]")


def dequantise(images: Array, noise: Array) -> Array:
    """Converts uint8 to float32 in [−1, 1] by `2(x / 256 − ½) + noise`, with noise U(0, 1/128) of the images' shape.

    Every byte becomes an interval as wide as the step between two bytes, as in WGAN-GP's CIFAR-10 code
    (arXiv 1704.00028, `gan_cifar_resnet.py`).
    """
    return 2 * (images.astype(np.float32) / 256 - 0.5) + noise


def flip(images: Array, flipped: Array) -> Array:
    """Exchanges left and right in the images `[B, H, W, C]` for which `flipped [B]` is true."""
    where = jnp.where if isinstance(images, jax.Array) else np.where
    return where(flipped[:, None, None, None], images[:, :, ::-1], images)


def to_uint8(images: chex.Array) -> np.ndarray:
    """Converts images in [−1, 1] to bytes of the same shape, rounded to the nearest of 256 levels.

    WGAN-GP's code rounds down: `floor(255.99 / 2 · (x + 1))`, in some scripts `floor(255 / 2 · (x + 1))`.
    """
    return quantise(np.asarray(images))


def quantise(images: Array) -> Array:
    """Converts as `to_uint8` does, and leaves the images where they are: numpy's or JAX's."""
    xp = jnp if isinstance(images, jax.Array) else np
    return xp.clip(xp.rint((images + 1) * 127.5), 0, 255).astype(np.uint8)


def labels(gan: Gan, batch: Batch) -> Label:
    """Returns the classes of a batch's images, or None for an unconditional GAN.

    Raises:
      ValueError: if the GAN is conditional and the batch has no classes.
    """
    if not gan.num_classes:
        return None
    if "label" not in batch or batch["label"].shape != batch["image"].shape[:2]:
        found = f"has shape {batch['label'].shape}" if "label" in batch else "is missing"
        raise ValueError(f"batch['label'] {found}, but must be one class per image: {batch['image'].shape[:2]}")
    return batch["label"]


def batch_shapes(gan: Gan, n_critic: int, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes and types of a batch whose images are floats."""
    shapes = {"image": jax.ShapeDtypeStruct((n_critic, batch_size, *gan.image_shape), jnp.float32)}
    if gan.num_classes:
        shapes["label"] = jax.ShapeDtypeStruct((n_critic, batch_size), jnp.int32)
    return shapes


def prepare(gan: Gan, keys: draws.Keys, real: jax.Array) -> jax.Array:
    """Returns the real examples of a critic update as the critic sees them, `[B, *image_shape]` float32.

    Bytes are brought to [−1, 1], and dequantised and flipped if the GAN says so. Floats stay as they are.

    Args:
      gan: what to compute.
      keys: of these examples in this update.
      real: `[B, *image_shape]`, uint8, or float32 in [−1, 1].

    Raises:
      ValueError: if the images are other integers than uint8.
    """
    if real.dtype != jnp.uint8:
        return to_range(real)
    if gan.dequantise:
        real = dequantise(real, draws.dequantisation(*keys, real.shape[1:]))
    if gan.flip:
        real = flip(real, draws.flips(*keys))
    return to_range(real)
