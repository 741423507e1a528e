"""Robustness: random architectures as WGAN-GP, standard GAN and clipped WGAN (arXiv 1704.00028, Table 2).

    python -m wgan_jax.experiments.robustness --workdir=runs/papers [--preset=quick|full]

The experiment draws architectures at random: for each of the two networks an activation, a depth, a width, and whether
it is normalized (batch normalization in the generator, layer normalization in the critic). It trains each architecture
with three methods on scikit-learn's digits. A run is a success if its samples are near the held-out digits. Their
distance is the sliced W₁ to the held-out digits, divided by the sliced W₁ between training and held-out digits.

The methods are compared at two budgets. The run of WGAN-GP sets both.
- *Equal updates*: every method gets the same number of critic updates. The standard GAN has one update of its
  discriminator per iteration, as usual, and the others have five. So it gets five times as many iterations.
- *Equal time*: every method gets the same number of seconds of training on this machine, without compilation. The
  methods take turns while they are timed, so that other work on the machine slows all of them equally.

Wrong programs that do not meet the criteria:
- One that gives some method fewer critic updates than another.
- One in which the methods do not differ, or all runs fail, or all succeed.
- One that favours WGAN-GP by only a run or two. Take the runs where exactly one of two methods succeeds: a sign test at
  5 % must show that WGAN-GP wins more of them, against each other method and at each budget.

`quick`: as many architectures as take 4 minutes (4, with two seeds each), of depths 2 to 8 and widths 32 or 64, 300
generator iterations of WGAN-GP, ten times the paper's learning rate. `full`: 24 architectures of the paper's depths 4
to 20 and of widths 32 to 128, 5,000 iterations, the learning rate of the paper's toy and MNIST runs. It takes about 11
hours on 2 CPU cores, estimated from the speed on a busy machine. The paper trains 200 architectures on 32×32 ImageNet.
"""

import dataclasses
import math
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict
from scipy.stats import binomtest

from wgan_jax import data
from wgan_jax.config import build, default
from wgan_jax.experiments import harness, setups
from wgan_jax.experiments.architectures import Critic, Generator, Layers
from wgan_jax.method.sampling import sample
from wgan_jax.method.state import init_state
from wgan_jax.method.step import make_train_step
from wgan_jax.metrics import transport
from wgan_jax.report import pictures

BUDGETS = ("equal updates", "equal time")
METHODS = {"penalty": "WGAN-GP", "non_saturating": "standard GAN", "clip": "clipped WGAN"}
ACTIVATION_CHOICES = ("relu", "leaky_relu", "softplus", "tanh")
N_CRITIC = 5
"""Critic updates per iteration. The standard GAN has one."""
SEGMENTS = 12
"""Number of parts of WGAN-GP's run. Each part is timed."""
LONGEST = 20
"""Limit of a run in equal time, as a multiple of WGAN-GP's critic updates."""
SAMPLES = 500
"""Number of generated images, equal to the number of held-out digits."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of the runs. The architectures are drawn from `depths` and `widths`."""

    architectures: int = 4
    seeds: int = 2
    """Number of seeds for each architecture. A seed determines the initial weights and all draws."""
    depths: str = "2,4,8"
    widths: str = "32,64"
    steps: int = 300
    """Generator iterations of WGAN-GP, rounded down to a multiple of 12.

    Every method gets as many critic updates as these contain.
    """
    batch_size: int = 64
    learning_rate: float = 1e-3
    """Learning rate of Adam, for WGAN-GP and the standard GAN."""
    clip_learning_rate: float = 5e-4
    """Learning rate of RMSProp, for the clipped WGAN."""
    threshold: float = 4.0
    """Largest distance of a success, as a multiple of the distance between training and held-out digits."""
    seed: int = 0


QUICK = Settings()
FULL = Settings(
    architectures=24,
    depths="4,8,12,20",
    widths="32,64,128",
    steps=5_000,
    learning_rate=1e-4,
    clip_learning_rate=5e-5,
)


def run(settings: Settings) -> harness.Result:
    """Trains each architecture with each method. Returns the distances at both budgets and the successes."""
    rng = np.random.default_rng(settings.seed)
    rows: list[dict[str, Any]] = []
    for _ in range(settings.architectures):
        generator, critic = draw_layers(settings, rng, "batch"), draw_layers(settings, rng, "layer")
        rows.append({"generator": str(generator), "critic": str(critic)} | compare(settings, generator, critic))
        for method, name in METHODS.items():
            distances = {budget: rows[-1][method][budget] for budget in BUDGETS}
            harness.say(f"{generator} / {critic}, {name}: {distances}")
    numbers = summary(rows, settings.threshold)
    counts, num = numbers["successes"], settings.architectures * settings.seeds
    found = "; ".join(
        f"at {budget} " + ", ".join(f"{name} {counts[budget][method]}" for method, name in METHODS.items())
        for budget in BUDGETS
    )
    return harness.Result(
        numbers={"criterion": criterion(settings)} | numbers,
        figure=draw(settings, rows, counts),
        caption=(
            f"Random architectures (generator / critic: depth × width), {settings.seeds} seeds of each, on digits. "
            f"Left: {N_CRITIC * settings.steps:,} critic updates each. Right: as many seconds as WGAN-GP needs for "
            f"these. A success, left of the dashed line: {criterion(settings)}."
        ),
        claim=f"WGAN-GP trains more architectures than the others: of {num} runs, {found} (a success: "
        f"{criterion(settings)})",
        criteria=criteria(rows, settings),
    )


