"""Over-fitting seen: on few images the training and the held-out estimate part (arXiv 1704.00028, section 5.6).

    python -m wgan_jax.experiments.overfitting --workdir=runs/papers [--preset=quick|full]

WGAN-GP on few training images, and on more of them; along both runs the critic's estimate on training images and on
images that it never sees.

`quick`: 100 and 1,200 of scikit-learn's digits, layers of 256, 1,500 generator iterations. `full`: 1,000 MNIST digits,
as in the paper, and 50,000, DCGANs of width 64 and 20,000 iterations; it needs
`python -m wgan_jax.data prepare --name=mnist`, and takes about 55 hours on 2 CPU cores, by the rate measured beside
other work.
"""

import dataclasses
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from wgan_jax import data
from wgan_jax.config import default
from wgan_jax.data.source import ArraySource
from wgan_jax.errors import UserError
from wgan_jax.estimate import fixed_set, make_estimate
from wgan_jax.experiments import experiment, runs
from wgan_jax.gan import build
from wgan_jax.report import pictures
from wgan_jax.state import init_state
from wgan_jax.step import make_train_step

OPEN = 0.5
"""The gap is open where it is this share of the training estimate, from there to the end."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """Of both runs."""

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
    """Along each run."""
    seed: int = 0


QUICK = Settings()
FULL = Settings(
    data="tfds:mnist", size=28, network="dcgan", few=1_000, many=50_000, width=64, steps=20_000, learning_rate=1e-4
)


def run(settings: Settings) -> experiment.Result:
    """The run on few images, and the one on many."""
    numbers = {num: train(settings, num) for num in (settings.few, settings.many)}
    for n in numbers.values():
        n["gap"] = [a - b for a, b in zip(n["training"], n["held_out"], strict=True)]
        n["relative_gap"] = n["gap"][-1] / n["training"][-1]
        n["opens_at"] = opening(n)
    few, many = numbers[settings.few], numbers[settings.many]
    where = "nowhere" if few["opens_at"] is None else f"at iteration {few['opens_at']:,}"
    return experiment.Result(
        numbers={f"{num} images": n for num, n in numbers.items()},
        figure=draw(numbers),
        caption=(
            f"WGAN-GP on {settings.few:,} and on {settings.many:,} images of {settings.data}, {settings.network} of "
            f"width {settings.width}, batches of {settings.batch_size}; dotted: where the gap is half of the training "
            "estimate, from there to the end."
        ),
        claim=(
            "on few images the training and the held-out estimate part: "
            f"with {settings.few:,} images the gap at the end is {few['relative_gap']:.0%} of the training estimate "
            f"({OPEN:.0%} wanted) and opens to {OPEN:.0%} {where}; with {settings.many:,} it is "
            f"{many['relative_gap']:.0%} (less wanted)"
        ),
        holds=bool(few["relative_gap"] >= OPEN and many["relative_gap"] < few["relative_gap"]),
    )


def train(settings: Settings, num: int) -> dict[str, Any]:
    """Iterations and both estimates along a run on the first `num` training images."""
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
    for state, _ in runs.states(make_train_step(gan), start, source, config=config, every=every):
        numbers["step"].append(int(state.step))
        for name, images in fixed.items():
            numbers[name].append(float(estimate(state, images)))
    experiment.say(f"{num} images: {numbers['training'][-1]:.3f} in training, {numbers['held_out'][-1]:.3f} held out")
    return numbers


def image_config(settings: Settings) -> ConfigDict:
    """WGAN-GP with the settings of the paper's MNIST runs, but for what the settings change."""
    c = default()
    c.seed, c.steps, c.batch_size = settings.seed, settings.steps, settings.batch_size
    c.data.name, c.data.size, c.data.channels = settings.data, settings.size, 1
    for player in (c.generator, c.critic):
        player.network, player.width = settings.network, settings.width
        player.optimizer.learning_rate = settings.learning_rate
    return c


def opening(numbers: dict[str, Any]) -> int | None:
    """The first iteration from which on the gap stays at least half of the training estimate; None if there is none."""
    shut = [gap < OPEN * estimate for gap, estimate in zip(numbers["gap"], numbers["training"], strict=True)]
    first = len(shut) - shut[::-1].index(True) if True in shut else 0
    return numbers["step"][first] if first < len(shut) else None


def draw(numbers: dict[int, dict[str, Any]]) -> Figure:
    """Both estimates against the iteration, few images on the left, many on the right."""
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
    experiment.main(run, quick=QUICK, full=FULL)
