"""A data set whose examples are in memory."""

import functools

import numpy as np

from wgan_jax.data.digest import sha256
from wgan_jax.data.source import Examples, ranks


class ArraySource:
    """A source whose examples are arrays in memory.

    Args:
      image: the examples `[N, ...]`.
      label: integer labels `[N]` in `[0, num_classes)`; None if there are no labels.
      num_classes: number of classes; 0 if there are no labels.
      rank: rank of each example `[N]`, as in `Source`. Pass it if the examples are part of a larger set; the default
        is a fixed permutation of the N examples.
      digest: identity of the examples, as in `Source`; "" computes it from the arrays.
    """

    def __init__(
        self,
        image: np.ndarray,
        label: np.ndarray | None = None,
        num_classes: int = 0,
        *,
        rank: np.ndarray | None = None,
        digest: str = "",
    ):
        self.examples: Examples = {"image": image}
        self.num_classes = num_classes
        self._rank, self._digest = rank, digest
        if label is not None:
            self.examples["label"] = label.astype(np.int32)

    @property
    def image_shape(self) -> tuple[int, ...]:
        return self.examples["image"].shape[1:]

    @property
    def rank(self) -> np.ndarray:
        return ranks(len(self)) if self._rank is None else self._rank

    @functools.cached_property
    def digest(self) -> str:
        return self._digest or sha256(self.examples.values())

    def __len__(self) -> int:
        return len(self.examples["image"])

    def read(self, index: np.ndarray) -> Examples:
        return {name: values[index] for name, values in self.examples.items()}
