"""Weights of a critic: clipping drives them to its bounds (arXiv 1704.00028, Fig. 1b, right).

    python -m wgan_jax.experiments.weights --workdir=runs/papers [--preset=quick|full]

Two WGANs on the Swiss roll with critics of 12 ReLU layers, one clipped, one penalised, and the histograms of all
their critics' weights (kernels, not biases).

The usual initial weights are far wider than the bounds, so that the first clipping alone puts nearly all of them there.
Here the clipped critic starts inside: each kernel is scaled to just reach the bound. And the bound must leave gradients
that a first layer can learn from: at 0.01 they vanish in a critic of this width, and nothing moves.

Which wrong programs fail: untrained weights, wherever they start (what is wanted at the bounds must have come there,
and what is wanted outside the initial range must have gone there); a run whose clipping does all the work; a penalised
critic that is clipped too, or piles up at walls of its own.

`quick`: width 64, 1,000 generator iterations, five times the paper's learning rates. `full`: width 512, 10,000
iterations at its learning rates: about 11 hours on 2 CPU cores, by the rate measured beside other work.
"""

import dataclasses

import jax
import numpy as np
from ml_collections import ConfigDict

from wgan_jax import data
from wgan_jax.config import build
from wgan_jax.experiments import harness, setups
from wgan_jax.method.state import init_state
from wgan_jax.method.step import make_train_step
from wgan_jax.report import pictures


@dataclasses.dataclass(frozen=True)
class Settings(setups.DeepSettings):
    """Of the two runs."""

    bound: float = 0.1


QUICK = Settings()
FULL = Settings(width=512, steps=10_000, learning_rate=1e-4, clip_learning_rate=5e-5, bound=0.03)


def run(settings: Settings) -> harness.Result:
    """A clipped critic's weights beside a penalised one's."""
    config = setups.penalised(settings)
    clip = setups.clipped(config, settings.bound, settings.clip_learning_rate)
    kernels = {"clipped": train(clip, bound=settings.bound), "penalised": train(config)}
    found = {kind: summary(*pair) for kind, pair in kernels.items()}

    figure, axes = pictures.panels(1, 2, width=9.0, height=3.9)
    for panel, color, (kind, pair) in zip(axes[0], (pictures.ORANGE, pictures.BLUE), kernels.items(), strict=True):
        start, end = (np.concatenate([np.ravel(kernel) for kernel in side]) for side in pair)
        limit = settings.bound if kind == "clipped" else float(np.quantile(np.abs(end), 0.995))
        for weights, style in ((end, {"color": color}), (start, {"histtype": "step", "color": "black"})):
            label = f"{'at the start' if weights is start else 'trained'}"
            share = np.full(weights.size, 1 / weights.size)
            panel.hist(weights, bins=50, range=(-limit, limit), weights=share, label=label, **style)
        panel.set(title=kind, xlabel="weight", ylabel="share")
        panel.locator_params(axis="x", nbins=5)
        panel.grid(alpha=0.25)
        panel.legend(fontsize=8, loc="upper center" if kind == "clipped" else "lower center")
    clipped, penalised = found["clipped"], found["penalised"]
    return harness.Result(
        numbers=found,
        figure=figure,
        caption=(
            f"All kernels of critics of {settings.depth} ReLU layers of {settings.width} on the Swiss roll, before and "
            f"after {settings.steps:,} generator iterations: with weights clipped at {settings.bound}, from a start "
            f"inside the bounds, and with a penalty of weight {settings.weight:g} (drawn to the 99.5th percentile)."
        ),
        claim=(
            "clipping drives weights to its bounds, a penalty lets them spread: of the clipped critic's weights "
            f"{clipped['at_largest_before']:.1%} were at ≥ .99 of the bound before training and "
            f"{clipped['at_largest']:.1%} after it; of the penalised one's {penalised['at_largest']:.3%} are at ≥ .99 "
            f"of the largest of their kernel, and {penalised['outside']:.1%} outside the range in which it began"
        ),
        criteria=criteria(found),
    )


def criteria(found: dict[str, dict[str, float]]) -> dict[str, bool]:
    """What is wanted of the two histograms. Of uniform weights 1 % are at ≥ .99 of the largest."""
    clipped, penalised = found["clipped"], found["penalised"]
    return {
        "at most 2 % of the clipped critic's weights begin at the bounds": clipped["at_largest_before"] <= 0.02,
        "at least 25 % of them end there": clipped["at_largest"] >= 0.25,
        "less than 0.1 % of the penalised critic's weights are at the largest of their kernel": (
            penalised["at_largest"] < 0.001
        ),
        "at least 1 % of them end outside the range in which their kernel began": penalised["outside"] >= 0.01,
    }


def summary(start: list[np.ndarray], end: list[np.ndarray]) -> dict[str, float]:
    """Shares of all weights, each seen beside those of its own kernel.

    Returns:
      at_largest_before, at_largest: at ≥ .99 of the largest that the trained kernel has, or beyond, before and after.
      outside: beyond the largest that the kernel began with.
      largest, std: of the trained weights.
    """
    largest = lambda kernel: np.abs(kernel).max()  # noqa: E731
    num = sum(kernel.size for kernel in end)

    def at_largest(kernels: list[np.ndarray]) -> float:
        reached = (np.sum(np.abs(k) >= 0.99 * largest(trained)) for k, trained in zip(kernels, end, strict=True))
        return float(sum(reached) / num)

    outside = sum(np.sum(np.abs(b) > 1.001 * largest(a)) for a, b in zip(start, end, strict=True))
    return {
        "at_largest_before": at_largest(start),
        "at_largest": at_largest(end),
        "outside": float(outside / num),
        "largest": float(max(largest(kernel) for kernel in end)),
        "std": float(np.concatenate([np.ravel(kernel) for kernel in end]).std()),
        "num": num,
    }


def train(config: ConfigDict, bound: float | None = None) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The critic's kernels before and after training; with a bound, each starts scaled to just reach it."""
    gan = build(config)
    state = init_state(gan, jax.random.key(config.seed))
    if bound is not None:
        params = jax.tree.map(lambda w: w * (bound / abs(w).max()) if w.ndim > 1 else w, state.critic.params)
        state = dataclasses.replace(state, critic=dataclasses.replace(state.critic, variables={"params": params}))
    source = data.load(config, "train")
    end = setups.last(setups.states(make_train_step(gan), state, source, config=config, every=50))
    start, trained = ([np.asarray(w) for w in jax.tree.leaves(s.critic.params) if w.ndim > 1] for s in (state, end))
    return start, trained


if __name__ == "__main__":
    harness.main(run, quick=QUICK, full=FULL)
