import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import norm

from wgan_jax.method.games import GAMES


def log_loss(score, label):
    probability = expit(score)
    return -np.mean(label * np.log(probability) + (1 - label) * np.log1p(-probability))


@pytest.fixture
def scores(rng):
    return rng.normal(size=9), rng.normal(size=9)


def test_wasserstein(scores):
    real, fake = scores
    game = GAMES["wasserstein"]
    np.testing.assert_allclose(game.critic_loss(real, fake), fake.mean() - real.mean(), rtol=1e-5)
    np.testing.assert_allclose(game.generator_loss(fake), -fake.mean(), rtol=1e-5)
    np.testing.assert_allclose(game.estimate(real, fake), real.mean() - fake.mean(), rtol=1e-5)


@pytest.mark.parametrize("name", ["minimax", "non_saturating"])
def test_discriminators_minimise_the_log_loss(name, scores):
    real, fake = scores
    expected = log_loss(real, 1) + log_loss(fake, 0)
    np.testing.assert_allclose(GAMES[name].critic_loss(real, fake), expected, rtol=1e-5)


def test_generators_of_the_two_original_games(scores):
    _, fake = scores
    np.testing.assert_allclose(GAMES["minimax"].generator_loss(fake), np.mean(np.log(1 - expit(fake))), rtol=1e-5)
    np.testing.assert_allclose(GAMES["non_saturating"].generator_loss(fake), -np.mean(np.log(expit(fake))), rtol=1e-5)


def test_least_squares(scores):
    real, fake = scores
    game = GAMES["least_squares"]
    expected = 0.5 * np.mean((real - 1) ** 2) + 0.5 * np.mean(fake**2)
    np.testing.assert_allclose(game.critic_loss(real, fake), expected, rtol=1e-5)
    np.testing.assert_allclose(game.generator_loss(fake), 0.5 * np.mean((fake - 1) ** 2), rtol=1e-5)


def test_hinge(scores):
    real, fake = scores
    game = GAMES["hinge"]
    expected = np.mean([max(0, 1 - r) for r in real]) + np.mean([max(0, 1 + f) for f in fake])
    np.testing.assert_allclose(game.critic_loss(real, fake), expected, rtol=1e-5)
    np.testing.assert_allclose(game.generator_loss(fake), -fake.mean(), rtol=1e-5)


def densities(distance):
    return norm(0, 1).pdf, norm(distance, 1).pdf


def integral(f):
    return quad(f, -15, 20, limit=200)[0]


@pytest.mark.parametrize("distance", [0.0, 1.0, 3.0])
def test_estimates_at_the_optimal_critic_are_the_divergences(distance, rng):
    """Against integrals over two Gaussians, with the optimal critic log(p/q), p/(p + q) or sign(p − q)."""
    p, q = densities(distance)
    real, fake = rng.normal(0, 1, 400_000), rng.normal(distance, 1, 400_000)

    def log_ratio(x):
        return norm(0, 1).logpdf(x) - norm(distance, 1).logpdf(x)

    jensen_shannon = integral(
        lambda x: 0.5 * (p(x) * np.log(2 * p(x) / (p(x) + q(x))) + q(x) * np.log(2 * q(x) / (p(x) + q(x))))
    )
    estimate = GAMES["minimax"].estimate(log_ratio(real), log_ratio(fake))
    np.testing.assert_allclose(estimate, jensen_shannon, atol=3e-3)

    triangular = integral(lambda x: (p(x) - q(x)) ** 2 / (p(x) + q(x)))
    estimate = GAMES["least_squares"].estimate(expit(log_ratio(real)), expit(log_ratio(fake)))
    np.testing.assert_allclose(estimate, triangular, atol=6e-3)

    total_variation = 2 * norm.cdf(distance / 2) - 1
    np.testing.assert_allclose(total_variation, 0.5 * integral(lambda x: abs(p(x) - q(x))), atol=1e-6)
    estimate = GAMES["hinge"].estimate(np.sign(log_ratio(real)), np.sign(log_ratio(fake)))
    np.testing.assert_allclose(estimate, total_variation, atol=3e-3)


def test_disjoint_distributions_reach_the_divergences_limits():
    sure, unsure = np.full(3, 50.0), np.full(3, -50.0)
    np.testing.assert_allclose(GAMES["minimax"].estimate(sure, unsure), np.log(2), rtol=1e-6)
    np.testing.assert_allclose(GAMES["least_squares"].estimate(np.ones(3), np.zeros(3)), 2.0, rtol=1e-6)
    np.testing.assert_allclose(GAMES["hinge"].estimate(sure, unsure), 1.0, rtol=1e-6)