def criteria(rows: list[dict[str, Any]], settings: Settings) -> dict[str, bool]:
    """Returns the demands on the comparison, and whether each is met.

    At equal updates, all methods must have the same number of critic updates. At each budget, WGAN-GP must succeed
    more often than chance explains.
    """
    against = summary(rows, settings.threshold)["against"]
    updates = {row[method]["critic updates"]["equal updates"] for row in rows for method in METHODS}
    return {"all methods have as many critic updates": len(updates) == 1} | {
        f"at {budget}, more under WGAN-GP than as a {METHODS[other]}, by a sign test at 5 %": counts["p"] <= 0.05
        for budget in BUDGETS
        for other, counts in against[budget].items()
    }


def summary(rows: list[dict[str, Any]], threshold: float) -> dict[str, Any]:
    """Counts successes.

    Returns:
      successes: the number of successes of each method at each budget.
      against: for each budget and each other method, its comparison with WGAN-GP, see `table`.
      architectures: the rows.
    """
    succeeded = {
        budget: {method: [d <= threshold for row in rows for d in row[method][budget]] for method in METHODS}
        for budget in BUDGETS
    }
    return {
        "successes": {budget: {m: sum(s) for m, s in methods.items()} for budget, methods in succeeded.items()},
        "against": {
            budget: {m: table(methods["penalty"], methods[m]) for m in METHODS if m != "penalty"}
            for budget, methods in succeeded.items()
        },
        "architectures": rows,
    }


def table(penalty: list[bool], other: list[bool]) -> dict[str, float]:
    """Compares WGAN-GP with another method, run by run.

    Returns:
      The numbers of runs where both, only one, or neither succeeded, and the p-value of the sign test: the probability
      that chance alone favours WGAN-GP this much or more.
    """
    pairs = list(zip(penalty, other, strict=True))
    ours, theirs = pairs.count((True, False)), pairs.count((False, True))
    return {
        "both": pairs.count((True, True)),
        "only WGAN-GP": ours,
        "only the other": theirs,
        "neither": pairs.count((False, False)),
        "p": float(binomtest(ours, ours + theirs, alternative="greater").pvalue) if ours + theirs else 1.0,
    }


def criterion(settings: Settings) -> str:
    """Returns the criterion of a success, in words."""
    return f"sliced W₁ to the held-out digits at most {settings.threshold:g} times that of as many training digits"


def draw_layers(settings: Settings, rng: np.random.Generator, norm: str) -> Layers:
    """Draws the architecture of one network."""
    depths, widths = ([int(x) for x in values.split(",")] for values in (settings.depths, settings.widths))
    return Layers(
        activation=str(rng.choice(ACTIVATION_CHOICES)),
        depth=int(rng.choice(depths)),
        norm=norm if rng.random() < 0.5 else "none",
        width=int(rng.choice(widths)),
    )


def compare(settings: Settings, generator: Layers, critic: Layers) -> dict[str, Any]:
    """Trains one architecture with each method, up to the larger of both budgets.

    Returns:
      For each method: the distances of all seeds at each budget, the critic updates and the seconds of each budget, and
      the distances after every segment.
    """
    trainings = {method: Training(settings, generator, critic, method) for method in METHODS}
    for _ in range(SEGMENTS + 1):
        for training in trainings.values():
            training.advance()
    seconds = {method: training.seconds() for method, training in trainings.items()}  # from segments in turns
    budget = SEGMENTS * seconds["penalty"]
    found = {}
    for method, training in trainings.items():
        in_time = min(max(1, round(budget / seconds[method])), LONGEST * SEGMENTS)
        stops = dict(zip(BUDGETS, (SEGMENTS, in_time), strict=True))
        while len(training.distances) < max(stops.values()):
            training.advance()
        found[method] = {name: training.distances[stop - 1] for name, stop in stops.items()} | {
            "critic updates": {name: stop * training.updates for name, stop in stops.items()},
            "seconds": {name: stop * seconds[method] for name, stop in stops.items()},
            "every": training.distances,
        }
    return found


