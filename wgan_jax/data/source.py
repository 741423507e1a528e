"""A data set as random access: how many examples there are, and any of them by number."""

from typing import Protocol

import numpy as np

Examples = dict[str, np.ndarray]


class Source(Protocol):
    """Examples of one split, in a fixed order."""

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The shape of one example."""

    @property
    def num_classes(self) -> int:
        """Classes of the labels; 0 if there are no labels."""

    def __len__(self) -> int:
        """How many examples there are."""

    def read(self, index: np.ndarray) -> Examples:
        """The examples at `index [B]`: `image [B, *image_shape]`, and `label [B]` int32 if there are labels.

        Images are uint8, or float32 in [−1, 1]; points are float32.
        """


class ArraySource:
    """Examples that are in memory."""

    def __init__(self, image: np.ndarray, label: np.ndarray | None = None, num_classes: int = 0):
        self.examples: Examples = {"image": image}
        self.num_classes = num_classes
        if label is not None:
            self.examples["label"] = label.astype(np.int32)

    @property
    def image_shape(self) -> tuple[int, ...]:
        return self.examples["image"].shape[1:]

    def __len__(self) -> int:
        return len(self.examples["image"])

    def read(self, index: np.ndarray) -> Examples:
        return {name: values[index] for name, values in self.examples.items()}
