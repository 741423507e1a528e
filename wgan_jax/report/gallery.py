"""The pictures of a run and their places: samples during training, and plots of its records."""

from pathlib import Path

import jax

from wgan_jax.data import Source
from wgan_jax.method.gan import Gan
from wgan_jax.method.state import TrainState
from wgan_jax.report import pictures, records
from wgan_jax.report.media import medium


def draw_samples(workdir: Path, gan: Gan, state: TrainState, key: jax.Array, step: int, real: Source) -> None:
    """Draws `samples/<step>.png`, or another file that suits the medium, from the same latents at every step."""
    medium(gan.image_shape)[1].snapshot(workdir / "samples" / f"{step:07d}", gan, state, key, step, real)


def draw_plots(workdir: Path, estimate_name: str) -> None:
    """Draws `plots/estimate.png` and `plots/losses.png` from the run's records."""
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
