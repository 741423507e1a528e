"""Statistics that are kept of a set of images while it streams through a network; the hosts join their parts.

Nothing grows with the number of images except `Rows`.
"""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from wgan_jax.devices import hosts
from wgan_jax.metrics.frechet import Moments, Sums
from wgan_jax.metrics.splits import Splits, split_of

Arrays = dict[str, np.ndarray]


class Kept(ABC):
    """One thing that is kept of the first `num` images of a set."""

    def __init__(self, num: int):
        self.num = num

    @abstractmethod
    def add(self, index: np.ndarray, rows: np.ndarray) -> None:
        """Takes this host's rows `[B, ...]` of a batch, and the numbers `[B]` of their images in the set.

        Numbers from `num` on fill up the last batch, and do not count.
        """

    @abstractmethod
    def join(self) -> Arrays:
        """Returns what all hosts have taken. All of them call it together."""

    @staticmethod
    @abstractmethod
    def value(arrays: Arrays) -> Any:
        """Returns what a metric compares, made of `join`'s arrays."""


class KeptMoments(Kept):
    """The mean and the covariance of features `[B, D]`."""

    sums: Sums | None = None

    def add(self, index: np.ndarray, rows: np.ndarray) -> None:
        sums = Sums.empty(rows.shape[1]) if self.sums is None else self.sums
        self.sums = sums.add(rows[index < self.num])

    def join(self) -> Arrays:
        return _total(self.sums)

    @staticmethod
    def value(arrays: Arrays) -> Moments:
        return Sums(int(arrays["num"]), arrays["sum"], arrays["outer"]).moments()


class KeptSplits(Kept):
    """The sums over probabilities `[B, C]` of classes that the Inception Score needs."""

    SPLITS = 10
    sums: Splits | None = None

    def add(self, index: np.ndarray, rows: np.ndarray) -> None:
        sums = Splits.empty(self.SPLITS, rows.shape[1]) if self.sums is None else self.sums
        counted = index < self.num
        self.sums = sums.add(rows[counted], split_of(index[counted], self.num, self.SPLITS))

    def join(self) -> Arrays:
        return _total(self.sums)

    @staticmethod
    def value(arrays: Arrays) -> Splits:
        return Splits(**arrays)


class Rows(Kept):
    """All rows, of features or of images, in the order of the set."""

    def __init__(self, num: int):
        super().__init__(num)
        self._rows: list[np.ndarray] = []

    def add(self, index: np.ndarray, rows: np.ndarray) -> None:
        del index  # batches come in order, and each host has as many rows of them as every other
        self._rows.append(rows)

    def join(self) -> Arrays:
        every = hosts.gather(np.stack(self._rows)).swapaxes(0, 1)  # [batches, hosts, B, ...]
        return {"rows": every.reshape(-1, *every.shape[3:])[: self.num]}

    @staticmethod
    def value(arrays: Arrays) -> np.ndarray:
        return arrays["rows"]


def _total(sums: Sums | Splits | None) -> Arrays:
    assert sums is not None, "nothing was added"
    return {name: hosts.total(np.asarray(x)) for name, x in sums._asdict().items()}
