"""Measures by nearest neighbours: does a set of samples stay within the real ones, and does it reach all of them?"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from wgan_jax.metrics.checks import check_features

BLOCK = 2_048
"""Number of examples of each set whose distances are in memory at a time."""
ROUNDING = 1e-12
"""Squared distances that differ by less, relative to the squared lengths, count as equal."""


class PrecisionRecall(NamedTuple):
    """How many samples look real, and how much of the real set they reach; both in [0, 1]."""

    precision: float
    """Share of the samples that lie in the ball of a real example."""
    recall: float
    """Share of the real examples that lie in the ball of a sample."""


class DensityCoverage(NamedTuple):
    """The same two questions, answered in a way that outliers change less."""

    density: float
    """Mean number of real examples' balls that a sample lies in, divided by k; it may be above 1."""
    coverage: float
    """Share of the real examples with a sample in their ball."""


def precision_recall(real: np.ndarray, fake: np.ndarray, k: int = 3) -> PrecisionRecall:
    """Returns improved precision and recall (Kynkäänniemi et al. 2019, arXiv 1904.06991, eq. 1).

    The ball of an example reaches to its k-th nearest other example of its set, and includes its surface.

    Args:
      real: features `[N, D]`. All is computed in float64.
      fake: features `[M, D]`.
      k: which neighbour a ball reaches to.

    Raises:
      ValueError: if a set has no k-th neighbour, or the sets do not suit each other: see `check_features`.
    """
    real, fake = _centred(real, fake)
    real_radius, fake_radius = _radius(real, k), _radius(fake, k)
    precise, recalled = np.zeros(len(fake), bool), np.zeros(len(real), bool)
    for i, j, distance in _blocks(real, fake, 1 - ROUNDING):
        precise[j] |= (distance <= real_radius[i, None]).any(axis=0)
        recalled[i] |= (distance <= fake_radius[j]).any(axis=1)
    return PrecisionRecall(float(precise.mean()), float(recalled.mean()))


def density_coverage(real: np.ndarray, fake: np.ndarray, k: int = 5) -> DensityCoverage:
    """Returns density and coverage (Naeem et al. 2020, arXiv 2002.09797, eqs. 4 and 5).

    The balls are those of `precision_recall`, but without their surface, as in the authors' package `prdc`.

    Args:
      real: features `[N, D]`. All is computed in float64.
      fake: features `[M, D]`.
      k: which neighbour a ball reaches to.

    Raises:
      ValueError: if the real set has no k-th neighbour, or the sets do not suit each other: see `check_features`.
    """
    real, fake = _centred(real, fake)
    radius = _radius(real, k)
    count, covered = 0, np.zeros(len(real), bool)
    for i, _, distance in _blocks(real, fake, 1 + ROUNDING):
        inside = distance < radius[i, None]
        count += int(inside.sum())
        covered[i] |= inside.any(axis=1)
    return DensityCoverage(count / (k * len(fake)), float(covered.mean()))


def nearest_neighbour_accuracy(samples: np.ndarray, real: np.ndarray) -> float:
    """Returns the leave-one-out accuracy of a 1-nearest-neighbour classifier that tells samples from real examples.

    It is 0.5 if the two are indistinguishable, near 1 if samples stand apart, and near 0 if they copy the real ones
    (Lopez-Paz and Oquab 2017, arXiv 1610.06545).

    Args:
      samples: `[N, ...]`.
      real: `[N, ...]`, the same number.

    Raises:
      ValueError: if the numbers differ, or a value is NaN or infinite.
    """
    if len(samples) != len(real):
        raise ValueError(f"{len(samples)} samples and {len(real)} real examples: take as many of each")
    points = np.concatenate([samples, real]).reshape(2 * len(real), -1)
    check_features(points, points)
    nearest, least = np.zeros(len(points), int), np.full(len(points), np.inf)
    for i, j, distance in _blocks(points, points):
        if i == j:
            np.fill_diagonal(distance, np.inf)
        found = distance.argmin(axis=1)
        closest = distance.min(axis=1)
        nearest[i] = np.where(closest < least[i], j.start + found, nearest[i])
        least[i] = np.minimum(closest, least[i])
    is_real = np.arange(len(points)) >= len(samples)
    return float(np.mean(is_real[nearest] == is_real))


def _centred(real: np.ndarray, fake: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns both sets in float64 around their common mean, where squared distances lose the fewest digits."""
    check_features(real, fake)
    real, fake = np.asarray(real, np.float64), np.asarray(fake, np.float64)
    mean = (real.sum(axis=0) + fake.sum(axis=0)) / (len(real) + len(fake))
    return real - mean, fake - mean


def _radius(points: np.ndarray, k: int) -> np.ndarray:
    """Returns the squared distance `[N]` from each point to its k-th nearest other point."""
    if not 1 <= k < len(points):
        raise ValueError(f"k = {k}: {len(points)} examples have neighbours 1 to {len(points) - 1}")
    nearest = np.full((len(points), k), np.inf)
    for i, j, distance in _blocks(points, points):
        if i == j:
            np.fill_diagonal(distance, np.inf)
        nearest[i] = np.partition(np.concatenate([nearest[i], distance], axis=1), k - 1, axis=1)[:, :k]
    return nearest.max(axis=1)


def _blocks(x: np.ndarray, y: np.ndarray, scale: float = 1) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Yields `(i, j, scale·(|x|² + |y|²) − 2x·y)` for the blocks of all pairs: squared distances if scale is 1.

    A scale of 1 ∓ `ROUNDING` lets a comparison with a radius take equal distances for equal, however they are rounded.
    """
    x_norm, y_norm = (scale * np.einsum("nd,nd->n", points, points, dtype=np.float64) for points in (x, y))
    for start in range(0, len(x), BLOCK):
        i = slice(start, start + BLOCK)
        for first in range(0, len(y), BLOCK):
            j = slice(first, first + BLOCK)
            distance = np.asarray(x[i], np.float64) @ np.asarray(y[j], np.float64).T
            distance *= -2
            distance += x_norm[i, None]
            distance += y_norm[j]
            yield i, j, distance
