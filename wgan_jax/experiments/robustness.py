"""Robustness: random architectures under WGAN-GP, a standard GAN and a clipped WGAN (arXiv 1704.00028, Table 2).

    python -m wgan_jax.experiments.robustness --workdir=runs/papers [--preset=quick|full]

Architectures are drawn at random: activation and depth of each player, batch normalization in the generator or none,
layer normalization in the critic or none, widths. Each is trained three ways on scikit-learn's digits, and counts as a
success if its samples are near the held-out digits: by sliced W₁, over that between training and held-out digits.

`quick`: as many architectures as 4 minutes allow (4), of depth 2 to 8 and width 32 or 64, 300 generator iterations, ten
times the paper's learning rate. `full`: 24 architectures of the paper's depths 4 to 20 and widths 32 to 128, 5,000
iterations, the learning rate of its toy and MNIST runs: about 3 hours on 2 CPU cores, by the rate measured
beside other work; the paper trained 200, on 32×32 ImageNet. The standard GAN has one update of its discriminator
in an iteration, as usual, the others five.
"""

import dataclasses
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from wgan_jax import data, transport
from wgan_jax.config import default
from wgan_jax.experiments import experiment, runs
from wgan_jax.gan import build
from wgan_jax.networks.layers import ACTIVATIONS, Norm
from wgan_jax.report import pictures
from wgan_jax.sampling import sample
from wgan_jax.state import init_state
from wgan_jax.step import make_train_step

METHODS = {"penalty": "WGAN-GP", "non_saturating": "standard GAN", "clip": "clipped WGAN"}
ACTIVATION_CHOICES = ("relu", "leaky_relu", "softplus", "tanh")
SAMPLES = 500
"""As many as there are held-out digits."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """Of the runs; `depths` and `widths` are what the architectures are drawn from."""

    architectures: int = 4
    depths: str = "2,4,8"
    widths: str = "32,64"
    steps: int = 300
    batch_size: int = 64
    learning_rate: float = 1e-3
    """Adam, WGAN-GP and the standard GAN."""
    clip_learning_rate: float = 5e-4
    """RMSProp, clipped WGAN."""
    threshold: float = 4.0
    """A success is at most this many times as far from the held-out digits as the training digits are."""
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


@dataclasses.dataclass(frozen=True)
class Layers:
    """One player's architecture."""

    activation: str
    depth: int
    norm: str
    width: int

    def __str__(self) -> str:
        return f"{self.depth}×{self.width} {self.activation}" + (" norm" if self.norm != "none" else "")


class Hidden(nn.Module):
    """Dense layers, each normalized and activated: `[B, D] -> [B, width]`."""

    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        for _ in range(self.layers.depth):
            x = nn.Dense(self.layers.width, kernel_init=nn.initializers.he_uniform())(x)
            x = ACTIVATIONS[self.layers.activation](Norm(self.layers.norm)(x, train=train))
        return x


class Generator(nn.Module):
    """Latents `[B, latent_dim]` to images in [−1, 1]."""

    layers: Layers
    image_shape: tuple[int, ...]

    @nn.compact
    def __call__(self, z: jax.Array, label: jax.Array | None = None, *, train: bool = False) -> jax.Array:
        del label
        x = nn.Dense(math.prod(self.image_shape))(Hidden(self.layers)(z, train=train))
        return nn.tanh(x).reshape(-1, *self.image_shape)


class Critic(nn.Module):
    """Images to scores `[B]`."""

    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, label: jax.Array | None = None, *, train: bool = False) -> jax.Array:
        del label
        return nn.Dense(1)(Hidden(self.layers)(x.reshape(x.shape[0], -1), train=train))[:, 0]


def run(settings: Settings) -> experiment.Result:
    """Each architecture trained each way, its distance, and the counts of successes."""
    rng = np.random.default_rng(settings.seed)
    rows: list[dict[str, Any]] = []
    for _ in range(settings.architectures):
        generator, critic = draw_layers(settings, rng, "batch"), draw_layers(settings, rng, "layer")
        distances = {method: distance(settings, generator, critic, method) for method in METHODS}
        rows.append({"generator": str(generator), "critic": str(critic)} | distances)
        experiment.say(", ".join(f"{name} {value}" for name, value in rows[-1].items()))
    succeeded = {method: [row[method] <= settings.threshold for row in rows] for method in METHODS}
    counts = {method: sum(values) for method, values in succeeded.items()}
    penalty, others = counts["penalty"], [counts["non_saturating"], counts["clip"]]
    against = {method: table(succeeded["penalty"], succeeded[method]) for method in ("non_saturating", "clip")}
    return experiment.Result(
        numbers={"criterion": criterion(settings), "successes": counts, "against": against, "architectures": rows},
        figure=draw(settings, rows, counts),
        caption=(
            f"Random architectures (generator / critic: depth × width), {settings.steps:,} generator iterations on "
            f"digits each; a success, left of the dashed line: {criterion(settings)}."
        ),
        claim=(
            f"WGAN-GP trains more architectures than the others: of {len(rows)}, {penalty} under WGAN-GP, {others[0]} "
            f"as a standard GAN, {others[1]} with clipping (a success: {criterion(settings)})"
        ),
        holds=penalty > max(others),
    )


