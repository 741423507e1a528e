"""Examples from a state."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import ArrayLike

from wgan_jax.errors import UserError
from wgan_jax.method import draws
from wgan_jax.method.gan import Gan
from wgan_jax.method.state import TrainState

CHUNK = 256
"""Latents that go through the generator at once: bounds memory, and one compilation serves any number."""
FRAMES = 10
"""Images of one walk from a latent to another, ends included."""


def sample(
    gan: Gan,
    state: TrainState,
    key: jax.Array,
    num: int = 64,
    *,
    label: int | ArrayLike | None = None,
    ema: bool = True,
) -> jax.Array:
    """Examples from the generator's average: the i-th is a function of (state, key, i) alone.

    Args:
      gan: what to compute.
      state: of any step.
      key: of the latents.
      num: how many.
      label: of a class-conditional GAN, the class of all, or of each, `[num]`; drawn as `classes` has it if not given.
      ema: from the average of the generator over the iterations; `False` for the generator itself.

    Returns:
      `[num, *image_shape]` float32; images in [−1, 1].

    Raises:
      UserError: if there is no such class, or the GAN has none.
    """
    label = classes(gan, key, num) if label is None else label
    return generate(gan, state, latents(gan, key, num), label, ema=ema)


def latents(gan: Gan, key: jax.Array, num: int) -> jax.Array:
    """The latents of `num` samples, `[num, latent_dim]`: the i-th is a function of (key, i), to the last bit.

    They are drawn in chunks of one size, since a compiler may round the rows of another size otherwise.
    """
    starts = range(0, num, CHUNK)
    chunks = [draws.sample_latents(key, start + jnp.arange(CHUNK), gan.latent_dim) for start in starts]
    return jnp.concatenate(chunks)[:num]


def classes(gan: Gan, key: jax.Array, num: int) -> np.ndarray | None:
    """The classes of `num` samples, `[num]` int32, each as likely: the i-th is a function of (key, i).

    None if the GAN is not conditional.
    """
    if not gan.num_classes:
        return None
    return np.asarray(draws.sample_labels(key, jnp.arange(num), gan.num_classes))


def generate(
    gan: Gan, state: TrainState, z: jax.Array, label: int | ArrayLike | None = None, *, ema: bool = True
) -> jax.Array:
    """Examples at given latents `z [N, latent_dim]`: `[N, *image_shape]` float32; images in [−1, 1].

    A class-conditional GAN needs the class of all, or of each, `label [N]`.

    Raises:
      UserError: if there is no such class, or the GAN has none.
    """
    variables = state.ema if ema else state.generator.variables
    num = z.shape[0]
    padding = -num % CHUNK
    chunks = jnp.pad(z, ((0, padding), (0, 0))).reshape(-1, CHUNK, gan.latent_dim)
    if label is None and not gan.num_classes:
        labels: Any = [None] * len(chunks)
    else:
        labels = jnp.pad(_checked(gan, label, num), (0, padding)).reshape(-1, CHUNK)
    draw = gan.with_precision(_generate)
    images = [draw(gan.generator, variables, chunk, row) for chunk, row in zip(chunks, labels, strict=True)]
    return jnp.concatenate(images)[:num]


def _checked(gan: Gan, label: int | ArrayLike | None, num: int) -> np.ndarray:
    """The class of each of `num` examples, `[num]` int32."""
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


def walks(gan: Gan, key: jax.Array, num: int) -> jax.Array:
    """The latents of `num` walks between pairs, `FRAMES` each: `[num · FRAMES, latent_dim]`."""
    ends = latents(gan, key, 2 * num).reshape(num, 2, -1)
    paths = jax.vmap(lambda pair: interpolate(pair[0], pair[1], FRAMES))(ends)
    return paths.reshape(num * FRAMES, -1)


@functools.partial(jax.jit, static_argnums=0)
def _generate(
    generator: nn.Module, variables: dict[str, Any], latents: jax.Array, label: jax.Array | None
) -> jax.Array:
    return jnp.asarray(generator.apply(variables, latents, label, train=False))
