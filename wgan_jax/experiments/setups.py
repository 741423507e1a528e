"""Parts that several experiments share: GANs with the papers' settings, and their states during training."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from wgan_jax import data
from wgan_jax.config import default
from wgan_jax.data import batches
from wgan_jax.data.arrays import ArraySource
from wgan_jax.method import constraints, games
from wgan_jax.method.games import Metrics
from wgan_jax.method.gan import Gan
from wgan_jax.method.priors import Normal
from wgan_jax.method.schedule import CriticSchedule, segments
from wgan_jax.method.state import TrainState
from wgan_jax.method.step import TrainStep, repeat


def toy_config(name: str, *, width: int, depth: int = 3, batch_size: int = 256) -> ConfigDict:
    """Returns the config of a WGAN-GP on points of the plane.

    It has the settings of the paper's toy script, except for λ, which is 10 here.
    """
    c = default()
    c.batch_size = batch_size
    c.latent_dim = 2
    c.data.name = f"toy:{name}"
    c.data.size, c.data.channels = 0, 2
    for player in (c.generator, c.critic):
        player.width, player.depth, player.activation = width, depth, "relu"
    return c


@dataclasses.dataclass(frozen=True)
class DeepSettings:
    """Settings of runs on the Swiss roll with a deep critic, penalised and clipped."""

    width: int = 64
    depth: int = 12
    steps: int = 1_000
    batch_size: int = 256
    learning_rate: float = 5e-4
    """Learning rate of Adam, with the penalty."""
    clip_learning_rate: float = 2.5e-4
    """Learning rate of RMSProp, with clipping."""
    weight: float = 10.0
    seed: int = 0


def penalised(settings: DeepSettings) -> ConfigDict:
    """Returns the config of the run with the penalty. `clipped` turns it into those with clipping."""
    c = toy_config("swissroll", width=settings.width, batch_size=settings.batch_size)
    c.seed, c.steps = settings.seed, settings.steps
    c.critic.depth, c.constraint.weight = settings.depth, settings.weight
    for player in (c.critic, c.generator):
        player.optimizer.learning_rate = settings.learning_rate
    return c


def clipped(config: ConfigDict, bound: float, learning_rate: float) -> ConfigDict:
    """Returns a copy of a config with weight clipping, and with RMSProp as in WGAN's code."""
    c = ConfigDict(config.to_dict())
    c.constraint.kind, c.constraint.bound = "clip", bound
    c.constraint.weight = default().constraint.weight  # the default: clipping has no λ
    for player in (c.generator, c.critic):
        player.optimizer.name, player.optimizer.learning_rate = "rmsprop", learning_rate
    return c


def states(
    train_step: TrainStep,
    state: TrainState,
    source: data.Source,
    *,
    config: ConfigDict,
    every: int,
    schedule: CriticSchedule | None = None,
) -> Iterator[tuple[TrainState, Metrics]]:
    """Trains, and yields the state after every `every` iterations and at the end.

    With each state come the metrics of the iteration that led to it.

    Args:
      train_step: function for one generator iteration, of one state or, under `vmap`, of several.
      state: state before the first iteration.
      source: real examples.
      config: settings, of which `steps`, `batch_size`, `seed` and `n_critic` are used.
      every: number of iterations between two states, and the largest number in one compiled call.
      schedule: schedule of the critic's updates; `config.n_critic` updates in each iteration if None.
    """
    schedule = schedule or CriticSchedule(config.n_critic)
    plan = list(segments(0, config.steps, every, schedule, (every,)))
    per_step = batches.dataset(source, schedule, seed=config.seed, batch_size=config.batch_size, steps=config.steps)
    train_steps = jax.jit(repeat(train_step))
    for segment, batch in zip(plan, batches.prefetch(batches.stack(per_step, plan, every)), strict=True):
        count = segment.stop - segment.start
        state, metrics = train_steps(state, batch, count)
        if segment.stop % every == 0 or segment.stop == config.steps:
            yield state, {name: values[count - 1] for name, values in jax.device_get(metrics).items()}


def last(run: Iterator[tuple[TrainState, Metrics]]) -> TrainState:
    """Returns the state at the end of a run."""
    *_, (state, _) = run
    return state


class Perturbed(nn.Module):
    """Generator without parameters: real points plus N(0, 1) noise (arXiv 1704.00028, section 4, Figure 1a).

    The class of a point is its number, `label [B]`, and the latents `[B, D]` are the noise. A critic update generates
    examples of the classes of its real examples. So it sees each real point together with the same point plus noise,
    and the interpolates lie between the two, as in the paper's code (`gan_toy.py`, `FIXED_GENERATOR`).
    """

    points: Any
    """Real points, `[N, D]`."""

    @nn.compact
    def __call__(self, z: jax.Array, label: jax.Array | None = None, *, train: bool = False) -> jax.Array:
        del train
        return jnp.asarray(self.points)[label] + z


def numbered(points: np.ndarray) -> ArraySource:
    """Returns points `[N, D]` as a data set in which the class of each point is its number. See `Perturbed`."""
    return ArraySource(points, np.arange(len(points)), len(points))


def playing(gan: Gan, game: str) -> Gan:
    """Returns the GAN with another game and without a constraint, or the GAN itself for the game "wasserstein"."""
    if game == "wasserstein":
        return gan
    return dataclasses.replace(gan, game=games.GAMES[game], constraint=constraints.Constraint())


def against(gan: Gan, generator: nn.Module, latent_dim: int, num_classes: int = 0) -> Gan:
    """Returns the GAN with another generator, which is never updated. The critic and its updates stay the same."""
    return dataclasses.replace(
        gan,
        generator=generator,
        prior=Normal(latent_dim, num_classes),
        generator_optimizer=optax.set_to_zero(),
        ema_decay=0.0,
    )
