"""Measures a state's samples against held-out data."""

from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from wgan_jax import data
from wgan_jax.method.batch import to_range
from wgan_jax.method.gan import Gan
from wgan_jax.method.sampling import sample
from wgan_jax.method.state import TrainState
from wgan_jax.metrics import quality
from wgan_jax.metrics.estimate import fixed_set, make_estimate

SAMPLES = 1_000
"""Samples that are classified."""
EXAMPLES = 5_000
"""Examples of a split, at most: from these of training the classifier learns, and on those held out it is tried."""
NEIGHBOURS = 500
"""Samples, and held-out examples, whose nearest neighbours are taken."""


def evaluate(config: ConfigDict, gan: Gan, state: TrainState, *, ema: bool = True, seed: int = 0) -> dict[str, Any]:
    """Returns the measures of a state by name.

    `real_nearest_neighbour_accuracy` compares training with held-out examples.

    Args:
      config: the run's settings, which name its data.
      gan: what was trained.
      state: of any step.
      ema: whether the generator's average is measured, or the generator itself.
      seed: seed of the samples' latents.

    Raises:
      UserError: if the data cannot be read.
    """
    train, held_out = (data.load(config, split, most=EXAMPLES) for split in ("train", "held_out"))
    label = np.arange(SAMPLES) % gan.num_classes if gan.num_classes else None
    samples = np.asarray(sample(gan, state, jax.random.key(seed), SAMPLES, label=label, ema=ema))

    estimate = jax.jit(make_estimate(gan))
    num = min(NEIGHBOURS, len(held_out), len(train))
    real, training = (to_range(_some(source, num)["image"]) for source in (held_out, train))
    result = {
        "step": int(state.step),
        "training_estimate": float(estimate(state, fixed_set(train))),
        "held_out_estimate": float(estimate(state, fixed_set(held_out))),
        "nearest_neighbour_accuracy": quality.nearest_neighbour_accuracy(samples[:num], real),
        "real_nearest_neighbour_accuracy": quality.nearest_neighbour_accuracy(training, real),
    }
    if config.data.name == "digits":
        examples = train.read(np.arange(len(train)))
        counts = quality.class_counts(samples, examples["image"], examples["label"])
        result["class_counts"] = counts.tolist()
    if label is not None:
        known, unseen = (_some(source, EXAMPLES) for source in (train, held_out))
        known_images, unseen_images = (to_range(examples["image"]) for examples in (known, unseen))
        predicted, expected = (
            quality.classify(images, known_images, known["label"]) for images in (samples, unseen_images)
        )
        result["class_agreement"] = float(np.mean(predicted == label))
        result["real_class_agreement"] = float(np.mean(expected == unseen["label"]))
    return result


def _some(source: data.Source, num: int) -> data.Examples:
    return source.read(data.fixed_subset(source, num))
