"""The optimizers of both players, with the papers' settings and a learning rate per generator iteration."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from wgan_jax.config.tables import OPTIMIZERS


def learning_rate(peak: float, schedule: str, steps: int) -> optax.Schedule:
    """Returns the learning rate as a function of the generator iteration: constant, or linear to 0 at `steps`.

    WGAN-GP's code updates its generator from iteration 1 on, so the rate of its n-th update is one iteration further.
    """
    if schedule == "linear":
        return optax.linear_schedule(peak, 0.0, steps)
    return optax.constant_schedule(peak)


def scale_by_step(schedule: optax.Schedule) -> optax.GradientTransformationExtraArgs:
    """Multiplies updates by `−schedule(step)`, with `step` given to `update`.

    The critic is updated several times per generator iteration, so a schedule that counts an optimizer's own
    updates would decay too fast.
    """

    def init(params: optax.Params) -> optax.EmptyState:
        del params
        return optax.EmptyState()

    def update(
        updates: optax.Updates,
        state: optax.EmptyState,
        params: optax.Params | None = None,
        *,
        step: jax.Array,
        **extra: Any,
    ) -> tuple[optax.Updates, optax.EmptyState]:
        del params, extra
        rate = jnp.asarray(schedule(step))
        return jax.tree.map(lambda u: -rate.astype(u.dtype) * u, updates), state

    return optax.GradientTransformationExtraArgs(init, update)


def build(config: ConfigDict, steps: int) -> optax.GradientTransformationExtraArgs:
    """Returns the optimizer of one player, from `config.critic.optimizer` or `config.generator.optimizer`."""
    scale = OPTIMIZERS[config.name].build(config)
    decay = optax.add_decayed_weights(config.weight_decay) if config.weight_decay else optax.identity()
    return optax.chain(scale, decay, scale_by_step(learning_rate(config.learning_rate, config.schedule, steps)))
