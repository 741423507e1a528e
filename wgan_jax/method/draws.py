"""The randomness of a run: each draw is a function of (key, stream, step, update, example) and of nothing else.

A run has one key, `state.key`. The key of one example's draw is that key with four numbers folded in, in this
order (`jax.random.fold_in`):

    1. the stream: which quantity is drawn (`Stream` below),
    2. the step: the generator iteration, counted from 0 (`state.step` before the step),
    3. the update: which of the step's critic updates, counted from 0; 0 for the generator's own draws,
    4. the example's index in the global batch, counted from 0.

So no draw is used twice, a resumed run draws what it would have drawn, and a device that holds some rows of the
batch draws for those rows alone. An outside program gets the very numbers of any step from the functions here:

    latents = draws.critic_latents(state.key, step, update, jnp.arange(batch_size), latent_dim)
    epsilon = draws.epsilon(state.key, step, update, jnp.arange(batch_size))
    latents = draws.generator_latents(state.key, step, jnp.arange(generator_batch_size), latent_dim)
    label = draws.generator_labels(state.key, step, jnp.arange(generator_batch_size), num_classes)

`step`, `update` and `index` may be Python integers or integer arrays; `index` has shape `[B]`.
"""

import enum
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

Integer = int | jax.Array


class Stream(enum.IntEnum):
    """The quantities that are drawn. Their numbers are part of a run's trajectory: append, never renumber."""

    CRITIC_LATENTS = 0
    EPSILON = 1
    GENERATOR_LATENTS = 2
    SAMPLE_LATENTS = 3
    GENERATOR_INIT = 4
    CRITIC_INIT = 5
    DEQUANTISATION = 6
    HELD_OUT_LATENTS = 7
    FLIP = 8
    HELD_OUT_DEQUANTISATION = 9
    GENERATOR_LABELS = 10
    SAMPLE_LABELS = 11
    CONSTRAINT_INIT = 12
    PERTURBATION = 13
    DROPOUT = 14


class CriticPass(enum.IntEnum):
    """The passes of a critic in one update, each with its own dropout. Their numbers are part of a trajectory too."""

    REAL = 0
    FAKE = 1
    PENALTY = 2
    AGAIN = 3
    """A second one over the real examples, which a consistency term compares with the first."""
    GENERATOR = 4
    """The one of the generator's update."""


def stream_key(key: chex.PRNGKey, stream: Stream) -> chex.PRNGKey:
    """Returns the key of a whole stream, for draws that belong to no step."""
    return jax.random.fold_in(key, int(stream))


def example_keys(key: chex.PRNGKey, stream: Stream, step: Integer, update: Integer, index: jax.Array) -> chex.PRNGKey:
    """Returns one key for each example, `[B]`."""
    key = jax.random.fold_in(jax.random.fold_in(stream_key(key, stream), step), update)
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(index)


class Keys(NamedTuple):
    """Keys of some examples in one update: all that their draws depend on, except the stream."""

    key: chex.PRNGKey
    """Key of the run."""
    step: Integer
    """Generator iteration."""
    update: Integer
    """Critic update of this iteration; 0 for the generator's own."""
    example: jax.Array
    """Numbers of the examples in the global batch, `[B]`."""

    def of(self, stream: Stream) -> chex.PRNGKey:
        """Returns one key for each example, `[B]`."""
        return example_keys(self.key, stream, self.step, self.update, self.example)


def dropout_keys(keys: Keys, *passes: CriticPass) -> chex.PRNGKey:
    """Returns the keys of the dropout of some examples in one pass, `[B]`, or in several, one after another."""
    rows = keys.of(Stream.DROPOUT)
    return jnp.concatenate([jax.vmap(lambda key, p=p: jax.random.fold_in(key, int(p)))(rows) for p in passes])


def normal(keys: chex.PRNGKey, latent_dim: int) -> jax.Array:
    """Draws from N(0, I), one row for each key: `[B] -> [B, latent_dim]` float32."""
    return jax.vmap(lambda key: jax.random.normal(key, (latent_dim,), jnp.float32))(keys)


def critic_latents(key: chex.PRNGKey, step: Integer, update: Integer, index: jax.Array, latent_dim: int) -> jax.Array:
    """Draws latents of the examples that a critic update generates, N(0, I), `[B, latent_dim]` float32."""
    return normal(example_keys(key, Stream.CRITIC_LATENTS, step, update, index), latent_dim)


