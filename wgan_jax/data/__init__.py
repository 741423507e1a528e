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
    """Opens one split of the data set that `config.data` names.

    Args:
      config: the settings of a run, already checked.
      split: `train` or `held_out`.
      cache: whether to decode encoded images into memory: `always`, `auto` or `never`, as in `config.data.cache`.
        This pays for a split that is read more than once.
      most: largest number of encoded images to open; None opens all of them. If the split is larger, only
        `fixed_subset(source, most)` is opened. Images in it that cannot be read are then left out, however many they
        are, unless all are unreadable: `config.data.unreadable_fraction` limits them in training only.
      processes: number of processes of the run that read this split. Processes on one machine share the memory.

    Returns:
      The examples of the split, as a `Source`.

    Raises:
      UserError: if the data set does not exist or cannot be read, or if the shape or the classes of its examples
        differ from those in the config.
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
