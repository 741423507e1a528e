"""Pretrained networks as functions from images to features, in one form for all measures in features."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from wgan_jax.errors import UserError, nearest
from wgan_jax.metrics import inception, lite0, resizing, weights

Apply = Callable[[Any, jax.Array], dict[str, jax.Array]]
"""`(variables, images) -> features by name`."""


@dataclasses.dataclass(frozen=True)
class FeatureNetwork:
    """A pretrained network with a way to make its input."""

    name: str
    """The network, the first digits of its file's sha256, and the input: what features are comparable with."""
    dim: int
    """Number of features `pool`."""
    size: int
    """Height and width that images are resized to."""
    input: str
    """Name of the way in which images are resized."""
    apply: Apply
    """Pure `apply(variables, images)` of uint8 images `[B, H, W, 1 or 3]`.

    It returns `pool [B, dim]`, `logits [B, C]`, `probabilities [B, C]`, each row of which sums to 1, and a network's
    further features. The probabilities of Inception are those of the Inception score: its logits' bias is left out.
    """


def load_inception(
    path: str | None = None, sha256: str | None = None, *, input: str = "tf1"
) -> tuple[FeatureNetwork, dict[str, Any]]:
    """Returns FID's Inception and its variables.

    Args:
      path: file of its weights, see `wgan_jax.metrics.inception.load`.
      sha256: digest of the file, see there.
      input: how images are resized, one of `wgan_jax.metrics.resizing.INPUTS`. Published FIDs are of `tf1`.

    Raises:
      UserError: if the weights cannot be read, or there is no such input.
    """
    if input not in resizing.INPUTS:
        raise UserError(f"input {input!r} of Inception: {nearest(input, list(resizing.INPUTS))}")
    found = weights.read_inception(path, sha256)
    to_input = resizing.INPUTS[input]

    def apply(variables: Any, images: jax.Array) -> dict[str, jax.Array]:
        features: Any = inception.Inception().apply(variables, to_input(images))
        return features | {"probabilities": jax.nn.softmax(features["unbiased_logits"])}

    name = f"inception-{found.sha256[:8]} {input}"
    network = FeatureNetwork(name, inception.DIM, resizing.INCEPTION_SIZE, input, apply)
    return network, inception.from_weights(found)


def load_lite0() -> tuple[FeatureNetwork, dict[str, Any]]:
    """Returns EfficientNet-Lite0 and its variables.

    Raises:
      UserError: if its package is not installed.
    """
    found = weights.read_lite0()

    def apply(variables: Any, images: jax.Array) -> dict[str, jax.Array]:
        features: Any = lite0.Lite0().apply(variables, resizing.lite0(images))
        return features | {"probabilities": jax.nn.softmax(features["logits"])}

    name = f"lite0-{found.sha256[:8]} bicubic"
    return FeatureNetwork(name, lite0.DIM, resizing.LITE0_SIZE, "bicubic", apply), lite0.from_weights(found)