def generator_latents(key: chex.PRNGKey, step: Integer, index: jax.Array, latent_dim: int) -> jax.Array:
    """Draws latents of the generator's own update, N(0, I), `[B, latent_dim]` float32."""
    return normal(example_keys(key, Stream.GENERATOR_LATENTS, step, 0, index), latent_dim)


def epsilon(key: chex.PRNGKey, step: Integer, update: Integer, index: jax.Array) -> jax.Array:
    """Draws the place of each interpolate between its fake end (0) and its real end (1), U[0, 1), `[B]` float32."""
    keys = example_keys(key, Stream.EPSILON, step, update, index)
    return jax.vmap(lambda key: jax.random.uniform(key, (), jnp.float32))(keys)


def perturbation(
    key: chex.PRNGKey, step: Integer, update: Integer, index: jax.Array, shape: tuple[int, ...]
) -> jax.Array:
    """Draws where DRAGAN looks around the real examples: `αu`, α ~ U[0, 1) for each, u ~ U[0, 1)^shape, float32.

    The result is `[B, *shape]`.
    """

    def draw(key: chex.PRNGKey) -> jax.Array:
        share, noise = jax.random.split(key)
        return jax.random.uniform(share, (), jnp.float32) * jax.random.uniform(noise, shape, jnp.float32)

    return jax.vmap(draw)(example_keys(key, Stream.PERTURBATION, step, update, index))


def dequantisation(
    key: chex.PRNGKey, step: Integer, update: Integer, index: jax.Array, shape: tuple[int, ...]
) -> jax.Array:
    """Draws the noise that is added to the real examples of a critic update, U[0, 1/128), `[B, *shape]` float32."""
    return _noise(example_keys(key, Stream.DEQUANTISATION, step, update, index), shape)


def held_out_dequantisation(key: chex.PRNGKey, step: Integer, index: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Draws the noise that is added to the fixed images of an estimate, U[0, 1/128), `[B, *shape]` float32."""
    return _noise(example_keys(key, Stream.HELD_OUT_DEQUANTISATION, step, 0, index), shape)


def _noise(keys: chex.PRNGKey, shape: tuple[int, ...]) -> jax.Array:
    return jax.vmap(lambda key: jax.random.uniform(key, shape, jnp.float32, maxval=1 / 128))(keys)


def flips(key: chex.PRNGKey, step: Integer, update: Integer, index: jax.Array) -> jax.Array:
    """Draws which real examples of a critic update are mirrored, each with probability ½, `[B]` bool."""
    keys = example_keys(key, Stream.FLIP, step, update, index)
    return jax.vmap(lambda key: jax.random.bernoulli(key))(keys)


def held_out_latents(key: chex.PRNGKey, step: Integer, index: jax.Array, latent_dim: int) -> jax.Array:
    """Draws latents of the fakes in an estimate on fixed images, N(0, I), `[B, latent_dim]` float32."""
    return normal(example_keys(key, Stream.HELD_OUT_LATENTS, step, 0, index), latent_dim)


def sample_latents(key: chex.PRNGKey, index: jax.Array, latent_dim: int) -> jax.Array:
    """Draws latents of samples outside training, N(0, I), `[B, latent_dim]` float32. Row i depends on (key, i)."""
    return normal(example_keys(key, Stream.SAMPLE_LATENTS, 0, 0, index), latent_dim)


def generator_labels(key: chex.PRNGKey, step: Integer, index: jax.Array, num_classes: int) -> jax.Array:
    """Draws the classes of the generator's own update, uniform in `[0, num_classes)`, `[B]` int32.

    In a critic update, generated examples take the classes of the real ones.
    """
    return uniform_classes(example_keys(key, Stream.GENERATOR_LABELS, step, 0, index), num_classes)


def sample_labels(key: chex.PRNGKey, index: jax.Array, num_classes: int) -> jax.Array:
    """Draws classes of samples outside training, uniform in `[0, num_classes)`, `[B]` int32, by (key, i) alone."""
    return uniform_classes(example_keys(key, Stream.SAMPLE_LABELS, 0, 0, index), num_classes)


def uniform_classes(keys: chex.PRNGKey, num_classes: int) -> jax.Array:
    """Draws a class for each key, uniform in `[0, num_classes)`: `[B] -> [B]` int32."""
    return jax.vmap(lambda key: jax.random.randint(key, (), 0, num_classes, jnp.int32))(keys)
