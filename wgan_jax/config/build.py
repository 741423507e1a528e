"""Builds the GAN that a config describes."""

import flax.linen as nn
import jax.numpy as jnp
from ml_collections import ConfigDict

from wgan_jax.config import optimizers
from wgan_jax.config.check import check
from wgan_jax.config.tables import CONDITIONINGS, CONSTRAINTS, NETWORKS, ConstraintKind, parts
from wgan_jax.data.kinds import image_shape, num_classes
from wgan_jax.method import constraints, games
from wgan_jax.method.gan import Gan
from wgan_jax.method.priors import Normal
from wgan_jax.method.schedule import CriticSchedule
from wgan_jax.method.stages import Stage, Stages


def build(config: ConfigDict) -> Gan:
    """Returns the GAN that a config describes.

    Raises:
      UserError: for the first invalid setting; see `wgan_jax.config.check`.
    """
    check(config)
    return Gan(
        generator=_network(config, "generator"),
        critic=_network(config, "critic"),
        image_shape=image_shape(config),
        prior=Normal(config.latent_dim, num_classes(config)),
        generator_optimizer=optimizers.build(config.generator.optimizer, config.steps),
        critic_optimizer=optimizers.build(config.critic.optimizer, config.steps),
        game=games.GAMES[config.game],
        constraint=_constraint(config),
        schedule=CriticSchedule(config.n_critic, config.warmup.n_critic, config.warmup.steps, config.warmup.every),
        generator_batch_multiple=config.generator.batch_multiple,
        ema_decay=config.ema_decay,
        dequantise=config.data.dequantise,
        flip=config.data.flip,
        heads=CONDITIONINGS[config.conditional.kind].heads(config.conditional),
        matmul_precision=config.matmul_precision,
    )


def stages(config: ConfigDict) -> Stages:
    """Returns the stages of the run that a config describes: one, which trains what `build` returns.

    Raises:
      UserError: for the first invalid setting; see `wgan_jax.config.check`.
    """
    return (Stage(build(config), config.batch_size, 0, config.steps),)


def _network(config: ConfigDict, player: str) -> nn.Module:
    """Returns the network of `generator` or `critic`."""
    given = {
        "image_shape": image_shape(config),
        "dtype": jnp.dtype(config.precision),
        "num_classes": num_classes(config),
        "conditioning": config.conditional.kind,
    }
    return NETWORKS[config[player].network].build(player, dict(config[player]) | given)


def _constraint(config: ConfigDict) -> constraints.Constraint:
    """Returns the constraint that `config.constraint` describes, or the chain of several."""

    def one(row: ConstraintKind) -> constraints.Constraint:
        built = row.build(config.constraint)
        if config.constraint.every == 1 or "every" not in row.settings:
            return built
        return constraints.lazy(built, config.constraint.every, config.n_critic)

    return constraints.chain(*(one(CONSTRAINTS[name]) for name in parts(config.constraint.kind)))
