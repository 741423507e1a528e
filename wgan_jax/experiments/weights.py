"""Weights of a critic: clipping drives them to its bounds (arXiv 1704.00028, Fig. 1b, right).

    python -m wgan_jax.experiments.weights --workdir=runs/papers [--preset=quick|full]

Two WGANs on the Swiss roll with critics of 12 ReLU layers, one clipped, one penalised, and the histograms of all
their critics' weights (kernels, not biases).

`quick`: width 64, 1,000 generator iterations, five times the paper's learning rates. `full`: width 512, 10,000
iterations at its learning rates: about 11 hours on 2 CPU cores, by the rate measured beside other work.
"""

import dataclasses

import jax
import numpy as np
from ml_collections import ConfigDict

from wgan_jax import data
from wgan_jax.experiments import experiment, runs
from wgan_jax.gan import build
from wgan_jax.report import pictures
from wgan_jax.state import init_state
from wgan_jax.step import make_train_step


@dataclasses.dataclass(frozen=True)
class Settings(runs.DeepSettings):
    """Of the two runs."""

    bound: float = 0.01


QUICK = Settings()
FULL = Settings(width=512, steps=10_000, learning_rate=1e-4, clip_learning_rate=5e-5)


def run(settings: Settings) -> experiment.Result:
    """A clipped critic's weights beside a penalised one's."""
    config = runs.penalised(settings)
    weights = {
        "clipped": trained(runs.clipped(config, settings.bound, settings.clip_learning_rate)),
        "penalised": trained(config),
    }
    largest = {"clipped": settings.bound, "penalised": float(np.abs(weights["penalised"]).max())}
    shares = {kind: float(np.mean(np.abs(w) >= 0.99 * largest[kind])) for kind, w in weights.items()}

    figure, axes = pictures.panels(1, 2, width=9.0, height=3.9)
    for panel, color, kind in zip(axes[0], (pictures.ORANGE, pictures.BLUE), weights, strict=True):
        limit = largest[kind] if kind == "clipped" else float(np.quantile(np.abs(weights[kind]), 0.99))
        counts, edges = np.histogram(weights[kind], bins=50, range=(-limit, limit))
        panel.bar(edges[:-1], counts / weights[kind].size, width=np.diff(edges), align="edge", color=color)
        panel.set(title=f"{kind}: {100 * shares[kind]:.2g} % at ≥ .99 of the largest", xlabel="weight", ylabel="share")
        panel.locator_params(axis="x", nbins=5)
        panel.grid(alpha=0.25)
    return experiment.Result(
        numbers={
            kind: {"share_at_largest": shares[kind], "largest": largest[kind], "std": float(w.std()), "num": w.size}
            for kind, w in weights.items()
        },
        figure=figure,
        caption=(
            f"All kernels of critics of {settings.depth} ReLU layers of {settings.width} on the Swiss roll, after "
            f"{settings.steps:,} generator iterations: with weights clipped at {settings.bound} and with a penalty of "
            f"weight {settings.weight:g} (drawn to the 99th percentile). Of uniform weights 1 % would be at ≥ .99 of "
            "the largest."
        ),
        claim=(
            "clipping drives weights to its bounds, a penalty lets them spread: "
            f"{shares['clipped']:.1%} of the clipped critic's weights are at ≥ .99 of the bound (10 % wanted, ten "
            f"times a uniform distribution's), and {shares['penalised']:.3%} of the penalised one's at ≥ .99 of their "
            "largest (less than 1 % wanted)"
        ),
        holds=shares["clipped"] >= 0.1 and shares["penalised"] < 0.01,
    )


def trained(config: ConfigDict) -> np.ndarray:
    """All weights of a trained critic, in one row."""
    gan = build(config)
    state = init_state(gan, jax.random.key(config.seed))
    source = data.load(config, "train")
    state = runs.last(runs.states(make_train_step(gan), state, source, config=config, every=50))
    kernels = [np.ravel(w) for w in jax.tree.leaves(state.critic.params) if w.ndim > 1]
    return np.concatenate(kernels)


if __name__ == "__main__":
    experiment.main(run, quick=QUICK, full=FULL)
