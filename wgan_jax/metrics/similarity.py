"""Multi-scale structural similarity (Wang et al. 2003), and the diversity of a set by it (Odena et al. 2017)."""

import numpy as np
from scipy.linalg import convolution_matrix

WINDOW, SIGMA = 11, 1.5
"""Size and standard deviation of the Gaussian window in pixels."""
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
"""Constants that keep the quotients stable, for pixels from 0 to 255."""
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the scales, from full size downwards."""
PAIRS = 64
"""Number of pairs whose scales are in memory at a time."""


def ms_ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns the multi-scale structural similarity `[N]` of pairs of images: 1 if they are the same.

    Images of any size are allowed: at a scale that is smaller than the window, the window shrinks with its deviation.
    Contrasts and similarities below 0 count as 0. All is computed in float64.

    Args:
      a: `[N, H, W, C]`, from 0 to 255.
      b: `[N, H, W, C]`.

    Raises:
      ValueError: if the shapes differ.
    """
    if a.shape != b.shape:
        raise ValueError(f"images of shapes {a.shape} and {b.shape}: a pair has one size")
    starts = range(0, len(a), PAIRS)
    parts = [_ms_ssim(*(np.asarray(x[i : i + PAIRS], np.float64) for x in (a, b))) for i in starts]
    return np.concatenate([np.empty(0), *parts])


def diversity(images: np.ndarray, pairs: int, seed: int) -> float:
    """Returns the mean `ms_ssim` over random pairs of different images: the lower, the more diverse they are.

    Args:
      images: `[N, H, W, C]`, from 0 to 255.
      pairs: number of pairs.
      seed: seed of the pairs.

    Raises:
      ValueError: if there are fewer than two images, or no pairs.
    """
    if len(images) < 2 or pairs < 1:
        raise ValueError(f"{len(images)} images and {pairs} pairs: give at least two images and one pair")
    generator = np.random.default_rng(seed)
    first = generator.integers(len(images), size=pairs)
    second = (first + generator.integers(1, len(images), size=pairs)) % len(images)
    starts = range(0, pairs, PAIRS)
    chunks = [ms_ssim(images[first[i : i + PAIRS]], images[second[i : i + PAIRS]]) for i in starts]
    return float(np.concatenate(chunks).mean())


def _ms_ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = np.moveaxis(a, -1, 1), np.moveaxis(b, -1, 1)  # [N, C, H, W]
    result = np.ones(len(a))
    for scale, weight in enumerate(WEIGHTS):
        similarity, contrast = _ssim(a, b)
        result *= (similarity if scale == len(WEIGHTS) - 1 else contrast).clip(min=0) ** weight
        a, b = _halve(a), _halve(b)
    return result


def _ssim(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the structural similarity `[N]` at one scale, and its part that contrast and structure make."""
    size = min(WINDOW, *a.shape[2:])
    places = np.arange(size) - (size - 1) / 2
    weights = np.exp(-((places / (SIGMA * size / WINDOW)) ** 2) / 2)
    weights /= weights.sum()
    rows, columns = (convolution_matrix(weights, length, "valid") for length in a.shape[2:])

    def mean(x: np.ndarray) -> np.ndarray:
        return rows @ x @ columns.T

    mean_a, mean_b = mean(a), mean(b)
    variances = mean(a * a) + mean(b * b) - mean_a**2 - mean_b**2
    contrast = (2 * (mean(a * b) - mean_a * mean_b) + C2) / (variances + C2)
    luminance = (2 * mean_a * mean_b + C1) / (mean_a**2 + mean_b**2 + C1)
    return (luminance * contrast).mean(axis=(1, 2, 3)), contrast.mean(axis=(1, 2, 3))


def _halve(x: np.ndarray) -> np.ndarray:
    """Returns the means of 2×2 pixels: `[N, C, H, W] -> [N, C, ⌈H/2⌉, ⌈W/2⌉]`. The edge of an odd side is repeated."""
    n, c, height, width = x.shape
    x = np.pad(x, ((0, 0), (0, 0), (0, height % 2), (0, width % 2)), "edge")
    return x.reshape(n, c, (height + 1) // 2, 2, (width + 1) // 2, 2).mean(axis=(3, 5))
