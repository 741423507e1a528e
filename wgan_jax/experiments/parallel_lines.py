"""Parallel lines: W₁ has a gradient towards the data, Jensen–Shannon has none (arXiv 1701.07875, Example 1).

    python -m wgan_jax.experiments.parallel_lines --workdir=runs/papers [--preset=quick|full]

Real points are (0, Z) and generated points are (θ, Z), with Z ~ U[0, 1]. Then W₁ = |θ|, and the Jensen–Shannon
divergence is log 2 for every θ ≠ 0. The experiment first trains a critic and a discriminator at several fixed θ. Then
it lets θ follow its gradient under each of them.

In this example the best slope of a penalised critic is 1 + |θ| / 2λ, and its estimate is |θ| (1 + |θ| / 2λ). With the
paper's λ = 10 the estimate would be 5 % too large at θ = 1. Therefore λ is 100 here.

Wrong programs that do not meet the criteria:
- Untrained or constant critics: they find no distance at θ ≠ 0.
- Estimates that are large for every θ: they must vanish at θ = 0.
- A generator that never moves: the non-saturating loss must move it, against the same discriminator.
- A generator that shrinks θ by itself: the slope under W₁ must be 1 everywhere, not proportional to θ.

`quick`: 2 layers of 64, 1,500 critic updates at each θ. `full`: 3 layers of 512, 10,000 critic updates at each θ. It
takes about 5 hours on 2 CPU cores, estimated from the speed on a busy machine. The paper solves the example by hand.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr
from ml_collections import ConfigDict

from wgan_jax.config import build
from wgan_jax.data.arrays import ArraySource
from wgan_jax.experiments import harness, setups
from wgan_jax.method.priors import Normal
from wgan_jax.method.schedule import CriticSchedule
from wgan_jax.method.state import TrainState, init_state
from wgan_jax.method.step import make_train_step
from wgan_jax.report import pictures

THETAS = (-1.0, -0.75, -0.5, -0.25, -0.1, 0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
UPDATES_PER_ITERATION = 50
NAMES = {"wasserstein": "W₁", "minimax": "Jensen–Shannon", "non_saturating": "non-saturating"}


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of the critics and of the descent."""

    width: int = 64
    depth: int = 2
    updates: int = 1_500
    """Critic updates at each fixed θ."""
    batch_size: int = 128
    learning_rate: float = 1e-3
    """Learning rate of the critics (Adam). At fixed θ it falls to 0."""
    weight: float = 100.0
    start: float = 1.0
    """Value of θ before the descent."""
    steps: int = 300
    """Generator iterations of the descent."""
    rate: float = 0.02
    """Learning rate of θ (plain gradient descent). It falls to 0."""
    seed: int = 0


QUICK = Settings()
FULL = Settings(width=512, depth=3, updates=10_000, batch_size=256, learning_rate=1e-4, steps=1_000)


class Line(nn.Module):
    """Generator of points (θ, Z): latents `[B, 1]` to points `[B, 2]`.

    Z ~ U[0, 1] is the normal distribution function of the latent. θ is the only parameter.
    """

    @nn.compact
    def __call__(self, z: jax.Array, label: jax.Array | None = None, *, train: bool = False) -> jax.Array:
        del label, train
        theta = jnp.asarray(self.param("theta", nn.initializers.zeros, ()))
        return jnp.stack([jnp.broadcast_to(theta, z.shape[:1]), ndtr(z[:, 0])], axis=1)


