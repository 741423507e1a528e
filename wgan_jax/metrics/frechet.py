"""The Fréchet distance between two sets of features (Heusel et al. 2017, arXiv 1706.08500).

It is the Wasserstein-2 distance, squared, between the Gaussians with the means and the covariances of the sets. With
the features of the Inception network it is the FID.
"""

from typing import NamedTuple, Self

import numpy as np
import scipy.linalg

BLOCK = 4_096
"""Number of examples that are in float64 at a time."""


class Moments(NamedTuple):
    """The mean and the covariance of a set of features, in float64."""

    num: int
    """Number of examples."""
    mean: np.ndarray
    """Mean `[D]`."""
    cov: np.ndarray
    """Unbiased covariance `[D, D]`: sums over the examples, divided by their number less 1."""


class Sums(NamedTuple):
    """The sums from which moments are computed, in float64.

    Batches, and the parts of several hosts, may be added in any order: the moments differ by rounding alone.
    """

    num: int
    """Number of examples."""
    sum: np.ndarray
    """Σx, `[D]`."""
    outer: np.ndarray
    """Σxxᵀ, `[D, D]`."""

    @classmethod
    def empty(cls, dim: int) -> Self:
        """Returns the sums over no examples of `dim` features."""
        return cls(0, np.zeros(dim), np.zeros((dim, dim)))

    def add(self, features: np.ndarray) -> Self:
        """Returns the sums with further examples: features `[B, D]`."""
        x = np.asarray(features, np.float64)
        return self.merge(self._replace(num=len(x), sum=x.sum(axis=0), outer=x.T @ x))

    def merge(self, other: Self) -> Self:
        """Returns the sums over the examples of both."""
        return self._replace(num=self.num + other.num, sum=self.sum + other.sum, outer=self.outer + other.outer)

    def moments(self) -> Moments:
        """Returns the moments of all examples.

        Raises:
          ValueError: if there are fewer than two examples.
        """
        if self.num < 2:
            raise ValueError(f"a covariance of {self.num} examples is not defined: give two or more")
        mean = self.sum / self.num
        return Moments(self.num, mean, (self.outer - np.outer(self.sum, mean)) / (self.num - 1))


def moments(features: np.ndarray) -> Moments:
    """Returns the moments of features `[N, D]` of any float type.

    Raises:
      ValueError: if there are fewer than two examples.
    """
    features = np.asarray(features)
    shift = np.mean(features, axis=0, dtype=np.float64)  # the sums of what is near 0 lose no digits
    sums = Sums.empty(features.shape[1])
    for start in range(0, len(features), BLOCK):
        sums = sums.add(features[start : start + BLOCK] - shift)
    found = sums.moments()
    return found._replace(mean=found.mean + shift)


def enough(num: int, dim: int) -> bool:
    """Returns whether the covariance of `num` examples of `dim` features can have full rank.

    If it does not, the Fréchet distance is defined, but it says little: it is too large by a large part of itself.
    """
    return num > dim


def frechet_distance(mean_a: np.ndarray, cov_a: np.ndarray, mean_b: np.ndarray, cov_b: np.ndarray) -> float:
    """Returns ‖μ_a − μ_b‖² + tr(Σ_a + Σ_b − 2(Σ_aΣ_b)^½), eq. 6 of the paper.

    The trace of the root is the sum of the roots of the eigenvalues of Σ_a^½ Σ_b Σ_a^½, which are real. Those that
    rounding makes negative count as 0.

    Args:
      mean_a: `[D]`.
      cov_a: `[D, D]`, symmetric and positive semidefinite.
      mean_b: `[D]`.
      cov_b: `[D, D]`, likewise.

    Raises:
      ValueError: if the shapes do not belong together, or a number is not finite.
    """
    mean_a, cov_a, mean_b, cov_b = (np.asarray(x, np.float64) for x in (mean_a, cov_a, mean_b, cov_b))
    dim = len(mean_a)
    shapes = tuple(x.shape for x in (mean_a, cov_a, mean_b, cov_b))
    if shapes != ((dim,), (dim, dim), (dim,), (dim, dim)):
        raise ValueError(f"means and covariances of shapes {shapes}: give [D], [D, D], [D], [D, D]")
    if not all(np.isfinite(x).all() for x in (mean_a, cov_a, mean_b, cov_b)):
        raise ValueError("a mean or a covariance has NaN or infinity in it")
    # With Σ_a = RRᵀ the eigenvalues are those of RᵀΣ_bR, for any root R: here eigenvectors times roots of eigenvalues.
    values, vectors = scipy.linalg.eigh(cov_a, driver="evd")
    root = vectors * np.sqrt(values.clip(min=0))
    products = scipy.linalg.eigvalsh(root.T @ cov_b @ root)
    trace = np.trace(cov_a) + np.trace(cov_b) - 2 * np.sqrt(products.clip(min=0)).sum()
    return max(0.0, float(np.sum((mean_a - mean_b) ** 2) + trace))  # of equal sets, rounding may leave less
