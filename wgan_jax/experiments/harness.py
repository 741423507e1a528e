"""The frame of every experiment: it takes settings and writes `NAME.png`, `NAME.json` and one sentence."""

import dataclasses
import json
import math
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import flags
from matplotlib.figure import Figure
from PIL import Image

from wgan_jax import cli
from wgan_jax.errors import UserError
from wgan_jax.files import disk_errors, write_atomically
from wgan_jax.report import pictures
from wgan_jax.version import __version__

DEFINE: dict[type, Callable[..., Any]] = {
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
}


@dataclasses.dataclass(frozen=True)
class Result:
    """Result of an experiment."""

    numbers: dict[str, Any]
    """Numbers in nested dictionaries and lists. JSON gets null for those that are not finite."""
    figure: Figure
    caption: str
    """Explanation of the figure, with the settings."""
    claim: str
    """Claim of the paper and the numbers found, as one clause."""
    criteria: dict[str, bool]
    """Demands of the claim on the numbers, in words, and whether the numbers meet each."""

    @property
    def holds(self) -> bool:
        """Whether the numbers support the claim, which means that they meet every demand."""
        return all(self.criteria.values())

    @property
    def sentence(self) -> str:
        """Sentence with the claim, whether it holds, and the demands that are not met."""
        failed = "; ".join(demand for demand, met in self.criteria.items() if not met)
        return f"{self.claim}: these numbers " + (
            f"do not support it (not met: {failed})." if failed else "support it."
        )


def main(run: Callable[[Any], Result], **presets: Any) -> None:
    """Runs the command of an experiment.

    Args:
      run: function from settings to the result of the experiment.
      presets: settings by name. All are instances of one frozen dataclass, whose fields are integers, floats and
        strings. For each field there is a flag that replaces the preset's value.
    """
    name = Path(sys.argv[0]).stem
    first = next(iter(presets.values()))
    cli.define_path("workdir", None, f"Folder for {name}.png and {name}.json.")
    flags.DEFINE_enum("preset", next(iter(presets)), list(presets), "Settings to start from.")
    for field in dataclasses.fields(first):
        DEFINE[type(getattr(first, field.name))](field.name, None, "Value that replaces the preset's.")
    flags.mark_flag_as_required("workdir")

    def start() -> None:
        preset = presets[flags.FLAGS.preset]
        given = {field.name: flags.FLAGS[field.name].value for field in dataclasses.fields(preset)}
        settings = dataclasses.replace(preset, **{key: value for key, value in given.items() if value is not None})
        report(name, run, settings, flags.FLAGS.workdir)

    cli.use_compilation_cache()
    cli.run(start)


def report(name: str, run: Callable[[Any], Result], settings: Any, workdir: Path) -> Result:
    """Runs an experiment, writes `workdir/NAME.png` and `workdir/NAME.json`, and prints the sentence.

    Raises:
      UserError: if a setting is invalid, or the folder cannot be written.
    """
    check(settings)
    with disk_errors(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        result = run(settings)
        document = {
            "experiment": name,
            "sentence": result.sentence,
            "holds": result.holds,
            "criteria": result.criteria,
            "settings": dataclasses.asdict(settings),
            "seconds": round(time.monotonic() - began, 1),
            "version": __version__,
            "caption": result.caption,
            "numbers": nulled(result.numbers),
        }
        text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        write_atomically(workdir / f"{name}.json", text)
        write_caption(result.figure, result.caption)
        save(result.figure, workdir / f"{name}.png")
    print(f"{workdir / name}.png, {workdir / name}.json", flush=True)
    print(result.sentence, flush=True)
    return result


def nulled(values: Any) -> Any:
    """Replaces numbers that are not finite by None, in nested dictionaries and lists, for JSON."""
    if isinstance(values, dict):
        return {name: nulled(value) for name, value in values.items()}
    if isinstance(values, list):
        return [nulled(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def check(settings: Any) -> None:
    """Raises `UserError` if a number is not positive and finite, or if the seed is out of range."""
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if field.name == "seed":
            if not 0 <= value < 2**32:
                raise UserError(f"--seed={value}: must be at least 0 and below {2**32:,}")
        elif not isinstance(value, str) and not 0 < value < math.inf:
            raise UserError(f"--{field.name}={value}: must be {'finite' if value == math.inf else 'positive'}")


def write_caption(figure: Figure, caption: str) -> None:
    """Writes the caption below the figure, in lines as wide as the figure."""
    columns = round(figure.get_figwidth() * 15.5)
    figure.supxlabel(textwrap.fill(caption, columns), fontsize=8, color="#555555", x=0.01, ha="left")


def save(figure: Figure, path: Path) -> None:
    """Saves a figure as a PNG of 128 colours, which are enough here and make the file three times smaller."""
    pictures.save(figure, path)
    with Image.open(path) as picture:
        pictures.save(picture.convert("RGB").quantize(128), path)


def say(line: str) -> None:
    """Prints a line to stderr, as a sign of progress."""
    print(line, file=sys.stderr, flush=True)
