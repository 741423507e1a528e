"""The batches of a run. Each is a pure function of (seed, step), so there is nothing to save and nothing to rewind.

A batch may hold the end of one epoch and the beginning of the next. The papers' codes drop the rest of an epoch that
does not fill a batch, or train on that smaller batch.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grain
import numpy as np

from wgan_jax.data.source import Examples, Source
from wgan_jax.errors import UserError
from wgan_jax.method.schedule import CriticSchedule

READ_AHEAD = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)


@functools.lru_cache(maxsize=4)
def _epoch(length: int, seed: int, epoch: int) -> np.ndarray:
    """Returns the order of one epoch, with every example once."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(length)


def order(length: int, seed: int, start: int, stop: int) -> np.ndarray:
    """Returns the examples at the positions `[start, stop)` of an endless sequence of shuffled epochs."""
    positions = np.arange(start, stop)
    epochs = positions // length
    index = np.empty_like(positions)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        index[here] = _epoch(length, seed, int(epoch))[positions[here] % length]
    return index


def dataset(
    source: Source,
    schedule: CriticSchedule,
    *,
    seed: int,
    batch_size: int,
    steps: int,
    start: int = 0,
    position: int = 0,
    host: int = 0,
    hosts: int = 1,
) -> grain.MapDataset:
    """Returns the batches of a run by generator iteration: `{"image": [n_critic, B, *image_shape], …}`.

    The data are an endless sequence of epochs, each in its own order. Every critic update takes the next `batch_size`
    examples, so a batch may begin in one epoch and end in the next.

    A stage of a run that begins at iteration `start` goes on at `position`, the number of examples that the
    iterations before it take. It has no batches before `start`.

    Each of several hosts reads only its own rows of the global batch: B is `batch_size / hosts`, and the rows of all
    hosts, joined along B in their order, are the batch of a single host.

    Raises:
      UserError: if the hosts cannot share a batch evenly.
    """
    if batch_size % hosts:
        raise UserError(f"config.batch_size = {batch_size}: must be divisible by the number of hosts, {hosts}")
    share = batch_size // hosts

    def batch(step: int) -> Examples:
        updates = schedule.updates(step)
        first = position + batch_size * (schedule.updates_before(step) - schedule.updates_before(start))
        index = order(len(source), seed, first, first + batch_size * updates)
        index = index.reshape(updates, hosts, share)[:, host].ravel()
        return {name: values.reshape(updates, share, *values.shape[1:]) for name, values in source.read(index).items()}

    return grain.MapDataset.range(steps).map(batch)


def stack(batches: grain.MapDataset, segments: Sequence[tuple[int, int]], length: int) -> grain.MapDataset:
    """Stacks the batches of each segment `[start, stop)` of iterations along a new first axis of size `length`.

    After a shorter segment, the rest of the axis is zeros.
    """

    def stacked(segment: tuple[int, int]) -> Examples:
        rows = [batches[step] for step in range(*segment)]
        padding = length - len(rows)
        return {
            name: np.stack([row[name] for row in rows] + padding * [np.zeros_like(rows[0][name])]) for name in rows[0]
        }

    return grain.MapDataset.source(segments).map(stacked)


def prefetch(batches: grain.MapDataset, place: Callable[[Examples], Any] = lambda batch: batch) -> Iterator[Any]:
    """Yields the batches in their order. Threads read them ahead and `place` them, for instance on a device."""
    return iter(batches.map(place).to_iter_dataset(READ_AHEAD))
