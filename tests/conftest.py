"""Settings and small GANs that the tests share."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np
import pytest
from hypothesis import settings
from ml_collections import ConfigDict

from wgan_jax.config import default

settings.register_profile("any_machine", deadline=None)  # a busy machine is no failure
settings.load_profile("any_machine")


def tiny_config(**changes) -> ConfigDict:
    """A run on digits so small that it compiles and trains in seconds; `changes` are dotted keys with __ for dots."""
    c = default()
    c.steps = 12
    c.batch_size = 8
    c.n_critic = 2
    c.latent_dim = 4
    for player in (c.generator, c.critic):
        player.width = 8
    c.report.every = 4
    c.report.samples_every = 4
    c.report.checkpoint_every = 4
    c.update_from_flattened_dict({key.replace("__", "."): value for key, value in changes.items()})
    for name, player in (("generator", c.generator), ("critic", c.critic)):
        if player.network == "mlp" and f"{name}__depth" not in changes:
            player.depth = 1
    return c


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def compiled_once(tmp_path_factory):
    """Lets the runs of a file that are the same share their compiled programs."""
    from jax._src import compilation_cache

    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = [getattr(jax.config, name) for name in names]
    for name, value in zip(names, (str(tmp_path_factory.mktemp("compiled")), 0.0), strict=True):
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield
    for name, value in zip(names, before, strict=True):
        jax.config.update(name, value)
    compilation_cache.reset_cache()
