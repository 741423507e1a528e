"""Images as the input of a pretrained network: resized, shifted and scaled by pure functions.

A measure in a network's features depends on how images are resized, so each way has a name. All of them are linear in
the pixels and act on rows and columns separately. So a resize is two products with matrices `[new size, old size]`,
whose entries are computed with NumPy while JAX traces.

Images are uint8 `[B, H, W, C]` of any size, with one channel (grey, which becomes three equal ones) or three.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

INCEPTION_SIZE = 299
LITE0_SIZE = 224

Resize = Callable[[int, int], np.ndarray]
"""`(new size, old size) -> [new size, old size]`: the matrix of a resize along one axis."""


def tf1(images: jax.Array) -> jax.Array:
    """Returns Inception's input `[B, 299, 299, 3]` as the first FID computed it (TTUR, arXiv 1706.08500).

    This is TensorFlow 1's `ResizeBilinear(align_corners=False)`, without half-pixel centres and without smoothing, then
    `(x − 128) / 128`. torch-fidelity computes the same.
    """
    return (_resized(images, tf1_bilinear, INCEPTION_SIZE) - 128) / 128


def torch(images: jax.Array) -> jax.Array:
    """Returns Inception's input `[B, 299, 299, 3]` as pytorch-fid computes it.

    The pixels are divided by 255, resized by PyTorch's `interpolate(mode="bilinear", align_corners=False)`, which has
    half-pixel centres and no smoothing, and mapped from [0, 1] to [−1, 1].
    """
    return 2 * (_resized(images, torch_bilinear, INCEPTION_SIZE) / 255) - 1


def clean(images: jax.Array) -> jax.Array:
    """Returns Inception's input `[B, 299, 299, 3]` as clean-FID computes it (Parmar et al. 2022, arXiv 2104.11222).

    This is Pillow's bicubic resize of images in floating point (mode F), which smooths when it shrinks. The result is
    clipped to [0, 255] and not rounded, then `(x − 128) / 128`.
    """
    return (jnp.clip(_resized(images, pillow_bicubic, INCEPTION_SIZE), 0, 255) - 128) / 128


INPUTS: dict[str, Callable[[jax.Array], jax.Array]] = {"tf1": tf1, "torch": torch, "clean": clean}
"""Ways to make Inception's input, by name. `tf1` is the one of published FIDs."""


def lite0(images: jax.Array) -> jax.Array:
    """Returns the input of EfficientNet-Lite0, `[B, 224, 224, 3]`.

    The whole image is resized as by `clean`, without a crop. Then `(x − 127) / 128`, as the network was trained.
    """
    return (jnp.clip(_resized(images, pillow_bicubic, LITE0_SIZE), 0, 255) - 127) / 128


def _resized(images: jax.Array, resize: Resize, size: int) -> jax.Array:
    """Returns float32 images `[B, size, size, 3]` on the scale of bytes."""
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or images.dtype != jnp.uint8:
        raise ValueError(f"images are uint8 [B, H, W, 1 or 3], not {images.dtype} {list(images.shape)}")
    rows, columns = (jnp.asarray(resize(size, old), jnp.float32) for old in images.shape[1:3])
    x = images.astype(jnp.float32)
    x = jnp.einsum("yh,bhwc->bywc", rows, x, precision=lax.Precision.HIGHEST)
    x = jnp.einsum("xw,bywc->byxc", columns, x, precision=lax.Precision.HIGHEST)
    return jnp.broadcast_to(x, (*x.shape[:3], 3))


def tf1_bilinear(new: int, old: int) -> np.ndarray:
    """Returns the matrix of TensorFlow 1's bilinear resize: pixel i of the result lies at `i · old / new`."""
    return _interpolation(np.arange(new, dtype=np.float32) * np.float32(old / new), old)  # float32, as TensorFlow


def torch_bilinear(new: int, old: int) -> np.ndarray:
    """Returns the matrix of PyTorch's bilinear resize, whose pixels have their centres at halves."""
    return _interpolation(np.maximum((np.arange(new) + 0.5) * (old / new) - 0.5, 0), old)


def _interpolation(places: np.ndarray, old: int) -> np.ndarray:
    """Returns the matrix that interpolates linearly between the two pixels next to each place."""
    low = np.floor(places).astype(int)
    part = places - low
    matrix = np.zeros((len(places), old))
    rows = np.arange(len(places))
    np.add.at(matrix, (rows, low), 1 - part)
    np.add.at(matrix, (rows, np.minimum(low + 1, old - 1)), part)
    return matrix


def pillow_bicubic(new: int, old: int) -> np.ndarray:
    """Returns the matrix of Pillow's bicubic resize: Keys' kernel with a = −1/2, widened when it shrinks an image."""
    stretch = max(old / new, 1)
    centres = (np.arange(new) + 0.5) * (old / new)
    t = np.abs(np.arange(old) + 0.5 - centres[:, None]) / stretch
    near = (1.5 * t - 2.5) * t**2 + 1
    far = ((-0.5 * t + 2.5) * t - 4) * t + 2
    weights = np.where(t < 1, near, np.where(t < 2, far, 0))
    return weights / weights.sum(1, keepdims=True)
