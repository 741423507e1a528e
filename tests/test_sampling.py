import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import wgan_jax
from wgan_jax.config.settings import to_json
from wgan_jax.data import ArraySource, batches, digits
from wgan_jax.method import sampling
from wgan_jax.method.batch import to_uint8
from wgan_jax.method.sampling import CHUNK, interpolate
from wgan_jax.metrics.estimate import fixed_set, make_estimate
from wgan_jax.run.checkpointer import Checkpointer

from .commands import ROOT
from .conftest import tiny_config

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(5)


@functools.cache
def trained():
    gan = wgan_jax.build(tiny_config())
    state = wgan_jax.init_state(gan, jax.random.key(0))
    data = batches.dataset(digits.load("train"), gan.schedule, seed=0, batch_size=8, steps=3)
    train_step = jax.jit(wgan_jax.make_train_step(gan))
    for step in range(3):
        state, _ = train_step(state, data[step])
    return gan, state


def test_the_lines_of_the_readme(tmp_path):
    """From a notebook: build, init, step, sample, restore."""
    jax.clear_caches()  # other tests may have left a program without optimizations, which rounds in another way
    config = tiny_config()
    gan = wgan_jax.build(config)
    state = wgan_jax.init_state(gan, jax.random.key(0))
    train_step = jax.jit(wgan_jax.make_train_step(gan))
    batch = {"image": jnp.zeros((2, 8, 8, 8, 1))}
    state, metrics = train_step(state, batch)
    assert all(value.shape == () and jnp.isfinite(value) for value in metrics.values())
    images = wgan_jax.sample(gan, state, jax.random.key(1), num=64)
    assert images.shape == (64, 8, 8, 1)
    assert -1 <= images.min() < images.max() <= 1

    (tmp_path / "config.json").write_text(to_json(config))
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, state)
    gan, restored = wgan_jax.restore(str(tmp_path))
    np.testing.assert_array_equal(wgan_jax.sample(gan, restored, jax.random.key(1), num=64), images)


def test_a_sample_depends_on_its_number_alone():
    gan, state = trained()
    many = wgan_jax.sample(gan, state, KEY, num=CHUNK + 3)
    np.testing.assert_array_equal(wgan_jax.sample(gan, state, KEY, num=5), many[:5])
    assert len(many) == CHUNK + 3


def test_samples_come_from_the_average_unless_asked_otherwise():
    gan, state = trained()
    z = wgan_jax.draws.sample_latents(KEY, jnp.arange(4), gan.latent_dim)
    average = gan.generator.apply(state.ema, z)
    itself = gan.generator.apply(state.generator.variables, z)
    np.testing.assert_allclose(wgan_jax.sample(gan, state, KEY, num=4), average, atol=1e-6)
    np.testing.assert_allclose(wgan_jax.sample(gan, state, KEY, num=4, ema=False), itself, atol=1e-6)
    assert not np.allclose(average, itself)


def test_interpolation_stays_on_the_great_circle(rng):
    start, end = rng.normal(size=16), rng.normal(size=16)
    end *= np.linalg.norm(start) / np.linalg.norm(end)
    walk = np.asarray(interpolate(start, end, 7), np.float64)
    np.testing.assert_allclose(walk[[0, -1]], [start, end], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(walk, axis=1), np.linalg.norm(start), rtol=1e-5)
    cosines = np.sum(walk[1:] * walk[:-1], axis=1) / np.sum(start**2)
    np.testing.assert_allclose(cosines, cosines[0], rtol=1e-5)


def test_interpolation_between_parallel_latents_is_straight():
    np.testing.assert_allclose(interpolate(jnp.ones(4), jnp.ones(4), 3), np.ones((3, 4)), rtol=1e-5)


@pytest.mark.parametrize(("value", "byte"), [(-1, 0), (1, 255), (0, 128), (-3, 0), (3, 255), (-0.5, 64)])
def test_bytes_are_rounded_to_the_nearest(value, byte):
    assert to_uint8(np.array([value])) == byte


def test_the_estimate_is_of_the_given_images_against_fresh_samples():
    gan, state = trained()
    batch = fixed_set(digits.load("held_out"))
    images = batch["image"]
    assert images.shape == (3, 128, 8, 8, 1)
    z = wgan_jax.draws.held_out_latents(state.key, state.step, jnp.arange(3 * 128), gan.latent_dim)
    fake = gan.generator.apply(state.generator.variables, z)
    critic = functools.partial(gan.critic.apply, state.critic.variables)
    expected = np.mean(critic(images.reshape(-1, 8, 8, 1))) - np.mean(critic(fake))
    np.testing.assert_allclose(jax.jit(make_estimate(gan))(state, batch), expected, rtol=1e-4, atol=1e-6)


def test_a_small_set_is_taken_whole():
    assert fixed_set(ArraySource(np.zeros((5, 2), np.float32)))["image"].shape == (1, 5, 2)


def test_chunks_bound_the_compilations():
    gan, state = trained()
    before = sampling._generate._cache_size()
    for num in (1, 9, CHUNK, 2 * CHUNK + 1):
        wgan_jax.sample(gan, state, KEY, num=num)
    assert sampling._generate._cache_size() <= before + 1


def test_importing_a_module_leaves_the_packages_face_as_it_is():
    face = {name: getattr(wgan_jax, name) for name in wgan_jax.__all__}
    for path in sorted((ROOT / "wgan_jax").rglob("*.py")):
        if path.stem not in ("__init__", "__main__"):
            importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    assert {name: getattr(wgan_jax, name) for name in wgan_jax.__all__} == face
    assert callable(wgan_jax.sample)
