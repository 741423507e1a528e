"""The games: objectives of the two players as pure functions of the critic's scores.

Scores are real numbers of shape `[B]`, one per example: `real` are those of real examples, `fake` those of
generated ones. Each player minimises its own loss. A `Game` also names what its critic measures: a number
that rises as the two distributions part.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.nn import softplus

Metrics = dict[str, jax.Array]
"""Float32 scalars by name."""


class Game(NamedTuple):
    """Losses of both players and the divergence that the critic estimates."""

    critic_loss: Callable[[jax.Array, jax.Array], jax.Array]
    """`(real [B], fake [B]) -> []`"""
    generator_loss: Callable[[jax.Array], jax.Array]
    """`(fake [B]) -> []`"""
    estimate: Callable[[jax.Array, jax.Array], jax.Array]
    """`(real [B], fake [B]) -> []`"""
    estimate_name: str
    """Name of the estimate among the metrics of a step."""


def wasserstein_estimate(real: jax.Array, fake: jax.Array) -> jax.Array:
    """Returns `mean(real) − mean(fake)`, which is the Wasserstein-1 distance for an optimal 1-Lipschitz critic.

    Kantorovich–Rubinstein duality, arXiv 1701.07875 eq. 2. For a critic of Lipschitz constant K it
    estimates K times the distance.
    """
    return jnp.mean(real) - jnp.mean(fake)


def wasserstein_critic_loss(real: jax.Array, fake: jax.Array) -> jax.Array:
    """Returns `mean(fake) − mean(real)`, arXiv 1701.07875, Algorithm 1 (the paper ascends its negative)."""
    return -wasserstein_estimate(real, fake)


def wasserstein_generator_loss(fake: jax.Array) -> jax.Array:
    """Returns `−mean(fake)`, arXiv 1701.07875, Algorithm 1."""
    return -jnp.mean(fake)


def minimax_critic_loss(real: jax.Array, fake: jax.Array) -> jax.Array:
    """Returns `−mean(log D(real)) − mean(log(1 − D(fake)))`, `D = sigmoid(score)`, Goodfellow et al. 2014 eq. 1.

    WGAN-GP's code (arXiv 1704.00028, mode `dcgan`) halves this sum. With Adam or RMSProp that only changes the weight
    of ε. With a penalty or with SGD, this loss is twice the code's.
    """
    return jnp.mean(softplus(-real)) + jnp.mean(softplus(fake))


def minimax_generator_loss(fake: jax.Array) -> jax.Array:
    """Returns `mean(log(1 − D(fake)))`, Goodfellow et al. 2014 eq. 1. It saturates where the critic is sure."""
    return -jnp.mean(softplus(fake))


def non_saturating_generator_loss(fake: jax.Array) -> jax.Array:
    """Returns `−mean(log D(fake))`, Goodfellow et al. 2014, section 3."""
    return jnp.mean(softplus(-fake))


def jensen_shannon_estimate(real: jax.Array, fake: jax.Array) -> jax.Array:
    """Returns `log 2 − loss / 2`, a lower bound of the Jensen–Shannon divergence in nats, at most log 2.

    Goodfellow et al. 2014, Theorem 1: the optimal critic's loss is `2 log 2 − 2 JS`.
    """
    return jnp.log(2.0) - minimax_critic_loss(real, fake) / 2


def least_squares_critic_loss(real: jax.Array, fake: jax.Array) -> jax.Array:
    """Returns `½ mean((real − 1)²) + ½ mean(fake²)`, arXiv 1611.04076 eq. 2 with a = 0, b = 1."""
    return jnp.mean((real - 1) ** 2) / 2 + jnp.mean(fake**2) / 2


def least_squares_generator_loss(fake: jax.Array) -> jax.Array:
    """Returns `½ mean((fake − 1)²)`, arXiv 1611.04076 eq. 2 with c = 1."""
    return jnp.mean((fake - 1) ** 2) / 2


def triangular_estimate(real: jax.Array, fake: jax.Array) -> jax.Array:
    """Returns `2 − 8 loss`, a lower bound of the triangular discrimination `∫ (p − q)² / (p + q)`, at most 2.

    The optimal least-squares critic is `p / (p + q)`; its loss is `½ ∫ pq / (p + q)`.
    """
    return 2 - 8 * least_squares_critic_loss(real, fake)


def hinge_critic_loss(real: jax.Array, fake: jax.Array) -> jax.Array:
    """Returns `mean(max(0, 1 − real)) + mean(max(0, 1 + fake))`, arXiv 1705.02894; arXiv 1802.05957 eq. 16.

    The generator's loss is the Wasserstein game's.
    """
    return jnp.mean(jax.nn.relu(1 - real)) + jnp.mean(jax.nn.relu(1 + fake))


def total_variation_estimate(real: jax.Array, fake: jax.Array) -> jax.Array:
    """Returns `1 − loss / 2`, a lower bound of the total variation distance `½ ∫ |p − q|`, at most 1.

    The optimal hinge critic is `sign(p − q)`; its loss is `2 ∫ min(p, q)`.
    """
    return 1 - hinge_critic_loss(real, fake) / 2


def class_loss(logits: jax.Array, label: jax.Array) -> jax.Array:
    """Returns `−mean(log p(label))`, the loss of an auxiliary head: `[B, num_classes], [B] -> []`.

    Odena et al. 2016, arXiv 1610.09585. Beside a Wasserstein critic, the weights and the examples (real ones for the
    critic) are those of WGAN-GP's `gan_cifar_resnet.py`.
    """
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, label))


GAMES: dict[str, Game] = {
    "wasserstein": Game(
        wasserstein_critic_loss,
        wasserstein_generator_loss,
        wasserstein_estimate,
        "wasserstein_estimate",
    ),
    "minimax": Game(
        minimax_critic_loss,
        minimax_generator_loss,
        jensen_shannon_estimate,
        "jensen_shannon_estimate",
    ),
    "non_saturating": Game(
        minimax_critic_loss,
        non_saturating_generator_loss,
        jensen_shannon_estimate,
        "jensen_shannon_estimate",
    ),
    "least_squares": Game(
        least_squares_critic_loss,
        least_squares_generator_loss,
        triangular_estimate,
        "triangular_estimate",
    ),
    "hinge": Game(
        hinge_critic_loss,
        wasserstein_generator_loss,
        total_variation_estimate,
        "total_variation_estimate",
    ),
}
