"""The optimizers of both players, with the papers' settings and a learning rate per generator iteration."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict


def learning_rate(peak: float, schedule: str, steps: int) -> optax.Schedule:
    """The learning rate as a function of the generator iteration, constant or linear to 0 at `steps`.

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
    """The optimizer of one player (`config.critic.optimizer` or `config.generator.optimizer`).

    `rmsprop` is that of WGAN's code (PyTorch's): ε outside the root. optax's default puts it inside, where 1e-8 is a
    floor that is large against a clipped critic's gradients. `rmsprop_tf` is that of WGAN-GP's code (TensorFlow's): ε
    inside the root, 1e-10 there, and the mean square begins at 1, so the first steps are small.

    `adam` is that of the paper and of PyTorch. TensorFlow, and so WGAN-GP's code, does not divide ε by
    `√(1 − b2ᵗ)`; with an ε of 1e-8 both make the same steps but where gradients are as small as ε.
    """
    match config.name:
        case "adam":
            scale = optax.scale_by_adam(b1=config.b1, b2=config.b2, eps=config.eps)
        case "rmsprop":
            scale = optax.scale_by_rms(decay=config.decay, eps=config.eps, eps_in_sqrt=False)
        case "rmsprop_tf":
            scale = optax.scale_by_rms(decay=config.decay, eps=config.eps, initial_scale=1.0)
        case "sgd":
            scale = optax.identity()
    decay = optax.add_decayed_weights(config.weight_decay) if config.weight_decay else optax.identity()
    return optax.chain(scale, decay, scale_by_step(learning_rate(config.learning_rate, config.schedule, steps)))
