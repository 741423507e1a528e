"""What both players know of an example besides the example itself."""

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class Condition:
    """What is known of each example of a batch; None for what does not count.

    It is one record so that networks, losses and samplers need no new argument when a GAN knows more.
    """

    label: jax.Array | None = None
    """Class of each example, `[B]` int32."""
    code: jax.Array | None = None
    """What a head of the critic is to recover from a generated example, `[B, ...]`. The latents contain it already."""
    fade: jax.Array | None = None
    """Share of the newest block in a growing network, a scalar in [0, 1]."""

    def doubled(self) -> "Condition":
        """Returns the condition of a batch that holds all examples twice, one after the other."""
        twice = lambda x: None if x is None else jnp.concatenate([x, x])  # noqa: E731
        return Condition(twice(self.label), twice(self.code), self.fade)


UNCONDITIONAL = Condition()
"""Nothing is known."""