def run(settings: Settings) -> harness.Result:
    """Trains critics at fixed θ, and lets θ descend. Returns the estimates and the values of θ."""
    estimates = {game: at_fixed(settings, game) for game in ("wasserstein", "minimax")}
    paths = {game: descend(settings, game) for game in NAMES}
    for game, path in paths.items():
        harness.say(f"{NAMES[game]}: θ from {settings.start:g} to {path[-1]:.4f}")

    numbers = numbers_of(estimates, paths, settings.rate)
    return harness.Result(
        numbers=numbers,
        figure=draw(settings, estimates, paths),
        caption=(
            f"Critics of {settings.depth} layers of {settings.width}; left and middle after "
            f"{settings.updates:,} updates at each θ, penalty weight {settings.weight:g}. Right: θ by plain gradient "
            f"descent, rate {settings.rate:g} falling to 0, five updates of the critic before each of θ, before the "
            "first as many as on the left. The non-saturating loss is not the divergence: its slope is the "
            "discriminator's own."
        ),
        claim=(
            "W₁ is a distance that can be descended, Jensen–Shannon is flat: the critic's estimate is within "
            f"{numbers['largest_relative_error']:.1%} of |θ| for |θ| ≥ 0.1, the discriminator's at least "
            f"{numbers['smallest_share_of_log_2']:.1%} of log 2 there, and θ went from {settings.start:g} to "
            f"{paths['wasserstein'][-1]:.3f} under W₁, at a slope of {numbers['slopes']['wasserstein']:.2f}, and to "
            f"{paths['minimax'][-1]:.3f} under Jensen–Shannon (the non-saturating loss, which is not that divergence, "
            f"led to {paths['non_saturating'][-1]:.3f})"
        ),
        criteria=criteria(numbers),
    )


def numbers_of(estimates: dict[str, list[float]], paths: dict[str, list[float]], rate: float) -> dict[str, Any]:
    """Returns the numbers of the experiment, from the estimates at each θ and the path of θ in each game."""
    theta = np.array(THETAS)
    away = np.abs(theta) >= 0.1
    errors = np.abs(np.array(estimates["wasserstein"]) / np.where(away, np.abs(theta), 1) - 1)[away]
    shares = np.array(estimates["minimax"])[away] / np.log(2)
    return {
        "theta": list(THETAS),
        "wasserstein_estimate": list(estimates["wasserstein"]),
        "jensen_shannon_estimate": list(estimates["minimax"]),
        "largest_relative_error": float(errors.max()),
        "smallest_share_of_log_2": float(shares.min()),
        "descent": paths,
        "reached_0": {game: abs(path[-1]) <= 0.05 for game, path in paths.items()},
        "slopes": {game: slope(path, rate) for game, path in paths.items()},
    }


def criteria(numbers: dict[str, Any]) -> dict[str, bool]:
    """Returns the demands on both estimates and the three descents, and whether each is met."""
    zero = numbers["theta"].index(0.0)
    at_zero = (abs(numbers["wasserstein_estimate"][zero]), abs(numbers["jensen_shannon_estimate"][zero]))
    start, end = ({game: path[i] for game, path in numbers["descent"].items()} for i in (0, -1))
    moved = {game: abs(end[game] - start[game]) for game in start}
    return {
        "W₁'s estimate is within 5 % of |θ|": numbers["largest_relative_error"] <= 0.05,
        "Jensen–Shannon's is at least 95 % of log 2": numbers["smallest_share_of_log_2"] >= 0.95,
        "both are at most 0.02 at θ = 0": max(at_zero) <= 0.02,
        "θ reaches 0 under W₁": numbers["reached_0"]["wasserstein"],
        "at a slope of 0.9 to 1.1": 0.9 <= numbers["slopes"]["wasserstein"] <= 1.1,
        "it stays within 0.05 under Jensen–Shannon": moved["minimax"] <= 0.05,
        "and moves by more than half under the non-saturating loss": moved["non_saturating"]
        > abs(start["non_saturating"]) / 2,
    }


def slope(path: list[float], rate: float) -> float:
    """Returns the slope that θ descends: its step towards 0 divided by the learning rate of the iteration.

    It is the median over the iterations with |θ| ≥ 0.2.
    """
    theta = np.abs(path)
    rates = rate * (1 - np.arange(len(path) - 1) / (len(path) - 1))
    slopes = -np.diff(theta) / rates
    return float(np.median(slopes[theta[:-1] >= 0.2]))


