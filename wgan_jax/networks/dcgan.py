"""DCGAN for images of 28, 32, 64 and other sizes (arXiv 1511.06434), as in WGAN-GP's code (arXiv 1704.00028).

Each level doubles or halves the image with a 5×5 kernel of stride 2. The smallest map is 4×4. For images of 7·2ⁿ
pixels (MNIST) the generator crops its 8×8 map to 7×7, before normalization and activation. WGAN-GP's code crops after
them, which changes the moments of batch normalization. Batch normalization always has one scale per channel.

`kernel_init` selects how the parameters are drawn. Unless stated otherwise, biases begin at 0 and the scales of
normalizations at 1. U is a uniform distribution around 0.
    he_uniform  U of std √(4 / (fan_in + fan_out)), in dense layers √(2 / (inputs + outputs)), as in WGAN-GP's
                `gan_mnist.py` and `gan_cifar.py`
    uniform     U of std 0.02 in every layer, as in WGAN-GP's `gan_64x64.py`
    normal      N(0, 0.02) in every layer and N(1, 0.02) for the scales of normalizations, where 0.02 is the std, as in
                WGAN's `main.py`
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Dtype, Initializer

from wgan_jax.networks.convolution import Conv, ConvTranspose
from wgan_jax.networks.layers import ACTIVATIONS, ClassHead, Norm, dropped, fan_uniform, halvings, symmetric_uniform

INITS = ("he_uniform", "normal", "uniform")


def levels(shape: tuple[int, ...]) -> int:
    """Returns how many times an image of shape `(H, W, C)` is halved to reach 4×4.

    Raises:
      ValueError: if the image is not square, or its size is not 4 or 7 times a power of two (2 or more).
    """
    size, count = halvings(shape[0])
    if len(shape) != 3 or shape[0] != shape[1] or size not in (4, 7) or not count:
        raise ValueError(
            f"image shape {tuple(shape)}: a DCGAN needs (size, size, channels) with size one of "
            "8, 14, 16, 28, 32, 56, 64, 112, 128, … (4 or 7 times a power of two)"
        )
    return count + (size == 7)


def _init(name: str, scale: float, stride: int = 1) -> Initializer:
    """Returns the initializer of a kernel."""
    match name:
        case "he_uniform":
            return fan_uniform(scale, stride)
        case "normal":
            return nn.initializers.normal(0.02)
        case "uniform":
            return symmetric_uniform(0.02 * 3**0.5)
        case _:
            raise ValueError(f"kernel_init {name!r} must be one of {', '.join(INITS)}")


def _scale_init(name: str) -> Initializer:
    """Returns the initializer of the scales of a normalization."""
    if name != "normal":
        return nn.initializers.ones
    return lambda key, shape, dtype=jnp.float32: 1 + 0.02 * jax.random.normal(key, shape, dtype)


class Generator(nn.Module):
    """Generator of images: latents `[B, latent_dim]` to images `[B, H, W, C]`, float32 in [−1, 1].

    `constant_width` and `norm="none"` make it the deliberately poor generator of the WGAN paper (arXiv 1701.07875,
    section 4.3). WGAN's code has 4×4 kernels and no biases. With `num_classes`, each class has its own scales and
    offsets in the normalizations, and `label [B]` selects them: see `Norm`.

    Raises:
      ValueError: if the image size is invalid, a name is unknown, or the network needs labels and gets none.
    """

    image_shape: tuple[int, ...]
    width: int = 64
    activation: str = "relu"
    norm: str = "batch"
    kernel_init: str = "he_uniform"
    constant_width: bool = False
    kernel_size: int = 5
    dtype: Dtype = jnp.float32
    axis_name: str | None = None
    use_bias: bool = True
    num_classes: int = 0

    @property
    def mixes_examples(self) -> bool:
        """Whether the output for one example depends on the others in the batch."""
        return self.norm == "batch"

    @nn.compact
    def __call__(self, z: jax.Array, label: jax.Array | None = None, *, train: bool = False) -> jax.Array:
        count, size = levels(self.image_shape), self.image_shape[0]
        widths = [self.width * (1 if self.constant_width else 2**i) for i in range(count)][::-1]

        def finish(x: jax.Array, i: int) -> jax.Array:
            norm = Norm(
                self.norm,
                dtype=self.dtype,
                axis_name=self.axis_name,
                num_classes=self.num_classes,
                scale_init=_scale_init(self.kernel_init),
                name=f"norm_{i}",
            )
            return ACTIVATIONS[self.activation](norm(x, label, train=train))

        dense = nn.Dense(
            16 * widths[0],
            use_bias=self.use_bias,
            dtype=self.dtype,
            kernel_init=_init(self.kernel_init, 1.0),
            name="dense",
        )
        x = finish(dense(z).reshape(z.shape[0], 4, 4, widths[0]), 0)
        for i, features in enumerate([*widths[1:], self.image_shape[2]], 1):
            x = ConvTranspose(
                features,
                (self.kernel_size, self.kernel_size),
                (2, 2),
                use_bias=self.use_bias,
                kernel_init=_init(self.kernel_init, 2.0, 2),
                dtype=self.dtype,
                name=f"deconv_{i}",
            )(x)
            height = -(-size // 2 ** (count - i))
            x = x[:, :height, :height]
            if i < count:
                x = finish(x, i)
        return nn.tanh(x.astype(jnp.float32))


class Critic(nn.Module):
    """Critic of images: `[B, H, W, C]` to scores `[B]`, float32.

    The first layer has no normalization. With a gradient penalty, set `norm` to "layer" or "none": see `Norm`.
    `conditioning` and `num_classes` are explained in `ClassHead`. A call with keys, `dropout [B]`, drops outputs of
    every activation at the rate `dropout`, ½ in CT-GAN (arXiv 1803.01541). A critic with a rate sows the last hidden
    layer as `features [B, D]`.

    Raises:
      ValueError: if the image size is invalid, a name is unknown, or the network needs labels and gets none.
    """

    width: int = 64
    activation: str = "leaky_relu"
    norm: str = "none"
    kernel_init: str = "he_uniform"
    kernel_size: int = 5
    dtype: Dtype = jnp.float32
    axis_name: str | None = None
    use_bias: bool = True
    num_classes: int = 0
    conditioning: str = "none"
    dropout: float = 0.0

    @property
    def mixes_examples(self) -> bool:
        """Whether the output for one example depends on the others in the batch."""
        return self.norm == "batch"

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        label: jax.Array | None = None,
        *,
        train: bool = False,
        dropout: jax.Array | None = None,
    ) -> jax.Array:
        for i in range(levels(x.shape[1:])):
            x = Conv(
                self.width * 2**i,
                (self.kernel_size, self.kernel_size),
                (2, 2),
                use_bias=self.use_bias,
                kernel_init=_init(self.kernel_init, 2.0, 2),
                dtype=self.dtype,
                name=f"conv_{i + 1}",
            )(x)
            if i:
                norm = Norm(
                    self.norm,
                    self.dtype,
                    self.axis_name,
                    scale_init=_scale_init(self.kernel_init),
                    name=f"norm_{i + 1}",
                )
                x = norm(x, train=train)
            x = dropped(ACTIVATIONS[self.activation](x), self.dropout, dropout, i)
        x = x.reshape(x.shape[0], -1).astype(jnp.float32)
        if self.dropout:
            self.sow("intermediates", "features", x)
        dense = nn.Dense(1, use_bias=self.use_bias, kernel_init=_init(self.kernel_init, 1.0), name="score")
        return ClassHead(self.conditioning, self.num_classes, name="classes")(dense(x)[:, 0], x, label)
