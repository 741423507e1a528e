"""The critic's estimate on a fixed set of examples. The difference of training and held-out sets shows over-fitting."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from wgan_jax.data import Examples, Source, fixed_subset
from wgan_jax.method import draws
from wgan_jax.method.batch import Batch, dequantise, labels, to_range
from wgan_jax.method.condition import Condition
from wgan_jax.method.draws import Keys, Stream
from wgan_jax.method.gan import Gan
from wgan_jax.method.state import TrainState

FIXED_IMAGES = 512
"""Largest number of examples of a split in its estimate."""


def make_estimate(gan: Gan) -> Callable[[TrainState, Batch], jax.Array]:
    """Returns a pure `estimate(state, batch) -> []`: the game's estimate on `{"image": [K, B, *image_shape]}`.

    K groups of B images go through the critic one after another, so B bounds the memory. There are as many fakes:
    fresh samples of the generator that the critic plays against. They are drawn anew at each step, and are the same for
    every set of images, so the estimates of two sets differ by their images alone. A conditional GAN also needs
    `label [K, B]`, and its fakes have the classes of the images. Images may be uint8. They are dequantised as in
    training, but not flipped.
    """

    def estimate(state: TrainState, batch: Batch) -> jax.Array:
        images = batch["image"]
        groups, size = images.shape[:2]
        index = jnp.arange(groups * size)
        label = labels(gan, batch)
        keys = Keys(state.key, state.step, 0, index).of(Stream.HELD_OUT_LATENTS)
        latents, drawn = gan.prior.draw(keys, None if label is None else label.ravel())

        def scores(group: tuple[Any, ...]) -> tuple[jax.Array, jax.Array]:
            real, label, latents, index = group
            if gan.dequantise and real.dtype == jnp.uint8:
                noise = draws.held_out_dequantisation(state.key, state.step, index, real.shape[1:])
                real = dequantise(real, noise)
            real = to_range(real)
            condition = Condition(label, fade=drawn.fade)
            fake = gan.generate(state.generator.variables, latents, condition).value
            return gan.score(state.critic, real, condition).value, gan.score(state.critic, fake, condition).value

        rows = images, label, latents.reshape(groups, size, -1), index.reshape(groups, size)
        real, fake = jax.lax.map(scores, rows)
        return gan.game.estimate(real.ravel(), fake.ravel())

    return gan.with_precision(estimate)


def make_fakes(gan: Gan, num: int) -> Callable[[TrainState], jax.Array]:
    """Returns a pure `fakes(state) -> [num, *image_shape]`: the first fakes in an estimate at this state."""

    def fakes(state: TrainState) -> jax.Array:
        keys = Keys(state.key, state.step, 0, jnp.arange(num)).of(Stream.HELD_OUT_LATENTS)
        return gan.generate(state.generator.variables, *gan.prior.draw(keys)).value

    return gan.with_precision(fakes)


def fixed_set(source: Source) -> Examples:
    """Returns a fixed pseudo-random part of a source, in groups that suit the critic: `{"image": [K, B, ...], …}`.

    It is the same in every run, whatever its seed.
    """
    size = min(len(source), 128)
    groups = min(len(source), FIXED_IMAGES) // size
    examples = source.read(fixed_subset(source, groups * size))
    return {name: values.reshape(groups, size, *values.shape[1:]) for name, values in examples.items()}
