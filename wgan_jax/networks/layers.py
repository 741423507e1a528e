"""Activations, normalizations and initializers by name, as a network's settings give them."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Dtype, Initializer

Activation = Callable[[jax.Array], jax.Array]


def shifted_softplus(x: jax.Array) -> jax.Array:
    """`softplus(2x + 2) / 2 − 1`: smooth, and a critic trains with it (arXiv 1704.00028, appendix)."""
    return nn.softplus(2 * x + 2) / 2 - 1


def leaky_relu(x: jax.Array) -> jax.Array:
    """Leaky ReLU of slope 0.2 (Radford et al. 2016, arXiv 1511.06434)."""
    return nn.leaky_relu(x, 0.2)


ACTIVATIONS: dict[str, Activation] = {
    "relu": nn.relu,
    "leaky_relu": leaky_relu,
    "elu": nn.elu,
    "tanh": nn.tanh,
    "softplus": shifted_softplus,
}

NORMS = ("none", "batch", "layer")


class Norm(nn.Module):
    """Normalization by name, affine per channel: `[B, ..., C] -> [B, ..., C]`, statistics in float32.

    "batch": moments of the batch if `train`, else running ones (collection `batch_stats`, which a training call
    must make mutable); `axis_name` names the mapped axis whose devices share a batch, under `pmap`.
    "layer": moments of each example over all its axes, as the critic of WGAN-GP has it (arXiv 1704.00028, section 4).
    "none": the input.

    Raises:
      ValueError: if `kind` is no name of a normalization.
    """

    kind: str
    dtype: Dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        match self.kind:
            case "none":
                return x
            case "batch":
                return nn.BatchNorm(
                    use_running_average=not train,
                    momentum=0.9,
                    dtype=self.dtype,
                    axis_name=self.axis_name,
                    name="batch",
                )(x)
            case "layer":
                axes = tuple(range(1, x.ndim))
                norm = nn.LayerNorm(
                    epsilon=1e-5,
                    dtype=self.dtype,
                    reduction_axes=axes,
                    feature_axes=-1,
                    name="layer",
                )
                return norm(x)
            case _:
                raise ValueError(f"norm {self.kind!r} must be one of {', '.join(NORMS)}")


def fan_uniform(scale: float = 1.0, stride: int = 1) -> Initializer:
    """Uniform of variance `2·scale / (fan_in + fan_out)`, as WGAN-GP's code draws its weights.

    `scale` 1 is Glorot's, 2 that code's "he". For kernels `[..., C, features]` of convolutions and
    `[..., features, C]` of transposed ones: a stride divides the fan on the side of the smaller image, which is the
    last axis of both.
    """

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Dtype = jnp.float32) -> jax.Array:
        taps = 1
        for n in shape[:-2]:
            taps *= n
        limit = (6 * scale / (taps * (shape[-2] + shape[-1] / stride**2))) ** 0.5
        return jax.random.uniform(key, shape, dtype, -limit, limit)

    return init
