"""The parts of a GAN: networks, prior, game, constraint and optimizers. It holds no arrays."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec, TypeVar

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import traverse_util

from wgan_jax.method import constraints, games
from wgan_jax.method.condition import UNCONDITIONAL, Condition
from wgan_jax.method.heads import Head, classes
from wgan_jax.method.player import Player
from wgan_jax.method.priors import Prior
from wgan_jax.method.schedule import CriticSchedule

P = ParamSpec("P")
T = TypeVar("T")


class Output(NamedTuple):
    """Result of a network."""

    value: jax.Array
    """Scores `[B]` of a critic, or examples `[B, *image_shape]` of a generator."""
    variables: dict[str, chex.ArrayTree]
    """The network's variables, with new running statistics if it was in training."""
    sown: dict[str, jax.Array]
    """Further outputs by name, such as a critic's `logits [B, num_classes]`."""


def call(
    network: nn.Module,
    variables: dict[str, chex.ArrayTree],
    x: jax.Array,
    condition: Condition = UNCONDITIONAL,
    *,
    train: bool,
) -> Output:
    """Calls a network. Nothing else does, but for `initialize`.

    Args:
      network: `network(x, label, train=)`, and `fade=` and `dropout=` too where the condition has them.
      variables: linen's collections.
      x: latents `[B, latent_dim]` or examples `[B, *image_shape]`.
      condition: what is known of the examples.
      train: whether a batch norm uses the moments of the batch, and updates its running statistics.
    """
    statistics = [name for name in variables if name != "params"] if train else []
    value, changed = network.apply(
        variables, x, condition.label, train=train, mutable=[*statistics, "intermediates"], **_further(condition)
    )
    sown = traverse_util.flatten_dict(changed.get("intermediates", {}))
    return Output(
        jnp.asarray(value),
        variables | {name: changed[name] for name in statistics if name in changed},
        {path[-1]: values[-1] for path, values in sown.items()},
    )


def initialize(network: nn.Module, key: chex.PRNGKey, x: jax.Array, condition: Condition) -> dict[str, chex.ArrayTree]:
    """Draws a network's first variables; it may have no parameters.

    Args:
      network: as in `call`.
      key: of all its weights.
      x: latents or examples of the right shape.
      condition: a condition of the right shapes.
    """

    def init(key: chex.PRNGKey, x: jax.Array) -> Any:
        return network.init(key, x, condition.label, train=True, **_further(condition))

    return {"params": {}} | dict(jax.jit(init)(key, x))


def _further(condition: Condition) -> dict[str, chex.ArrayTree]:
    """Returns what a network gets only where the condition has it."""
    further = {"fade": condition.fade, "dropout": condition.dropout}
    return {name: value for name, value in further.items() if value is not None}


def drops_out(network: nn.Module) -> bool:
    """Tells whether a critic takes keys for its dropout: whether it has an attribute `dropout`, a rate above 0."""
    return bool(getattr(network, "dropout", 0))


def mixes_examples(network: nn.Module, variables: dict[str, chex.ArrayTree]) -> bool:
    """Tells whether a network's output for one example depends on the others in the batch, as with a batch norm.

    A network says so itself, by an attribute `mixes_examples`. One that does not is taken to mix examples if it keeps
    running statistics.
    """
    return bool(getattr(network, "mixes_examples", "batch_stats" in variables))


@dataclasses.dataclass(frozen=True)
class Gan:
    """A Wasserstein GAN, or a game that it is compared to. `dataclasses.replace` swaps any part for your own.

    The networks are linen modules: `generator(z [B, latent_dim], label, train=) -> [B, *image_shape]` and
    `critic(x [B, *image_shape], label, train=) -> [B]`. `label` is None unless the prior has classes; then it is
    `[B]` int32 in `[0, num_classes)`. A critic with a head sows the head's output beside its scores, such as
    `self.sow("intermediates", "logits", logits)`. A critic with an attribute `dropout` above 0 gets `dropout=`, keys
    `[B]`, in every pass of a training step, and none elsewhere.
    """

    generator: nn.Module
    critic: nn.Module
    image_shape: tuple[int, ...]
    prior: Prior
    """Distribution of the latents and the classes of generated examples."""
    generator_optimizer: optax.GradientTransformation
    critic_optimizer: optax.GradientTransformation
    game: games.Game = games.GAMES["wasserstein"]
    constraint: constraints.Constraint = dataclasses.field(default_factory=constraints.gradient_penalty)
    heads: tuple[Head, ...] = dataclasses.field(default_factory=lambda: (classes(),))
    """Losses of the critic's further outputs. A head whose output the critic does not sow is silent."""
    schedule: CriticSchedule = dataclasses.field(default_factory=CriticSchedule)
    generator_batch_multiple: int = 1
    ema_decay: float = 0.999
    dequantise: bool = False
    """Whether real images that come as bytes get U(0, 1/128) added."""
    flip: bool = False
    """Whether half of the real images that come as bytes are mirrored."""
    matmul_precision: str = "default"
    """Precision of float32 products: a name that `jax.default_matmul_precision` takes; "default" leaves it to JAX."""

    @property
    def latent_dim(self) -> int:
        """Size of one latent."""
        return self.prior.latent_dim

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 for an unconditional GAN."""
        return self.prior.num_classes

    def score(
        self, critic: Player, x: jax.Array, condition: Condition = UNCONDITIONAL, *, train: bool = False
    ) -> Output:
        """Returns the critic's scores `[B]` of examples `x [B, *image_shape]`, with its constraint on its weights.

        Raises:
          ValueError: if the critic returns anything but one score for each example.
        """
        params, _ = self.constraint.weights(critic.params, critic.constraint)
        output = call(self.critic, critic.variables | {"params": params}, x, condition, train=train)
        chex.assert_shape(
            output.value,
            x.shape[:1],
            custom_message="the critic must return one score for each example, [B]",
            exception_type=ValueError,
        )
        return output._replace(variables=output.variables | {"params": critic.params})

    def generate(
        self,
        variables: dict[str, chex.ArrayTree],
        latents: jax.Array,
        condition: Condition = UNCONDITIONAL,
        *,
        train: bool = False,
    ) -> Output:
        """Returns examples `[B, *image_shape]` made of `latents [B, latent_dim]`.

        Args:
          variables: a generator's: `state.generator.variables`, or the average `state.ema`.
          latents: `[B, latent_dim]`.
          condition: what is known of the examples.
          train: see `call`.

        Raises:
          ValueError: if the generator returns examples of another shape.
        """
        output = call(self.generator, variables, latents, condition, train=train)
        chex.assert_shape(
            output.value,
            (len(latents), *self.image_shape),
            custom_message="the generator must return examples [B, *image_shape]",
            exception_type=ValueError,
        )
        return output

    def with_precision(self, function: Callable[P, T]) -> Callable[P, T]:
        """Returns `function` with its matrix products and convolutions in `matmul_precision`, in derivatives too.

        A product that names a precision of its own keeps it.
        """
        if self.matmul_precision == "default":
            return function

        @functools.wraps(function)
        def precise(*args: P.args, **kwargs: P.kwargs) -> T:
            with jax.default_matmul_precision(self.matmul_precision):
                return function(*args, **kwargs)

        return precise
