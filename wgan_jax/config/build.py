"""Builds the GAN that a config describes."""

import flax.linen as nn
import jax.numpy as jnp
from ml_collections import ConfigDict

from wgan_jax.config import optimizers
from wgan_jax.config.check import check
from wgan_jax.data.kinds import image_shape, num_classes
from wgan_jax.method import constraints, games, heads
from wgan_jax.method.gan import Gan
from wgan_jax.method.priors import Normal
from wgan_jax.method.schedule import CriticSchedule
from wgan_jax.networks import dcgan, mlp, resnet


def build(config: ConfigDict) -> Gan:
    """The GAN that a config describes.

    Raises:
      UserError: if a setting cannot be; see `wgan_jax.config.check`.
    """
    check(config)
    return Gan(
        generator=_generator(config),
        critic=_critic(config),
        image_shape=image_shape(config),
        prior=Normal(config.latent_dim, num_classes(config)),
        generator_optimizer=optimizers.build(config.generator.optimizer, config.steps),
        critic_optimizer=optimizers.build(config.critic.optimizer, config.steps),
        game=games.GAMES[config.game],
        constraint=_constraint(config.constraint),
        schedule=CriticSchedule(config.n_critic, config.warmup.n_critic, config.warmup.steps, config.warmup.every),
        generator_batch_multiple=config.generator.batch_multiple,
        ema_decay=config.ema_decay,
        dequantise=config.data.dequantise,
        flip=config.data.flip,
        heads=(heads.classes(config.conditional.critic_weight, config.conditional.generator_weight),),
        matmul_precision=config.matmul_precision,
    )


def _generator(config: ConfigDict) -> nn.Module:
    c, shape = config.generator, image_shape(config)
    common = {
        "image_shape": shape,
        "activation": c.activation,
        "dtype": jnp.dtype(config.precision),
        "num_classes": num_classes(config),
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
        "num_classes": num_classes(config),
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
