"""Further outputs of a critic, and what they add to the losses of both players."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from wgan_jax.method import games
from wgan_jax.method.condition import Condition
from wgan_jax.method.games import Metrics

Loss = Callable[[jax.Array, Condition], jax.Array]


class Head(NamedTuple):
    """One output that a critic sows beside its scores, and the loss that it adds.

    A weight of None leaves the loss out. A critic that does not sow the output has no such head.
    """

    name: str
    """Name among the metrics, as in `critic_class_loss`."""
    output: str
    """Name under which the critic sows it: `self.sow("intermediates", output, ...)`."""
    needs: str
    """Field of the `Condition` that the loss compares with; without it the head is silent."""
    loss: Loss
    """`(output [B, ...], condition) -> []`"""
    on_real: float | None = None
    """Weight in the critic's loss, of real examples."""
    on_fake: float | None = None
    """Weight in the critic's loss, of generated examples."""
    for_generator: float | None = None
    """Weight in the generator's loss."""
    measures: tuple[tuple[str, Loss], ...] = ()
    """Further metrics of the critic's real examples: pairs such as `("accuracy", function)`."""


def classes(critic_weight: float = 1.0, generator_weight: float = 0.1) -> Head:
    """Returns the auxiliary classifier of ACGAN (arXiv 1610.09585).

    The critic sows `logits [B, num_classes]`. The weights, and the critic's loss on real examples alone, are those of
    WGAN-GP's `gan_cifar_resnet.py`.
    """

    def loss(logits: jax.Array, condition: Condition) -> jax.Array:
        assert condition.label is not None
        return games.class_loss(logits, condition.label)

    def accuracy(logits: jax.Array, condition: Condition) -> jax.Array:
        return jnp.mean(logits.argmax(-1) == condition.label, dtype=jnp.float32)

    return Head(
        "class",
        "logits",
        "label",
        loss,
        on_real=critic_weight,
        for_generator=generator_weight,
        measures=(("accuracy", accuracy),),
    )


def terms(
    heads: Sequence[Head], sown: Mapping[str, jax.Array], condition: Condition, place: str, prefix: str
) -> tuple[list[jax.Array], Metrics]:
    """Returns the weighted losses of the heads that are there, and their metrics without weights.

    Args:
      heads: all heads of a GAN.
      sown: outputs of the critic by name, each `[B, ...]`.
      condition: what is known of the same examples.
      place: `on_real`, `on_fake` or `for_generator`.
      prefix: beginning of the metrics' names.
    """
    losses, metrics = [], {}
    for head in heads:
        weight = getattr(head, place)
        if weight is None or head.output not in sown or getattr(condition, head.needs) is None:
            continue
        loss = head.loss(sown[head.output], condition)
        losses.append(weight * loss)
        metrics[f"{prefix}_{head.name}_loss"] = loss
        if place == "on_real":
            for name, measure in head.measures:
                metrics[f"{prefix}_{head.name}_{name}"] = measure(sown[head.output], condition)
    return losses, metrics
