"""What the experiments share: GANs of the papers' settings, and their states along a training run."""

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
from wgan_jax.method.constraints import Metrics
from wgan_jax.method.gan import Gan
from wgan_jax.method.priors import Normal
from wgan_jax.method.schedule import CriticSchedule, segments
from wgan_jax.method.state import TrainState
from wgan_jax.method.step import TrainStep, repeat


def toy_config(name: str, *, width: int, depth: int = 3, batch_size: int = 256) -> ConfigDict:
    """A WGAN-GP on points of the plane with the settings of the paper's toy script, but for λ, here 10."""
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
    """Of runs on the Swiss roll whose critic has many layers, with a penalty and with clipping."""

    width: int = 64
    depth: int = 12
    steps: int = 1_000
    batch_size: int = 256
    learning_rate: float = 5e-4
    """Adam, with the penalty."""
    clip_learning_rate: float = 2.5e-4
    """RMSProp, with clipping."""
    weight: float = 10.0
    seed: int = 0


def penalised(settings: DeepSettings) -> ConfigDict:
    """The run with the penalty; `clipped` makes the others of it."""
    c = toy_config("swissroll", width=settings.width, batch_size=settings.batch_size)
    c.seed, c.steps = settings.seed, settings.steps
    c.critic.depth, c.constraint.weight = settings.depth, settings.weight
    for player in (c.critic, c.generator):
        player.optimizer.learning_rate = settings.learning_rate
    return c


def clipped(config: ConfigDict, bound: float, learning_rate: float) -> ConfigDict:
    """The same with weight clipping, and the RMSProp of WGAN's code."""
    c = ConfigDict(config.to_dict())
    c.constraint.kind, c.constraint.bound = "clip", bound
    c.constraint.weight = default().constraint.weight  # the penalty's
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
    """The state after each `every` iterations and at the end, with the metrics of the last of them.

    Args:
      train_step: one generator iteration, of one state or, under `vmap`, of several.
      state: before the first one.
      source: real examples.
      config: its `steps`, `batch_size` and `seed`.
      every: how many iterations go into one compiled call.
      schedule: of the critic's updates; `config.n_critic` in each iteration if None.
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
    """The state at the end of a run."""
    *_, (state, _) = run
    return state


class Perturbed(nn.Module):
    """Real points with N(0, 1) added, as a generator without parameters (arXiv 1704.00028, section 4, Figure 1a).

    The class of a point is its number, `label [B]`, and the latents `[B, D]` are the noise. Since a critic update
    generates the classes of its real examples, it sees each real point beside the same point with noise, and the
    interpolates lie between the two: as in the paper's code (`gan_toy.py`, `FIXED_GENERATOR`).
    """

    points: Any
    """The real points, `[N, D]`."""

    @nn.compact
    def __call__(self, z: jax.Array, label: jax.Array | None = None, *, train: bool = False) -> jax.Array:
        del train
        return jnp.asarray(self.points)[label] + z


def numbered(points: np.ndarray) -> ArraySource:
    """Points `[N, D]` as a data set in which every one is a class of its own, as `Perturbed` needs it."""
    return ArraySource(points, np.arange(len(points)), len(points))


def playing(gan: Gan, game: str) -> Gan:
    """The same networks in a game: as they are in Wasserstein's, in another one without its constraint."""
    if game == "wasserstein":
        return gan
    return dataclasses.replace(gan, game=games.GAMES[game], constraint=constraints.Constraint())


def against(gan: Gan, generator: nn.Module, latent_dim: int, num_classes: int = 0) -> Gan:
    """The same critic, with the same updates, against a generator that stays as it is."""
    return dataclasses.replace(
        gan,
        generator=generator,
        prior=Normal(latent_dim, num_classes),
        generator_optimizer=optax.set_to_zero(),
        ema_decay=0.0,
    )
