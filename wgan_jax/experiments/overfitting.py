"""Over-fitting: on few images the training and the held-out estimate diverge (arXiv 1704.00028, section 5.6).

    python -m wgan_jax.experiments.overfitting --workdir=runs/papers [--preset=quick|full]

The experiment trains WGAN-GP once on few images and once on many. In both runs it measures the critic's estimate on
the training images and on held-out images, which the critic never sees. The gap is the difference of the two.

Wrong programs that do not meet the criteria:
- An untrained critic, a constant one, or one with swapped signs. The gap must be at least five times its standard
  error.
- Held-out images that are part of the training set: there is no gap.
- Held-out images of another kind. A critic tells them from training images however many of these there are, but the gap
  with many images must be at most half as large as with few, relative to the training estimate. A critic also tells
  them from training images early, but the gap must open later than at the first measurement.

`quick`: 100 and 1,200 of scikit-learn's digits, layers of 256, 1,500 generator iterations. `full`: 1,000 MNIST digits,
as in the paper, and 50,000, DCGANs of width 64, 20,000 generator iterations. It needs
`python -m wgan_jax.prepare --name=mnist`. It takes about 55 hours on 2 CPU cores, estimated from the speed on a busy
machine.
"""

import dataclasses
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from wgan_jax import data
from wgan_jax.config import build, default
from wgan_jax.data.arrays import ArraySource
from wgan_jax.errors import UserError
from wgan_jax.experiments import harness, setups
from wgan_jax.method import batch
from wgan_jax.method.gan import Gan
from wgan_jax.method.state import TrainState, init_state
from wgan_jax.method.step import make_train_step
from wgan_jax.metrics.estimate import fixed_set, make_estimate
from wgan_jax.report import pictures

OPEN = 0.5
"""Share of the training estimate. The gap opens where it reaches this share and stays above it to the end."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of both runs."""

    data: str = "digits"
    size: int = 8
    network: str = "mlp"
    few: int = 100
    many: int = 1_200
    width: int = 256
    steps: int = 1_500
    batch_size: int = 50
    learning_rate: float = 1e-3
    measurements: int = 50
    """Number of measurements in each run."""
    seed: int = 0


QUICK = Settings()
FULL = Settings(
    data="tfds:mnist", size=28, network="dcgan", few=1_000, many=50_000, width=64, steps=20_000, learning_rate=1e-4
)


def run(settings: Settings) -> harness.Result:
    """Trains on few images and on many. Returns the gap between the estimates of each run."""
    numbers = {num: gaps(train(settings, num)) for num in (settings.few, settings.many)}
    few, many = numbers[settings.few], numbers[settings.many]
    where = "nowhere" if few["opens_at"] is None else f"at iteration {few['opens_at']:,}"
    return harness.Result(
        numbers={f"{num} images": n for num, n in numbers.items()},
        figure=draw(numbers),
        caption=(
            f"WGAN-GP on {settings.few:,} and on {settings.many:,} images of {settings.data}, {settings.network} of "
            f"width {settings.width}, batches of {settings.batch_size}; dotted: where the gap is half of the training "
            "estimate, from there to the end."
        ),
        claim=(
            "on few images the training and the held-out estimate part: "
            f"with {settings.few:,} images the gap at the end is {few['relative_gap']:.0%} of the training estimate, "
            f"{few['gap'][-1] / max(few['standard_error'], 1e-9):.0f} times its standard error, and opens to "
            f"{OPEN:.0%} {where}; with {settings.many:,} it is {many['relative_gap']:.0%}"
        ),
        criteria=criteria(few, many),
    )


def criteria(few: dict[str, Any], many: dict[str, Any]) -> dict[str, bool]:
    """Returns the demands on the run on few images and the run on many, and whether each is met."""
    return {
        f"with few images the gap at the end is at least {OPEN:.0%} of the training estimate": (
            few["relative_gap"] >= OPEN
        ),
        "and at least five times its standard error": few["gap"][-1] >= 5 * few["standard_error"] > 0,
        "and opens after the first measurement": few["opens_at"] is not None and few["opens_at"] > few["step"][0],
        "with many images it is at most half as large a share": many["relative_gap"] <= few["relative_gap"] / 2,
    }


