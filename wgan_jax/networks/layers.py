"""Activations, normalizations, initializers and the ways of classes by name, as a network's settings give them."""

from collections.abc import Callable
from typing import Any

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


def halvings(size: int) -> tuple[int, int]:
    """What is left of a size that is halved while it is even and above 4, and how often that was."""
    count = 0
    while size % 2 == 0 and size > 4:
        size, count = size // 2, count + 1
    return size, count


NORMS = ("none", "batch", "layer")
CONDITIONINGS = ("none", "auxiliary", "projection")


def of_class(table: jax.Array, label: jax.Array | None) -> jax.Array:
    """Each example's row of a table with a row per class: `[num_classes, D], [B] -> [B, D]`.

    Raises:
      ValueError: if there are no labels.
    """
    if label is None:
        raise ValueError("a class-conditional network needs labels: call it as network(x, label), label [B] int32")
    # A product, not a gather: the gradient of that is a scatter, whose sums have no fixed order on a GPU.
    return jnp.dot(jax.nn.one_hot(label, table.shape[0], dtype=table.dtype), table, precision="highest")


class Norm(nn.Module):
    """Normalization by name, affine per channel: `[B, ..., C] -> [B, ..., C]`, statistics in float32.

    "batch": moments of the batch if `train`, else running ones (collection `batch_stats`, which a training call
    must make mutable), so that an image does not depend on those that are drawn with it. The papers' codes differ:
    they have the moments of the batch when they sample too. Variances are `mean(x²) − mean(x)²` here, in one pass, and
    mean squared differences from the mean there. `axis_name` names the mapped axis whose devices share a
    batch.
    "layer": moments of each example over all its axes, as the critic of WGAN-GP has it (arXiv 1704.00028, section 4).
    "none": the input.

    With `num_classes`, scale and offset belong to the class of each example, `label [B]` (conditional normalization:
    Dumoulin et al. 2016, arXiv 1610.07629; WGAN-GP's `cond_batchnorm.py`); the moments are those of all examples.

    Raises:
      ValueError: if `kind` is no name of a normalization, or labels are needed and missing.
    """

    kind: str
    dtype: Dtype = jnp.float32
    axis_name: str | None = None
    num_classes: int = 0
    scale_init: Initializer = nn.initializers.ones

    @nn.compact
    def __call__(self, x: jax.Array, label: jax.Array | None = None, *, train: bool = False) -> jax.Array:
        affine: dict[str, Any] = {"dtype": self.dtype, "scale_init": self.scale_init}
        if self.num_classes:
            affine = {"dtype": jnp.float32, "use_scale": False, "use_bias": False}
        match self.kind:
            case "none":
                return x
            case "batch":
                y = nn.BatchNorm(
                    use_running_average=not train,
                    momentum=0.9,
                    axis_name=self.axis_name,
                    name="batch",
                    **affine,
                )(x)
            case "layer":
                y = nn.LayerNorm(
                    epsilon=1e-5,
                    reduction_axes=tuple(range(1, x.ndim)),
                    feature_axes=-1,
                    name="layer",
                    **affine,
                )(x)
            case _:
                raise ValueError(f"norm {self.kind!r} must be one of {', '.join(NORMS)}")
        if not self.num_classes:
            return y
        shape = (self.num_classes, x.shape[-1])
        scale = of_class(self.param("scale", self.scale_init, shape), label)
        bias = of_class(self.param("bias", nn.initializers.zeros, shape), label)
        rows = (x.shape[0],) + (1,) * (x.ndim - 2) + (x.shape[-1],)
        return (y * scale.reshape(rows) + bias.reshape(rows)).astype(self.dtype)


class ClassHead(nn.Module):
    """What a critic makes of classes, from its last features: `(score [B], features [B, D], label [B]) -> [B]`.

    "auxiliary": the score as it is. Logits of the classes `[B, num_classes]` are sown beside it, as `logits` in the
    collection `intermediates`, where a caller who asks for that collection finds them (Odena et al. 2016,
    arXiv 1610.09585, with the score of WGAN-GP's `gan_cifar_resnet.py`).
    "projection": plus `⟨v_label, features⟩`, with a learned v of each class (Miyato and Koyama 2018, arXiv 1802.05637
    eq. 3).
    "none": the score as it is.

    Raises:
      ValueError: if `kind` is none of these, or labels are needed and missing.
    """

    kind: str
    num_classes: int

    @nn.compact
    def __call__(self, score: jax.Array, features: jax.Array, label: jax.Array | None) -> jax.Array:
        match self.kind:
            case "none":
                return score
            case "auxiliary":
                logits = nn.Dense(self.num_classes, kernel_init=fan_uniform(), name="dense")(features)
                self.sow("intermediates", "logits", logits)
                return score
            case "projection":
                v = self.param("projection", fan_uniform(), (self.num_classes, features.shape[-1]))
                return score + jnp.sum(of_class(v, label) * features, axis=-1)
            case _:
                raise ValueError(f"conditioning {self.kind!r} must be one of {', '.join(CONDITIONINGS)}")


def symmetric_uniform(limit: float) -> Initializer:
    """Returns the initializer U(−limit, limit), of std `limit / √3`."""

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Dtype = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -limit, limit)

    return init


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
