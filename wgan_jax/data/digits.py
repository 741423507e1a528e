"""1,797 real handwritten digits of 8×8 pixels, from scikit-learn: no network needed."""

import numpy as np

from wgan_jax.data.arrays import ArraySource

HELD_OUT = 500
"""Images that no network trains on; the other 1,297 are for training."""


def load(split: str) -> ArraySource:
    """The digits of `train` or `held_out`, `[N, 8, 8, 1]` float32 in [−1, 1], with labels 0 to 9.

    The split is fixed: the same images are held out in every run, whatever its seed.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.RandomState(0).permutation(len(digits.target))
    index = order[:HELD_OUT] if split == "held_out" else order[HELD_OUT:]
    image = (digits.images[index, :, :, None] / 8 - 1).astype(np.float32)
    return ArraySource(image, digits.target[index], num_classes=10)
