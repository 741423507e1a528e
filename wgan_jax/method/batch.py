"""From bytes to what a critic sees: range, dequantisation, flips and crops.

Pure functions of images `[..., H, W, C]`, numpy's or JAX's; what is random comes in as an argument.
"""

from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from wgan_jax.method import draws
from wgan_jax.method.gan import Gan

Batch = dict[str, jax.Array]
Label = jax.Array | None
"""Classes `[B]` int32; None where they do not count."""

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


def to_uint8(images: jax.Array | np.ndarray) -> np.ndarray:
    """Images in [−1, 1] to bytes of the same shape, rounded to the nearest of 256 levels.

    WGAN-GP's code rounds down: `floor(255.99 / 2 · (x + 1))`, in some scripts `floor(255 / 2 · (x + 1))`.
    """
    return np.clip(np.rint((np.asarray(images) + 1) * 127.5), 0, 255).astype(np.uint8)


def labels(gan: Gan, batch: Batch) -> Label:
    """The classes of a batch's images; None for a GAN that is not conditional.

    Raises:
      ValueError: if a conditional one's batch has none.
    """
    if not gan.num_classes:
        return None
    if "label" not in batch or batch["label"].shape != batch["image"].shape[:2]:
        found = f"has shape {batch['label'].shape}" if "label" in batch else "is missing"
        raise ValueError(f"batch['label'] {found}, but must be one class per image: {batch['image'].shape[:2]}")
    return batch["label"]


def batch_shapes(gan: Gan, n_critic: int, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and types of a batch of floats."""
    shapes = {"image": jax.ShapeDtypeStruct((n_critic, batch_size, *gan.image_shape), jnp.float32)}
    if gan.num_classes:
        shapes["label"] = jax.ShapeDtypeStruct((n_critic, batch_size), jnp.int32)
    return shapes


def prepare(
    gan: Gan, key: jax.Array, step: draws.Integer, update: draws.Integer, index: jax.Array, real: jax.Array
) -> jax.Array:
    """The real examples of a critic update `[B, *image_shape]` as the critic sees them, float32.

    Bytes are brought to [−1, 1], dequantised and flipped as the GAN has it; floats stay as they are. `index [B]` has
    the examples' numbers in the global batch.
    """
    if real.dtype != jnp.uint8:
        return to_range(real)
    if gan.dequantise:
        real = dequantise(real, draws.dequantisation(key, step, update, index, real.shape[1:]))
    if gan.flip:
        real = flip(real, draws.flips(key, step, update, index))
    return to_range(real)
