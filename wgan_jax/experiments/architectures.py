"""Networks of dense layers with any depth, width, activation and normalization, for random architectures."""

import dataclasses
import math

import flax.linen as nn
import jax

from wgan_jax.networks.layers import ACTIVATIONS, Norm


@dataclasses.dataclass(frozen=True)
class Layers:
    """Architecture of one network."""

    activation: str
    depth: int
    norm: str
    width: int

    def __str__(self) -> str:
        return f"{self.depth}×{self.width} {self.activation}" + (" norm" if self.norm != "none" else "")


class Hidden(nn.Module):
    """Dense layers, each followed by the normalization and the activation: `[B, D] -> [B, width]`."""

    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        for _ in range(self.layers.depth):
            x = nn.Dense(self.layers.width, kernel_init=nn.initializers.he_uniform())(x)
            x = ACTIVATIONS[self.layers.activation](Norm(self.layers.norm)(x, train=train))
        return x


class Generator(nn.Module):
    """Generator of images: latents `[B, latent_dim]` to images `[B, *image_shape]` in [−1, 1]."""

    layers: Layers
    image_shape: tuple[int, ...]

    @nn.compact
    def __call__(self, z: jax.Array, label: jax.Array | None = None, *, train: bool = False) -> jax.Array:
        del label
        x = nn.Dense(math.prod(self.image_shape))(Hidden(self.layers)(z, train=train))
        return nn.tanh(x).reshape(-1, *self.image_shape)


class Critic(nn.Module):
    """Critic of images: `[B, ...]` to scores `[B]`."""

    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, label: jax.Array | None = None, *, train: bool = False) -> jax.Array:
        del label
        return nn.Dense(1)(Hidden(self.layers)(x.reshape(x.shape[0], -1), train=train))[:, 0]
