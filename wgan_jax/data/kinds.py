"""The kinds of data: one row of a table for each. A new kind is a new row and a file that opens it."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from wgan_jax.data import digits, folders, tfds, toy
from wgan_jax.data.images import Form
from wgan_jax.data.source import Source
from wgan_jax.errors import UserError, nearest


class Kind(NamedTuple):
    """One kind of data: the part of `config.data.name` before its colon."""

    open: Callable[[ConfigDict, str, str], Source]
    """`(config, rest, split) -> source`, where `rest` is what follows the colon and `split` is `train` or `held_out`"""
    examples: tuple[str, ...]
    """Names that an error message offers."""
    settings: tuple[str, ...] = ()
    """Settings of `config.data` that this kind reads and that not every kind does."""
    encoded: bool = False
    """Whether the examples are encoded images, which are decoded, resized and converted to `config.data.channels`."""
    names: tuple[str, ...] | None = None
    """Texts that may follow the colon; None for any text, `("",)` for nothing."""
    labelling: str = "use a data set with them"
    """Advice to a user whose data have no labels."""

    def has(self, rest: str) -> bool:
        """Tells whether this may follow the colon."""
        return bool(rest) if self.names is None else rest in self.names


def _open_folder(config: ConfigDict, rest: str, split: str) -> Source:
    return folders.load(Path(rest).expanduser(), split, _form(config), config.data.held_out_fraction)


def _open_tfds(config: ConfigDict, rest: str, split: str) -> Source:
    c = config.data
    return tfds.load(
        rest,
        split,
        _form(config),
        directory=c.dir,
        train_split=c.train_split,
        held_out_split=c.held_out_split,
        held_out_fraction=c.held_out_fraction,
        labelled=num_classes(config) > 0,
    )


def _form(config: ConfigDict) -> Form:
    return Form(config.data.size, config.data.channels, config.data.crop)


_OF_FILES = ("crop", "cache", "held_out_fraction", "unreadable_fraction")

KINDS: dict[str, Kind] = {
    "digits": Kind(lambda config, rest, split: digits.load(split), ("digits",), names=("",)),
    "toy": Kind(
        lambda config, rest, split: toy.load(rest, split),
        tuple(f"toy:{name}" for name in toy.DISTRIBUTIONS),
        names=tuple(toy.DISTRIBUTIONS),
    ),
    "tfds": Kind(
        _open_tfds, ("tfds:fashion_mnist",), (*_OF_FILES, "dir", "train_split", "held_out_split"), encoded=True
    ),
    "folder": Kind(
        _open_folder,
        ("folder:/path",),
        _OF_FILES,
        encoded=True,
        labelling="sort its images into one sub-folder per class",
    ),
}
"""Every kind by its name."""


def kind(name: str) -> Kind:
    """Returns the kind of the data that `config.data.name` names.

    Raises:
      UserError: if there is no such data set.
    """
    first, _, rest = name.partition(":")
    if first in KINDS and KINDS[first].has(rest):
        return KINDS[first]
    known = [example for kind in KINDS.values() for example in kind.examples]
    raise UserError(f"config.data.name = {name!r}: no such data set; {nearest(name, known)}")


def encoded(name: str) -> bool:
    """Tells whether `config.data.name` names encoded images; False if there is no such kind."""
    first = name.partition(":")[0]
    return first in KINDS and KINDS[first].encoded


def image_shape(config: ConfigDict) -> tuple[int, ...]:
    """Returns the shape of one example: `(size, size, channels)`, or `(channels,)` for points."""
    size, channels = config.data.size, config.data.channels
    return (size, size, channels) if size else (channels,)


def num_classes(config: ConfigDict) -> int:
    """Returns the number of classes that the players know; 0 for an unconditional GAN."""
    return 0 if config.conditional.kind == "none" else config.conditional.classes
