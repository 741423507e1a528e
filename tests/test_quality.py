import numpy as np

from wgan_jax.data import digits
from wgan_jax.metrics import quality


def test_real_digits_go_into_their_classes():
    train, held_out = digits.load("train").examples, digits.load("held_out").examples
    counts = quality.class_counts(held_out["image"], train["image"], train["label"])
    assert np.abs(counts - np.bincount(held_out["label"])).max() <= 5
