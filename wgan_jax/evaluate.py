"""Measures a run's samples against held-out data.

    python -m wgan_jax.evaluate --workdir=runs/digits [--json]

Estimates of the divergence by the critic on training and held-out examples; the leave-one-out accuracy of a
1-nearest-neighbour classifier between samples and held-out examples; for digits, how many samples a support-vector
machine puts into each class; and, for a class-conditional run, how often that machine agrees with the class that was
asked for, beside how often it is right on held-out examples.
"""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

from wgan_jax import command, data, preprocess, quality
from wgan_jax.checkpoint import restore
from wgan_jax.estimate import fixed_set, make_estimate
from wgan_jax.sampling import sample
from wgan_jax.workdir import read_config

SAMPLES = 1_000
"""Samples that are classified."""
EXAMPLES = 5_000
"""Examples of a split, at most: from these of training the classifier learns, and on those held out it is tried."""
NEIGHBOURS = 500
"""Samples, and held-out examples, whose nearest neighbours are taken."""


def evaluate(workdir: str | Path, *, step: int | str = "latest", ema: bool = True, seed: int = 0) -> dict[str, Any]:
    """The measures by name; `real_nearest_neighbour_accuracy` compares training with held-out examples.

    Raises:
      UserError: if there is no run or no checkpoint in `workdir`.
    """
    gan, state = restore(workdir, step)
    config = read_config(Path(workdir), warn=lambda line: None)  # `restore` has told
    train, held_out = (data.load(config, split, most=EXAMPLES) for split in ("train", "held_out"))
    label = np.arange(SAMPLES) % gan.num_classes if gan.num_classes else None
    samples = np.asarray(sample(gan, state, jax.random.key(seed), SAMPLES, label=label, ema=ema))

    estimate = jax.jit(make_estimate(gan))
    num = min(NEIGHBOURS, len(held_out), len(train))
    real, training = (preprocess.to_range(_some(source, num)["image"]) for source in (held_out, train))
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
        known_images, unseen_images = (preprocess.to_range(examples["image"]) for examples in (known, unseen))
        predicted, expected = (
            quality.classify(images, known_images, known["label"]) for images in (samples, unseen_images)
        )
        result["class_agreement"] = float(np.mean(predicted == label))
        result["real_class_agreement"] = float(np.mean(expected == unseen["label"]))
    return result


def _some(source: data.Source, num: int) -> data.Examples:
    return source.read(data.fixed_subset(source, num))


def main() -> None:
    result = evaluate(flags.FLAGS.workdir, step=flags.FLAGS.step, ema=flags.FLAGS.ema, seed=flags.FLAGS.seed)
    if flags.FLAGS.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        shown = f"{value:.4f}" if isinstance(value, float) else value
        print(f"{name.replace('_', ' '):34} {shown}")


if __name__ == "__main__":
    command.define_path("workdir", None, "The run's folder.")
    flags.DEFINE_string("step", "latest", "Of the checkpoint: a number, best (by config.report.best) or latest.")
    flags.DEFINE_integer("seed", 0, "Of the samples' latents.", lower_bound=0, upper_bound=2**32 - 1)
    flags.DEFINE_bool("ema", True, "Measure the generator's average, not the generator itself.")
    flags.DEFINE_bool("json", False, "Print one JSON object instead of a table.")
    flags.mark_flag_as_required("workdir")
    command.use_compilation_cache()
    command.run(main)
