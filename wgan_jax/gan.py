"""What to compute: networks, game, constraint and optimizers of a run. No arrays."""

import dataclasses
import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from wgan_jax import config as configs
from wgan_jax import constraints, games, optimizers
from wgan_jax.networks import dcgan, mlp, resnet
from wgan_jax.schedule import CriticSchedule

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


def build(config: ConfigDict) -> Gan:
    """The GAN that a config describes.

    Raises:
      UserError: if a setting cannot be; see `wgan_jax.config.check`.
    """
    configs.check(config)
    return Gan(
        generator=_generator(config),
        critic=_critic(config),
        image_shape=configs.image_shape(config),
        latent_dim=config.latent_dim,
        generator_optimizer=optimizers.build(config.generator.optimizer, config.steps),
        critic_optimizer=optimizers.build(config.critic.optimizer, config.steps),
        game=games.GAMES[config.game],
        constraint=_constraint(config.constraint),
        schedule=CriticSchedule(config.n_critic, config.warmup.n_critic, config.warmup.steps, config.warmup.every),
        generator_batch_multiple=config.generator.batch_multiple,
        ema_decay=config.ema_decay,
        dequantise=config.data.dequantise,
        flip=config.data.flip,
        num_classes=configs.num_classes(config),
        critic_class_weight=config.conditional.critic_weight,
        generator_class_weight=config.conditional.generator_weight,
        matmul_precision=config.matmul_precision,
    )


def _generator(config: ConfigDict) -> nn.Module:
    c, shape = config.generator, configs.image_shape(config)
    common = {
        "image_shape": shape,
        "activation": c.activation,
        "dtype": jnp.dtype(config.precision),
        "num_classes": configs.num_classes(config),
    }
    match c.network:
        case "mlp":
            return mlp.Generator(width=c.width, depth=c.depth, kernel_init=c.kernel_init, **common)
        case "dcgan":
            return dcgan.Generator(
                width=c.width,
                norm=c.norm,
                kernel_init=c.kernel_init,
                kernel_size=c.kernel_size,
                use_bias=c.use_bias,
                constant_width=c.constant_width,
                **common,
            )
        case _:
            return resnet.Generator(width=c.width, norm=c.norm, **common)


def _critic(config: ConfigDict) -> nn.Module:
    c = config.critic
    common = {
        "activation": c.activation,
        "dtype": jnp.dtype(config.precision),
        "num_classes": configs.num_classes(config),
        "conditioning": config.conditional.kind,
    }
    match c.network:
        case "mlp":
            return mlp.Critic(width=c.width, depth=c.depth, kernel_init=c.kernel_init, **common)
        case "dcgan":
            return dcgan.Critic(
                width=c.width,
                norm=c.norm,
                kernel_init=c.kernel_init,
                kernel_size=c.kernel_size,
                use_bias=c.use_bias,
                **common,
            )
        case _:
            return resnet.Critic(width=c.width, norm=c.norm, **common)


def _constraint(c: ConfigDict) -> constraints.Constraint:
    match c.kind:
        case "gradient_penalty":
            return constraints.gradient_penalty(c.weight, target=c.target, one_sided=c.one_sided)
        case "clip":
            return constraints.clip(c.bound, order=c.order)
        case _:
            return constraints.Constraint()
