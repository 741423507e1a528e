"""Every constraint against the truth: its estimate, its steepest slope, its cost, and its samples at equal cost.

    python -m wgan_jax.experiments.constraints --workdir=runs/papers [--preset=quick|full]

Two things are measured for each constraint, on points of the plane and on scikit-learn's digits.

The estimate: a critic is trained between two fixed sets, in the Wasserstein game. One set holds real examples, and the
other the same examples with Gaussian noise as wide as their standard deviation. All batches come from these sets, so
the best 1-Lipschitz critic's estimate is the sets' exact W₁. Duality gives a bound for every critic: its estimate is at
most its steepest slope between the two sets times W₁.

The samples: a GAN is trained with each constraint, in the game that it is mostly used in. All get the same arithmetic,
counted by hand in products, and not the same time. So the numbers do not depend on the machine; the milliseconds of an
iteration are measured beside them.

Wrong programs that do not meet the criteria:
- Constant scores or no training: the estimate is 0, or far from W₁.
- Swapped signs: the estimate is negative.
- A slope or a distance that is measured too small: an estimate exceeds the bound of duality.
- A constraint that is left out: its estimate grows as that of `none`.
- A penalty of another target, or kernels over more or less than their norm: the estimates are not where they should be.
- One constraint in all rows.
- More iterations for some rows than their cost allows, or samples that do not become better.

There is no demand that samples be better than those of `none`. Adam divides the generator's gradient by its size, so a
critic that grows without end can still teach a small generator for a while.

`quick`: critics of 3 layers of 128. `full`: of 3 layers of 512, with ten times the updates and a tenth of the learning
rates.
"""

import dataclasses
import itertools
import math
import time
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from wgan_jax import data
from wgan_jax.config import build, default
from wgan_jax.data.arrays import ArraySource
from wgan_jax.experiments import harness, setups
from wgan_jax.experiments.value_surfaces import measure
from wgan_jax.method.gan import Gan
from wgan_jax.method.sampling import sample
from wgan_jax.method.state import init_state
from wgan_jax.method.step import make_train_step
from wgan_jax.metrics import transport
from wgan_jax.metrics.neighbours import nearest_neighbour_accuracy
from wgan_jax.report import pictures

UPDATES_PER_ITERATION = 50
"""Critic updates per iteration where the fakes are fixed. The iterations only serve as a clock for the rate."""
BETA = 0.0
"""β₁ of Adam."""
POINTS = 500
"""Number of examples in each set whose exact distance is computed; there are as many held-out digits."""


class Row(NamedTuple):
    """A constraint as it is measured."""

    kind: str
    """Value of `config.constraint.kind`."""
    game: str
    """Game in which its samples are measured. The estimate is measured in the Wasserstein game."""
    every: int = 1
    aims: bool = False
    """Whether it aims at a slope of 1, so that its estimate is W₁ as it stands."""


ROWS = {
    "gradient_penalty": Row("gradient_penalty", "wasserstein", aims=True),
    "lipschitz_penalty": Row("lipschitz_penalty", "wasserstein", aims=True),
    "gradient_penalty + consistency": Row("gradient_penalty+consistency", "wasserstein"),
    "dragan": Row("dragan", "non_saturating"),
    "wasserstein_divergence": Row("wasserstein_divergence", "wasserstein"),
    "r1": Row("r1", "non_saturating"),
    "r1, every 16": Row("r1", "non_saturating", every=16),
    "spectral_norm": Row("spectral_norm", "hinge"),
    "clip": Row("clip", "wasserstein"),
    "none": Row("none", "wasserstein"),
}
"""Every constraint by its name in the figure."""
SETS = ("plane", "digits")
SHOWN = (1e-3, 30.0)
"""Smallest and largest estimate and slope in the figure. Dots beyond stand at its edges, with their numbers."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of the runs."""

    plane: str = "swissroll"
    """Toy distribution of the plane."""
    width: int = 128
    updates: int = 3_000
    """Critic updates between the two fixed sets."""
    steps: int = 500
    """Generator iterations with the gradient penalty. The others get as many as cost the same."""
    batch_size: int = 64
    n_critic: int = 5
    """Critic updates in a generator iteration."""
    learning_rate: float = 1e-3
    """Learning rate of Adam, falling to 0."""
    clip_learning_rate: float = 5e-4
    """Learning rate of RMSProp, with clipping, falling to 0."""
    gamma: float = 1.0
    """γ of R1."""
    dropout: float = 0.1
    """Rate of the critic's dropout, with the consistency term."""
    seeds: int = 3
    """Number of seeds of the GANs, of which the median counts."""
    seed: int = 0


