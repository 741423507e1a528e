"""Draws examples from a state."""

import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import ArrayLike

from wgan_jax.errors import UserError
from wgan_jax.method.condition import Condition
from wgan_jax.method.draws import Keys, Stream
from wgan_jax.method.gan import Gan, call
from wgan_jax.method.state import TrainState

CHUNK = 256
"""Number of latents that go through the generator at once. It bounds memory, and one compilation serves all."""
FRAMES = 10
"""Number of images on a walk from one latent to another, both ends included."""


def sample(
    gan: Gan,
    state: TrainState,
    key: chex.PRNGKey,
    num: int = 64,
    *,
    label: int | ArrayLike | None = None,
    ema: bool = True,
) -> jax.Array:
    """Draws examples from the generator's average. The i-th is a function of (state, key, i) alone.

    Args:
      gan: what to compute.
      state: state after any step.
      key: key of the latents.
      num: number of examples.
      label: class of all examples, or of each, `[num]`. If it is None, a class-conditional GAN draws the classes.
      ema: whether the average of the generator over the iterations is sampled, or the generator itself.

    Returns:
      `[num, *image_shape]` float32; images in [−1, 1].

    Raises:
      UserError: if there is no such class, or the GAN has none.
    """
    label = classes(gan, key, num) if label is None else label
    return generate(gan, state, latents(gan, key, num, label), label, ema=ema)


def latents(gan: Gan, key: chex.PRNGKey, num: int, label: int | ArrayLike | None = None) -> jax.Array:
    """Draws the latents of `num` samples, `[num, latent_dim]`.

    The i-th is a function of (key, i), and of its class if the prior's latents depend on it, to the last bit. They are
    drawn in chunks of one size, since a compiler may round another number of rows differently.

    Args:
      gan: what to compute.
      key: key of the latents.
      num: number of samples.
      label: as in `sample`.
    """
    rows = _rows(gan, classes(gan, key, num) if label is None else label, num)
    keys = [Keys(key, 0, 0, start + jnp.arange(CHUNK)).of(Stream.SAMPLE_LATENTS) for start in range(0, num, CHUNK)]
    chunks = [gan.prior.draw(chunk, row)[0] for chunk, row in zip(keys, rows, strict=True)]
    return jnp.concatenate(chunks)[:num]


def classes(gan: Gan, key: chex.PRNGKey, num: int) -> np.ndarray | None:
    """Draws the classes of `num` samples, `[num]` int32, all equally likely. The i-th is a function of (key, i).

    Returns None if the GAN is unconditional.
    """
    if not gan.num_classes:
        return None
    return np.asarray(gan.prior.classes(Keys(key, 0, 0, jnp.arange(num)).of(Stream.SAMPLE_LABELS)))


def generate(
    gan: Gan, state: TrainState, z: jax.Array, label: int | ArrayLike | None = None, *, ema: bool = True
) -> jax.Array:
    """Returns the examples of given latents `z [N, latent_dim]`: `[N, *image_shape]` float32; images in [−1, 1].

    A class-conditional GAN needs one class for all, or one for each, `label [N]`.

    Raises:
      UserError: if there is no such class, or the GAN has none.
    """
    variables = state.ema if ema else state.generator.variables
    num = z.shape[0]
    padding = -num % CHUNK
    chunks = jnp.pad(z, ((0, padding), (0, 0))).reshape(-1, CHUNK, gan.latent_dim)
    one = jnp.zeros(1, jnp.int32) if gan.num_classes else None
    fade = gan.prior.draw(jax.random.split(jax.random.key(0), 1), one)[1].fade  # the same for all examples
    draw = gan.with_precision(_generate)
    images = [
        draw(gan.generator, variables, chunk, Condition(row, fade=fade))
        for chunk, row in zip(chunks, _rows(gan, label, num), strict=True)
    ]
    return jnp.concatenate(images)[:num]


def _rows(gan: Gan, label: int | ArrayLike | None, num: int) -> list[Any]:
    """Returns the classes of `num` examples, checked and in chunks: each `[CHUNK]` int32, or None without classes."""
    if label is None and not gan.num_classes:
        return [None] * -(-num // CHUNK)
    return list(jnp.pad(_checked(gan, label, num), (0, -num % CHUNK)).reshape(-1, CHUNK))


def _checked(gan: Gan, label: int | ArrayLike | None, num: int) -> np.ndarray:
    """Returns the class of each of `num` examples, `[num]` int32, after checking them."""
    if not gan.num_classes:
        raise UserError("label: this GAN was trained without classes; leave the label out")
    given = np.asarray(label)
    if given.shape not in ((), (num,)) or not np.issubdtype(given.dtype, np.integer):
        raise UserError(
            f"label has type {given.dtype} and shape {given.shape}: must be one class, or one for each of {num} "
            "examples"
        )
    wrong = given[(given < 0) | (given >= gan.num_classes)]
    if wrong.size:
        raise UserError(f"label = {wrong.flat[0]}: must be a class, from 0 to {gan.num_classes - 1}")
    return np.broadcast_to(given, (num,)).astype(np.int32)


def interpolate(start: jax.Array, end: jax.Array, num: int) -> jax.Array:
    """Returns latents on the great circle from `start` to `end`, both `[latent_dim]`: `[num, latent_dim]`.

    In many dimensions a straight line would pass where N(0, I) has almost no mass. The length changes geometrically
    from the first to the last.
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


def walks(gan: Gan, key: chex.PRNGKey, num: int, label: ArrayLike | None = None) -> jax.Array:
    """Draws the latents of `num` walks between pairs, `FRAMES` each: `[num · FRAMES, latent_dim]`.

    The walks follow great circles, as suits N(0, I): see `interpolate`. Both ends of a walk are of its class,
    `label [num]`; None draws the classes.
    """
    label = classes(gan, key, num) if label is None else label
    ends = latents(gan, key, 2 * num, None if label is None else np.repeat(label, 2)).reshape(num, 2, -1)
    paths = jax.vmap(lambda pair: interpolate(pair[0], pair[1], FRAMES))(ends)
    return paths.reshape(num * FRAMES, -1)


@functools.partial(jax.jit, static_argnums=0)
def _generate(
    generator: nn.Module, variables: dict[str, chex.ArrayTree], latents: jax.Array, condition: Condition
) -> jax.Array:
    return call(generator, variables, latents, condition, train=False).value
