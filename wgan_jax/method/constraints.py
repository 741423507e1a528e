"""What a critic's update is given to stay Lipschitz: a term of its loss, and projections of its parameters."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from wgan_jax.method import lipschitz

Params = Any
Metrics = dict[str, jax.Array]
CriticFn = Callable[[jax.Array], jax.Array]


def no_loss(critic_fn: CriticFn, real: jax.Array, fake: jax.Array, epsilon: jax.Array) -> tuple[jax.Array, Metrics]:
    """Adds nothing to the critic's loss."""
    del critic_fn, real, fake, epsilon
    return jnp.zeros(()), {}


def no_projection(params: Params) -> tuple[Params, Metrics]:
    """Leaves the parameters as they are."""
    return params, {}


class Constraint(NamedTuple):
    """Three functions; each may be replaced by one's own."""

    loss: Callable[[CriticFn, jax.Array, jax.Array, jax.Array], tuple[jax.Array, Metrics]] = no_loss
    """`(critic_fn, real [B, ...], fake [B, ...], epsilon [B]) -> (term of the critic's loss [], metrics)`"""
    before: Callable[[Params], tuple[Params, Metrics]] = no_projection
    """`params -> (params, metrics)`, before the critic's gradient is taken."""
    after: Callable[[Params], tuple[Params, Metrics]] = no_projection
    """`params -> (params, metrics)`, after the optimizer's update."""


def gradient_penalty(weight: float = 10.0, *, target: float = 1.0, one_sided: bool = False) -> Constraint:
    """`λ · mean((‖∇ critic(x̂)‖₂ − target)²)` in the critic's loss (arXiv 1704.00028 eq. 3).

    Metrics: `gradient_penalty` (without λ) and `gradient_norm`, the mean over the interpolates.
    """

    def loss(critic_fn: CriticFn, real: jax.Array, fake: jax.Array, epsilon: jax.Array) -> tuple[jax.Array, Metrics]:
        norms = lipschitz.gradient_norms(critic_fn, lipschitz.interpolate(real, fake, epsilon))
        penalty = lipschitz.penalty(norms, target=target, one_sided=one_sided)
        return weight * penalty, {"gradient_penalty": penalty, "gradient_norm": jnp.mean(norms)}

    return Constraint(loss=loss)


def clip(bound: float = 0.01, *, order: str = "after") -> Constraint:
    """Weight clipping (arXiv 1701.07875), after each update as in the paper, or before it.

    WGAN's first code clips before the update, so its generator sees an unclipped critic.
    Metrics: `clipped_fraction`, the share of the critic's parameters at the bound.

    Raises:
      ValueError: if `order` is neither `after` nor `before`.
    """
    if order not in ("after", "before"):
        raise ValueError(f"order must be 'after' or 'before', not {order!r}")

    def project(params: Params) -> tuple[Params, Metrics]:
        return (
            lipschitz.clip_weights(params, bound),
            {"clipped_fraction": lipschitz.clipped_fraction(params, bound)},
        )

    return Constraint(after=project) if order == "after" else Constraint(before=project)