def table(penalty: list[bool], other: list[bool]) -> dict[str, int]:
    """In how many architectures which of two methods succeeded."""
    pairs = list(zip(penalty, other, strict=True))
    return {
        "both": pairs.count((True, True)),
        "only WGAN-GP": pairs.count((True, False)),
        "only the other": pairs.count((False, True)),
        "neither": pairs.count((False, False)),
    }


def criterion(settings: Settings) -> str:
    """What counts as a success, in words."""
    return f"sliced W₁ to the held-out digits at most {settings.threshold:g} times that of as many training digits"


def draw_layers(settings: Settings, rng: np.random.Generator, norm: str) -> Layers:
    """One player's architecture, at random."""
    depths, widths = ([int(x) for x in values.split(",")] for values in (settings.depths, settings.widths))
    return Layers(
        activation=str(rng.choice(ACTIVATION_CHOICES)),
        depth=int(rng.choice(depths)),
        norm=norm if rng.random() < 0.5 else "none",
        width=int(rng.choice(widths)),
    )


def distance(settings: Settings, generator: Layers, critic: Layers, method: str) -> float:
    """Sliced W₁ from samples to held-out digits over that from training digits; infinite if the run diverged."""
    config = digits_config(settings, method)
    shape = (config.data.size, config.data.size, 1)
    gan = dataclasses.replace(build(config), generator=Generator(generator, shape), critic=Critic(critic))
    if method == "non_saturating":
        gan = runs.playing(gan, method)
    train, held_out = (data.load(config, split) for split in ("train", "held_out"))
    state = init_state(gan, jax.random.key(settings.seed))
    state = runs.last(runs.states(make_train_step(gan), state, train, config=config, every=50))
    real, reference = (jnp.asarray(source.read(np.arange(SAMPLES))["image"]) for source in (held_out, train))
    key = jax.random.key(settings.seed)
    images = sample(gan, state, key, SAMPLES)
    ratio = transport.sliced_wasserstein(images, real, key) / transport.sliced_wasserstein(reference, real, key)
    return round(float(ratio), 3) if jnp.isfinite(ratio) else math.inf


def digits_config(settings: Settings, method: str) -> ConfigDict:
    """WGAN-GP's optimizers, the standard GAN's (the same, one update of the critic), or the clipped WGAN's."""
    c = default()
    c.seed, c.steps, c.batch_size = settings.seed, settings.steps, settings.batch_size
    c.ema_decay = 0.99
    for player in (c.generator, c.critic):
        player.optimizer.learning_rate = settings.learning_rate
    if method == "non_saturating":
        c.n_critic = 1
    if method == "clip":
        c = runs.clipped(c, 0.01, settings.clip_learning_rate)
    return c


def draw(settings: Settings, rows: list[dict[str, Any]], counts: dict[str, int]) -> Figure:
    """A row for each architecture, a dot for each method."""
    figure, axes = pictures.panels(1, 1, width=9.0, height=2.2 + 0.32 * len(rows))
    panel = axes[0, 0]
    names = [f"{row['generator']} / {row['critic']}" for row in rows]
    colors = (pictures.BLUE, pictures.ORANGE, pictures.GREY)
    for color, (method, name) in zip(colors, METHODS.items(), strict=True):
        label = f"{name}: {counts[method]} of {len(rows)}"
        panel.scatter([min(row[method], 100) for row in rows], range(len(rows)), color=color, label=label, s=40)
    panel.axvline(settings.threshold, color="black", linewidth=0.8, linestyle="--")
    panel.set(
        title="Random architectures",
        xlabel="sliced W₁ to held-out digits ÷ that of training digits",
        xscale="log",
        yticks=range(len(rows)),
        yticklabels=names,
    )
    panel.set_xticks([1, 2, 4, 8, 16, 32, 64, 100], labels=["1", "2", "4", "8", "16", "32", "64", "≥ 100"])
    panel.minorticks_off()
    panel.set_xlim(0.8, 1.3 * max(settings.threshold, *(min(row[method], 100) for row in rows for method in METHODS)))
    panel.margins(y=0.15)
    panel.invert_yaxis()
    panel.grid(alpha=0.25)
    panel.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


if __name__ == "__main__":
    experiment.main(run, quick=QUICK, full=FULL)
