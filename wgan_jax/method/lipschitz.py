"""The formulas that keep a critic Lipschitz: a penalty on its gradient, and clipped weights."""

from collections.abc import Callable
from typing import TypeVar

import chex
import jax
import jax.numpy as jnp

Params = TypeVar("Params")


def interpolate(real: jax.Array, fake: jax.Array, epsilon: jax.Array) -> jax.Array:
    """Returns `ε·real + (1 − ε)·fake`, with one ε for each example (arXiv 1704.00028, Algorithm 1, line 6).

    Args:
      real: `[B, ...]`.
      fake: `[B, ...]`, of the same shape.
      epsilon: `[B]` in [0, 1].

    Returns:
      Points on the straight lines between the pairs, `[B, ...]`.

    Raises:
      ValueError: if the shapes do not fit.
    """
    chex.assert_equal_shape(
        [real, fake], custom_message="real and fake must have the same shape", exception_type=ValueError
    )
    chex.assert_shape(
        epsilon, real.shape[:1], custom_message="epsilon must be one number per example", exception_type=ValueError
    )
    epsilon = epsilon.reshape(epsilon.shape + (1,) * (real.ndim - 1))
    return epsilon * real + (1 - epsilon) * fake


def gradient_squares(critic_fn: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    """Returns `‖∇ₓ critic(x)‖₂²` of each example over all its axes.

    Args:
      critic_fn: `[B, ...] -> [B]`. Each score must depend on its own example alone: then the gradient of the sum of
        the scores is each example's own.
      x: `[B, ...]`.

    Returns:
      `[B]`, in float32 or wider.
    """
    gradient = jax.grad(lambda x: jnp.sum(critic_fn(x)))(x)
    gradient = gradient.astype(jnp.promote_types(gradient.dtype, jnp.float32))
    return jnp.sum(jnp.square(gradient), axis=tuple(range(1, gradient.ndim)))


def gradient_norms(critic_fn: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    """Returns the roots of `gradient_squares`, `[B]`. Their own derivative is finite at 0."""
    squares = gradient_squares(critic_fn, x)
    # sqrt has an infinite slope at 0, and ∞ · 0 is NaN: keep 0 out of the root on both passes.
    positive = squares > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1.0)), 0.0)


def penalty(norms: jax.Array, *, target: float = 1.0, one_sided: bool = False) -> jax.Array:
    """Returns `mean((norms − target)²)`, or `mean(max(norms − target, 0)²)` if one-sided: `[B] -> []`."""
    excess = norms - target
    return jnp.mean(jnp.square(jnp.maximum(excess, 0.0) if one_sided else excess))


def gradient_penalty(
    critic_fn: Callable[[jax.Array], jax.Array],
    real: jax.Array,
    fake: jax.Array,
    epsilon: jax.Array,
    *,
    target: float = 1.0,
    one_sided: bool = False,
) -> jax.Array:
    """Returns `mean((‖∇ critic(x̂)‖₂ − target)²)` over interpolates x̂, without its weight λ (arXiv 1704.00028 eq. 3).

    Args:
      critic_fn: `[B, ...] -> [B]`, where each score depends on its own example alone.
      real: `[B, ...]` of any rank.
      fake: `[B, ...]`.
      epsilon: `[B]` in [0, 1], one draw per example.
      target: norm that costs nothing; 1 in the paper.
      one_sided: whether only norms above the target are penalised (section 4, "two-sided penalty").

    Returns:
      A scalar, differentiable with respect to whatever `critic_fn` closes over.

    Raises:
      ValueError: if the shapes do not fit.
    """
    norms = gradient_norms(critic_fn, interpolate(real, fake, epsilon))
    return penalty(norms, target=target, one_sided=one_sided)


def clip_weights(params: Params, bound: float) -> Params:
    """Projects every parameter into `[−bound, bound]` (arXiv 1701.07875, Algorithm 1, line 7).

    Raises:
      ValueError: if `bound` is not positive.
    """
    if bound <= 0:
        raise ValueError(f"the clipping bound must be positive, not {bound}")
    return jax.tree.map(lambda w: jnp.clip(w, -bound, bound), params)


def clipped_fraction(params: Params, bound: float) -> jax.Array:
    """Returns the share of all parameters that are at or beyond `±bound`: a scalar in [0, 1]; 0 if there are none."""
    leaves = jax.tree.leaves(params)
    outside = sum(jnp.sum(jnp.abs(w) >= bound, dtype=jnp.float32) for w in leaves)
    return jnp.asarray(outside / max(1, sum(w.size for w in leaves)), jnp.float32)
