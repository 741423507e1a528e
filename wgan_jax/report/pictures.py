"""Pictures of a run: sample grids, curves, and the critic as a landscape."""

import gc
import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure
from PIL import Image

from wgan_jax.files import write_atomically
from wgan_jax.method.batch import to_uint8
from wgan_jax.report.records import Record

GRID_PIXELS = 600
"""A grid of small images is enlarged by a whole factor to about this many pixels."""

BLUE, ORANGE, GREY, GREEN = "#2a6f97", "#e07a1f", "#8d99ae", "#1b9e5a"


def grid(images: np.ndarray, columns: int | None = None) -> Image.Image:
    """Arranges images `[N, H, W, C]` in [−1, 1] in rows with thin lines between them; as a square if `columns` is None.

    C is 1, 3 or 4. For any other number, the first channel is shown.
    """
    images = to_uint8(images)
    if images.shape[-1] not in (1, 3, 4):
        images = images[..., :1]
    num, height, width, channels = images.shape
    columns = columns or math.ceil(math.sqrt(num))
    rows = math.ceil(num / columns)
    line = max(1, height // 16)
    size = rows * (height + line) + line, columns * (width + line) + line
    canvas = np.full((*size, channels), 96, np.uint8)
    for i, image in enumerate(images):
        top, left = line + i // columns * (height + line), line + i % columns * (width + line)
        canvas[top : top + height, left : left + width] = image
    picture = Image.fromarray(canvas[:, :, 0] if channels == 1 else canvas)
    factor = max(1, round(GRID_PIXELS / max(picture.size)))
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)


def save(picture: Image.Image | Figure, path: Path) -> None:
    """Writes a PNG, and empties a figure. A reader sees the old file or the new one, never a half-written one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    if isinstance(picture, Figure):
        picture.savefig(content, format="png", dpi=120, metadata={"Software": None})
        picture.clear()
        gc.collect()  # its artists hold each other, and a long run would keep every figure for a while
    else:
        picture.save(content, format="png")
    write_atomically(path, content.getvalue())


def curves(records: Sequence[Record], series: dict[str, str], *, title: str, ylabel: str) -> Figure:
    """Draws metrics against the generator iteration; `series` maps a metric's name to its label.

    A metric with more than 1,000 records is drawn faintly, with its running mean over 1 % of the run on top. One with
    at most 1,000 records is drawn with points.
    """
    figure, axes = _figure(7.0, 4.2)
    bounds = []
    for color, (name, label) in zip((BLUE, ORANGE, GREY, GREEN), series.items(), strict=False):
        points = [(r["step"], r[name]) for r in records if name in r]
        if not points:
            continue
        x, y = np.array(points, dtype=np.float64).T
        if len(points) > 1_000:
            width = len(points) // 100
            axes.plot(x, y, color=color, alpha=0.2, linewidth=0.5)
            y = np.convolve(y, np.ones(width) / width, mode="valid")
            axes.plot(x[width - 1 :], y, color=color, linewidth=1.6, label=label)
        else:
            axes.plot(x, y, color=color, marker=".", markersize=3, linewidth=1.4, label=label)
        bounds.append((y.min(), y.max()))
    if bounds:  # by the means: single outliers would flatten the rest
        low, high = min(low for low, _ in bounds), max(high for _, high in bounds)
        margin = 0.1 * (high - low) + 1e-6
        axes.set_ylim(low - margin, high + margin)
        axes.legend(frameon=False)
    axes.set(title=title, xlabel="generator iteration", ylabel=ylabel)
    axes.grid(alpha=0.25)
    return figure


def landscape(scores: np.ndarray, extent: float, real: np.ndarray, fake: np.ndarray, *, title: str) -> Figure:
    """Draws a critic of the plane as contours, with real and generated points (arXiv 1704.00028, Figure 1a).

    Args:
      scores: `[N, N]`, row i at the i-th height, on a grid over `[−extent, extent]²`.
      extent: half the side of the square.
      real: `[M, 2]`.
      fake: `[M, 2]`.
      title: text above the picture.
    """
    figure, axes = _figure(6.0, 5.4)
    filled = contours(axes, scores, extent)
    axes.scatter(real[:, 0], real[:, 1], s=4, color=ORANGE, label="real", linewidths=0)
    axes.scatter(fake[:, 0], fake[:, 1], s=4, color=GREEN, label="generated", linewidths=0)
    axes.set(title=title)
    axes.legend(loc="upper right", markerscale=3, framealpha=0.9)
    figure.colorbar(filled, ax=axes, label="critic", shrink=0.85)
    return figure


def contours(axes: Axes, scores: np.ndarray, extent: float) -> QuadContourSet:
    """Draws scores `[N, N]` over `[−extent, extent]²` as 24 levels, row i at the i-th height; returns the filled."""
    ticks = np.linspace(-extent, extent, len(scores))
    filled = axes.contourf(ticks, ticks, scores, levels=24, cmap="YlGnBu_r", alpha=0.75)
    axes.contour(ticks, ticks, scores, levels=24, colors="white", linewidths=0.4, linestyles="solid")
    axes.set(xlim=(-extent, extent), ylim=(-extent, extent), aspect="equal")
    return filled


def panels(rows: int, columns: int, *, width: float, height: float) -> tuple[Figure, np.ndarray]:
    """Returns an empty figure of several panels, with its size in inches, and its axes `[rows, columns]`."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()
