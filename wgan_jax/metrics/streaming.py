"""Sends sets of images through a feature network in batches, on all devices of all hosts."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import numpy as np

from wgan_jax.devices import hosts
from wgan_jax.devices.mesh import Parallel, own_rows
from wgan_jax.metrics.kept import Kept
from wgan_jax.metrics.sets import Images

BATCH = 16
"""Images on one device in one call. It is the same for any number of devices, and so are the bits of an image's row."""

Outputs = Mapping[str, jax.Array]
Bar = Callable[[Sequence[int], str], Iterator[int]]
"""`(steps, title) -> steps`, shown as a progress bar."""


def no_bar(steps: Sequence[int], title: str) -> Iterator[int]:
    """Returns the steps, and shows nothing."""
    del title
    return iter(steps)


def stream(
    images: Images,
    network: Callable[[jax.Array], Outputs],
    kept: Sequence[tuple[str, Kept]],
    devices: Parallel,
    bar: Bar = no_bar,
    title: str = "",
) -> None:
    """Sends a set of images through a network.

    Args:
      images: the set.
      network: `images [B, H, W, C] -> {name: [B, ...]}`, all spread over the devices.
      kept: pairs of an output's name and what takes its rows.
      devices: what shares the work.
      bar: shows the progress.
      title: title of the progress.
    """
    size = BATCH * len(devices.devices)
    last = max(one.num for _, one in kept)
    for start in bar(range(0, last, size), title):
        index = np.arange(start, start + size)
        batch = images.read(np.minimum(index, images.num - 1))  # the last batch is filled up with a repeated image
        own = np.split(index, hosts.count())[jax.process_index()]
        outputs = network(batch)
        rows: dict[str, np.ndarray] = {}
        for name, one in kept:
            if start < one.num:
                if name not in rows:
                    rows[name] = own_rows(outputs[name])
                one.add(own, rows[name])
