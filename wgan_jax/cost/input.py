"""The speed of the input: images per second that a run's batches can deliver."""

import itertools
import math
import statistics
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from wgan_jax import data
from wgan_jax.config import stages
from wgan_jax.data import batches
from wgan_jax.method.schedule import longest, segments
from wgan_jax.method.stages import examples_before

REPEATS = 7


class Speed(NamedTuple):
    """Speeds of the input in images per second, each the median of `REPEATS` measurements."""

    one_thread: float
    """Speed of one thread that reads one batch after another on the host."""
    on_device: float
    """Speed as in a run: batches of several iterations are stacked, read ahead in threads and put on the device."""


def measure(config: ConfigDict, seconds: float = 1.0) -> Speed:
    """Measures how fast the training batches of a config's last stage can be read.

    Args:
      config: settings of a run.
      seconds: duration of each measurement.

    Raises:
      UserError: if a setting is invalid, or the data cannot be read.
    """
    whole = stages(config)
    gan, batch_size, start, stop = whole[-1]
    source = data.load(config, "train", cache=config.data.cache)
    run = batches.dataset(
        source,
        gan.schedule,
        seed=config.seed,
        batch_size=batch_size,
        steps=stop,
        start=start,
        position=examples_before(whole, start),
    )
    length = longest(stop, config.steps_per_dispatch, gan.schedule, (), start)
    plan = list(segments(start, stop, length, gan.schedule, ()))
    stacked = batches.stack(run, plan, length)
    again_and_again = itertools.chain.from_iterable
    return Speed(
        one_thread=_images_per_second(again_and_again(itertools.repeat(run[start:])), gan.image_shape, seconds),
        on_device=_images_per_second(
            again_and_again(batches.prefetch(stacked, jax.device_put) for _ in itertools.count()),
            gan.image_shape,
            seconds,
        ),
    )


def _images_per_second(stream: Iterator[Any], image_shape: tuple[int, ...], seconds: float) -> float:
    next(stream)
    rates = []
    for _ in range(REPEATS):
        images, began = 0, time.perf_counter()
        while (passed := time.perf_counter() - began) < seconds:
            batch = jax.block_until_ready(next(stream)["image"])
            images += math.prod(batch.shape) // math.prod(image_shape)
        rates.append(images / passed)
    return statistics.median(rates)
