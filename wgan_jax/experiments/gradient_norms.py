"""Gradient norms in a deep critic: they explode or vanish under clipping (arXiv 1704.00028, Fig. 1b, left).

    python -m wgan_jax.experiments.gradient_norms --workdir=runs/papers [--preset=quick|full]

The experiment trains WGANs on the Swiss roll. Their critics are 12 ReLU layers without normalization. It measures the
norm of the gradient of the critic's loss with respect to each layer's activations, and takes the geometric mean over
the second half of training.

Wrong programs that do not meet the criteria:
- Untrained critics. If their initial weights are clipped at any of the bounds, gradients shrink, but under the largest
  bound they must grow. And their slope is not 1.
- A constant critic: its slope is 0.
- A critic without a penalty: its slope is not 1.
- Layers in a wrong order: the norms are no exponential.

A critic of width 64 hardly trains with weights clipped at 0.01 or 0.001. The gradients of its first weights vanish from
the beginning, and so do their updates.

`quick`: width 64, 600 generator iterations, five times the paper's learning rates. `full`: width 512, 10,000 generator
iterations, the paper's learning rates. It takes about 21 hours on 2 CPU cores, estimated from the speed on a
busy machine.
"""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from wgan_jax import data
from wgan_jax.config import build
from wgan_jax.experiments import harness, setups
from wgan_jax.method import lipschitz
from wgan_jax.method.gan import Gan
from wgan_jax.method.state import TrainState, init_state
from wgan_jax.method.step import make_train_step
from wgan_jax.metrics.estimate import make_fakes
from wgan_jax.report import pictures


@dataclasses.dataclass(frozen=True)
class Settings(setups.DeepSettings):
    """Settings of the four runs."""

    steps: int = 600
    bounds: str = "0.1,0.01,0.001"
    """Clipping bounds, one run for each."""
    measurements: int = 20
    """Number of measurements in each run."""


QUICK = Settings()
FULL = Settings(width=512, steps=10_000, learning_rate=1e-4, clip_learning_rate=5e-5)


def run(settings: Settings) -> harness.Result:
    """Trains one critic with the penalty and one for each clipping bound. Returns their gradient norms."""
    norms, slopes = {}, {}
    norms["penalty"], slopes["penalty"] = measure(settings, setups.penalised(settings))
    bounds = [float(bound) for bound in settings.bounds.split(",")]
    for bound in bounds:
        config = setups.clipped(setups.penalised(settings), bound, settings.clip_learning_rate)
        norms[f"clip {bound:g}"], slopes[f"clip {bound:g}"] = measure(settings, config)
    found = {name: summary(values) | {"slope": slopes[name]} for name, values in norms.items()}
    for name, numbers in found.items():
        harness.say(f"{name}: a factor {numbers['factor_per_layer']:.3g} a layer")

    figure, axes = pictures.panels(1, 1, width=7.0, height=4.6)
    colors = (pictures.BLUE, pictures.ORANGE, pictures.GREEN, pictures.GREY)
    for color, (name, values) in zip(itertools.cycle(colors), norms.items(), strict=False):
        label = f"{name}: × {found[name]['factor_per_layer']:.2g} a layer towards the input"
        axes[0, 0].semilogy(range(1, settings.depth + 1), values, color=color, marker="o", markersize=4, label=label)
    axes[0, 0].set(
        title="Gradients through a deep critic",
        xlabel="critic layer (1: next to the input)",
        ylabel="norm of the loss's gradient by activations",
    )
    axes[0, 0].grid(alpha=0.25)
    axes[0, 0].legend(frameon=False, fontsize=8)

    clipped = [numbers["decades"] for name, numbers in found.items() if name != "penalty"]
    factors = ", ".join(f"{found[f'clip {bound:g}']['factor_per_layer']:.2g}" for bound in bounds)
    return harness.Result(
        numbers={name: numbers | {"norms": norms[name]} for name, numbers in found.items()},
        figure=figure,
        caption=(
            f"Swiss roll, critics of {settings.depth} ReLU layers of {settings.width} without normalization, "
            f"{settings.steps:,} generator iterations; geometric means over their second half."
        ),
        claim=(
            "gradients of a clipped critic grow or shrink exponentially with depth, those of a penalised one do not: "
            f"clipping at {settings.bounds} changes them by a factor {factors} a layer towards the input, over "
            f"{min(clipped):.1f} decades or more, and under the penalty all layers are within "
            f"{found['penalty']['decades']:.2f} decades, at a slope of {slopes['penalty']:.2f}"
        ),
        criteria=criteria(found, bounds),
    )


