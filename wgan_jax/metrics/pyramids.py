"""The sliced Wasserstein distance between the patches of two sets of images, by scale (Karras et al. 2018, ProGAN).

Each level of a Laplacian pyramid shows what the images have at one scale: large structures at 16 pixels, details at
full size. The distance needs no network. It is defined in section 5 of arXiv 1710.10196.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from scipy.ndimage import correlate1d

SMALLEST = 16
"""Smallest side of a level."""
PATCH = 7
"""Side of a patch."""
BINOMIAL = np.array([1, 4, 6, 4, 1]) / 16
"""The filter along each axis, before an image is halved and after it is doubled."""
IMAGES = 256
"""Number of images whose pyramids are in memory at a time."""
PROJECTIONS = 64
"""Number of directions whose projections are in memory at a time."""


class SlicedWasserstein(NamedTuple):
    """The distance, times 1,000. It falls as the number of images grows: compare equal numbers alone."""

    value: float
    """Mean over the levels."""
    levels: dict[int, float]
    """Distance of each level, by its shorter side in pixels, from full size downwards."""


def sliced_wasserstein(
    real: np.ndarray, fake: np.ndarray, *, seed: int = 0, patches: int = 128, directions: int = 512
) -> SlicedWasserstein:
    """Returns the sliced Wasserstein distance between two sets of images.

    At each level the patches of a set are normalised, with the mean and the standard deviation of each channel. They
    are projected onto random unit directions, and the distance is the mean of |sort(x·u) − sort(y·u)|, times 1,000.
    The images with the same index in the two sets have their patches at the same places.

    Args:
      real: `[N, H, W, C]`, uint8. A single channel is taken three times.
      fake: `[N, H, W, C]`, uint8.
      seed: seed of the places of the patches, of which each image has its own, and of the directions.
      patches: number of patches of 7×7 pixels per image and level.
      directions: number of directions.

    Raises:
      ValueError: if the shapes differ, or a side is shorter than 16 pixels.
    """
    if real.shape != fake.shape:
        raise ValueError(f"images of shapes {real.shape} and {fake.shape}: take as many of each, of one size")
    sides = level_sides(*real.shape[1:3])
    distances = {}
    for level, side in enumerate(sides):
        x, y = (_patches(images, level, level == len(sides) - 1, patches, seed) for images in (real, fake))
        distances[side] = 1_000 * _distance(x, y, np.random.default_rng((seed, level)), directions)
        del x, y  # before the next level's
    return SlicedWasserstein(float(np.mean(list(distances.values()))), distances)


def level_sides(height: int, width: int) -> list[int]:
    """Returns the shorter side of each level: halved while both sides are even and no side gets shorter than 16.

    Raises:
      ValueError: if there is no level, because a side is shorter than 16.
    """
    if min(height, width) < SMALLEST:
        raise ValueError(f"images of {height}×{width}: no level is defined below {SMALLEST} pixels")
    sides = [min(height, width)]
    while height % 2 == width % 2 == 0 and min(height, width) >= 2 * SMALLEST:
        height, width = height // 2, width // 2
        sides.append(min(height, width))
    return sides


def laplacian(images: np.ndarray, level: int, *, last: bool) -> np.ndarray:
    """Returns one level of the Laplacian pyramid of images `[N, H, W, C]`.

    It is the image halved `level` times, less what is left of it when it is halved once more and doubled. The last
    level is the small image itself, so that the sum of all levels, each doubled to full size, is the image.
    """
    for _ in range(level):
        images = halve(images)
    return images if last else images - double(halve(images))


def halve(images: np.ndarray) -> np.ndarray:
    """Returns every other pixel of smoothed images: `[N, H, W, C] -> [N, H/2, W/2, C]`."""
    return _smooth(images)[:, ::2, ::2]


def double(images: np.ndarray) -> np.ndarray:
    """Returns images with smooth pixels between the pixels: `[N, H, W, C] -> [N, 2H, 2W, C]`."""
    num, height, width, channels = images.shape
    spread = np.zeros((num, 2 * height, 2 * width, channels), images.dtype)
    spread[:, ::2, ::2] = 4 * images
    return _smooth(spread)


def _smooth(images: np.ndarray) -> np.ndarray:
    for axis in (1, 2):
        images = correlate1d(images, BINOMIAL, axis, mode="mirror")
    return images


def _patches(images: np.ndarray, level: int, last: bool, patches: int, seed: int) -> np.ndarray:
    """Returns the normalised patches of a level, in float32: `[N·patches, C·7·7]`."""
    num, channels = len(images), 3 if images.shape[-1] == 1 else images.shape[-1]
    found = np.empty((num, patches, channels, PATCH, PATCH), np.float32)
    total, squares = np.zeros(channels), np.zeros(channels)
    for start in range(0, num, IMAGES):
        some = laplacian(images[start : start + IMAGES].astype(np.float32), level, last=last)
        windows = np.lib.stride_tricks.sliding_window_view(some, (PATCH, PATCH), axis=(1, 2))  # [B, h, w, C, 7, 7]
        for i, window in enumerate(windows, start):
            place = np.random.default_rng((seed, level, 1 + i)).integers(window.shape[:2], size=(patches, 2))
            found[i] = window[place[:, 0], place[:, 1]]  # a single channel spreads over three
        new = found[start : start + IMAGES].astype(np.float64)
        total += new.sum(axis=(0, 1, 3, 4))
        squares += (new * new).sum(axis=(0, 1, 3, 4))
    size = num * patches * PATCH**2
    mean = total / size
    deviation = np.sqrt((squares / size - mean**2).clip(min=0))
    found -= mean.astype(np.float32)[:, None, None]
    found /= np.where(deviation > 0, deviation, 1).astype(np.float32)[:, None, None]
    return found.reshape(num * patches, -1)


def _distance(x: np.ndarray, y: np.ndarray, generator: np.random.Generator, directions: int) -> float:
    """Returns the mean W₁ of the projections of two sets of points `[M, D]` onto random directions."""
    units = generator.normal(size=(directions, x.shape[1]))
    units = (units / np.linalg.norm(units, axis=1, keepdims=True)).astype(np.float32)
    total = 0.0
    with ThreadPoolExecutor() as pool:  # NumPy sorts without the interpreter's lock
        for start in range(0, directions, PROJECTIONS):
            u = units[start : start + PROJECTIONS]
            a, b = u @ x.T, u @ y.T
            list(pool.map(np.ndarray.sort, [*a, *b]))
            a -= b
            total += np.abs(a, out=a).sum(dtype=np.float64)
    return float(total / (directions * len(x)))
