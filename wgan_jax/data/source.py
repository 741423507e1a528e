"""A data set as random access: how many examples there are, and any of them by number."""

from typing import Any, Protocol

import numpy as np

Examples = dict[str, np.ndarray]

FIXED = 2**63 - 1
"""The Philox key of the order behind fixed subsets; those of training's epochs have the epoch's number there."""


class Source(Protocol):
    """Examples of one split, in a fixed order."""

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The shape of one example."""

    @property
    def num_classes(self) -> int:
        """Classes of the labels; 0 if there are no labels."""

    @property
    def rank(self) -> np.ndarray:
        """The place `[N]` of each example in a fixed pseudo-random order: see `fixed_subset`."""

    @property
    def digest(self) -> str:
        """Tells these examples from others: see `fingerprint`."""

    def __len__(self) -> int:
        """How many examples there are."""

    def read(self, index: np.ndarray) -> Examples:
        """The examples at `index [B]`: `image [B, *image_shape]`, and `label [B]` int32 if there are labels.

        Images are uint8, or float32 in [−1, 1]; points are float32.
        """


def fingerprint(train: Source, held_out: Source) -> dict[str, Any]:
    """Returns the identity of a run's data, which JSON can hold: `{split: {"examples": int, "digest": str}}`.

    The splits are `train` and `held_out`. The identity is the same wherever the data lie and whether or not they are
    kept in memory. It changes when an example is added, removed, renamed, or changed in size.
    """
    return {
        split: {"examples": len(source), "digest": source.digest}
        for split, source in (("train", train), ("held_out", held_out))
    }


def fixed_subset(source: Source, num: int) -> np.ndarray:
    """Returns the numbers `[min(num, N)]` of examples that stand for a whole source: a pseudo-random part of it.

    Data are often stored class by class, so the first examples stand for nothing. The subset depends on the data
    alone: it is the same in every run, whatever its seed. A larger one begins with a smaller one, and one that has
    lost an unreadable image has the next in its place.
    """
    return np.argsort(source.rank)[:num]


def ranks(length: int) -> np.ndarray:
    """Returns a fixed pseudo-random permutation `[length]`, the ranks of a source of so many examples."""
    return np.random.Generator(np.random.Philox(key=[0, FIXED])).permutation(length)
