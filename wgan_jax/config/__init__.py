"""From a file of settings to a GAN. The only room that knows both the method and the networks."""

from wgan_jax.config.build import build, stages
from wgan_jax.config.check import check
from wgan_jax.config.settings import default, one_of

__all__ = ["build", "check", "default", "one_of", "stages"]
