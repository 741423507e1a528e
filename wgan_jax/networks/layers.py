"""Activations, normalizations, initializers and class heads, selected by the names in a network's settings."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Dtype, Initializer

Activation = Callable[[jax.Array], jax.Array]


def shifted_softplus(x: jax.Array) -> jax.Array:
    """Returns `softplus(2x + 2) / 2 − 1`, a smooth activation that critics can be trained with.

    See arXiv 1704.00028, appendix.
    """
    return nn.softplus(2 * x + 2) / 2 - 1


def leaky_relu(x: jax.Array) -> jax.Array:
    """Returns the leaky ReLU with slope 0.2 below 0 (Radford et al. 2016, arXiv 1511.06434)."""
    return nn.leaky_relu(x, 0.2)


ACTIVATIONS: dict[str, Activation] = {
    "relu": nn.relu,
    "leaky_relu": leaky_relu,
    "elu": nn.elu,
    "tanh": nn.tanh,
    "softplus": shifted_softplus,
}


def halvings(size: int) -> tuple[int, int]:
    """Halves `size` while it is even and larger than 4. Returns what remains and the number of halvings."""
    count = 0
    while size % 2 == 0 and size > 4:
        size, count = size // 2, count + 1
    return size, count


NORMS = ("none", "batch", "layer")
CONDITIONINGS = ("none", "auxiliary", "projection")


def of_class(table: jax.Array, label: jax.Array | None) -> jax.Array:
    """Returns for each example the row of its class in a table: `[num_classes, D], [B] -> [B, D]`.

    Raises:
      ValueError: if `label` is None.
    """
    if label is None:
        raise ValueError("a class-conditional network needs labels: call it as network(x, label), label [B] int32")
    # A product, not a gather: the gradient of a gather is a scatter, which adds in no fixed order on a GPU.
    return jnp.dot(jax.nn.one_hot(label, table.shape[0], dtype=table.dtype), table, precision="highest")


def dropped(x: jax.Array, rate: float, keys: jax.Array | None, layer: int) -> jax.Array:
    """Returns the numbers of `x [B, ...]`, each 0 with probability `rate` and otherwise divided by `1 − rate`.

    Which ones are 0 depends on the example's key alone, so not on the rest of the batch (Srivastava et al. 2014,
    JMLR 15). Without keys, `x` is returned as it is.

    Args:
      x: outputs of a layer.
      rate: probability in [0, 1).
      keys: one for each example, `[B]`, or None.
      layer: number of the layer, folded into the keys.
    """
    if keys is None or not rate:
        return x
    kept = lambda key: jax.random.bernoulli(jax.random.fold_in(key, layer), 1 - rate, x.shape[1:])  # noqa: E731
    return jnp.where(jax.vmap(kept)(keys), x / (1 - rate), jnp.zeros_like(x))


class Norm(nn.Module):
    """Normalization with a scale and an offset for each channel: `[B, ..., C] -> [B, ..., C]`.

    Statistics are computed in float32. `kind` selects them:
      "batch": moments of the batch if `train` is true, and running moments if not. So an image that is sampled does
        not depend on the other images of its batch. The papers' codes also sample with the moments of the batch. The
        running moments are in the collection `batch_stats`, which a call with `train` must make mutable. The variance
        is `mean(x²) − mean(x)²`, in one pass; the papers' codes average squared differences from the mean. `axis_name`
        names the mapped axis whose devices share a batch.
      "layer": moments of each example over all its axes, as in WGAN-GP's critic (arXiv 1704.00028, section 4).
      "none": no normalization. The output is the input.

    With `num_classes`, each class has its own scales and offsets, and `label [B]` selects them. The moments are taken
    over the examples of all classes. This is conditional normalization (Dumoulin et al. 2016, arXiv 1610.07629;
    `cond_batchnorm.py` in WGAN-GP's code).

    Raises:
      ValueError: if `kind` is unknown, or the normalization needs labels and gets none.
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
    """Class head of a critic: `(score [B], features [B, D], label [B]) -> score [B]`.

    The features are the outputs of the critic's last hidden layer. `kind` selects what the head does with them:
      "auxiliary": it leaves the score as it is and predicts the class. It sows the logits `[B, num_classes]` as
        `logits` in the collection `intermediates`. A caller who makes that collection mutable gets them (Odena et al.
        2016, arXiv 1610.09585, with the score of WGAN-GP's `gan_cifar_resnet.py`).
      "projection": it adds `⟨v_label, features⟩` to the score, with a learned vector v for each class (Miyato and
        Koyama 2018, arXiv 1802.05637 eq. 3).
      "none": it leaves the score as it is.

    Raises:
      ValueError: if `kind` is unknown, or the head needs labels and gets none.
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
    """Returns an initializer that draws from U(−limit, limit), which has the std `limit / √3`."""

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Dtype = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -limit, limit)

    return init


def fan_uniform(scale: float = 1.0, stride: int = 1) -> Initializer:
    """Returns an initializer that draws uniformly around 0 with the variance `2·scale / (fan_in + fan_out)`.

    WGAN-GP's code draws its weights like this. A `scale` of 1 is Glorot's initializer, and 2 is the one that the code
    calls "he". Kernels have the shape `[..., C, features]` for convolutions and `[..., features, C]` for transposed
    ones. Of the two fans, the one on the side of the smaller image is divided by the square of the stride. That side is
    the last axis in both cases.
    """

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Dtype = jnp.float32) -> jax.Array:
        taps = 1
        for n in shape[:-2]:
            taps *= n
        limit = (6 * scale / (taps * (shape[-2] + shape[-1] / stride**2))) ** 0.5
        return jax.random.uniform(key, shape, dtype, -limit, limit)

    return init
