"""Data sets by name, and batches from them."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from wgan_jax import config as configs
from wgan_jax.data import digits, folders, memory, tfds, toy
from wgan_jax.data.images import Form, ImageSource
from wgan_jax.data.source import ArraySource, Examples, Source
from wgan_jax.errors import UserError

__all__ = ["ArraySource", "Examples", "Source", "fingerprint", "load"]


def load(config: ConfigDict, split: str, *, cache: str = "never") -> Source:
    """The examples of a split, `train` or `held_out`, that `config.data` names.

    Args:
      config: a run's settings, checked.
      split: `train` or `held_out`.
      cache: whether encoded images are decoded into memory, as in `config.data.cache`: worth it for a split that is
        read more than once.

    Raises:
      UserError: if there is no such data set, or it cannot be read, or its examples have another shape than the
        config says, or other classes.
    """
    source = _open(config, split)
    _check_classes(config, source.num_classes)
    if isinstance(source, ImageSource):
        return memory.settle(source, cache=cache, unreadable_fraction=config.data.unreadable_fraction)
    if source.image_shape != configs.image_shape(config):
        size, channels = (source.image_shape[0], source.image_shape[-1])
        size = size if len(source.image_shape) > 1 else 0
        raise UserError(
            f"config.data.size = {config.data.size}, config.data.channels = {config.data.channels}: "
            f"{config.data.name} needs {size} and {channels}"
        )
    return source


def fingerprint(train: Source, held_out: Source) -> dict[str, Any]:
    """Tells which examples a run has: their number and a digest, of each split."""
    return {"train": _digest(train), "held_out": _digest(held_out)}


def _digest(source: Source) -> dict[str, Any]:
    digest = hashlib.sha256()
    for start in range(0, len(source), memory.CHUNK):
        examples = source.read(np.arange(start, min(start + memory.CHUNK, len(source))))
        for name in sorted(examples):
            digest.update(np.ascontiguousarray(examples[name]).tobytes())
    return {"examples": len(source), "digest": digest.hexdigest()}


def _check_classes(config: ConfigDict, found: int) -> None:
    c, name = config.conditional, config.data.name
    if c.kind == "none" or c.classes == found:
        return
    if found:
        raise UserError(f"config.conditional.classes = {c.classes}: {name} has {found}; use that number")
    remedy = (
        "sort its images into one sub-folder per class" if name.startswith("folder:") else "use a data set with them"
    )
    raise UserError(f"config.conditional.kind = {c.kind!r}: {name} has no labels; {remedy}, or 'none'")


def _open(config: ConfigDict, split: str) -> Source:
    c = config.data
    kind, _, rest = c.name.partition(":")
    form = Form(c.size, c.channels, c.crop)
    if c.name == "digits":
        return digits.load(split)
    if kind == "toy" and rest in toy.DISTRIBUTIONS:
        return toy.load(rest, split)
    if kind == "folder" and rest:
        return folders.load(Path(rest).expanduser(), split, form, c.held_out_fraction)
    if kind == "tfds" and rest:
        return tfds.load(
            rest,
            split,
            form,
            directory=c.dir,
            train_split=c.train_split,
            held_out_split=c.held_out_split,
            held_out_fraction=c.held_out_fraction,
        )
    known = ["digits", *(f"toy:{name}" for name in toy.DISTRIBUTIONS), "tfds:fashion_mnist", "folder:/path"]
    raise UserError(f"config.data.name = {c.name!r}: no such data set; {configs.nearest(c.name, known)}")
