"""The interface of a data set: its length, and random access to its examples by index."""

from typing import Any, Protocol

import numpy as np

Examples = dict[str, np.ndarray]

FIXED = 2**63 - 1
"""The second word of the Philox key of the fixed order. In training this word is the number of the epoch."""


class Source(Protocol):
    """The examples of one split, in a fixed order."""

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The shape of one example."""

    @property
    def num_classes(self) -> int:
        """The number of classes; 0 if there are no labels."""

    @property
    def rank(self) -> np.ndarray:
        """The position `[N]` of each example in a fixed pseudo-random order: see `fixed_subset`."""

    @property
    def digest(self) -> str:
        """The identity of the examples, as hexadecimal digits: see `fingerprint`."""

    def __len__(self) -> int:
        """Returns the number of examples, N."""

    def read(self, index: np.ndarray) -> Examples:
        """Returns the examples at `index [B]`: `image [B, *image_shape]`, and `label [B]` int32 if there are labels.

        Images are uint8, or float32 in [−1, 1]; points are float32.
        """


def fingerprint(train: Source, held_out: Source) -> dict[str, Any]:
    """Returns the identity of a run's data, ready for JSON: `{split: {"examples": int, "digest": str}}`.

    The splits are `train` and `held_out`. The identity does not depend on where the data are stored or on whether they
    are kept in memory. It changes when an example is added or removed, or when the name or size of its file changes.
    """
    return {
        split: {"examples": len(source), "digest": source.digest}
        for split, source in (("train", train), ("held_out", held_out))
    }


def fixed_subset(source: Source, num: int) -> np.ndarray:
    """Returns the indices `[min(num, N)]` of a pseudo-random subset that represents the whole source.

    Data are often stored class by class, so the first examples would not represent it. The subset depends on the data
    alone: it is the same in every run, whatever its seed. A larger subset begins with every smaller one. If an
    unreadable image is left out, the next image of the order takes its place.
    """
    return np.argsort(source.rank)[:num]


def ranks(length: int) -> np.ndarray:
    """Returns a fixed pseudo-random permutation `[length]`: the ranks of a source with `length` examples."""
    return np.random.Generator(np.random.Philox(key=[0, FIXED])).permutation(length)
