"""Data sets by name, and batches from them."""

from ml_collections import ConfigDict

from wgan_jax import config as configs
from wgan_jax.data import digits, toy
from wgan_jax.data.source import ArraySource, Examples, Source
from wgan_jax.errors import UserError

__all__ = ["ArraySource", "Examples", "Source", "load"]


def load(config: ConfigDict, split: str) -> Source:
    """The examples of a split, `train` or `held_out`, that `config.data` names.

    Raises:
      UserError: if there is no such data set, or its examples have another shape than the config says.
    """
    name: str = config.data.name
    kind, _, rest = name.partition(":")
    if name == "digits":
        source: Source = digits.load(split)
    elif kind == "toy" and rest in toy.DISTRIBUTIONS:
        source = toy.load(rest, split)
    else:
        known = ["digits", *(f"toy:{toy_name}" for toy_name in toy.DISTRIBUTIONS)]
        raise UserError(f"config.data.name = {name!r}: no such data set; {configs.nearest(name, known)}")
    if source.image_shape != configs.image_shape(config):
        size, channels = (source.image_shape[0], source.image_shape[-1])
        size = size if len(source.image_shape) > 1 else 0
        raise UserError(
            f"config.data.size = {config.data.size}, config.data.channels = {config.data.channels}: "
            f"{name} needs {size} and {channels}"
        )
    return source