class Training:
    """Training of one architecture with one method, for all seeds at once.

    It advances by segments. The number of critic updates in a segment is the same for all methods.
    """

    def __init__(self, settings: Settings, generator: Layers, critic: Layers, method: str):
        config = digits_config(settings, method)
        every = iterations(settings, config.n_critic)
        self.updates = every * config.n_critic
        """Critic updates per segment, the same for all methods."""
        self.distances: list[list[float]] = []
        """Distances of all seeds, after each segment. See `distance`."""
        self._times: list[float] = []
        shape = (config.data.size, config.data.size, 1)
        gan = dataclasses.replace(build(config), generator=Generator(generator, shape), critic=Critic(critic))
        self._gan = setups.playing(gan, method) if method == "non_saturating" else gan
        self._seeds = range(settings.seed, settings.seed + settings.seeds)
        start = jax.vmap(lambda seed: init_state(self._gan, jax.random.key(seed)))(jnp.array(self._seeds))
        train_step = jax.vmap(make_train_step(self._gan), in_axes=(0, None))
        self._train, self._held_out = (data.load(config, split) for split in ("train", "held_out"))
        self._run = setups.states(train_step, start, self._train, config=config, every=every)

    def advance(self) -> None:
        """Trains for one segment, times it, and measures the distances after it."""
        began = time.perf_counter()
        states, _ = next(self._run)
        self._times.append(time.perf_counter() - began)
        real, reference = (source.read(np.arange(SAMPLES))["image"] for source in (self._held_out, self._train))
        seeds = (jax.tree.map(lambda x, i=i: x[i], states) for i in range(len(self._seeds)))
        images = (sample(self._gan, state, state.key, SAMPLES) for state in seeds)
        self.distances.append([distance(fake, jnp.asarray(real), jnp.asarray(reference)) for fake in images])

    def seconds(self) -> float:
        """Returns the median time of a segment in seconds. The first segment does not count, since it compiles."""
        return float(np.median(self._times[1:]))


def iterations(settings: Settings, n_critic: int) -> int:
    """Returns the generator iterations per segment.

    A segment contains the same number of critic updates for every `n_critic`.
    """
    return max(1, settings.steps // SEGMENTS) * N_CRITIC // n_critic


def distance(images: jax.Array, real: jax.Array, reference: jax.Array) -> float:
    """Returns the sliced W₁ between images and real ones, relative to the one between `reference` and the real ones.

    It is rounded to three decimals, and infinite if it is not a finite number.

    Args:
      images: generated images.
      real: real images.
      reference: as many other images from the distribution of the real ones.
    """
    key = jax.random.key(0)
    ratio = transport.projected_wasserstein(images, real, key) / transport.projected_wasserstein(reference, real, key)
    return round(float(ratio), 3) if jnp.isfinite(ratio) else math.inf


def digits_config(settings: Settings, method: str) -> ConfigDict:
    """Returns the config of a method.

    The standard GAN has WGAN-GP's optimizers, and one critic update per iteration. The clipped WGAN has RMSProp.
    """
    c = default()
    c.seed, c.batch_size, c.n_critic = settings.seed, settings.batch_size, N_CRITIC
    c.steps = LONGEST * settings.steps
    c.ema_decay = 0.99
    for player in (c.generator, c.critic):
        player.optimizer.learning_rate = settings.learning_rate
    if method == "non_saturating":
        c.n_critic, c.steps = 1, N_CRITIC * c.steps
    if method == "clip":
        c = setups.clipped(c, 0.01, settings.clip_learning_rate)
    return c


def draw(settings: Settings, rows: list[dict[str, Any]], counts: dict[str, dict[str, int]]) -> Figure:
    """Draws a panel for each budget, with a row for each architecture and a dot for each method and seed."""
    figure, axes = pictures.panels(1, len(BUDGETS), width=11.0, height=2.4 + 0.4 * len(rows))
    colors = (pictures.BLUE, pictures.ORANGE, pictures.GREY)
    highest = max(min(d, 100) for row in rows for method in METHODS for budget in BUDGETS for d in row[method][budget])
    for panel, budget in zip(axes[0], BUDGETS, strict=True):
        for shift, (color, (method, name)) in enumerate(zip(colors, METHODS.items(), strict=True)):
            dots = [(min(d, 100), i + 0.2 * (shift - 1)) for i, row in enumerate(rows) for d in row[method][budget]]
            label = f"{name}: {counts[budget][method]} of {len(dots)}"
            panel.scatter(*zip(*dots, strict=True), color=color, label=label, s=30)
        panel.axvline(settings.threshold, color="black", linewidth=0.8, linestyle="--")
        panel.set(title=budget, xlabel="sliced W₁ to held-out digits ÷ that of training digits", xscale="log")
        panel.set_yticks(range(len(rows)), labels=[])
        panel.set_xticks([1, 2, 4, 8, 16, 32, 64, 100], labels=["1", "2", "4", "8", "16", "32", "64", "≥ 100"])
        panel.minorticks_off()
        panel.set_xlim(0.8, 1.3 * max(settings.threshold, highest))
        panel.margins(y=0.15)
        panel.invert_yaxis()
        panel.grid(alpha=0.25)
        panel.legend(
            frameon=False,
            loc="lower center",
            bbox_to_anchor=(0.5, 1.1),
            ncols=3,
            fontsize=8,
            columnspacing=0.5,
            handletextpad=0,
        )
    axes[0, 0].set_yticklabels([f"{row['generator']} / {row['critic']}" for row in rows], fontsize=8)
    return figure


if __name__ == "__main__":
    harness.main(run, quick=QUICK, full=FULL)
