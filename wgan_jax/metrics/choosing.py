"""Finds the rows of the table of metrics that are asked for, and the networks that they need."""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import numpy as np

from wgan_jax.devices import hosts
from wgan_jax.errors import UserError, nearest
from wgan_jax.metrics import faces
from wgan_jax.metrics.features import load_inception, load_lite0
from wgan_jax.metrics.kept import Arrays, Kept
from wgan_jax.metrics.measuring import Loaded
from wgan_jax.metrics.scores import IMAGES, METRICS, PIXELS, Metric

ALL = "all"
FACES = "afd"

Table = Mapping[str, Metric]


def with_faces(table: Table, cascade: str | None) -> Table:
    """Returns a table with the row `afd`: the share of images in which a cascade finds a face.

    Raises:
      UserError: if the file of the cascade cannot be read.
    """
    finder: Any = faces.load_cascade(cascade) if cascade else None

    class Found(Kept):
        """Number of images, and of those with a face."""

        def __init__(self, num: int):
            super().__init__(num)
            self.total = np.zeros(2, np.int64)

        def add(self, index: np.ndarray, rows: np.ndarray) -> None:
            rows = rows[index < self.num]
            if len(rows):
                self.total += (len(rows), faces.has_face(rows, finder).sum())

        def join(self) -> Arrays:
            return {"total": hosts.total(self.total)}

        @staticmethod
        def value(arrays: Arrays) -> float:
            return arrays["total"][1] / arrays["total"][0]

    def refuses(shape: tuple[int, ...], num: int) -> str:
        del num
        if finder is None:
            return "it needs --cascade=FILE.xml, such as lbpcascade_animeface.xml of github.com/nagadomi"
        return "" if min(shape[:2]) >= faces.SMALLEST else f"images of {shape[0]}×{shape[1]} pixels hold no face"

    def compare(reference: float, images: float) -> tuple[float]:
        del reference
        return (images,)

    return {**table, FACES: Metric(PIXELS, IMAGES, Found, compare, (FACES,), "higher", refuses)}


def check_names(names: Iterable[str], asked: str, known: Collection[str] = METRICS) -> None:
    """Checks that every name is known.

    Args:
      names: what was asked for.
      asked: how it was asked for, for the message, such as `--metrics`.
      known: names of all metrics.

    Raises:
      UserError: if a name is not known.
    """
    for name in names:
        if name not in known:
            raise UserError(f"{asked}: there is no metric {name!r}; {nearest(name, list(known))}")


def rows(
    names: Collection[str],
    shape: tuple[int, ...],
    num: int,
    asked: str,
    table: Table = METRICS,
    skip: Callable[[str], None] | None = None,
) -> dict[str, Metric]:
    """Returns the rows with these names that suit the images.

    Args:
      names: names of metrics.
      shape: shape of an image.
      num: number of images in the smaller set.
      asked: how they were asked for, for messages.
      table: all metrics.
      skip: takes a line about each metric that does not suit; None makes it an error.

    Raises:
      UserError: for the first metric that does not suit, if `skip` is None.
    """
    if len(shape) != 3 or shape[-1] not in (1, 3):
        raise UserError(f"{asked}: metrics compare images, grey or RGB, and these examples have the shape {shape}")
    found = {}
    for name in names:
        if reason := table[name].refuses(shape, num):
            if skip is None:
                raise UserError(f"{asked}: {name} has no value: {reason}; leave it out")
            skip(f"{name} is left out: {reason}")
        else:
            found[name] = table[name]
    return found


def networks(
    metrics: Table, *, weights: str | None = None, input: str = "tf1", skip: Callable[[str], None] | None = None
) -> tuple[dict[str, Metric], dict[str, Loaded]]:
    """Loads the networks of some rows. Returns the rows whose network is there, and the networks by name.

    Args:
      metrics: rows by their names.
      weights: file of Inception's weights; None looks in the usual places.
      input: how images are resized for Inception.
      skip: takes a line about each network that is not there; None makes it an error.

    Raises:
      UserError: if a network is not there and `skip` is None.
    """
    loaders = {"inception": lambda: load_inception(weights, input=input), "lite0": load_lite0}
    found: dict[str, Loaded] = {}
    for name in dict.fromkeys(row.network for row in metrics.values()):
        if name == PIXELS:
            continue
        try:
            found[name] = loaders[name]()
        except UserError as error:
            if skip is None:
                raise
            left_out = [metric for metric, row in metrics.items() if row.network == name]
            skip(f"{', '.join(left_out)}: left out: {error}")
    return {name: row for name, row in metrics.items() if row.network in {PIXELS, *found}}, found
