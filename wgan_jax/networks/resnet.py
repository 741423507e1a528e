"""Residual networks of WGAN-GP: 32×32 (arXiv 1704.00028, appendix C) and 64×64 pixels (appendix E), as in its code.

For other sizes, those up to 32 are built as the first, larger ones as the second.

Two exact rewrites, with the same parameters and values, save most of the arithmetic. A 3×3 convolution before a 2×2
mean pool, or after a nearest-neighbour up-sampling, is one 4×4 convolution, or transposed convolution, of stride 2:
16 products per small pixel instead of 36. And a 1×1 convolution commutes with both: it runs on the smaller image.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Dtype

from wgan_jax.networks.convolution import Conv, conv, input_gradient
from wgan_jax.networks.layers import ACTIVATIONS, ClassHead, Norm, fan_uniform, halvings

GLOROT, HE = fan_uniform(1.0), fan_uniform(2.0)


def mean_pool(x: jax.Array) -> jax.Array:
    """Means of 2×2 pixels: `[B, H, W, C] -> [B, H/2, W/2, C]`."""
    B, H, W, C = x.shape
    return x.reshape(B, H // 2, 2, W // 2, 2, C).mean((2, 4))


def upsample(x: jax.Array) -> jax.Array:
    """Each pixel four times (nearest neighbour): `[B, H, W, C] -> [B, 2H, 2W, C]`."""
    B, H, W, C = x.shape
    return jnp.broadcast_to(x[:, :, None, :, None], (B, H, 2, W, 2, C)).reshape(B, 2 * H, 2 * W, C)


def _spread(kernel: jax.Array) -> jax.Array:
    """The sum of a 3×3 kernel's four shifts in a 4×4 window."""
    kernel = jnp.pad(kernel, ((1, 1), (1, 1), (0, 0), (0, 0)))
    kernel = kernel[1:] + kernel[:-1]
    return kernel[:, 1:] + kernel[:, :-1]


class ResampledConv(nn.Module):
    """A 3×3 convolution: followed by `mean_pool` ("down"), or preceded by `upsample` ("up"), or alone ("none").

    `[B, H, W, C] -> [B, H', W', features]`. Parameters: `kernel` `[3, 3, C, features]` and `bias`, as `Conv`.
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


class Block(nn.Module):
    """Residual block: `shortcut(x) + conv(act(norm(conv(act(norm(x))))))`, `[B, H, W, C] -> [B, H', W', features]`.

    `resample` is "up" (before the first convolution), "down" (after the second) or "none". The shortcut is a 1×1
    convolution, or the identity where shapes allow. The first block of a critic has no activation before its first
    convolution (`preactivate=False`), which then widens. `first_bias` is of the first convolution: the 64×64
    networks, which normalize after it, have none. With `num_classes`, the norms are those of each example's class.
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

        # Only blocks that up-sample, or begin a critic, widen in their first convolution.
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
    """How often an image of shape `(H, W, C)` is halved to reach the generator's first map, 4×4 or 7×7.

    Raises:
      ValueError: if a residual network cannot have such images: it is not square, or not 4 or 7 times a power of two,
        or of 14 pixels, which cannot be halved twice.
    """
    size, count = halvings(shape[0])
    if len(shape) != 3 or shape[0] != shape[1] or size not in (4, 7) or not count or shape[0] == 14:
        raise ValueError(
            f"image shape {tuple(shape)}: the residual networks need (size, size, channels) with size one of "
            "8, 16, 28, 32, 56, 64, 112, 128, … (4 or 7 times a power of two)"
        )
    return count


def _large(shape: tuple[int, ...]) -> bool:
    """Whether images are built as the 64×64 networks do."""
    return shape[0] > 32


class Generator(nn.Module):
    """Latents `[B, latent_dim]` to images `[B, H, W, C]`, float32 in [−1, 1].

    Up to 32×32 every block has `width` features (the paper's 128); for 64×64 they have 8, 4, 2 and 1 times `width`
    (the paper's 64), and larger ones begin with more of 8. With `num_classes`, the norms in the blocks are those of
    each image's class, `label [B]`; the last one is the same for all, as in the code.

    Raises:
      ValueError: if the image has no possible size, or labels are needed and missing.
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
    """Images `[B, H, W, C]` to scores `[B]`, float32.

    Up to 32×32: a first block without pre-activation, one more that halves the image, two that keep it, activation and
    global mean. 64×64: a convolution, four blocks of 2, 4, 8 and 8 times `width` that halve it, no mean; the paper has
    layer normalization there. Larger images have more blocks of 8 times `width`. For classes see `ClassHead`.

    Raises:
      ValueError: if the image has no possible size, or labels are needed and missing.
    """

    width: int = 128
    activation: str = "relu"
    norm: str = "none"
    dtype: Dtype = jnp.float32
    axis_name: str | None = None
    num_classes: int = 0
    conditioning: str = "none"

    @property
    def mixes_examples(self) -> bool:
        """Whether the output for one example depends on the others in the batch."""
        return self.norm == "batch"

    @nn.compact
    def __call__(self, x: jax.Array, label: jax.Array | None = None, *, train: bool = False) -> jax.Array:
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
        x = x.astype(jnp.float32)
        # The 64×64 code ends without activation or mean.
        act = ACTIVATIONS[self.activation]
        x = x.reshape(x.shape[0], -1) if large else act(x).mean((1, 2))
        score = nn.Dense(1, kernel_init=GLOROT, name="score")(x)[:, 0]
        return ClassHead(self.conditioning, self.num_classes, name="classes")(score, x, label)
