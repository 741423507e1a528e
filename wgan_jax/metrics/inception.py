"""The Inception network of FID: 2015's, as TensorFlow published it and `pytorch-fid` converted it.

It differs from the Inception v3 of other libraries in four ways. Its 3×3 average pools divide by the number of pixels
inside the image. Its last block pools by the maximum. It has 1,008 logits. It has no second head.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from wgan_jax.metrics import folding, weights
from wgan_jax.metrics.folding import Conv, Head
from wgan_jax.metrics.resizing import INCEPTION_SIZE

CLASSES = 1008
"""Number of logits."""
DIM = 2048
"""Number of features after the last pool, which FID compares."""


def average_pool(x: jax.Array) -> jax.Array:
    """Returns means over 3×3 pixels, of which those outside of the image do not count."""
    inside = jnp.ones((1, *x.shape[1:3], 1), x.dtype)
    return _pooled(jnp.add, x, 0, 1, 1) / _pooled(jnp.add, inside, 0, 1, 1)


def max_pool(x: jax.Array, strides: int = 2, padding: int = 0) -> jax.Array:
    """Returns maxima over 3×3 pixels."""
    return _pooled(jnp.maximum, x, -jnp.inf, strides, padding)


def _pooled(
    combine: Callable[[jax.Array, jax.Array], jax.Array], x: jax.Array, outside: float, strides: int, padding: int
) -> jax.Array:
    """Combines 3×3 pixels, first three rows and then three columns, which takes half of the time of a window."""
    for axis in (1, 2):
        pads = [(padding, padding) if i == axis else (0, 0) for i in range(4)]
        y = jnp.pad(x, pads, constant_values=outside)
        end = y.shape[axis] - 2
        x = functools.reduce(combine, [lax.slice_in_dim(y, i, end + i, strides, axis) for i in range(3)])
    return x


def _conv(
    x: jax.Array, name: str, features: int, height: int, width: int, strides: int = 1, same: bool = True
) -> jax.Array:
    padding = "SAME" if same else "VALID"
    return nn.relu(Conv(features, (height, width), strides, padding, name=name)(x))


class BlockA(nn.Module):
    """Four branches at 35×35."""

    pool_features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        one = _conv(x, "branch1x1", 64, 1, 1)
        five = _conv(_conv(x, "branch5x5_1", 48, 1, 1), "branch5x5_2", 64, 5, 5)
        three = _conv(_conv(x, "branch3x3dbl_1", 64, 1, 1), "branch3x3dbl_2", 96, 3, 3)
        three = _conv(three, "branch3x3dbl_3", 96, 3, 3)
        pool = _conv(average_pool(x), "branch_pool", self.pool_features, 1, 1)
        return jnp.concatenate([one, five, three, pool], -1)


class BlockB(nn.Module):
    """From 35×35 to 17×17."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        three = _conv(x, "branch3x3", 384, 3, 3, 2, same=False)
        double = _conv(_conv(x, "branch3x3dbl_1", 64, 1, 1), "branch3x3dbl_2", 96, 3, 3)
        double = _conv(double, "branch3x3dbl_3", 96, 3, 3, 2, same=False)
        return jnp.concatenate([three, double, max_pool(x)], -1)


class BlockC(nn.Module):
    """Four branches at 17×17, with kernels of one row or one column."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        c = self.features
        one = _conv(x, "branch1x1", 192, 1, 1)
        seven = _conv(_conv(x, "branch7x7_1", c, 1, 1), "branch7x7_2", c, 1, 7)
        seven = _conv(seven, "branch7x7_3", 192, 7, 1)
        double = _conv(_conv(x, "branch7x7dbl_1", c, 1, 1), "branch7x7dbl_2", c, 7, 1)
        double = _conv(_conv(double, "branch7x7dbl_3", c, 1, 7), "branch7x7dbl_4", c, 7, 1)
        double = _conv(double, "branch7x7dbl_5", 192, 1, 7)
        pool = _conv(average_pool(x), "branch_pool", 192, 1, 1)
        return jnp.concatenate([one, seven, double, pool], -1)


class BlockD(nn.Module):
    """From 17×17 to 8×8."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        three = _conv(_conv(x, "branch3x3_1", 192, 1, 1), "branch3x3_2", 320, 3, 3, 2, same=False)
        seven = _conv(_conv(x, "branch7x7x3_1", 192, 1, 1), "branch7x7x3_2", 192, 1, 7)
        seven = _conv(_conv(seven, "branch7x7x3_3", 192, 7, 1), "branch7x7x3_4", 192, 3, 3, 2, same=False)
        return jnp.concatenate([three, seven, max_pool(x)], -1)


