"""Checks what metrics compare."""

import numpy as np


def check_features(x: np.ndarray, y: np.ndarray) -> None:
    """Checks two sets of features. Numbers that are not finite would count as far from all others.

    Raises:
      ValueError: if they are not `[N, D]` and `[M, D]`, a set is empty, or a number is NaN or infinite.
    """
    shapes = np.shape(x), np.shape(y)
    if not all(len(shape) == 2 and shape[0] for shape in shapes) or shapes[0][1] != shapes[1][1]:
        raise ValueError(f"features of shapes {shapes[0]} and {shapes[1]}: give [N, D] and [M, D]")
    if not all(np.isfinite(features).all() for features in (x, y)):
        raise ValueError("a feature is NaN or infinite")
