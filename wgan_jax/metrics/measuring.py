"""Measures sets of images by rows of the table of metrics. All rows and networks share one pass over each set."""

from collections.abc import Callable, Collection, Mapping, MutableMapping
from typing import Any, NamedTuple

import jax
import numpy as np

from wgan_jax.data.digest import sha256
from wgan_jax.devices import hosts
from wgan_jax.devices.mesh import Parallel
from wgan_jax.metrics.features import FeatureNetwork
from wgan_jax.metrics.kept import Arrays, Kept
from wgan_jax.metrics.scores import PIXELS, Metric
from wgan_jax.metrics.sets import Images
from wgan_jax.metrics.streaming import Bar, Outputs, no_bar, stream

Loaded = tuple[FeatureNetwork, Any]
"""A feature network and its variables."""
Statistics = MutableMapping[str, Arrays]
"""Arrays that were kept of sets of images, by a digest: a dictionary, or files. Such sets are measured again."""


class What(NamedTuple):
    """Something that is kept of a set. Several rows may share it."""

    network: str
    output: str
    kept: type[Kept]
    num: int
    """Number of images of which it is kept: the first ones of the set."""


class Measurer:
    """Measures sets of images on all devices of all hosts, which must do the same calls.

    Args:
      metrics: rows of the table by their names.
      networks: the feature networks that the rows name.
      devices: what shares the work.
      statistics: where the statistics of sets with an identity are kept; None for a dictionary of its own.
      bar: shows the progress.
    """

    def __init__(
        self,
        metrics: Mapping[str, Metric],
        networks: Mapping[str, Loaded],
        devices: Parallel,
        *,
        statistics: Statistics | None = None,
        bar: Bar = no_bar,
    ):
        self.metrics, self._devices = metrics, devices
        self.networks = {name: network for name, (network, _) in networks.items()}
        self._statistics: Statistics = {} if statistics is None else statistics
        self._bar = bar
        self._apply = {name: self._compiled(*loaded) for name, loaded in networks.items()}

    def _compiled(self, network: FeatureNetwork, variables: Any) -> Callable[[jax.Array], Outputs]:
        apply, there = self._devices.compile_rows(network.apply, (None, 0)), self._devices.replicate(variables)
        return lambda images: apply(there, images)

    def keep(self, images: Images, nums: Collection[int], title: str = "") -> dict[int, dict[str, Any]]:
        """Returns what each row compares of the first images of a set: `{number of images: {row: what}}`."""
        wanted = {
            (num, name): What(row.network, row.output, row.kept, row.taken(num))
            for num in nums
            for name, row in self.metrics.items()
        }
        arrays = self._known(images, set(wanted.values()))
        if missing := [what for what in dict.fromkeys(wanted.values()) if what not in arrays]:
            arrays |= self._pass(images, missing, title)
        return {
            num: {name: row.kept.value(arrays[wanted[num, name]]) for name, row in self.metrics.items()} for num in nums
        }

    def _key(self, images: Images, what: What) -> str:
        """Returns the digest of what is kept of a set; "" if it is not worth keeping longer."""
        if not images.identity or what.network == PIXELS:
            return ""
        network = self.networks[what.network].name
        return sha256([images.identity, network, what.output, what.kept.__name__, str(what.num)])

    def _known(self, images: Images, wanted: Collection[What]) -> dict[What, Arrays]:
        """Returns what every host has kept from before."""
        found = {}
        for what in sorted(wanted, key=str):  # the same order on all hosts
            if key := self._key(images, what):
                arrays = self._statistics.get(key)
                if hosts.gather(np.array(arrays is not None)).all() and arrays is not None:
                    found[what] = arrays
        return found

    def _pass(self, images: Images, missing: Collection[What], title: str) -> dict[What, Arrays]:
        kept = {what: what.kept(what.num) for what in missing}
        used = dict.fromkeys(what.network for what in missing)

        def apply(batch: jax.Array) -> Outputs:
            outputs = {f"{PIXELS}/images": batch}
            for name in used:
                if name != PIXELS:
                    outputs |= {f"{name}/{output}": rows for output, rows in self._apply[name](batch).items()}
            return outputs

        rows = [(f"{what.network}/{what.output}", one) for what, one in kept.items()]
        stream(images, apply, rows, self._devices, self._bar, title)
        found = {what: one.join() for what, one in kept.items()}
        for what, arrays in found.items():
            if key := self._key(images, what):
                self._statistics[key] = arrays
        return found

    def numbers(self, name: str, reference: Any, images: Any) -> dict[str, float]:
        """Returns the numbers of a row by their names, from what `keep` has kept of two sets."""
        row = self.metrics[name]
        if row.equal:
            num = min(len(reference), len(images))
            reference, images = reference[:num], images[:num]
        return dict(zip(row.numbers, map(float, row.compare(reference, images)), strict=True))


def score(measurer: Measurer, reference: Images, images: Images, unseen: Images | None) -> dict[str, dict[str, Any]]:
    """Returns every number by its name: its value, its floor, and how it came about.

    The floor is the same number of real images that the reference does not have, in the place of the images. If there
    are fewer of them, the number of as few of the images is given beside it: numbers of different counts do not
    compare.

    Args:
      measurer: what measures.
      reference: real images.
      images: the images that are measured.
      unseen: other real images; None if there are none.
    """
    both = min(images.num, unseen.num) if unseen else images.num
    real = measurer.keep(reference, [reference.num], "reference")[reference.num]
    found = measurer.keep(images, sorted({images.num, both}), "images")
    floors = measurer.keep(unseen, [both], "floor")[both] if unseen else {}
    result: dict[str, dict[str, Any]] = {}
    for name, row in measurer.metrics.items():
        num, reference_num = row.taken(images.num), row.taken(reference.num)
        if row.equal:
            num = reference_num = min(num, reference_num)
        values = measurer.numbers(name, real[name], found[images.num][name])
        floor = measurer.numbers(name, real[name], floors[name]) if unseen else {}
        less = measurer.numbers(name, real[name], found[both][name]) if both < num else {}
        network = measurer.networks.get(row.network)
        smallest = min(reference.num, both)
        for number, value in values.items():
            entry: dict[str, Any] = {"value": value, "floor": floor.get(number), "num": num}
            if less:
                entry |= {"floor_num": both, "value_at_floor_num": less[number]}
            entry |= {"reference_num": reference_num, "features": network.name if network else PIXELS}
            entry["better"] = row.better
            if network and (note := row.note(smallest, network.dim)):
                entry["note"] = note
            result[number] = entry
    return result
