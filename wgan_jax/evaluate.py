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

from absl import flags

from wgan_jax import cli
from wgan_jax.metrics import evaluation, weights
from wgan_jax.run.checkpoint import restore
from wgan_jax.run.workdir import read_config


def evaluate(workdir: str | Path, *, step: int | str = "latest", ema: bool = True, seed: int = 0) -> dict[str, Any]:
    """Returns the measures of a run's state by name.

    Raises:
      UserError: if there is no run or no checkpoint in `workdir`.
    """
    gan, state = restore(workdir, step)
    config = read_config(Path(workdir), warn=lambda line: None)  # `restore` has warned
    return evaluation.evaluate(config, gan, state, ema=ema, seed=seed)


def main() -> None:
    if flags.FLAGS.download:
        weights.download()
    result = evaluate(flags.FLAGS.workdir, step=flags.FLAGS.step, ema=flags.FLAGS.ema, seed=flags.FLAGS.seed)
    if flags.FLAGS.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        shown = f"{value:.4f}" if isinstance(value, float) else value
        print(f"{name.replace('_', ' '):34} {shown}")


if __name__ == "__main__":
    cli.define_path("workdir", None, "The run's folder.")
    flags.DEFINE_string("step", "latest", "The checkpoint: a number, best (by config.report.best) or latest.")
    flags.DEFINE_integer("seed", 0, "Seed of the latents of the samples.", lower_bound=0, upper_bound=2**32 - 1)
    flags.DEFINE_bool("ema", True, "Measure the generator's average, not the generator itself.")
    flags.DEFINE_bool("json", False, "Print one JSON object instead of a table.")
    flags.DEFINE_bool("download", False, "Fetch the weights of FID's Inception (96 MB) unless they are there.")
    flags.mark_flag_as_required("workdir")
    cli.use_compilation_cache()
    cli.run(main)
