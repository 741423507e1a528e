"""Measures a state's samples against held-out data."""

from collections.abc import Iterable
from typing import Any

import jax
from ml_collections import ConfigDict

from wgan_jax import data
from wgan_jax.devices.mesh import Parallel
from wgan_jax.method.gan import Gan
from wgan_jax.method.state import TrainState
from wgan_jax.metrics import evaluators
from wgan_jax.metrics.evaluators import EVALUATORS, Context, Evaluator


def evaluate(
    config: ConfigDict,
    gan: Gan,
    state: TrainState,
    *,
    ema: bool = True,
    seed: int = 0,
    rows: Iterable[Evaluator] = EVALUATORS,
) -> dict[str, Any]:
    """Returns the measures of a state by name.

    `real_nearest_neighbour_accuracy` compares training with held-out examples.

    Args:
      config: the run's settings, which name its data.
      gan: what was trained.
      state: of any step.
      ema: whether the generator's average is measured, or the generator itself.
      seed: seed of the samples' latents.
      rows: what is measured.

    Raises:
      UserError: if the data cannot be read.
    """
    train, held_out = (data.load(config, split, most=evaluators.EXAMPLES) for split in ("train", "held_out"))
    devices = Parallel(tuple(jax.devices()))
    context = Context(config=config, gan=gan, train=train, held_out=held_out, devices=devices, ema=ema, seed=seed)
    result = {"step": int(state.step)}
    for row in rows:
        if measure := row.measure(context):
            result |= evaluators.numbers(row.name, measure(devices.replicate(state) if row.collective else state))
    return result
