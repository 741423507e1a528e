"""The table of the field's metrics: what each compares, of which features, and in which direction it gets better.

A metric of your own is one more row. Its numbers come from what is kept of two sets of images, so a row knows neither
networks nor devices.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from wgan_jax.metrics import frechet, kernel, neighbours, pyramids, similarity
from wgan_jax.metrics.frechet import Moments
from wgan_jax.metrics.kept import Kept, KeptMoments, KeptSplits, Rows
from wgan_jax.metrics.projections import mind
from wgan_jax.metrics.splits import Splits

PIXELS = "pixels"
IMAGES = "images"
"""Name of the network, and of its only output, that gives the images themselves."""

SUBSET = 1_000
"""Images in a subset of the kernel distance."""

MOST_IMAGES = 16_384
"""Largest number of images that a metric of pixels keeps in memory: ProGAN's number for the sliced distance."""

Shape = tuple[int, ...]


class Metric(NamedTuple):
    """One row of the table."""

    network: str
    """Name of the feature network."""
    output: str
    """Output of the network that is kept."""
    kept: type[Kept]
    """Class that keeps something of that output."""
    compare: Callable[[Any, Any], tuple[float, ...]]
    """`(kept of the reference, kept of the images) -> numbers`"""
    numbers: tuple[str, ...]
    """Names of the numbers."""
    better: str = "lower"
    """`lower`, `higher`, or the value that is best."""
    refuses: Callable[[Shape, int], str] = lambda shape, num: ""
    """`(shape of an image, number of images in the smaller set) -> why there is no such number`, or ""."""
    equal: bool = False
    """Whether it compares as many images as the smaller set has: the first ones of the larger set."""
    most: int | None = None
    """Largest number of images that it takes of a set, the first ones; None for all."""
    note: Callable[[int, int], str] = lambda num, dim: ""
    """`(number of images in the smaller set, number of features) -> what to know of the number`, or ""."""

    def taken(self, num: int) -> int:
        """Returns how many images it takes of a set of `num`."""
        return num if self.most is None else min(num, self.most)


def _frechet(reference: Moments, images: Moments) -> tuple[float]:
    return (frechet.frechet_distance(reference.mean, reference.cov, images.mean, images.cov),)


def _kernel(reference: np.ndarray, images: np.ndarray) -> tuple[float]:
    size = min(SUBSET, len(reference), len(images))
    return (kernel.kernel_distance(images, reference, subset_size=size).value,)


def _inception_score(reference: Splits, images: Splits) -> tuple[float]:
    del reference
    return (images.score().mean,)


def _similarity(reference: np.ndarray, images: np.ndarray) -> tuple[float]:
    del reference
    return (similarity.diversity(images, min(10_000, len(images) // 2), seed=0),)


def _mind(reference: np.ndarray, images: np.ndarray) -> tuple[float]:
    return (mind(reference, images),)


def _sliced_wasserstein(reference: np.ndarray, images: np.ndarray) -> tuple[float]:
    return (pyramids.sliced_wasserstein(reference, images).value,)


def _nearest_neighbours(reference: np.ndarray, images: np.ndarray) -> tuple[float]:
    return (neighbours.nearest_neighbour_accuracy(images, reference),)


def _at_least(least: int) -> Callable[[Shape, int], str]:
    return lambda shape, num: "" if num >= least else f"{num} images, and at least {least} are needed"


def _no_pyramid(shape: Shape, num: int) -> str:
    del num
    return "" if min(shape[:2]) >= 16 else f"images of {shape[0]}×{shape[1]} pixels, and its smallest level has 16"


def _rank(num: int, dim: int) -> str:
    if frechet.enough(num, dim):
        return ""
    return f"{num:,} images are too few for a covariance of {dim:,} features: compare with the floor only"


def _subsets(num: int, dim: int) -> str:
    del dim
    return "" if num >= SUBSET else f"subsets of {num:,} images, where {SUBSET:,} are usual"


def _of_features(network: str, suffix: str, frechet_name: str, kernel_name: str) -> dict[str, Metric]:
    """Returns the metrics in the features of a network; all but two have the same names with another ending."""
    features = functools.partial(Metric, network, "pool", Rows)
    precision, recall, density, coverage, mind_name = (
        name + suffix for name in ("precision", "recall", "density", "coverage", "mind")
    )
    return {
        frechet_name: Metric(network, "pool", KeptMoments, _frechet, (frechet_name,), refuses=_at_least(2), note=_rank),
        kernel_name: features(_kernel, (kernel_name,), refuses=_at_least(2), note=_subsets),
        f"precision_recall{suffix}": features(
            neighbours.precision_recall, (precision, recall), "higher", refuses=_at_least(4)
        ),
        f"density_coverage{suffix}": features(
            neighbours.density_coverage, (density, coverage), "higher", refuses=_at_least(6)
        ),
        mind_name: features(_mind, (mind_name,), equal=True),
    }


METRICS: dict[str, Metric] = {
    **_of_features("inception", "", "fid", "kid"),
    "inception_score": Metric(
        "inception", "probabilities", KeptSplits, _inception_score, ("inception_score",), "higher", _at_least(10)
    ),
    **_of_features("lite0", "_lite0", "fd_lite0", "kd_lite0"),
    "sliced_wasserstein": Metric(
        PIXELS,
        IMAGES,
        Rows,
        _sliced_wasserstein,
        ("sliced_wasserstein",),
        refuses=_no_pyramid,
        equal=True,
        most=MOST_IMAGES,
    ),
    "ms_ssim": Metric(PIXELS, IMAGES, Rows, _similarity, ("ms_ssim",), refuses=_at_least(4), most=MOST_IMAGES),
    "nearest_neighbour_accuracy": Metric(
        PIXELS,
        IMAGES,
        Rows,
        _nearest_neighbours,
        ("nearest_neighbour_accuracy",),
        "0.5",
        _at_least(2),
        equal=True,
        most=MOST_IMAGES,
    ),
}
"""Every metric by its name. Those of the Inception network have the field's names; others name their network."""
