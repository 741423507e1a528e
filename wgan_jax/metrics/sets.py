"""Sets of images that are compared: those of a source, and those that a generator draws.

Image i of a set is the same whatever devices and hosts share the work, and in whatever batches it is done.
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import numpy as np

from wgan_jax.data import Source
from wgan_jax.data.digest import sha256
from wgan_jax.devices import hosts, mesh
from wgan_jax.devices.mesh import Parallel
from wgan_jax.method.batch import quantise, to_uint8
from wgan_jax.method.draws import Keys, Stream
from wgan_jax.method.gan import Gan
from wgan_jax.method.state import TrainState


class Images(NamedTuple):
    """A set of images."""

    num: int
    """Number of images."""
    shape: tuple[int, ...]
    """Shape of one image, `(H, W, C)`."""
    read: Callable[[np.ndarray], jax.Array]
    """`index [B] -> images [B, H, W, C]` uint8, spread over the devices. All hosts read the same images together."""
    identity: str = ""
    """Digest of the set, by which its statistics may be kept; "" if they are of no further use."""


def real(source: Source, index: np.ndarray, devices: Parallel, *, channels: int = 0) -> Images:
    """Returns the examples of a source at `index [N]`, in that order, as bytes.

    Grey images become as many equal `channels`; 0 leaves them as they are.
    """
    shape = (*source.image_shape[:-1], channels or source.image_shape[-1])

    def read(rows: np.ndarray) -> jax.Array:
        own = np.split(index[rows], hosts.count())[jax.process_index()]
        images = source.read(own)["image"]
        images = images if images.dtype == np.uint8 else to_uint8(images)
        return devices.place({"image": np.broadcast_to(images, (len(images), *shape))}, axis=0)["image"]

    return Images(len(index), shape, read, sha256([source.digest, index.astype(np.int64), repr(shape)]))


def samples(
    gan: Gan, num: int, devices: Parallel, *, seed: int = 0, ema: bool = True
) -> Callable[[TrainState], Images]:
    """Returns a function of a state: its samples, quantised to bytes as a picture file would be.

    Sample i is a function of (state, seed, i). All hosts must have the same state.

    Args:
      gan: what to compute.
      num: number of samples.
      devices: where they are drawn.
      seed: seed of latents and classes.
      ema: whether the generator's average is sampled, or the generator itself.
    """

    def draw(variables: dict[str, chex.ArrayTree], key: chex.PRNGKey, index: jax.Array) -> jax.Array:
        keys = Keys(key, 0, 0, index)
        latents, condition = gan.prior.draw(
            keys.of(Stream.SAMPLE_LATENTS), gan.prior.classes(keys.of(Stream.SAMPLE_LABELS))
        )
        return quantise(gan.generate(variables, latents, condition).value)

    compiled = devices.compile_rows(gan.with_precision(draw), (None, None, 0))
    key = devices.replicate(jax.random.key(seed))

    def of(state: TrainState) -> Images:
        variables = devices.replicate(mesh.local(state.ema if ema else state.generator.variables))

        def read(rows: np.ndarray) -> jax.Array:
            return compiled(variables, key, devices.spread({"index": rows.astype(np.int32)})["index"])

        return Images(num, gan.image_shape, read)

    return of
