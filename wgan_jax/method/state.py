"""Every array of a run: two players, the generator's average, the step and the key. A checkpoint is this alone."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from wgan_jax.method import draws
from wgan_jax.method.gan import Gan


@struct.dataclass
class Player:
    """One network's arrays."""

    variables: dict[str, Any]
    """linen's collections: `params`, and `batch_stats` where a batch norm keeps running statistics."""
    opt_state: Any

    @property
    def params(self) -> Any:
        """The trained parameters."""
        return self.variables["params"]


@struct.dataclass
class TrainState:
    """All that a run needs to go on; everything else is a function of its config."""

    step: jax.Array
    """Generator iterations done, int32."""
    key: jax.Array
    """The run's one key, from which `draws` makes every draw."""
    generator: Player
    critic: Player
    ema: dict[str, Any]
    """The generator's variables, averaged over the iterations."""


def init_state(gan: Gan, key: jax.Array) -> TrainState:
    """The state before the first step, as a function of the key.

    Args:
      gan: what to compute.
      key: a typed key, `jax.random.key(seed)`.
    """
    latents = jnp.zeros((1, gan.latent_dim), jnp.float32)
    images = jnp.zeros((1, *gan.image_shape), jnp.float32)
    label = jnp.zeros(1, jnp.int32) if gan.num_classes else None
    generator = _init(gan.generator, draws.stream_key(key, draws.Stream.GENERATOR_INIT), latents, label)
    critic = _init(gan.critic, draws.stream_key(key, draws.Stream.CRITIC_INIT), images, label)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        key=key,
        generator=Player(generator, gan.generator_optimizer.init(generator["params"])),
        critic=Player(critic, gan.critic_optimizer.init(critic["params"])),
        # Arrays of its own: a donated state must not hold one buffer twice.
        ema=jax.tree.map(jnp.copy, generator),
    )


def _init(module: nn.Module, key: jax.Array, x: jax.Array, label: jax.Array | None) -> dict[str, Any]:
    # A network of one's own may have no parameters.
    return {"params": {}} | dict(jax.jit(lambda key, x: module.init(key, x, label, train=True))(key, x))


def named_arrays(state: TrainState) -> dict[str, jax.Array]:
    """Every array of a state by its path: `{"critic/variables/params/output/kernel": …, …}`."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


@jax.jit
def finite(state: TrainState) -> dict[str, jax.Array]:
    """Of every array with real numbers by its path, whether all of them are finite: booleans."""
    return {
        name: jnp.all(jnp.isfinite(x))
        for name, x in named_arrays(state).items()
        if jnp.issubdtype(x.dtype, jnp.floating)
    }