def criteria(found: dict[str, dict[str, float]], bounds: list[float]) -> dict[str, bool]:
    """Returns the demands on the norms, under the penalty and under each bound, and whether each is met."""
    clipped = [found[f"clip {bound:g}"] for bound in bounds]
    largest, smallest = found[f"clip {max(bounds):g}"], found[f"clip {min(bounds):g}"]
    return {
        "under every bound gradients change by more than a decade": all(n["decades"] > 1 for n in clipped),
        "and exponentially: layer and logarithm have a squared correlation of at least 0.9": all(
            n["fit"] >= 0.9 for n in clipped
        ),
        "towards the input they grow under the largest bound": largest["factor_per_layer"] > 1,
        "and shrink under the smallest": smallest["factor_per_layer"] < 1,
        "under the penalty all layers are within a decade": found["penalty"]["decades"] <= 1,
        "and the critic's slope is 0.8 to 1.2": 0.8 <= found["penalty"]["slope"] <= 1.2,
    }


def measure(settings: Settings, config: ConfigDict) -> tuple[list[float], float]:
    """Trains a run. Returns the gradient norm of each layer, from input to output, and the critic's slope.

    The norms are geometric means over the second half of the run, and the slope is the mean over it.
    """
    gan = build(config)
    train, held_out = data.load(config, "train"), data.load(config, "held_out")
    gradients = jax.jit(activation_gradients(gan))
    real = jnp.asarray(held_out.read(np.arange(config.batch_size))["image"])
    every = max(1, config.steps // settings.measurements)
    start = init_state(gan, jax.random.key(config.seed))
    slope = jax.jit(critic_slope(gan))
    history, slopes = [], []
    for state, _ in setups.states(make_train_step(gan), start, train, config=config, every=every):
        norms = gradients(state, real)
        history.append([norms[name] for name in layers(gan)])
        slopes.append(slope(state, real))
    half = len(history) // 2
    return np.exp(np.log(history[half:]).mean(axis=0)).tolist(), float(np.mean(slopes[half:]))


def layers(gan: Gan) -> list[str]:
    """Returns the names of the dense layers whose inputs are activations, in order: all except the first."""
    return [f"dense_{i}" for i in range(1, gan.critic.depth)] + ["output"]


def activation_gradients(gan: Gan) -> Callable[[TrainState, jax.Array], dict[str, jax.Array]]:
    """Returns a pure function `(state, real) -> norms` for the gradient norm at each layer's input.

    The gradient is the one of the critic's loss without the penalty. To get it, the function adds zeros to the input of
    every dense layer and differentiates the loss with respect to them. The norm is taken over all examples and units.
    """

    def norms(state: TrainState, real: jax.Array) -> dict[str, jax.Array]:
        x = jnp.concatenate([real, make_fakes(gan, len(real))(state)])

        def loss(added: dict[str, jax.Array]) -> jax.Array:
            def add(dense: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
                if isinstance(context.module, nn.Dense) and context.method_name == "__call__":
                    args = (args[0] + added[context.module.name or ""], *args[1:])
                return dense(*args, **kwargs)

            with nn.intercept_methods(add):
                scores = gan.score(state.critic, x).value
            return gan.game.critic_loss(*jnp.split(scores, 2))

        params = state.critic.params
        dense = params["hidden"] | {"output": params["output"]}
        zeros = {name: jnp.zeros((len(x), layer["kernel"].shape[0])) for name, layer in dense.items()}
        return {name: norm(gradient) for name, gradient in jax.grad(loss)(zeros).items()}

    return norms


def critic_slope(gan: Gan) -> Callable[[TrainState, jax.Array], jax.Array]:
    """Returns a pure function `(state, real) -> slope []`.

    The slope is the mean norm of the gradient of the critic's score, halfway between real and generated points.
    """

    def slope(state: TrainState, real: jax.Array) -> jax.Array:
        fake = make_fakes(gan, len(real))(state)
        critic = lambda x: gan.score(state.critic, x).value  # noqa: E731
        return jnp.mean(lipschitz.gradient_norms(critic, (real + fake) / 2))

    return slope


def norm(x: jax.Array) -> jax.Array:
    """Returns the Euclidean norm of all numbers, and at least the smallest normal float.

    The numbers are divided by the largest one before they are squared, so that the squares do not underflow.
    """
    largest = jnp.maximum(jnp.max(jnp.abs(x)), jnp.finfo(x.dtype).tiny)
    return jnp.maximum(largest * jnp.linalg.norm(x / largest), jnp.finfo(x.dtype).tiny)


def summary(norms: list[float]) -> dict[str, float]:
    """Describes how norms change from layer to layer.

    Returns:
      factor_per_layer: the factor from one layer to the next one towards the input, fitted by least squares.
      decades: the logarithm (base 10) of the largest norm divided by the smallest.
      fit: the squared correlation of the layer's number and the logarithm of its norm. It is 1 for an exponential, and
        0 if all norms are equal.
    """
    decades, layer = np.log10(norms), np.arange(len(norms))
    slope = np.polyfit(layer, decades, 1)[0]
    fit = np.corrcoef(layer, decades)[0, 1] ** 2 if np.ptp(decades) else 0.0
    return {"factor_per_layer": float(10**-slope), "decades": float(np.ptp(decades)), "fit": float(fit)}


if __name__ == "__main__":
    harness.main(run, quick=QUICK, full=FULL)
