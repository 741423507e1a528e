"""The 1,797 handwritten digits of 8×8 pixels that come with scikit-learn. Nothing is downloaded."""

import numpy as np

from wgan_jax.data.arrays import ArraySource

HELD_OUT = 500
"""Number of images that are held out. The other 1,297 are for training."""


def load(split: str) -> ArraySource:
    """Returns the digits of `train` or `held_out`: `[N, 8, 8, 1]` float32 in [−1, 1], with labels from 0 to 9.

    The split is fixed: every run holds out the same images, whatever its seed.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.RandomState(0).permutation(len(digits.target))
    index = order[:HELD_OUT] if split == "held_out" else order[HELD_OUT:]
    image = (digits.images[index, :, :, None] / 8 - 1).astype(np.float32)
    return ArraySource(image, digits.target[index], num_classes=10)
