"""Data sets by name, and batches from them."""

import numpy as np
from ml_collections import ConfigDict

from wgan_jax.data import memory
from wgan_jax.data.arrays import ArraySource
from wgan_jax.data.images import ImageSource
from wgan_jax.data.kinds import image_shape, kind
from wgan_jax.data.source import Examples, Source, fingerprint, fixed_subset
from wgan_jax.errors import UserError

__all__ = ["ArraySource", "Examples", "Source", "fingerprint", "fixed_subset", "load"]


def load(
    config: ConfigDict, split: str, *, cache: str = "never", most: int | None = None, processes: int = 1
) -> Source:
    """The examples of a split, `train` or `held_out`, that `config.data` names.

    Args:
      config: a run's settings, checked.
      split: `train` or `held_out`.
      cache: whether encoded images are decoded into memory, as in `config.data.cache`: worth it for a split that is
        read more than once.
      most: how many encoded images are wanted, at most: only `fixed_subset(source, most)` is opened, and whichever of
        them cannot be read is left out, since it is training that judges how many that may be.
      processes: how many processes of the run read this split; those of one machine share its memory.

    Raises:
      UserError: if there is no such data set, or it cannot be read, or its examples have another shape than the
        config says, or other classes.
    """
    source = kind(config.data.name).open(config, config.data.name.partition(":")[2], split)
    _check_classes(config, source.num_classes)
    if isinstance(source, ImageSource):
        allowed = config.data.unreadable_fraction
        if most is not None and most < len(source):
            source, allowed = source.only(np.sort(fixed_subset(source, most))), 1.0
        return memory.settle(source, cache=cache, unreadable_fraction=allowed, processes=processes)
    if source.image_shape != image_shape(config):
        size, channels = (source.image_shape[0], source.image_shape[-1])
        size = size if len(source.image_shape) > 1 else 0
        raise UserError(
            f"config.data.size = {config.data.size}, config.data.channels = {config.data.channels}: "
            f"{config.data.name} needs {size} and {channels}"
        )
    return source


def _check_classes(config: ConfigDict, found: int) -> None:
    c, name = config.conditional, config.data.name
    if c.kind == "none" or c.classes == found:
        return
    if found:
        raise UserError(f"config.conditional.classes = {c.classes}: {name} has {found}; use that number")
    raise UserError(f"config.conditional.kind = {c.kind!r}: {name} has no labels; {kind(name).labelling}, or 'none'")
