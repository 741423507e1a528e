"""W₁ between samples against closed forms, other implementations, and its own laws."""

import itertools
import math

import jax
import numpy as np
import pytest
import scipy.stats

from wgan_jax.metrics import transport

pytestmark = pytest.mark.usefixtures("quick_compilation")


def gaussian_distance(mean: float, sigma: float) -> float:
    """W₁ between N(0, 1) and N(mean, sigma²) on the line: E|mean + (sigma − 1)·Z|, a folded normal's mean."""
    s = abs(sigma - 1)
    if s == 0:
        return abs(mean)
    folded = s * math.sqrt(2 / math.pi) * math.exp(-(mean**2) / (2 * s**2))
    return folded + mean * math.erf(mean / (s * math.sqrt(2)))


@pytest.mark.parametrize(("mean", "sigma"), [(1.0, 1.0), (0.0, 2.0), (0.5, 3.0), (-2.0, 0.25)])
def test_gaussians_on_the_line(mean, sigma):
    """Equal quantiles of both stand for samples without noise."""
    quantiles = scipy.stats.norm.ppf((np.arange(1_000) + 0.5) / 1_000)
    x, y = quantiles, mean + sigma * quantiles
    expected = gaussian_distance(mean, sigma)
    assert transport.wasserstein(x[:, None], y[:, None]) == pytest.approx(expected, rel=5e-3)
    assert float(transport.wasserstein_1d(x, y)) == pytest.approx(expected, rel=5e-3)


def test_on_the_line_as_scipy_has_it(rng):
    x, y = rng.normal(size=(3, 200)), rng.exponential(size=(3, 200))
    got = transport.wasserstein_1d(x, y)
    for i in range(3):
        expected = scipy.stats.wasserstein_distance(x[i], y[i])
        assert float(got[i]) == pytest.approx(expected, rel=1e-5)
        assert transport.wasserstein(x[i, :, None], y[i, :, None]) == pytest.approx(expected, rel=1e-12)


def test_gaussians_of_one_covariance_in_the_plane(rng):
    """Their W₁ is the distance of their means; samples of 1,000 points come near it."""
    scale = np.array([[1.0, 0.3], [0.0, 0.5]])
    x, y = rng.normal(size=(2, 1_000, 2)) @ scale
    assert transport.wasserstein(x, y + np.array([3.0, 4.0])) == pytest.approx(5.0, rel=0.02)


@pytest.mark.parametrize("shape", [(2,), (4, 4, 1)])
def test_a_shifted_copy_is_as_far_as_its_shift(shape, rng):
    x = rng.normal(size=(100, *shape))
    shift = rng.normal(size=shape)
    length = np.linalg.norm(shift)
    assert transport.wasserstein(x, rng.permutation(x + shift)) == pytest.approx(length, rel=1e-9)
    # The mean of |⟨shift, u⟩| over the unit sphere of D dimensions.
    d = math.prod(shape)
    expected = length * math.gamma(d / 2) / (math.sqrt(math.pi) * math.gamma((d + 1) / 2))
    sliced = transport.projected_wasserstein(x, rng.permutation(x + shift), jax.random.key(0), directions=20_000)
    assert float(sliced) == pytest.approx(expected, rel=0.02)


def test_the_best_of_all_permutations(rng):
    x, y = rng.normal(size=(2, 6, 3))
    costs = [np.linalg.norm(x - y[list(order)], axis=1).mean() for order in itertools.permutations(range(6))]
    assert transport.wasserstein(x, y) == pytest.approx(min(costs), rel=1e-12)


def test_a_distance(rng):
    x, y, z = rng.normal(size=(3, 50, 2)) + np.array([0.0, 1.0, 3.0])[:, None, None]
    w = transport.wasserstein
    assert w(x, x[::-1]) == 0.0
    assert w(x, y) == pytest.approx(w(y, x), rel=1e-12)
    assert w(x, z) <= w(x, y) + w(y, z)
    assert w(x, y) >= np.linalg.norm(x.mean(0) - y.mean(0))
    assert float(transport.projected_wasserstein(x, y, jax.random.key(1))) < w(x, y)


def test_no_1_lipschitz_function_beats_it(rng):
    """Kantorovich and Rubinstein: on the same samples, exactly."""
    x, y = rng.normal(size=(2, 60, 2)) + np.array([[[0.0]], [[0.7]]])
    functions = [rng.normal(size=2) for _ in range(50)]
    gains = [np.mean(x @ (u / np.linalg.norm(u))) - np.mean(y @ (u / np.linalg.norm(u))) for u in functions]
    assert 0 < max(gains) <= transport.wasserstein(x, y)


@pytest.mark.parametrize(
    "distance",
    [
        transport.wasserstein,
        transport.wasserstein_1d,
        lambda x, y: transport.projected_wasserstein(x, y, jax.random.key(0)),
    ],
)
def test_samples_of_different_numbers_are_refused(distance):
    with pytest.raises(ValueError, match=r"\(3, 2\) and \(4, 2\): take as many"):
        distance(np.zeros((3, 2)), np.zeros((4, 2)))