class BlockE(nn.Module):
    """Four branches at 8×8, two of which fork."""

    pool: Callable[[jax.Array], jax.Array]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        one = _conv(x, "branch1x1", 320, 1, 1)
        three = _conv(x, "branch3x3_1", 384, 1, 1)
        double = _conv(_conv(x, "branch3x3dbl_1", 448, 1, 1), "branch3x3dbl_2", 384, 3, 3)
        forks = [
            _conv(three, "branch3x3_2a", 384, 1, 3),
            _conv(three, "branch3x3_2b", 384, 3, 1),
            _conv(double, "branch3x3dbl_3a", 384, 1, 3),
            _conv(double, "branch3x3dbl_3b", 384, 3, 1),
        ]
        return jnp.concatenate([one, *forks, _conv(self.pool(x), "branch_pool", 192, 1, 1)], -1)


class Inception(nn.Module):
    """The network. Its parameters come from `load`."""

    @nn.compact
    def __call__(self, x: jax.Array) -> dict[str, jax.Array]:
        """Returns the features of images by name.

        Args:
          x: `[B, 299, 299, 3]`, about −1 to 1; see `wgan_jax.metrics.resizing`.

        Returns:
          `pool [B, 2048]`, `logits [B, 1008]`, `unbiased_logits [B, 1008]`, which are the logits without their bias,
          and means over the pixels of earlier layers, `64 [B, 64]`, `192 [B, 192]` and `768 [B, 768]`.
        """
        found = {}
        x = _conv(x, "Conv2d_1a_3x3", 32, 3, 3, 2, same=False)
        x = _conv(x, "Conv2d_2a_3x3", 32, 3, 3, same=False)
        x = max_pool(_conv(x, "Conv2d_2b_3x3", 64, 3, 3))
        found["64"] = x.mean((1, 2))
        x = _conv(x, "Conv2d_3b_1x1", 80, 1, 1)
        x = max_pool(_conv(x, "Conv2d_4a_3x3", 192, 3, 3, same=False))
        found["192"] = x.mean((1, 2))
        for name, pool_features in (("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)):
            x = BlockA(pool_features, name=name)(x)
        x = BlockB(name="Mixed_6a")(x)
        for name, features in (("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)):
            x = BlockC(features, name=name)(x)
        found["768"] = x.mean((1, 2))
        x = BlockD(name="Mixed_7a")(x)
        x = BlockE(average_pool, name="Mixed_7b")(x)
        x = BlockE(lambda x: max_pool(x, strides=1, padding=1), name="Mixed_7c")(x)
        found["pool"] = x = x.mean((1, 2))
        found["logits"], found["unbiased_logits"] = Head(CLASSES, name="fc")(x)
        return found


def load(path: str | None = None, sha256: str | None = None) -> dict[str, Any]:
    """Returns the network's variables from a file.

    Args:
      path: the published `pt_inception-2015-12-05-6726825d.pth`, or a file of safetensors with the same names. None
        takes the file that `wgan_jax.metrics.weights.find` finds.
      sha256: digest of the file. None expects that of the published file, or any of a file of safetensors.

    Raises:
      UserError: if there is no such file, its digest is another, or its tensors are not this network's.
    """
    return from_weights(weights.read_inception(path, sha256))


def from_weights(found: weights.Weights) -> dict[str, Any]:
    """Returns the network's variables from what is in a file.

    Raises:
      UserError: if its tensors are not this network's.
    """
    return weights.variables(found, Inception(), INCEPTION_SIZE, names)


def names(path: folding.Path) -> tuple[str, str]:
    """Returns how a file calls the convolution and the batch norm of a module, or twice the last layer."""
    name = ".".join(path)
    return (name, name) if name == "fc" else (f"{name}.conv", f"{name}.bn")
