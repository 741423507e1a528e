import numpy as np
import pytest

from wgan_jax.data import digits
from wgan_jax.metrics import quality


def test_nearest_neighbours_of_one_distribution_are_at_chance(rng):
    a, b = rng.normal(size=(1_000, 3)), rng.normal(size=(1_000, 3))
    assert abs(quality.nearest_neighbour_accuracy(a, b) - 0.5) < 0.05


def test_nearest_neighbours_of_distant_distributions_tell_them_apart(rng):
    a = rng.normal(size=(50, 2, 2))
    assert quality.nearest_neighbour_accuracy(a, a + 100 + rng.normal(size=a.shape)) == 1.0


def test_copies_are_worse_than_chance(rng):
    a = rng.normal(size=(50, 4))
    assert quality.nearest_neighbour_accuracy(a + 1e-6, a) == 0.0


def test_both_sets_must_be_as_large():
    with pytest.raises(ValueError, match="3 samples and 4 real"):
        quality.nearest_neighbour_accuracy(np.zeros((3, 2)), np.zeros((4, 2)))


def test_real_digits_go_into_their_classes():
    train, held_out = digits.load("train").examples, digits.load("held_out").examples
    counts = quality.class_counts(held_out["image"], train["image"], train["label"])
    assert np.abs(counts - np.bincount(held_out["label"])).max() <= 5
