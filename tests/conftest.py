"""Settings and small GANs that the tests share."""

import atexit
import os
import shutil
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
if "PYTEST_XDIST_WORKER" not in os.environ:
    # All processes of a session, also the commands that tests start, share what they compile.
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="wgan_jax-compiled-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

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


@pytest.fixture
def quick_compilation():
    """Programs compiled without optimizations: the same numbers but for rounding, in half of the time."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def full_compilation(quick_compilation):
    """All optimizations, in a file where the others do without."""
    jax.config.update("jax_disable_most_optimizations", False)
