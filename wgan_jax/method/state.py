"""All arrays of a run: two players, the generator's average, the step and the key. A checkpoint holds nothing else."""

from collections.abc import Mapping

import chex
import jax
import jax.numpy as jnp
from flax import struct
from jax.tree_util import KeyPath, keystr

from wgan_jax.method import draws, priors
from wgan_jax.method.draws import Stream
from wgan_jax.method.gan import Gan, initialize
from wgan_jax.method.player import Player


@struct.dataclass
class TrainState:
    """Everything that a run needs to go on. All else is a function of its config."""

    step: jax.Array
    """Number of generator iterations done, int32."""
    key: chex.PRNGKey
    """The one key of the run, from which `draws` makes every draw."""
    generator: Player
    critic: Player
    ema: dict[str, chex.ArrayTree]
    """The generator's variables, averaged over the iterations."""


def init_state(gan: Gan, key: chex.PRNGKey) -> TrainState:
    """Returns the state before the first step, as a function of the key.

    Args:
      gan: what to compute.
      key: a typed key, `jax.random.key(seed)`.
    """
    latents, condition = priors.zeros(gan.prior, 1)
    images = jnp.zeros((1, *gan.image_shape), jnp.float32)
    keys = [draws.stream_key(key, stream) for stream in (Stream.GENERATOR_INIT, Stream.CRITIC_INIT)]
    generator = initialize(gan.generator, keys[0], latents, condition)
    critic = initialize(gan.critic, keys[1], images, condition)
    constraint = gan.constraint.init(critic["params"], draws.stream_key(key, Stream.CONSTRAINT_INIT))
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        key=key,
        generator=Player(generator, gan.generator_optimizer.init(generator["params"])),
        critic=Player(critic, gan.critic_optimizer.init(critic["params"]), constraint),
        # Arrays of its own: a donated state must not hold one buffer twice.
        ema=jax.tree.map(jnp.copy, generator),
    )


def named_arrays(state: TrainState) -> dict[str, jax.Array]:
    """Returns every array of a state by its path: `{"critic/variables/params/output/kernel": …, …}`."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {_name(path): leaf for path, leaf in leaves}


def with_arrays(state: TrainState, arrays: Mapping[str, jax.Array]) -> TrainState:
    """Returns the state with other arrays in the places of those that have their names in `named_arrays`."""
    return jax.tree_util.tree_map_with_path(lambda path, x: arrays.get(_name(path), x), state)


def _name(path: KeyPath) -> str:
    return keystr(path, simple=True, separator="/")


@jax.jit
def finite(state: TrainState) -> dict[str, jax.Array]:
    """Tells for every array of real numbers, by its path, whether all of them are finite: booleans."""
    return {
        name: jnp.all(jnp.isfinite(x))
        for name, x in named_arrays(state).items()
        if jnp.issubdtype(x.dtype, jnp.floating)
    }
