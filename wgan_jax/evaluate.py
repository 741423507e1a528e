"""Measures a run's samples, or any images, against real ones.

    python -m wgan_jax.evaluate --workdir=runs/digits [--json]
    python -m wgan_jax.evaluate --workdir=runs/fashion_mnist --metrics=fd_lite0,sliced_wasserstein --num=10000
    python -m wgan_jax.evaluate --images=samples --reference=real.npz --metrics=fid --weights=FILE

Of a run it always prints the critic's estimates on training and on held-out examples; the leave-one-out accuracy of a
1-nearest-neighbour classifier between samples and held-out examples; for digits, how many samples a support-vector
machine puts into each class; and, for a class-conditional run, how often that machine agrees with the class that was
asked for, beside how often it is right on held-out examples. --metrics adds the field's metrics, each with its floor:
held-out images in the place of the samples. `docs/guides/metrics.md` explains each of them.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from tqdm import tqdm

from wgan_jax import cli
from wgan_jax.metrics import evaluation, resizing, weights
from wgan_jax.metrics.choosing import FACES
from wgan_jax.metrics.evaluation import MOST, Numbers, Wishes
from wgan_jax.metrics.scores import METRICS
from wgan_jax.run.checkpoint import restore
from wgan_jax.run.statistics import StatisticsFiles
from wgan_jax.run.workdir import read_config


def evaluate(
    workdir: str | Path,
    *,
    step: int | str = "latest",
    ema: bool = True,
    seed: int = 0,
    wishes: Wishes | None = None,
) -> dict[str, Any]:
    """Returns the measures of a run's state by name, and under `metrics` those that are wished for.

    Raises:
      UserError: if there is no run or no checkpoint in `workdir`, or a wish does not suit it.
    """
    gan, state = restore(workdir, step)
    config = read_config(Path(workdir), warn=lambda line: None)  # `restore` has warned
    metrics = {}
    if wishes:  # these come first, since a wish that does not suit ends the command
        metrics["metrics"] = evaluation.evaluate_samples(config, gan, state, wishes, ema=ema, seed=seed)
    return evaluation.evaluate(config, gan, state, ema=ema, seed=seed) | metrics


def main() -> None:
    f = flags.FLAGS
    if f.download:
        print(f"{weights.download()}: the weights of the Inception network", file=sys.stderr)
    given = [flag for flag in ("workdir", "images", "reference") if f[flag].value]
    if given == ["workdir"]:
        wishes = _wishes() if f.metrics else None
        result = evaluate(f.workdir, step=f.step, ema=f.ema, seed=f.seed, wishes=wishes)
    elif given == ["images", "reference"]:
        result = {"metrics": evaluation.evaluate_files(str(f.images), str(f.reference), _wishes())}
    elif f.download and not given:
        return
    else:
        cli.fail("what to measure: give either --workdir=FOLDER, or both --images=PATH and --reference=PATH")
    print(json.dumps(result) if f.json else _text(result))


def _wishes() -> Wishes:
    f = flags.FLAGS
    return Wishes(
        metrics=tuple(f.metrics) or (evaluation.ALL,),
        num=f.num,
        reference_num=-1 if f.reference_num == "all" else int(f.reference_num),
        weights=f.weights and str(f.weights),
        input=f.input,
        cascade=f.cascade and str(f.cascade),
        statistics=StatisticsFiles(weights.cache().parent / "statistics"),
        bar=_bar,
    )


def _bar(steps: Sequence[int], title: str) -> Iterator[int]:
    return iter(tqdm(steps, title, unit="batch", disable=not sys.stderr.isatty(), leave=False))


def _text(result: dict[str, Any]) -> str:
    lines = []
    for name, value in result.items():
        if name != "metrics":
            shown = f"{value:.4f}" if isinstance(value, float) else value
            lines.append(f"{name.replace('_', ' '):34} {shown}")
    return "\n".join(lines + (_table(result["metrics"]) if "metrics" in result else []))


def _table(numbers: Numbers) -> list[str]:
    """Returns the lines of a table for people."""
    rows = [["metric", "value", "floor", "best", "images", "reference", "features"]]
    notes = []
    for name, entry in numbers.items():
        floor = "-" if entry["floor"] is None else f"{entry['floor']:.4f}"
        if "floor_num" in entry:
            floor += f" of {entry['floor_num']:,}, where the images have {entry['value_at_floor_num']:.4f}"
        counts = [f"{entry['num']:,}", f"{entry['reference_num']:,}"]
        rows.append([name, f"{entry['value']:.4f}", floor, entry["better"], *counts, entry["features"]])
        notes += [f"{name}: {entry['note']}"] if "note" in entry else []
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return ["", *lines, *notes]


def _number_or_all(text: str) -> bool:
    return text == "all" or text.isdecimal()


if __name__ == "__main__":
    cli.define_path("workdir", None, "The run's folder.")
    flags.DEFINE_string("step", "latest", "The checkpoint: a number, best (by config.report.best) or latest.")
    flags.DEFINE_integer("seed", 0, "Seed of the latents of the samples.", lower_bound=0, upper_bound=2**32 - 1)
    flags.DEFINE_bool("ema", True, "Measure the generator's average, not the generator itself.")
    flags.DEFINE_bool("json", False, "Print one JSON object instead of a table.")
    flags.DEFINE_list("metrics", [], f"Metrics, joined by commas, or all: {', '.join((*METRICS, FACES))}.")
    flags.DEFINE_integer(
        "num",
        0,
        f"How many images are measured; 0 for as many as are held out, or are in --images, at most {MOST}.",
        lower_bound=0,
    )
    flags.DEFINE_string(
        "reference_num",
        "0",
        "How many images, of training or of --reference, they are compared with: 0 for --num, or all.",
    )
    flags.register_validator("reference_num", _number_or_all, "--reference_num must be a number of images, or all")
    cli.define_path("images", None, "Images to measure without a run: a folder, or an .npz file.")
    cli.define_path("reference", None, "Real images to compare --images with: a folder, or an .npz file.")
    cli.define_path(
        "weights", None, f"File of the Inception network's weights; else that of {weights.VARIABLE}, or of the cache."
    )
    flags.DEFINE_bool("download", False, "Fetch the Inception network's weights into the cache first, once.")
    flags.DEFINE_enum("input", "tf1", list(resizing.INPUTS), "How images are resized for the Inception network.")
    cli.define_path("cascade", None, "Cascade of OpenCV for the metric afd: an .xml file.")
    cli.use_compilation_cache()
    cli.run(main)
