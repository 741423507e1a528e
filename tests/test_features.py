"""Pretrained features equal those of pytorch-fid, torch-fidelity, clean-FID's definition and PyTorch.

With their packages in the environment (see `features_reference.py`) all run side by side:

    pytest -m slow tests/test_features.py

Without them, ours is held against what they gave when `python -m tests.features_reference` last wrote it down.
"""

import functools
import json

import flax.linen as nn
import jax
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from wgan_jax import UserError
from wgan_jax.metrics import features, folding, inception, lite0, resizing, weights

from . import features_reference as reference
from .features_reference import INPUTS, SIZES, picture

RECORD = json.loads(reference.RECORD.read_text())
TOLERANCE = 1e-5


def error(ours, theirs):
    """‖ours − theirs‖ / ‖theirs‖."""
    return np.linalg.norm(np.asarray(ours, np.float64) - theirs) / np.linalg.norm(theirs)


@functools.cache
def random_inception():
    shapes = folding.shapes(inception.Inception(), 299, inception.names)
    return reference.random_tensors(shapes)


@functools.cache
def inception_variables():
    return folding.variables(random_inception(), inception.Inception(), 299, inception.names)


compiled_inception = jax.jit(inception.Inception().apply)


def inception_errors(image, input, expected, network=compiled_inception):
    """The error of each layer."""
    ours = network(inception_variables(), resizing.INPUTS[input](image))
    return {layer: error(reference.some(ours[layer]), x) for layer, x in expected.items()}


@pytest.mark.parametrize("input", INPUTS)
def test_inception_equals_what_other_packages_gave(input):
    for size in SIZES:
        errors = inception_errors(picture(size), input, RECORD["inception"][f"{input} {size}"])
        assert max(errors.values()) <= TOLERANCE, (size, errors)
        print(size, input, errors)
