"""WGAN-GP's residual networks for 32×32 pixels (arXiv 1704.00028, appendix C) and 64×64 pixels (appendix E).

They follow WGAN-GP's code. Networks for other sizes up to 32 pixels are built like the first, and those for larger
sizes like the second.

Two exact rewrites save most of the arithmetic and keep the parameters and values. A 3×3 convolution followed by a 2×2
mean pool equals one 4×4 convolution of stride 2, and a nearest-neighbour up-sampling followed by a 3×3 convolution
equals one 4×4 transposed convolution of stride 2. They need 16 products per small pixel instead of 36. And a 1×1
convolution commutes with the pool and with the up-sampling, so it runs on the smaller image.
"""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Dtype

from wgan_jax.networks.convolution import Conv, conv, input_gradient
from wgan_jax.networks.layers import ACTIVATIONS, ClassHead, Norm, dropped, fan_uniform, halvings

GLOROT, HE = fan_uniform(1.0), fan_uniform(2.0)


def mean_pool(x: jax.Array) -> jax.Array:
    """Returns the means of 2×2 pixels: `[B, H, W, C] -> [B, H/2, W/2, C]`."""
    B, H, W, C = x.shape
    return x.reshape(B, H // 2, 2, W // 2, 2, C).mean((2, 4))


def upsample(x: jax.Array) -> jax.Array:
    """Repeats each pixel four times (nearest neighbour): `[B, H, W, C] -> [B, 2H, 2W, C]`."""
    B, H, W, C = x.shape
    return jnp.broadcast_to(x[:, :, None, :, None], (B, H, 2, W, 2, C)).reshape(B, 2 * H, 2 * W, C)


def _spread(kernel: jax.Array) -> jax.Array:
    """Adds up a 3×3 kernel at its four positions in a 4×4 window: `[3, 3, C, N] -> [4, 4, C, N]`."""
    kernel = jnp.pad(kernel, ((1, 1), (1, 1), (0, 0), (0, 0)))
    kernel = kernel[1:] + kernel[:-1]
    return kernel[:, 1:] + kernel[:, :-1]


class ResampledConv(nn.Module):
    """Convolution with a 3×3 kernel that may also change the image size: `[B, H, W, C] -> [B, H', W', features]`.

    `mean_pool` follows it if `resample` is "down". `upsample` precedes it if `resample` is "up". With "none" it stands
    alone. Its parameters are `kernel` `[3, 3, C, features]` and `bias` `[features]`.
    """

    features: int
    resample: str = "none"
    use_bias: bool = True
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", HE, (3, 3, x.shape[-1], self.features))
        x = x.astype(self.dtype)
        match self.resample:
            case "down":
                y = conv(x, (_spread(kernel) / 4).astype(self.dtype), (2, 2))
            case "up":
                kernel = _spread(kernel[::-1, ::-1]).swapaxes(2, 3).astype(self.dtype)
                y = input_gradient(x, kernel, (2 * x.shape[1], 2 * x.shape[2]), (2, 2))
            case _:
                y = conv(x, kernel.astype(self.dtype))
        if self.use_bias:
            zeros = nn.initializers.zeros_init()
            y = y + self.param("bias", zeros, (self.features,)).astype(self.dtype)
        return y

    def products(self, given: Sequence[int], output: Sequence[int]) -> int:
        """Returns how many products one image takes, from its shapes `[H, W, C]` before and after."""
        pixels = min(math.prod(given[:2]), math.prod(output[:2]))
        return pixels * (9 if self.resample == "none" else 16) * given[2] * output[2]


class Block(nn.Module):
    """Residual block: `shortcut(x) + conv(act(norm(conv(act(norm(x))))))`, `[B, H, W, C] -> [B, H', W', features]`.

    `resample` is "up" (before the first convolution), "down" (after the second one) or "none". The shortcut is the
    identity if the shapes allow it, and a 1×1 convolution otherwise. `preactivate=False` is for the first block of a
    critic: it then has no normalizations, and no activation before its first convolution, which already returns
    `features` channels. `first_bias` says whether the first convolution has a bias. It has none in the 64×64 networks,
    which normalize after it. With `num_classes`, each class has its own scales and offsets in the normalizations.
    """

    features: int
    resample: str = "none"
    activation: str = "relu"
    norm: str = "none"
    preactivate: bool = True
    first_bias: bool = True
    dtype: Dtype = jnp.float32
    axis_name: str | None = None
    num_classes: int = 0

    @nn.compact
    def __call__(self, x: jax.Array, label: jax.Array | None = None, *, train: bool = False) -> jax.Array:
        act = ACTIVATIONS[self.activation]
        up, down = self.resample == "up", self.resample == "down"

        shortcut = mean_pool(x) if down else x
        if self.resample != "none" or x.shape[-1] != self.features:
            project = Conv(self.features, (1, 1), kernel_init=GLOROT, dtype=self.dtype, name="shortcut")
            shortcut = project(shortcut)
        shortcut = upsample(shortcut) if up else shortcut

        # The first convolution changes the number of channels only in blocks that up-sample or begin a critic.
        middle = self.features if up or not self.preactivate else x.shape[-1]
        if self.preactivate:
            norm = Norm(self.norm, self.dtype, self.axis_name, self.num_classes, name="norm_1")
            x = act(norm(x, label, train=train))
        x = ResampledConv(middle, "up" if up else "none", self.first_bias, self.dtype, name="conv_1")(x)
        if self.preactivate:
            norm = Norm(self.norm, self.dtype, self.axis_name, self.num_classes, name="norm_2")
            x = norm(x, label, train=train)
        x = act(x)
        x = ResampledConv(self.features, "down" if down else "none", dtype=self.dtype, name="conv_2")(x)
        return shortcut + x


def levels(shape: tuple[int, ...]) -> int:
    """Returns how many times an image of shape `(H, W, C)` is halved to reach the generator's first map, 4×4 or 7×7.

    Raises:
      ValueError: if the image is not square, or its size is not 4 or 7 times a power of two (2 or more), or its size is
        14, which the critic cannot halve twice.
    """
    size, count = halvings(shape[0])
    if len(shape) != 3 or shape[0] != shape[1] or size not in (4, 7) or not count or shape[0] == 14:
        raise ValueError(
            f"image shape {tuple(shape)}: the residual networks need (size, size, channels) with size one of "
            "8, 16, 28, 32, 56, 64, 112, 128, … (4 or 7 times a power of two)"
        )
    return count


def _large(shape: tuple[int, ...]) -> bool:
    """Tells whether the network for these images is built like the 64×64 networks."""
    return shape[0] > 32


class Generator(nn.Module):
    """Generator of images: latents `[B, latent_dim]` to images `[B, H, W, C]`, float32 in [−1, 1].

    Up to 32×32 pixels every block has `width` features (128 in the paper). For 64×64 pixels the blocks have 8, 4, 2 and
    1 times `width` features (`width` is 64 in the paper). Larger networks begin with more blocks of 8 times `width`.
    With `num_classes`, each class has its own scales and offsets in the normalizations of the blocks, and `label [B]`
    selects them. The last normalization is the same for all classes, as in WGAN-GP's code.

    Raises:
      ValueError: if the image size is invalid, or the network needs labels and gets none.
    """

    image_shape: tuple[int, ...]
    width: int = 128
    activation: str = "relu"
    norm: str = "batch"
    dtype: Dtype = jnp.float32
    axis_name: str | None = None
    num_classes: int = 0

    @property
    def mixes_examples(self) -> bool:
        """Whether the output for one example depends on the others in the batch."""
        return self.norm == "batch"

    @nn.compact
    def __call__(self, z: jax.Array, label: jax.Array | None = None, *, train: bool = False) -> jax.Array:
        count, large = levels(self.image_shape), _large(self.image_shape)
        start = self.image_shape[0] // 2**count
        widths = [self.width * (min(8, 2**i) if large else 1) for i in range(count + 1)][::-1]

        dense = nn.Dense(start**2 * widths[0], dtype=self.dtype, kernel_init=GLOROT, name="dense")
        x = dense(z).reshape(z.shape[0], start, start, widths[0])
        for i, width in enumerate(widths[1:], 1):
            x = Block(
                width,
                "up",
                self.activation,
                self.norm,
                first_bias=not large,
                dtype=self.dtype,
                axis_name=self.axis_name,
                num_classes=self.num_classes,
                name=f"block_{i}",
            )(x, label, train=train)
        norm = Norm(self.norm, self.dtype, self.axis_name, name="norm")
        x = ACTIVATIONS[self.activation](norm(x, train=train))
        x = Conv(
            self.image_shape[2],
            (3, 3),
            kernel_init=HE if large else GLOROT,
            dtype=self.dtype,
            name="output",
        )(x)
        return nn.tanh(x.astype(jnp.float32))


class Critic(nn.Module):
    """Critic of images: `[B, H, W, C]` to scores `[B]`, float32.

    Up to 32×32 pixels: a block without pre-activation that halves the image, another block that halves it, two blocks
    that keep its size, the activation and the mean over all pixels.
    64×64 pixels: a convolution and four blocks that halve the image, with 2, 4, 8 and 8 times `width` features. There
    is no mean. The paper uses layer normalization here.
    Larger images: more blocks of 8 times `width`.

    `conditioning` and `num_classes` are explained in `ClassHead`. A call with keys, `dropout [B]`, drops outputs of
    every block but the first, at the rate `dropout`, and after the second block at 0.4 times this rate. CT-GAN's are
    0.2, 0.5 and 0.5 (arXiv 1803.01541). A critic with a rate sows the last hidden layer as `features [B, D]`.

    Raises:
      ValueError: if the image size is invalid, or the network needs labels and gets none.
    """

    width: int = 128
    activation: str = "relu"
    norm: str = "none"
    dtype: Dtype = jnp.float32
    axis_name: str | None = None
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
        count, large = levels(x.shape[1:]), _large(x.shape[1:])
        if large:
            plan = [(min(8, 2**i), "down") for i in range(1, count + 1)]
            x = Conv(self.width, (3, 3), kernel_init=GLOROT, dtype=self.dtype, name="input")(x)
        else:
            plan = [(1, "down"), (1, "down"), (1, "none"), (1, "none")]
        for i, (multiple, resample) in enumerate(plan, 1):
            x = Block(
                multiple * self.width,
                resample,
                self.activation,
                self.norm,
                preactivate=large or i > 1,
                first_bias=not large,
                dtype=self.dtype,
                axis_name=self.axis_name,
                name=f"block_{i}",
            )(x, train=train)
            if i > 1:
                x = dropped(x, self.dropout * (0.4 if i == 2 else 1.0), dropout, i)
        x = x.astype(jnp.float32)
        # The 64×64 critic of WGAN-GP's code ends without activation or mean.
        act = ACTIVATIONS[self.activation]
        x = x.reshape(x.shape[0], -1) if large else act(x).mean((1, 2))
        if self.dropout:
            self.sow("intermediates", "features", x)
        score = nn.Dense(1, kernel_init=GLOROT, name="score")(x)[:, 0]
        return ClassHead(self.conditioning, self.num_classes, name="classes")(score, x, label)
