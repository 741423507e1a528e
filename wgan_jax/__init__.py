"""Wasserstein GANs in JAX and Flax: pure functions, one compiled step, runs that resume bit for bit."""

import sys
from types import ModuleType

from wgan_jax.config import build
from wgan_jax.errors import UserError
from wgan_jax.method import constraints, draws, games, heads, objectives, priors
from wgan_jax.method.gan import Gan
from wgan_jax.method.lipschitz import clip_weights, gradient_penalty
from wgan_jax.method.player import Player
from wgan_jax.method.sampling import sample
from wgan_jax.method.state import TrainState, init_state, named_arrays
from wgan_jax.method.step import make_train_step
from wgan_jax.run.checkpoint import restore
from wgan_jax.version import __version__

__all__ = [
    "Gan",
    "Player",
    "TrainState",
    "UserError",
    "__version__",
    "build",
    "clip_weights",
    "constraints",
    "draws",
    "games",
    "gradient_penalty",
    "heads",
    "init_state",
    "make_train_step",
    "named_arrays",
    "objectives",
    "priors",
    "restore",
    "sample",
]


class _Face(ModuleType):
    """The package as a module whose functions stay what they are.

    Importing the command `wgan_jax.sample` would otherwise put the module in the place of the function `sample`.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (isinstance(value, ModuleType) and callable(self.__dict__.get(name))):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face
