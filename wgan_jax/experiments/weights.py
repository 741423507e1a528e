"""Weights of a critic: clipping drives them to the bounds (arXiv 1704.00028, Fig. 1b, right).

    python -m wgan_jax.experiments.weights --workdir=runs/papers [--preset=quick|full]

The experiment trains two WGANs on the Swiss roll, one with clipping and one with a gradient penalty. Their critics are
12 ReLU layers. The figure shows histograms of all weights of each critic (kernels, not biases).

Usual initial weights lie far outside of the bounds, so the first clipping alone would put nearly all of them at the
bounds. Here the clipped critic starts inside: each kernel is scaled so that its largest weight is just at the bound.
The bound must be large enough for the first layer to get a gradient. At 0.01 the gradients vanish in a critic of this
width, and the weights do not move.

Wrong programs that do not meet the criteria:
- Untrained weights, wherever they start. The weights must move to the bounds, and out of their initial range, during
  training.
- A run in which the clipping alone puts the weights at the bounds.
- A penalised critic that is clipped too, or whose weights pile up at other limits.

`quick`: width 64, 1,000 generator iterations, five times the paper's learning rates. `full`: width 512, 10,000
generator iterations, the paper's learning rates. It takes about 11 hours on 2 CPU cores, estimated from the speed on a
busy machine.
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
    """Settings of the two runs."""

    bound: float = 0.1


QUICK = Settings()
FULL = Settings(width=512, steps=10_000, learning_rate=1e-4, clip_learning_rate=5e-5, bound=0.03)


def run(settings: Settings) -> harness.Result:
    """Trains a clipped and a penalised critic. Returns the distributions of their weights."""
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
    """Returns the demands on the weights of both critics, and whether each is met.

    For comparison: if weights were uniform, 1 % of them would be at least 0.99 times the largest one.
    """
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
    """Describes the weights before and after training.

    Sizes are absolute values, and each weight is compared with the weights of its own kernel.

    Returns:
      at_largest_before, at_largest: the shares of weights of at least 0.99 times the largest weight of the trained
        kernel, before and after training.
      outside: the share of trained weights that are larger than the largest initial weight of the kernel.
      largest, std: the largest trained weight, and the standard deviation of all trained weights.
      num: the number of weights.
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
    """Trains a critic. Returns its kernels before and after training.

    With a bound, each initial kernel is scaled so that its largest weight is at the bound.
    """
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
