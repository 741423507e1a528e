"""The three toy distributions in the plane from the code of WGAN-GP (arXiv 1704.00028, Figure 1).

Here each split is a fixed set of points, and the Gaussian of each point is drawn at random. The paper's code differs:
it draws new points for every batch of the Swiss roll and of the 8 Gaussians, and its fixed set of the 25 Gaussians
contains equally many points from each.
"""

import numpy as np

from wgan_jax.data.arrays import ArraySource

SIZES = {"train": 100_000, "held_out": 10_000}
"""Number of points in each split. Each split has its own random generator, so the splits share no points."""


def eight_gaussians(num: int, rng: np.random.Generator) -> np.ndarray:
    """Draws points `[num, 2]` float32 from 8 Gaussians on a circle of radius 2, σ = 0.02, all divided by 1.414."""
    angle = np.pi / 4 * rng.integers(8, size=num)
    centers = 2 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return ((centers + 0.02 * rng.standard_normal((num, 2))) / 1.414).astype(np.float32)


def twenty_five_gaussians(num: int, rng: np.random.Generator) -> np.ndarray:
    """Draws points `[num, 2]` float32 from Gaussians on the grid 2·{−2, …, 2}², σ = 0.05, all divided by 2.828."""
    centers = 2 * rng.integers(-2, 3, size=(num, 2))
    return ((centers + 0.05 * rng.standard_normal((num, 2))) / 2.828).astype(np.float32)


def swiss_roll(num: int, rng: np.random.Generator) -> np.ndarray:
    """Draws points `[num, 2]` float32 from the Swiss roll: `make_swiss_roll(noise=0.25)[:, [0, 2]] / 7.5`."""
    from sklearn.datasets import make_swiss_roll

    points, _ = make_swiss_roll(num, noise=0.25, random_state=int(rng.integers(2**31)))
    return (points[:, [0, 2]] / 7.5).astype(np.float32)


DISTRIBUTIONS = {
    "8gaussians": eight_gaussians,
    "25gaussians": twenty_five_gaussians,
    "swissroll": swiss_roll,
}


def load(name: str, split: str) -> ArraySource:
    """Returns the points of `train` or `held_out` of one distribution, the same in every run, whatever its seed."""
    rng = np.random.default_rng(list(SIZES).index(split))
    return ArraySource(DISTRIBUTIONS[name](SIZES[split], rng))
