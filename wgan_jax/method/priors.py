"""What a generator starts from: latents, and the class of each example.

This is the only place that knows how they are distributed. A prior of your own has the fields and methods of `Normal`.
"""

import dataclasses
from typing import Protocol

import chex
import jax
import jax.numpy as jnp

from wgan_jax.method import draws
from wgan_jax.method.condition import Condition


class Prior(Protocol):
    """Distribution of a generator's inputs. Equal priors must compare equal, and be hashable."""

    @property
    def latent_dim(self) -> int:
        """Size of one latent."""

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 for an unconditional GAN."""

    def classes(self, keys: chex.PRNGKey) -> jax.Array | None:
        """Draws a class for each key: `[B] -> [B]` int32; None for an unconditional GAN."""

    def draw(self, keys: chex.PRNGKey, label: jax.Array | None = None) -> tuple[jax.Array, Condition]:
        """Draws a latent for each key, and returns what both players know of the examples made of them.

        Args:
          keys: `[B]`, one for each example: row i of the result depends on `keys[i]` and `label[i]` alone.
          label: classes `[B]` int32 of the examples; None for an unconditional GAN.

        Returns:
          Latents `[B, latent_dim]` float32, and their condition.
        """


@dataclasses.dataclass(frozen=True)
class Normal:
    """Latents from N(0, I), and classes that are equally likely."""

    latent_dim: int
    num_classes: int = 0

    def classes(self, keys: chex.PRNGKey) -> jax.Array | None:
        """Draws a class for each key: `[B]` int32, uniform in `[0, num_classes)`; None without classes."""
        return draws.uniform_classes(keys, self.num_classes) if self.num_classes else None

    def draw(self, keys: chex.PRNGKey, label: jax.Array | None = None) -> tuple[jax.Array, Condition]:
        """Draws a latent from N(0, I) for each key: `[B, latent_dim]` float32."""
        return draws.normal(keys, self.latent_dim), Condition(label=label)


def zeros(prior: Prior, num: int) -> tuple[jax.Array, Condition]:
    """Returns latents and a condition of the right shapes, to initialize networks with."""
    label = jnp.zeros(num, jnp.int32) if prior.num_classes else None
    shapes = jax.eval_shape(lambda keys: prior.draw(keys, label), jax.random.split(jax.random.key(0), num))
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
