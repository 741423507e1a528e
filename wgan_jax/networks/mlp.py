"""Multilayer perceptrons for points and small images (arXiv 1701.07875, section 4.3).

`kernel_init` selects how the parameters are drawn. Biases begin at 0 unless stated otherwise. U is a uniform
distribution around 0.
    he_uniform  hidden layers: U of std √(2 / inputs) (He); output: normal of std √(1 / inputs) (LeCun)
    he_glorot   hidden layers: the same; output: U of std √(2 / (inputs + outputs)), as in WGAN-GP's `gan_toy.py`
    fan_in      all kernels and biases: U between ±1 / √inputs, PyTorch's default, as in WGAN's `models/mlp.py`
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Dtype

from wgan_jax.networks.layers import ACTIVATIONS, ClassHead, dropped, of_class, symmetric_uniform

INITS = ("he_uniform", "he_glorot", "fan_in")


def _inits(name: str, inputs: int, *, output: bool) -> dict[str, Any]:
    """Returns the initializers of a dense layer with `inputs` inputs.

    `output` says whether it is the network's last layer or a hidden one.
    """
    match name:
        case "he_uniform":
            # He's bound for ReLU networks. LeCun's, the default of `nn.Dense`, shrinks the signal by √2 per layer.
            return {} if output else {"kernel_init": nn.initializers.he_uniform()}
        case "he_glorot":
            return {"kernel_init": nn.initializers.glorot_uniform() if output else nn.initializers.he_uniform()}
        case "fan_in":
            uniform = symmetric_uniform(inputs**-0.5)
            return {"kernel_init": uniform, "bias_init": uniform}
        case _:
            raise ValueError(f"kernel_init {name!r} must be one of {', '.join(INITS)}")


class Hidden(nn.Module):
    """Hidden layers, `depth` dense layers of `width` units with the activation after each: `[B, D] -> [B, width]`."""

    width: int
    depth: int
    activation: str
    dtype: Dtype = jnp.float32
    kernel_init: str = "he_uniform"
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, dropout: jax.Array | None = None) -> jax.Array:
        for i in range(self.depth):
            inits = _inits(self.kernel_init, x.shape[-1], output=False)
            dense = nn.Dense(self.width, dtype=self.dtype, name=f"dense_{i}", **inits)
            x = dropped(ACTIVATIONS[self.activation](dense(x)), self.dropout, dropout, i)
        return x


class Generator(nn.Module):
    """Generator of points or small images: latents `[B, latent_dim]` to examples `[B, *image_shape]`, float32.

    Images are in [−1, 1]; points are not bounded. With `num_classes`, the class of each example, `label [B]`, is
    appended to its latents as a one-hot vector (Mirza and Osindero 2014, arXiv 1411.1784).

    Raises:
      ValueError: if `kernel_init` is unknown, or the network needs labels and gets none.
    """

    image_shape: tuple[int, ...]
    width: int = 512
    depth: int = 3
    activation: str = "relu"
    dtype: Dtype = jnp.float32
    num_classes: int = 0
    kernel_init: str = "he_uniform"

    @nn.compact
    def __call__(self, z: jax.Array, label: jax.Array | None = None, *, train: bool = False) -> jax.Array:
        del train
        if self.num_classes:
            z = jnp.concatenate([z, of_class(jnp.eye(self.num_classes, dtype=z.dtype), label)], axis=-1)
        x = Hidden(self.width, self.depth, self.activation, self.dtype, self.kernel_init, name="hidden")(z)
        inits = _inits(self.kernel_init, x.shape[-1], output=True)
        x = nn.Dense(math.prod(self.image_shape), dtype=self.dtype, name="output", **inits)(x)
        x = x.astype(jnp.float32).reshape(z.shape[0], *self.image_shape)
        return nn.tanh(x) if len(self.image_shape) > 1 else x


class Critic(nn.Module):
    """Critic of points or small images: examples `[B, ...]` to scores `[B]`, float32.

    `conditioning` and `num_classes` are explained in `ClassHead`. A call with keys, `dropout [B]`, drops outputs of
    every hidden layer at the rate `dropout`. A critic with a rate sows the last hidden layer as `features [B, width]`.
    """

    width: int = 512
    depth: int = 3
    activation: str = "relu"
    dtype: Dtype = jnp.float32
    num_classes: int = 0
    conditioning: str = "none"
    kernel_init: str = "he_uniform"
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        label: jax.Array | None = None,
        *,
        train: bool = False,
        dropout: jax.Array | None = None,
    ) -> jax.Array:
        del train
        x = x.reshape(x.shape[0], -1)
        hidden = Hidden(
            self.width, self.depth, self.activation, self.dtype, self.kernel_init, self.dropout, name="hidden"
        )
        x = hidden(x, dropout)
        inits = _inits(self.kernel_init, x.shape[-1], output=True)
        score = nn.Dense(1, dtype=self.dtype, name="output", **inits)(x)[:, 0].astype(jnp.float32)
        x = x.astype(jnp.float32)
        if self.dropout:
            self.sow("intermediates", "features", x)
        return ClassHead(self.conditioning, self.num_classes, name="classes")(score, x, label)
