"""Kinds of examples, such as images: one row of a table for each. A row says how examples are drawn and written."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from wgan_jax.data import Source
from wgan_jax.errors import UserError
from wgan_jax.method.gan import Gan
from wgan_jax.method.sampling import sample
from wgan_jax.method.state import TrainState
from wgan_jax.report import pictures

GRID_IMAGES = 64
ROW_IMAGES, ROWS = 8, 16
"""Images of each class in the grid of a class-conditional GAN, and the most classes in it."""
TOY_POINTS = 1_000
TOY_EXTENT = 3.0
TOY_GRID = 128

Snapshot = Callable[[Path, Gan, TrainState, jax.Array, int, Source], None]
Writer = Callable[[Path, np.ndarray, np.ndarray | None, int | None], None]


class Medium(NamedTuple):
    """One kind of examples."""

    fits: Callable[[tuple[int, ...]], bool]
    """Whether examples of this `image_shape` are of this kind."""
    snapshot: Snapshot
    """`(path, gan, state, key, step, real)` writes a file that shows samples during training.

    `path` has no ending: the function appends its own. The latents come from `key`, and are the same at every step.
    """
    writers: Mapping[str, Writer]
    """Functions by ending: `(path, examples [N, *image_shape], label [N] or None, columns or None)` writes a file."""


def write_array(path: Path, examples: np.ndarray, label: np.ndarray | None, columns: int | None) -> None:
    """Writes examples as the array `image` of an `.npz` file, and their classes as `label` if they have any."""
    del columns
    arrays: dict[str, Any] = {"image": examples} if label is None else {"image": examples, "label": label}
    np.savez_compressed(path, **arrays)


def write_grid(path: Path, images: np.ndarray, label: np.ndarray | None, columns: int | None) -> None:
    """Writes images as one picture."""
    del label
    pictures.save(pictures.grid(images, columns), path)


def show_images(path: Path, gan: Gan, state: TrainState, key: jax.Array, step: int, real: Source) -> None:
    """Draws a grid of samples; the grid of a class-conditional GAN has a row for each class."""
    del step, real
    num, label, columns = GRID_IMAGES, None, None
    if gan.num_classes:
        label, columns = np.arange(min(gan.num_classes, ROWS)).repeat(ROW_IMAGES), ROW_IMAGES
        num = len(label)
    images = np.asarray(sample(gan, state, key, num, label=label))
    write_grid(path.with_suffix(".png"), images, label, columns)


def show_plane(path: Path, gan: Gan, state: TrainState, key: jax.Array, step: int, real: Source) -> None:
    """Draws the critic's landscape with real and generated points. With classes there is no single landscape."""
    if gan.num_classes:
        return
    picture = pictures.landscape(
        critic_on_grid(gan, state),
        TOY_EXTENT,
        real.read(np.arange(min(TOY_POINTS, len(real))))["image"],
        np.asarray(sample(gan, state, key, TOY_POINTS)),
        title=f"the critic after {step:,} generator iterations",
    )
    pictures.save(picture, path.with_suffix(".png"))


def critic_on_grid(gan: Gan, state: TrainState) -> np.ndarray:
    """Returns the scores of a critic of the plane over `[−3, 3]²`: `[128, 128]`, row i at the i-th height."""
    ticks = jnp.linspace(-TOY_EXTENT, TOY_EXTENT, TOY_GRID)
    points = jnp.stack(jnp.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
    return np.asarray(gan.score(state.critic, points).value).reshape(TOY_GRID, TOY_GRID)


MEDIA: dict[str, Medium] = {
    "images": Medium(lambda shape: len(shape) == 3, show_images, {".png": write_grid, ".npz": write_array}),
    "points of the plane": Medium(lambda shape: shape == (2,), show_plane, {".npz": write_array}),
}
"""Every kind of examples by its name, in the order in which they are tried."""

ARRAYS = Medium(lambda shape: True, lambda *_: None, {".npz": write_array})
"""Row for examples of no kind, which nothing draws."""


def medium(image_shape: tuple[int, ...]) -> tuple[str, Medium]:
    """Returns the name and the row of examples of a shape."""
    return next(((name, row) for name, row in MEDIA.items() if row.fits(image_shape)), ("arrays", ARRAYS))


def check_ending(out: Path, image_shape: tuple[int, ...]) -> None:
    """Raises `UserError` if examples of this shape cannot be written to a file whose name ends like this."""
    name, row = medium(image_shape)
    if out.suffix not in row.writers:
        raise UserError(f"--out={out}: must end in {' or '.join(row.writers)}, to hold {name}")


def write(out: Path, examples: np.ndarray, label: np.ndarray | None, columns: int | None = None) -> None:
    """Writes examples to a file, in the form that its ending says.

    Args:
      out: the file; see `check_ending`.
      examples: `[N, *image_shape]`.
      label: their classes `[N]`, if they have any.
      columns: number of columns in a picture; None for a square.

    Raises:
      UserError: if `out` cannot be written.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        medium(examples.shape[1:])[1].writers[out.suffix](out, examples, label, columns)
    except OSError as error:
        raise UserError(f"--out={out}: cannot be written: {error.strerror}") from None
