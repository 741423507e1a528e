"""Multilayer perceptrons for points and small images (arXiv 1701.07875, section 4.3)."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Dtype

from wgan_jax.networks.layers import ACTIVATIONS, ClassHead, of_class


class Hidden(nn.Module):
    """`depth` dense layers of `width`, each followed by the activation: `[B, D] -> [B, width]`."""

    width: int
    depth: int
    activation: str
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for i in range(self.depth):
            # He's bound for ReLU networks; the default (LeCun) shrinks the signal by √2 a layer.
            dense = nn.Dense(
                self.width,
                dtype=self.dtype,
                kernel_init=nn.initializers.he_uniform(),
                name=f"dense_{i}",
            )
            x = ACTIVATIONS[self.activation](dense(x))
        return x


class Generator(nn.Module):
    """Latents `[B, latent_dim]` to examples `[B, *image_shape]`: images in [−1, 1], points anywhere.

    With `num_classes`, the class of each, `label [B]`, is joined to its latents as a one-hot vector (Mirza and
    Osindero 2014, arXiv 1411.1784).

    Raises:
      ValueError: if labels are needed and missing.
    """

    image_shape: tuple[int, ...]
    width: int = 512
    depth: int = 3
    activation: str = "relu"
    dtype: Dtype = jnp.float32
    num_classes: int = 0

    @nn.compact
    def __call__(self, z: jax.Array, label: jax.Array | None = None, *, train: bool = False) -> jax.Array:
        del train
        if self.num_classes:
            z = jnp.concatenate([z, of_class(jnp.eye(self.num_classes, dtype=z.dtype), label)], axis=-1)
        x = Hidden(self.width, self.depth, self.activation, self.dtype, name="hidden")(z)
        x = nn.Dense(math.prod(self.image_shape), dtype=self.dtype, name="output")(x)
        x = x.astype(jnp.float32).reshape(z.shape[0], *self.image_shape)
        return nn.tanh(x) if len(self.image_shape) > 1 else x


class Critic(nn.Module):
    """Examples `[B, ...]` to scores `[B]` float32; for classes see `ClassHead`."""

    width: int = 512
    depth: int = 3
    activation: str = "relu"
    dtype: Dtype = jnp.float32
    num_classes: int = 0
    conditioning: str = "none"

    @nn.compact
    def __call__(self, x: jax.Array, label: jax.Array | None = None, *, train: bool = False) -> jax.Array:
        del train
        x = x.reshape(x.shape[0], -1)
        x = Hidden(self.width, self.depth, self.activation, self.dtype, name="hidden")(x)
        score = nn.Dense(1, dtype=self.dtype, name="output")(x)[:, 0].astype(jnp.float32)
        return ClassHead(self.conditioning, self.num_classes, name="classes")(score, x.astype(jnp.float32), label)
