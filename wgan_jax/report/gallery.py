"""The pictures of a run and where they are: samples through training, and plots of its records."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from wgan_jax.data import Source
from wgan_jax.method.gan import Gan
from wgan_jax.method.sampling import sample
from wgan_jax.method.state import TrainState
from wgan_jax.report import pictures, records

GRID_IMAGES = 64
ROW_IMAGES, ROWS = 8, 16
"""Of a class in the grid of a class-conditional GAN, and classes in it at most."""
TOY_POINTS = 1_000
TOY_EXTENT = 3.0
TOY_GRID = 128


def draw_samples(workdir: Path, gan: Gan, state: TrainState, key: jax.Array, step: int, real: Source) -> None:
    """`samples/<step>.png`: a grid, or the critic's landscape with points; the same latents at every step.

    The grid of a class-conditional GAN has a row for each class.
    """
    path = workdir / "samples" / f"{step:07d}.png"
    if gan.num_classes:
        label = np.arange(min(gan.num_classes, ROWS)).repeat(ROW_IMAGES)
        images = sample(gan, state, key, len(label), label=label)
        pictures.save(pictures.grid(np.asarray(images), ROW_IMAGES), path)
    elif len(gan.image_shape) == 3:
        pictures.save(pictures.grid(np.asarray(sample(gan, state, key, GRID_IMAGES))), path)
    elif gan.image_shape == (2,):
        pictures.save(
            pictures.landscape(
                critic_on_grid(gan, state),
                TOY_EXTENT,
                real.read(np.arange(min(TOY_POINTS, len(real))))["image"],
                np.asarray(sample(gan, state, key, TOY_POINTS)),
                title=f"the critic after {step:,} generator iterations",
            ),
            path,
        )


def critic_on_grid(gan: Gan, state: TrainState) -> np.ndarray:
    """Scores of a critic of the plane over `[−3, 3]²`: `[128, 128]`, row i at the i-th height."""
    ticks = jnp.linspace(-TOY_EXTENT, TOY_EXTENT, TOY_GRID)
    points = jnp.stack(jnp.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
    return np.asarray(gan.score(state.critic, points).value).reshape(TOY_GRID, TOY_GRID)


def draw_plots(workdir: Path, estimate_name: str) -> None:
    """`plots/estimate.png` and `plots/losses.png`, from the run's records."""
    history = records.read(workdir)
    title = estimate_name.replace("_", " ")
    estimate = pictures.curves(
        history,
        {
            estimate_name: "training batches",
            "training_estimate": "training data, fixed set",
            "held_out_estimate": "held-out data",
            "wasserstein_exact": "exact W₁ of the held-out data",
        },
        title=f"The critic's {title}",
        ylabel=title,
    )
    losses = pictures.curves(
        history,
        {"critic_loss": "critic", "generator_loss": "generator"},
        title="Losses",
        ylabel="loss",
    )
    pictures.save(estimate, workdir / "plots" / "estimate.png")
    pictures.save(losses, workdir / "plots" / "losses.png")
