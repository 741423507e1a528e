"""The Monge distance between two sets of features (Berthet et al. 2026, arXiv 2605.06797)."""

import numpy as np

from wgan_jax.metrics.checks import check_features

BLOCK = 64
"""Number of directions whose projections are in memory at a time."""


def mind(x: np.ndarray, y: np.ndarray, *, directions: int = 1_000, seed: int = 0) -> float:
    """Returns 3·D times the sliced Wasserstein-2 distance, squared, between two sets of features.

    It is the mean over random unit directions u of the mean over j of (sort(x·u)_j − sort(y·u)_j)². With the features
    of the Inception network it is the MIND. For a shift by δ alone it is about 3‖δ‖².

    Args:
      x: `[N, D]`. All is computed in float64.
      y: `[N, D]`.
      directions: number of directions.
      seed: seed of the directions.

    Raises:
      ValueError: if the shapes differ, or a number is NaN or infinite.
    """
    if x.shape != y.shape:
        raise ValueError(f"features of shapes {x.shape} and {y.shape}: take as many examples of each")
    check_features(x, y)
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    units = np.random.default_rng(seed).normal(size=(directions, x.shape[1]))
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    total = 0.0
    for start in range(0, directions, BLOCK):
        u = units[start : start + BLOCK]
        total += np.sum((np.sort(u @ x.T) - np.sort(u @ y.T)) ** 2)
    return float(3 * x.shape[1] * total / (directions * len(x)))
