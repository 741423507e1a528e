"""The inputs of pretrained networks, against SciPy's interpolation and Pillow."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import map_coordinates

from wgan_jax.metrics import resizing

SIZES = [(28, 28), (64, 48), (299, 299), (301, 512)]


def bytes_of(shape, channels=3):
    return np.random.default_rng(0).integers(0, 256, (2, *shape, channels), dtype=np.uint8)


def between_pixels(images, coordinates):
    """Bilinear interpolation at `coordinates(i, old size)`; beyond the edge lies the edge's pixel."""
    rows, columns = (coordinates(np.arange(299.0), old) for old in images.shape[1:3])
    grid = np.meshgrid(rows, columns, indexing="ij")
    planes = images.transpose(0, 3, 1, 2).reshape(-1, *images.shape[1:3]).astype(np.float64)
    planes = np.stack([map_coordinates(plane, grid, order=1, mode="nearest") for plane in planes])
    return planes.reshape(len(images), -1, 299, 299).transpose(0, 2, 3, 1)


def by_pillow(images, size):
    """Pillow's bicubic resize of each channel in floating point."""
    planes = images.transpose(0, 3, 1, 2).reshape(-1, *images.shape[1:3]).astype(np.float32)
    planes = np.stack([Image.fromarray(plane).resize((size, size), Image.Resampling.BICUBIC) for plane in planes])
    return planes.reshape(len(images), -1, size, size).transpose(0, 2, 3, 1)


@pytest.mark.parametrize("shape", SIZES)
def test_tf1_has_its_pixels_at_multiples_of_the_scale(shape):
    images = bytes_of(shape)
    expected = between_pixels(images, lambda i, old: i * (old / 299))
    np.testing.assert_allclose(resizing.tf1(images) * 128 + 128, expected, atol=0.02)  # the scale is in float32


@pytest.mark.parametrize("shape", SIZES)
def test_torch_has_the_centres_of_pixels_at_halves(shape):
    images = bytes_of(shape)
    expected = between_pixels(images, lambda i, old: (i + 0.5) * (old / 299) - 0.5)
    np.testing.assert_allclose((resizing.torch(images) + 1) * 127.5, expected, atol=1e-3)


@pytest.mark.parametrize("shape", SIZES)
def test_clean_is_pillows_bicubic_clipped_and_not_rounded(shape):
    images = bytes_of(shape)
    expected = by_pillow(images, 299)
    if max(shape) < 299:
        assert expected.min() < 0  # the kernel overshoots, so that the clip matters
        assert expected.max() > 255
    np.testing.assert_allclose(resizing.clean(images) * 128 + 128, expected.clip(0, 255), atol=1e-3)


@pytest.mark.parametrize("shape", SIZES)
def test_lite0_is_pillows_bicubic_around_127(shape):
    images = bytes_of(shape)
    np.testing.assert_allclose(resizing.lite0(images) * 128 + 127, by_pillow(images, 224).clip(0, 255), atol=1e-3)


@pytest.mark.parametrize("resize", [*resizing.INPUTS.values(), resizing.lite0])
def test_grey_becomes_three_equal_channels(resize):
    images = bytes_of((8, 8), channels=1)
    np.testing.assert_array_equal(resize(images), resize(np.repeat(images, 3, axis=-1)))


def test_an_image_of_the_networks_size_is_only_scaled():
    images = bytes_of((299, 299))
    for resize in (resizing.tf1, resizing.clean):
        np.testing.assert_array_equal(resize(images), (images.astype(np.float32) - 128) / 128)


@pytest.mark.parametrize(
    "images", [jnp.zeros((2, 8, 8, 3)), np.zeros((8, 8, 3), np.uint8), np.zeros((2, 8, 8, 2), np.uint8)]
)
def test_other_images_than_bytes_of_one_or_three_channels_are_refused(images):
    with pytest.raises(ValueError, match=r"images are uint8 \[B, H, W, 1 or 3\], not .*"):
        resizing.tf1(images)
