"""What to compute: networks, game, constraint and optimizers of a run. No arrays."""

import dataclasses
import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import flax.linen as nn
import jax
import optax

from wgan_jax.method import constraints, games
from wgan_jax.method.schedule import CriticSchedule

P = ParamSpec("P")
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Gan:
    """A Wasserstein GAN, or a game that it is compared to. `dataclasses.replace` swaps any part for your own.

    The networks are linen modules: `generator(z [B, latent_dim], label, train=) -> [B, *image_shape]` and
    `critic(x [B, *image_shape], label, train=) -> [B]`. A class-conditional GAN gives them `label [B]` int32 in
    `[0, num_classes)`, any other None. A critic with an auxiliary head sows the logits of the classes
    `[B, num_classes]` beside its scores, `self.sow("intermediates", "logits", logits)`: both players then minimise
    their cross-entropy too.
    """

    generator: nn.Module
    critic: nn.Module
    image_shape: tuple[int, ...]
    latent_dim: int
    generator_optimizer: optax.GradientTransformation
    critic_optimizer: optax.GradientTransformation
    game: games.Game = games.GAMES["wasserstein"]
    constraint: constraints.Constraint = dataclasses.field(default_factory=constraints.gradient_penalty)
    schedule: CriticSchedule = dataclasses.field(default_factory=CriticSchedule)
    generator_batch_multiple: int = 1
    ema_decay: float = 0.999
    dequantise: bool = False
    """Real images that come as bytes get U(0, 1/128) added."""
    flip: bool = False
    """Half of the real images that come as bytes are mirrored."""
    num_classes: int = 0
    """Classes of a conditional GAN; 0 for any other."""
    critic_class_weight: float = 1.0
    """Of the real examples' classes in the loss of a critic with an auxiliary head."""
    generator_class_weight: float = 0.1
    """Of the generated examples' classes in the generator's loss, where the critic has an auxiliary head."""
    matmul_precision: str = "default"
    """How float32 is multiplied: a name that `jax.default_matmul_precision` takes; "default" leaves it to JAX."""

    def with_precision(self, function: Callable[P, T]) -> Callable[P, T]:
        """Returns `function` with its matrix products and convolutions, derivatives' included, in `matmul_precision`.

        A product that names a precision of its own keeps it.
        """
        if self.matmul_precision == "default":
            return function

        @functools.wraps(function)
        def precise(*args: P.args, **kwargs: P.kwargs) -> T:
            with jax.default_matmul_precision(self.matmul_precision):
                return function(*args, **kwargs)

        return precise
