"""The kernel distance between two sets of features (Bińkowski et al. 2018, arXiv 1801.01401).

It is the squared maximum mean discrepancy with the kernel k(x, y) = (x·y / D + 1)³. With the features of the Inception
network it is the KID. Unlike the Fréchet distance it is unbiased for any number of examples, and so may be negative.
"""

from typing import NamedTuple

import numpy as np

from wgan_jax.metrics.checks import check_features

BLOCK = 2_048
"""Number of examples of each set whose kernel is in memory at a time."""


class KernelDistance(NamedTuple):
    """The kernel distance by subsets and as a whole."""

    value: float
    """Mean over the subsets: what is published."""
    std: float
    """Standard deviation of the subsets, not of their mean."""
    full: float
    """Estimate from all pairs of examples. Its expectation is the same, and it varies less."""


def kernel_distance(
    x: np.ndarray, y: np.ndarray, *, subsets: int = 100, subset_size: int = 1_000, seed: int = 2020
) -> KernelDistance:
    """Returns the kernel distance between two sets of features.

    The subsets are those of torch-fidelity, which draws them from the same generator in the same order.

    Args:
      x: `[N, D]`. All is computed in float64.
      y: `[M, D]`.
      subsets: number of pairs of subsets.
      subset_size: number of examples in each, drawn without replacement.
      seed: seed of the subsets.

    Raises:
      ValueError: if a set is smaller than a subset, a subset has fewer than two examples, or the sets do not suit each
        other: see `check_features`.
    """
    x, y = np.asarray(x), np.asarray(y)
    check_features(x, y)
    if not 2 <= subset_size <= min(len(x), len(y)):
        raise ValueError(f"subset_size = {subset_size}: must be from 2 to {min(len(x), len(y))}, the size of a set")
    generator = np.random.RandomState(seed)

    def draw(features: np.ndarray) -> np.ndarray:
        return features[generator.choice(len(features), subset_size, replace=False)]

    values = [_unbiased(draw(x), draw(y)) for _ in range(subsets)]
    return KernelDistance(float(np.mean(values)), float(np.std(values)), float(_unbiased(x, y)))


def _unbiased(x: np.ndarray, y: np.ndarray) -> float:
    """Returns the mean of k over pairs of different x, and of different y, less twice its mean over pairs of both."""
    n, m = len(x), len(y)
    return _within(x) / (n * (n - 1)) + _within(y) / (m * (m - 1)) - 2 * _across(x, y) / (n * m)


def _within(x: np.ndarray) -> float:
    """Returns the sum of k over all ordered pairs of different examples."""
    total = 0.0
    for start in range(0, len(x), BLOCK):
        block = x[start : start + BLOCK]
        kernel = _kernel(block, block)
        total += kernel.sum() - kernel.trace() + 2 * _across(block, x[start + BLOCK :])
    return total


def _across(x: np.ndarray, y: np.ndarray) -> float:
    """Returns the sum of k over all pairs of an x and a y."""
    total = 0.0
    for i in range(0, len(x), BLOCK):
        for j in range(0, len(y), BLOCK):
            total += _kernel(x[i : i + BLOCK], y[j : j + BLOCK]).sum()
    return total


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    a = x.astype(np.float64)
    b = a if y is x else y.astype(np.float64)  # BLAS needs half of the time for a matrix by its own transpose
    product = a @ b.T
    product /= x.shape[1]
    product += 1
    return product * product * product
