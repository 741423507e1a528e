"""Examples from a state."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from wgan_jax import draws
from wgan_jax.gan import Gan
from wgan_jax.state import TrainState

CHUNK = 256
"""Latents that go through the generator at once: bounds memory, and one compilation serves any number."""


def sample(gan: Gan, state: TrainState, key: jax.Array, num: int = 64, *, ema: bool = True) -> jax.Array:
    """Examples from the generator's average: the i-th is a function of (state, key, i) alone.

    Args:
      gan: what to compute.
      state: of any step.
      key: of the latents.
      num: how many.
      ema: from the average of the generator over the iterations; `False` for the generator itself.

    Returns:
      `[num, *image_shape]` float32; images in [−1, 1].
    """
    return generate(gan, state, latents(gan, key, num), ema=ema)


def latents(gan: Gan, key: jax.Array, num: int) -> jax.Array:
    """The latents of `num` samples, `[num, latent_dim]`: the i-th is a function of (key, i), to the last bit.

    They are drawn in chunks of one size, since a compiler may round the rows of another size otherwise.
    """
    starts = range(0, num, CHUNK)
    chunks = [draws.sample_latents(key, start + jnp.arange(CHUNK), gan.latent_dim) for start in starts]
    return jnp.concatenate(chunks)[:num]


def generate(gan: Gan, state: TrainState, z: jax.Array, *, ema: bool = True) -> jax.Array:
    """Examples at given latents `z [N, latent_dim]`: `[N, *image_shape]` float32; images in [−1, 1]."""
    variables = state.ema if ema else state.generator.variables
    num = z.shape[0]
    chunks = jnp.pad(z, ((0, -num % CHUNK), (0, 0))).reshape(-1, CHUNK, gan.latent_dim)
    images = [_generate(gan.generator, variables, chunk) for chunk in chunks]
    return jnp.concatenate(images)[:num]


def interpolate(start: jax.Array, end: jax.Array, num: int) -> jax.Array:
    """Latents on the great circle from `start` to `end`, both `[latent_dim]`: `[num, latent_dim]`.

    A straight line would pass where N(0, I) has next to no mass in many dimensions; the length changes
    geometrically from one end's to the other's.
    """
    lengths = jnp.linalg.norm(start), jnp.linalg.norm(end)
    cosine = jnp.clip(jnp.dot(start, end) / (lengths[0] * lengths[1]), -1.0, 1.0)
    angle = jnp.arccos(cosine)
    t = jnp.linspace(0.0, 1.0, num)[:, None]
    straight = angle < 1e-4
    sine = jnp.where(straight, 1.0, jnp.sin(angle))
    first = jnp.where(straight, 1 - t, jnp.sin((1 - t) * angle) / sine)
    second = jnp.where(straight, t, jnp.sin(t * angle) / sine)
    length = lengths[0] ** (1 - t) * lengths[1] ** t
    return length * (first * start / lengths[0] + second * end / lengths[1])


@functools.partial(jax.jit, static_argnums=0)
def _generate(generator: nn.Module, variables: dict[str, Any], latents: jax.Array) -> jax.Array:
    return jnp.asarray(generator.apply(variables, latents, train=False))


def to_uint8(images: jax.Array | np.ndarray) -> np.ndarray:
    """Images in [−1, 1] to bytes of the same shape, rounded to the nearest of 256 levels."""
    return np.clip(np.rint((np.asarray(images) + 1) * 127.5), 0, 255).astype(np.uint8)