def train(settings: Settings, num: int) -> dict[str, Any]:
    """Trains on the first `num` training images. Returns the iterations and both estimates."""
    config = image_config(settings)
    everything = data.load(config, "train", cache="auto")
    if num > len(everything):
        raise UserError(f"{num} training images: {settings.data} has {len(everything)}; take fewer")
    source = ArraySource(everything.read(np.arange(num))["image"])
    gan = build(config)
    estimate = jax.jit(make_estimate(gan))
    fixed = {"training": fixed_set(source), "held_out": fixed_set(data.load(config, "held_out"))}
    numbers: dict[str, Any] = {"step": [], "training": [], "held_out": []}
    every = max(1, config.steps // settings.measurements)
    start = init_state(gan, jax.random.key(config.seed))
    state = start
    for state, _ in setups.states(make_train_step(gan), start, source, config=config, every=every):
        numbers["step"].append(int(state.step))
        for name, images in fixed.items():
            numbers[name].append(float(estimate(state, images)))
    numbers["standard_error"] = standard_error(gan, state, *(images["image"] for images in fixed.values()))
    harness.say(f"{num} images: {numbers['training'][-1]:.3f} in training, {numbers['held_out'][-1]:.3f} held out")
    return numbers


def gaps(numbers: dict[str, Any]) -> dict[str, Any]:
    """Adds to a run's numbers the gap between its estimates: at each step, at the end, and where it opens."""
    gap = [a - b for a, b in zip(numbers["training"], numbers["held_out"], strict=True)]
    numbers = numbers | {"gap": gap, "relative_gap": gap[-1] / numbers["training"][-1] if any(gap) else 0.0}
    return numbers | {"opens_at": opening(numbers)}


def standard_error(gan: Gan, state: TrainState, *sets: np.ndarray) -> float:
    """Returns the standard error of the difference between the mean scores of two sets of images.

    Each set is `[K, B, …]`. Both estimates use the same fakes, so the gap between the estimates equals this difference.
    """
    scores = [np.asarray(gan.score(state.critic, batch.to_range(group)).value) for x in sets for group in x]
    split = len(sets[0])
    parts = (np.concatenate(scores[:split]), np.concatenate(scores[split:]))
    return float(np.sqrt(sum(part.var(ddof=1) / part.size for part in parts)))


def image_config(settings: Settings) -> ConfigDict:
    """Returns the config of a run: the paper's MNIST settings, except for those that `settings` changes."""
    c = default()
    c.seed, c.steps, c.batch_size = settings.seed, settings.steps, settings.batch_size
    c.data.name, c.data.size, c.data.channels = settings.data, settings.size, 1
    for player in (c.generator, c.critic):
        player.network, player.width = settings.network, settings.width
        player.optimizer.learning_rate = settings.learning_rate
    return c


def opening(numbers: dict[str, Any]) -> int | None:
    """Returns the first iteration from which the gap stays at least `OPEN` times the training estimate, or None."""
    shut = [gap < OPEN * estimate for gap, estimate in zip(numbers["gap"], numbers["training"], strict=True)]
    first = len(shut) - shut[::-1].index(True) if True in shut else 0
    return numbers["step"][first] if first < len(shut) else None


def draw(numbers: dict[int, dict[str, Any]]) -> Figure:
    """Draws both estimates against the iteration: few images on the left, many on the right."""
    figure, axes = pictures.panels(1, 2, width=10.0, height=4.0)
    high = max(max(n["training"]) for n in numbers.values())
    low = min(0.0, *(min(n["held_out"]) for n in numbers.values()))
    for panel, (num, n) in zip(axes[0], numbers.items(), strict=True):
        panel.plot(n["step"], n["training"], color=pictures.BLUE, label="training images")
        panel.plot(n["step"], n["held_out"], color=pictures.ORANGE, label="held-out images")
        panel.fill_between(n["step"], n["held_out"], n["training"], color=pictures.GREY, alpha=0.2, linewidth=0)
        if n["opens_at"] is not None:
            panel.axvline(n["opens_at"], color=pictures.GREY, linestyle=":")
        title = f"{num:,} images: a gap of {n['relative_gap']:.0%}"
        panel.set(title=title, xlabel="generator iteration", ylabel="the critic's estimate", ylim=(low, 1.05 * high))
        panel.grid(alpha=0.25)
        panel.legend(frameon=False)
    return figure


if __name__ == "__main__":
    harness.main(run, quick=QUICK, full=FULL)
