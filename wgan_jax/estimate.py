"""The critic's estimate on a fixed set of examples: training against held-out ones shows over-fitting."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from wgan_jax import draws, preprocess
from wgan_jax.data import Source
from wgan_jax.gan import Gan
from wgan_jax.state import TrainState

FIXED_IMAGES = 512
"""Examples of a split, at most, on which its estimate is made."""


def make_estimate(gan: Gan) -> Callable[[TrainState, jax.Array], jax.Array]:
    """A pure `estimate(state, images) -> []`: the game's estimate on `images [K, B, *image_shape]`.

    K groups of B images go through the critic one after another, so B bounds the memory. The fakes are as many
    fresh samples of the generator that the critic plays against, drawn anew at each step and alike for every set
    of images: the estimates of two sets differ by their images alone. Images may be uint8; they are dequantised as
    in training, and not flipped.
    """

    def estimate(state: TrainState, images: jax.Array) -> jax.Array:
        groups, size = images.shape[:2]
        index = jnp.arange(groups * size)
        latents = draws.held_out_latents(state.key, state.step, index, gan.latent_dim)

        def scores(group: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
            real, latents, index = group
            if gan.dequantise and real.dtype == jnp.uint8:
                noise = draws.held_out_dequantisation(state.key, state.step, index, real.shape[1:])
                real = preprocess.dequantise(real, noise)
            real = preprocess.to_range(real)
            fake = gan.generator.apply(state.generator.variables, latents, train=False)
            critic = state.critic.variables
            real_scores = jnp.asarray(gan.critic.apply(critic, real, train=False))
            return real_scores, jnp.asarray(gan.critic.apply(critic, fake, train=False))

        real, fake = jax.lax.map(scores, (images, latents.reshape(groups, size, -1), index.reshape(groups, size)))
        return gan.game.estimate(real.ravel(), fake.ravel())

    return estimate


def fixed_set(source: Source) -> np.ndarray:
    """The first images of a source, in groups of a size that suits the critic: `[K, B, *image_shape]`."""
    size = min(len(source), 128)
    groups = min(len(source), FIXED_IMAGES) // size
    images = source.read(np.arange(groups * size))["image"]
    return images.reshape(groups, size, *source.image_shape)
