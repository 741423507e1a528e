"""The record of what both players know about an example besides the example itself."""

import chex
import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class Condition:
    """What is known about each example of a batch. A field that is not used is None.

    It is one record, so that networks, losses and samplers need no new argument when a GAN knows more.
    """

    label: jax.Array | None = None
    """Class of each example, `[B]` int32."""
    code: jax.Array | None = None
    """Code that a head of the critic recovers from a generated example, `[B, ...]`. The latents contain it already."""
    fade: jax.Array | None = None
    """Share of the newest block in a growing network, a scalar in [0, 1]."""

    dropout: chex.PRNGKey | None = None
    """Keys of a critic's dropout in one pass, one for each example, `[B]`. Without them nothing is dropped."""

    def doubled(self) -> "Condition":
        """Returns the condition of a batch that holds all examples twice, one after the other, without dropout."""
        twice = lambda x: None if x is None else jnp.concatenate([x, x])  # noqa: E731
        return Condition(twice(self.label), twice(self.code), self.fade)


UNCONDITIONAL = Condition()
"""The condition of an unconditional GAN: nothing is known."""
