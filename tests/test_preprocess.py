"""Bytes to what the critic sees, against numpy, and inside the step."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wgan_jax
from wgan_jax.data import images
from wgan_jax.method import batch, draws
from wgan_jax.method.batch import prepare
from wgan_jax.method.draws import Keys
from wgan_jax.metrics.estimate import make_estimate

from .conftest import tiny_config

pytestmark = pytest.mark.usefixtures("quick_compilation")

EVERY_BYTE = np.arange(256, dtype=np.uint8)


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_bytes_to_range(array):
    images = batch.to_range(array(EVERY_BYTE))
    assert images.dtype == np.float32
    np.testing.assert_allclose(images, np.linspace(-1, 1, 256), atol=1e-6)
    assert (images[0], images[255]) == (-1, 1)


def test_floats_stay_and_other_integers_are_refused():
    images = np.float32([-1, 0.3])
    assert batch.to_range(images) is images
    with pytest.raises(ValueError, match="int32"):
        batch.to_range(np.arange(3, dtype=np.int32))


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_dequantised_bytes_fill_the_range_without_gaps(array):
    low = batch.dequantise(array(EVERY_BYTE), array(np.zeros(256, np.float32)))
    high = batch.dequantise(array(EVERY_BYTE), array(np.full(256, 1 / 128, np.float32)))
    np.testing.assert_array_equal(low, 2 * (EVERY_BYTE.astype(np.float64) / 256 - 0.5))
    np.testing.assert_array_equal(high[:-1], low[1:])
    assert (low[0], high[-1]) == (-1, 1)


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_flip(array, rng):
    images = rng.integers(256, size=(4, 3, 5, 2), dtype=np.uint8)
    flipped = np.array([True, False, True, False])
    result = np.asarray(batch.flip(array(images), array(flipped)))
    for i in range(4):
        np.testing.assert_array_equal(result[i], np.fliplr(images[i]) if flipped[i] else images[i])


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 14))
def test_the_crop_is_square_and_in_the_middle(height, width, side):
    row, column = np.mgrid[:height, :width]
    left, top, right, bottom = images.central_box(height, width, side)
    crop = np.stack([row, column], axis=-1)[top:bottom, left:right]
    expected = min(height, width, side or height)
    assert crop.shape == (expected, expected, 2)
    for axis, length in enumerate((height, width)):
        before, after = crop[..., axis].min(), length - 1 - crop[..., axis].max()
        assert 0 <= after - before <= 1


KEY = jax.random.key(3)
INDEX = jnp.arange(64)


def test_noise_and_flips_are_drawn_by_example():
    noise = draws.dequantisation(KEY, 5, 2, INDEX, (4, 4, 3))
    assert noise.shape == (64, 4, 4, 3)
    assert noise.min() >= 0
    assert noise.max() < 1 / 128
    np.testing.assert_allclose([noise.mean(), noise.std()], [1 / 256, 1 / 128 / np.sqrt(12)], rtol=0.03)
    flips = draws.flips(KEY, 5, 2, jnp.arange(1000))
    assert 440 < flips.sum() < 560
    part = INDEX[10:20]
    np.testing.assert_array_equal(noise[10:20], draws.dequantisation(KEY, 5, 2, part, (4, 4, 3)))
    np.testing.assert_array_equal(flips[10:20], draws.flips(KEY, 5, 2, part))
    for step, update in ((6, 2), (5, 3)):
        assert not np.array_equal(noise, draws.dequantisation(KEY, step, update, INDEX, (4, 4, 3)))
        assert not np.array_equal(flips[:64], draws.flips(KEY, step, update, INDEX))


@functools.cache
def small():
    gan = dataclasses.replace(
        wgan_jax.build(tiny_config()), generator_optimizer=optax.sgd(0.01), critic_optimizer=optax.sgd(0.01)
    )
    return gan, wgan_jax.init_state(gan, jax.random.key(0))


def pictures(rng):
    return rng.integers(256, size=(2, 8, 8, 8, 1), dtype=np.uint8)


@pytest.mark.parametrize(("dequantise", "flip"), [(False, False), (True, False), (False, True), (True, True)])
def test_what_the_critic_sees(dequantise, flip, rng):
    plain, state = small()
    gan = dataclasses.replace(plain, dequantise=dequantise, flip=flip)
    images, index = pictures(rng)[0], jnp.arange(8)
    expected = images / 127.5 - 1
    if dequantise:
        expected = 2 * (images / 256 - 0.5) + np.asarray(draws.dequantisation(state.key, 7, 1, index, (8, 8, 1)))
    if flip:
        flipped = np.asarray(draws.flips(state.key, 7, 1, index))
        assert 0 < flipped.sum() < 8
        expected[flipped] = expected[flipped][:, :, ::-1]
    seen = prepare(gan, Keys(state.key, 7, 1, jnp.arange(len(images))), jnp.asarray(images))
    assert seen.dtype == jnp.float32
    np.testing.assert_allclose(seen, expected, atol=1e-6)
    floats = jnp.asarray(expected, jnp.float32)
    assert prepare(gan, Keys(state.key, 7, 1, jnp.arange(len(floats))), floats) is floats


def test_a_step_on_bytes_is_the_step_on_what_the_critic_sees(rng):
    plain, state = small()
    gan = dataclasses.replace(plain, dequantise=True, flip=True)
    images = pictures(rng)
    floats = np.stack(
        [
            prepare(gan, Keys(state.key, 0, update, jnp.arange(len(row))), jnp.asarray(row))
            for update, row in enumerate(images)
        ]
    )
    train_step = jax.jit(wgan_jax.make_train_step(gan))
    expected, expected_metrics = train_step(state, {"image": floats})
    result, metrics = train_step(state, {"image": images})
    for name, value in expected_metrics.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
    for value, wanted in zip(jax.tree.leaves(result.critic), jax.tree.leaves(expected.critic), strict=True):
        np.testing.assert_allclose(value, wanted, atol=1e-5)


def test_other_integers_are_refused():
    plain, state = small()
    with pytest.raises(ValueError, match="int32"):
        prepare(plain, Keys(state.key, 0, 0, jnp.arange(8)), jnp.zeros((8, 8, 8, 1), jnp.int32))


def test_the_estimate_takes_bytes(rng):
    plain, state = small()
    noisy = dataclasses.replace(plain, dequantise=True)
    images = pictures(rng)
    noise = draws.held_out_dequantisation(state.key, state.step, jnp.arange(16), (8, 8, 1)).reshape(images.shape)
    estimate = jax.jit(make_estimate(plain))
    for gan, floats in ((plain, images / 127.5 - 1), (noisy, 2 * (images / 256 - 0.5) + noise)):
        expected = estimate(state, {"image": jnp.asarray(floats, jnp.float32)})
        np.testing.assert_allclose(jax.jit(make_estimate(gan))(state, {"image": images}), expected, rtol=1e-4)