def at_fixed(settings: Settings, game: str) -> list[float]:
    """Trains one critic for each θ, all in one call. Returns their estimates, on evenly spaced Z."""
    config = lines_config(settings)
    config.steps = -(-settings.updates // UPDATES_PER_ITERATION)
    config.n_critic = min(settings.updates, UPDATES_PER_ITERATION)
    config.critic.optimizer.schedule = "linear"
    gan = setups.against(setups.playing(build(config), game), Line(), latent_dim=1)
    state = init_state(gan, jax.random.key(settings.seed))
    start = jax.vmap(lambda theta: with_theta(state, theta))(jnp.array(THETAS))
    train_step = jax.vmap(make_train_step(gan), in_axes=(0, None))
    end = setups.last(setups.states(train_step, start, real_line(), config=config, every=1))

    height = (jnp.arange(4_096) + 0.5) / 4_096

    def estimate(state: TrainState, theta: jax.Array) -> jax.Array:
        real, fake = (jnp.stack([jnp.full_like(height, x), height], axis=1) for x in (0.0, theta))
        scores = (gan.score(state.critic, x).value for x in (real, fake))
        return gan.game.estimate(*scores)

    return jax.vmap(estimate)(end, jnp.array(THETAS)).tolist()


def descend(settings: Settings, game: str) -> list[float]:
    """Lets θ descend. Returns its values before each iteration and after the last one.

    The critic gets `settings.updates` updates before θ moves for the first time.
    """
    config = lines_config(settings)
    config.steps = settings.steps
    config.generator.optimizer.name = "sgd"
    config.generator.optimizer.learning_rate = settings.rate
    config.generator.optimizer.schedule = "linear"
    schedule = CriticSchedule(config.n_critic, max(settings.updates, config.n_critic), warmup_steps=1, warmup_every=0)
    gan = setups.playing(build(config), game)
    gan = dataclasses.replace(gan, generator=Line(), prior=Normal(1), schedule=schedule)
    state = with_theta(init_state(gan, jax.random.key(settings.seed)), jnp.float32(settings.start))
    run = setups.states(make_train_step(gan), state, real_line(), config=config, every=1, schedule=gan.schedule)
    return [settings.start, *(float(state.generator.params["theta"]) for state, _ in run)]


def lines_config(settings: Settings) -> ConfigDict:
    """Returns the config that both parts of the experiment share."""
    config = setups.toy_config("swissroll", width=settings.width, depth=settings.depth, batch_size=settings.batch_size)
    config.seed = settings.seed
    config.constraint.weight = settings.weight
    config.critic.optimizer.learning_rate = settings.learning_rate
    return config


def real_line() -> ArraySource:
    """Returns a data set of points (0, Z)."""
    height = np.random.default_rng(0).random(100_000, np.float32)
    return ArraySource(np.stack([np.zeros_like(height), height], axis=1))


def with_theta(state: TrainState, theta: jax.Array) -> TrainState:
    """Returns the state with the generator's parameter set to θ."""
    variables: dict[str, Any] = {"params": {"theta": theta}}
    generator = dataclasses.replace(state.generator, variables=variables)
    return dataclasses.replace(state, generator=generator, ema=jax.tree.map(jnp.copy, variables))


def draw(settings: Settings, estimates: dict[str, list[float]], paths: dict[str, list[float]]) -> Any:
    """Draws three panels: each of the two estimates against θ, and θ against the iteration."""
    figure, axes = pictures.panels(1, 3, width=10.5, height=4.1)
    left, middle, right = axes[0]
    fine = np.linspace(-1, 1, 201)
    left.plot(fine, np.abs(fine), color=pictures.GREY, linewidth=1.2, label="|θ|, the truth")
    left.plot(THETAS, estimates["wasserstein"], "o", color=pictures.BLUE, label="critic's estimate")
    left.set(title="W₁", xlabel="θ", ylabel="distance")
    middle.axhline(np.log(2), color=pictures.GREY, linewidth=1.2, label="log 2, the truth at θ ≠ 0")
    middle.plot(THETAS, estimates["minimax"], "o", color=pictures.ORANGE, label="discriminator's estimate")
    middle.set(title="Jensen–Shannon", xlabel="θ", ylabel="divergence (nats)", ylim=(-0.04, 0.85))
    styles = ((pictures.BLUE, 1.8), (pictures.ORANGE, 1.8), (pictures.GREY, 0.6))
    for order, (game, path) in enumerate(paths.items()):
        color, linewidth = styles[order]
        right.plot(path, color=color, linewidth=linewidth, zorder=3 - order, label=NAMES[game])
    right.axhline(0, color=pictures.GREY, linewidth=0.8)
    right.set(title="θ descends", xlabel="generator iteration", ylabel="θ")
    for panel, place in zip(axes[0], ("upper center", "center", (0.42, 0.6)), strict=True):
        panel.grid(alpha=0.25)
        panel.legend(frameon=False, fontsize=8, loc=place)
    return figure


if __name__ == "__main__":
    harness.main(run, quick=QUICK, full=FULL)