QUICK = Settings()
FULL = Settings(width=512, updates=30_000, steps=5_000, learning_rate=1e-4, clip_learning_rate=5e-5)


def run(settings: Settings) -> harness.Result:
    """Measures every constraint on both sets. Returns one dictionary of numbers for each."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for where in SETS:
        found[where] = {}
        for name, row in ROWS.items():
            found[where][name] = against_truth(settings, where, row) | samples(settings, where, row)
            harness.say(line(where, name, found[where][name]))
    floors = {where: floor(settings, where) for where in SETS}
    aiming = [found[where][name]["ratio"] for where in SETS for name, row in ROWS.items() if row.aims]
    clipped, free = ([found[where][name]["ratio"] for where in SETS] for name in ("clip", "none"))
    return harness.Result(
        numbers=found | {"floor": floors},
        figure=draw(found, floors),
        caption=(
            f"MLPs of 3 layers of {settings.width}, batches of {settings.batch_size}. Left and middle: critics after "
            f"{settings.updates:,} updates between {POINTS} real examples and the same with Gaussian noise; the slope "
            "is the steepest between the two sets. Dots at an edge lie beyond it. Blue: those that aim at a slope of "
            f"1. Right: samples of GANs after equal arithmetic, that of {settings.steps:,} generator iterations with "
            f"the gradient penalty, {settings.n_critic} critic updates in each, against held-out examples, medians of "
            f"{settings.seeds} seeds; dotted: training examples. γ = {settings.gamma:g}, dropout "
            f"{settings.dropout:g} with the consistency term."
        ),
        claim=(
            "constraints that aim at a slope of 1 estimate the distance itself: their estimates are "
            f"{min(aiming):.2f} to {max(aiming):.2f} of the exact W₁, clipping's {min(clipped):.2g} to "
            f"{max(clipped):.2g} and those without a constraint {min(free):.2g} to {max(free):.2g}"
        ),
        criteria=criteria(found),
    )


def criteria(found: dict[str, dict[str, dict[str, Any]]]) -> dict[str, bool]:
    """Returns the demands on the numbers of all rows on both sets, and whether each is met."""
    rows = {name: [found[where][name] for where in SETS] for name in ROWS}
    everywhere = [numbers for both in rows.values() for numbers in both]
    aiming = [numbers for name, row in ROWS.items() if row.aims for numbers in rows[name]]
    works = [numbers["work"] for numbers in everywhere]
    small, large = rows["r1"]
    return {
        "every estimate is at most its steepest slope times W₁": all(n["explained"] <= 1.001 for n in everywhere),
        "the estimates of those that aim at a slope of 1 are 0.75 to 1.1 of W₁": all(
            0.75 <= n["ratio"] <= 1.1 for n in aiming
        ),
        "their slopes are at most 1.3": all(n["lipschitz_constant"] <= 1.3 for n in aiming),
        "the consistency term makes the estimate smaller, but not by half": all(
            0.5 <= both["ratio"] / plain["ratio"] <= 0.98
            for both, plain in zip(rows["gradient_penalty + consistency"], rows["gradient_penalty"], strict=True)
            if plain["ratio"]
        ),
        "under spectral_norm the slope is at most 1.02, and the estimate at least a tenth of W₁": all(
            n["lipschitz_constant"] <= 1.02 and n["ratio"] >= 0.1 for n in rows["spectral_norm"]
        ),
        "under r1 the share of W₁ is at least twice as large on digits, where W₁ is larger": (
            large["ratio"] >= 2 * small["ratio"] > 0
        ),
        "clipping's estimate is above 0 and at most a tenth of W₁": all(0 < n["ratio"] <= 0.1 for n in rows["clip"]),
        "without a constraint the estimate is at least ten times W₁": all(n["ratio"] >= 10 for n in rows["none"]),
        "every row costs as much, within 1 %": max(works) <= 1.01 * min(works),
        "from every seed the samples under lipschitz_penalty become better than those of the first weights": all(
            after < before
            for n in rows["lipschitz_penalty"]
            for before, after in zip(n["at_first"], n["qualities"], strict=True)
        ),
    }


class Drawn(nn.Module):
    """Generator without parameters: each latent `[B, 1]` takes one of some points, all with the same probability."""

    points: Any
    """Points, `[N, ...]`."""

    @nn.compact
    def __call__(self, z: jax.Array, label: jax.Array | None = None, *, train: bool = False) -> jax.Array:
        del label, train
        points = jnp.asarray(self.points)
        place = jnp.floor(jax.scipy.stats.norm.cdf(z[:, 0]) * len(points)).astype(jnp.int32)
        return points[jnp.clip(place, 0, len(points) - 1)]


def noisy(examples: np.ndarray, seed: int) -> np.ndarray:
    """Returns examples `[N, ...]` with Gaussian noise as wide as their standard deviation, float32."""
    noise = np.random.default_rng(seed).standard_normal(examples.shape)
    return (examples + examples.std() * noise).astype(np.float32)


def config_of(settings: Settings, where: str, row: Row) -> ConfigDict:
    """Returns the config of a row on one set, with the Wasserstein game."""
    c = default() if where == "digits" else setups.toy_config(settings.plane, width=settings.width)
    c.seed, c.batch_size, c.n_critic, c.steps = settings.seed, settings.batch_size, settings.n_critic, settings.steps
    for player in (c.generator, c.critic):
        player.width, player.optimizer.learning_rate = settings.width, settings.learning_rate
        player.optimizer.schedule = "linear"
        player.optimizer.b1 = player.optimizer.b1 if row.kind == "clip" else BETA
    c.constraint.kind, c.constraint.every = row.kind, row.every
    if row.kind == "clip":
        c = setups.clipped(c, c.constraint.bound, settings.clip_learning_rate)
    if row.kind == "r1":
        c.constraint.gamma = settings.gamma
    if row.kind == "dragan":
        c.constraint.noise = float(real_examples(c, "train").std()) / 2
    if "consistency" in row.kind:
        c.critic.dropout = settings.dropout
    return c


def real_examples(config: ConfigDict, split: str) -> np.ndarray:
    """Returns the first `POINTS` examples of a split."""
    return np.asarray(data.load(config, split).read(np.arange(POINTS))["image"])


def against_truth(settings: Settings, where: str, row: Row) -> dict[str, float]:
    """Trains a critic between two fixed sets. Returns its estimate and its steepest slope; see `measure`."""
    config = config_of(settings, where, row)
    config.steps = -(-settings.updates // UPDATES_PER_ITERATION)
    config.n_critic = min(settings.updates, UPDATES_PER_ITERATION)
    real = real_examples(config, "train")
    fake = noisy(real, settings.seed)
    gan = setups.against(build(config), Drawn(fake), latent_dim=1)
    state = init_state(gan, jax.random.key(settings.seed))
    state = setups.last(setups.states(make_train_step(gan), state, ArraySource(real), config=config, every=1))
    return measure(gan, state, real, fake, transport.wasserstein(real, fake))


def samples(settings: Settings, where: str, row: Row) -> dict[str, Any]:
    """Trains GANs on one set, each for the arithmetic of `settings.steps` iterations with the gradient penalty.

    Returns:
      iterations: the number of generator iterations.
      cost: multiplications in one, over those with the gradient penalty.
      work: iterations times cost.
      ms: measured milliseconds of one iteration.
      at_first: the quality of the samples of the first weights, of every seed; see `quality`.
      qualities: the same after training.
      quality: the median after training.
    """
    config = config_of(settings, where, row)
    config.game, config.ema_decay = row.game, 0.99
    plain = config_of(settings, where, ROWS["gradient_penalty"])
    cost = products(build(config), config) / products(build(plain), plain)
    config.steps = max(1, round(settings.steps / cost))
    runs = [train(config, seed) for seed in range(settings.seed, settings.seed + settings.seeds)]
    at_first, qualities, times = (list(values) for values in zip(*runs, strict=True))
    return {
        "iterations": config.steps,
        "cost": cost,
        "work": config.steps * cost,
        "ms": float(np.median(times)),
        "at_first": at_first,
        "qualities": qualities,
        "quality": float(np.median(qualities)),
    }


def train(config: ConfigDict, seed: int) -> tuple[float, float, float]:
    """Trains a GAN. Returns its samples' quality before and after, and the median milliseconds of an iteration."""
    config.seed = seed
    gan = build(config)
    every = max(1, config.steps // 10)
    start = state = init_state(gan, jax.random.key(seed))
    source = data.load(config, "train")
    times = [time.perf_counter()]
    for state, _ in setups.states(make_train_step(gan), start, source, config=config, every=every):
        jax.block_until_ready(state)
        times.append(time.perf_counter())
    spent = np.diff(times)[:10]  # what is left after ten parts is shorter
    spent = spent[1:] if len(spent) > 1 else spent  # the first part compiles
    real = real_examples(config, "held_out")
    before, after = (quality(np.asarray(sample(gan, s, s.key, POINTS)), real) for s in (start, state))
    return before, after, 1e3 * float(np.median(spent)) / every


def products(gan: Gan, config: ConfigDict) -> float:
    """Returns the multiplications of one example's share of a generator iteration, from the widths of the MLPs.

    A pass of the critic is a forward pass and gradients by weights and inputs, without those by the first inputs. A
    critic's gradient at a point costs a forward pass and input gradients, and twice as much for its derivative. The
    power steps of spectral normalization and the draws of dropout are left out.
    """
    size = math.prod(gan.image_shape)
    c, first = of_mlp(size, config.critic, 1)
    g, first_of_generator = of_mlp(config.latent_dim, config.generator, size)
    critic_update = g + (2 + gan.constraint.passes) * (3 * c - first) + gan.constraint.gradients * 4 * c
    return config.n_critic * critic_update + 3 * g - first_of_generator + 2 * c


def of_mlp(inputs: int, player: ConfigDict, outputs: int) -> tuple[int, int]:
    """Returns the multiplications of a forward pass of an MLP, and those of its first layer."""
    widths = [inputs, *[player.width] * player.depth, outputs]
    layers = [a * b for a, b in itertools.pairwise(widths)]
    return sum(layers), layers[0]


def quality(fake: np.ndarray, real: np.ndarray) -> float:
    """Returns how far samples are from as many real examples; less is better, and infinity if one is not finite.

    For points of the plane it is the exact W₁. For images it is the accuracy of a 1-nearest-neighbour classifier that
    tells them apart, of which 0.5 is the best: W₁ of so few images says little of their distributions.
    """
    if not np.isfinite(fake).all():
        return math.inf
    if fake.ndim == 2:
        return transport.wasserstein(fake, real)
    return nearest_neighbour_accuracy(fake, real)


def floor(settings: Settings, where: str) -> float:
    """Returns the quality of training examples."""
    config = config_of(settings, where, ROWS["none"])
    return quality(real_examples(config, "train"), real_examples(config, "held_out"))


def line(where: str, name: str, n: dict[str, Any]) -> str:
    """Returns a line of the table: estimate over W₁, steepest slope, share explained, cost, time and quality."""
    return (
        f"| {where} | {name} | {n['ratio']:.3g} | {n['lipschitz_constant']:.3g} | {n['explained']:.2f} | "
        f"{n['cost']:.2f} | {n['ms']:.2f} ms | {n['iterations']:,} | {n['quality']:.3f} |"
    )


def draw(found: dict[str, dict[str, dict[str, Any]]], floors: dict[str, float]) -> Figure:
    """Draws a row of panels for each set: estimate over W₁, steepest slope, and quality of the samples."""
    figure, axes = pictures.panels(len(SETS), 3, width=12.0, height=7.4)
    units = {"plane": "exact W₁ of samples", "digits": "1-NN accuracy of samples"}
    for row, where in zip(axes, SETS, strict=True):
        names = list(found[where])
        colors = [pictures.BLUE if ROWS[name].aims else pictures.ORANGE for name in names]
        columns = (
            ("ratio", "estimate / exact W₁", 1.0),
            ("lipschitz_constant", "steepest slope", 1.0),
            ("quality", units[where], floors[where]),
        )
        for panel, (key, title, wanted) in zip(row, columns, strict=True):
            values = [found[where][name][key] for name in names]
            if key != "quality":
                panel.set(xscale="log", xlim=SHOWN)
            low, high = SHOWN if key != "quality" else (0.0, 1.1 * max([wanted, *filter(math.isfinite, values)]))
            for place, (value, color) in enumerate(zip(values, colors, strict=True)):
                shown = min(max(value, low), high) if not math.isnan(value) else high
                panel.scatter([shown], [place], color=color, s=36, zorder=3, clip_on=False)
                side = {"xytext": (-6, 4), "ha": "right"} if shown > 0.5 * high else {"xytext": (6, 4)}
                panel.annotate(f"{value:.2g}", (shown, place), textcoords="offset points", fontsize=7, **side)
            panel.axvline(wanted, color=pictures.GREY, linestyle=":", linewidth=1)
            panel.set_title(f"{where}: {title}", fontsize=10)
            panel.set_yticks(range(len(names)), labels=names if key == "ratio" else [], fontsize=8)
            panel.set_ylim(len(names) - 0.4, -0.8)
            panel.grid(alpha=0.25)
    return figure


if __name__ == "__main__":
    harness.main(run, quick=QUICK, full=FULL)
