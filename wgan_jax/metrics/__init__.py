"""How good a state or its samples are."""

from wgan_jax.metrics.frechet import frechet_distance, moments
from wgan_jax.metrics.kernel import kernel_distance
from wgan_jax.metrics.neighbours import density_coverage, nearest_neighbour_accuracy, precision_recall
from wgan_jax.metrics.projections import mind
from wgan_jax.metrics.pyramids import sliced_wasserstein
from wgan_jax.metrics.similarity import ms_ssim
from wgan_jax.metrics.splits import inception_score

__all__ = [
    "density_coverage",
    "frechet_distance",
    "inception_score",
    "kernel_distance",
    "mind",
    "moments",
    "ms_ssim",
    "nearest_neighbour_accuracy",
    "precision_recall",
    "sliced_wasserstein",
]
