"""How every experiment runs: settings in; `NAME.png`, `NAME.json` and one sentence out."""

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
    """What an experiment found."""

    numbers: dict[str, Any]
    """As JSON can hold them; what is not finite becomes null."""
    figure: Figure
    caption: str
    """What the figure shows, with which settings."""
    claim: str
    """What the papers say, and what was found: a clause with the numbers in it."""
    criteria: dict[str, bool]
    """What the claim demands of the numbers, each demand in words, and whether they meet it."""

    @property
    def holds(self) -> bool:
        """Whether the numbers bear the claim out: they meet every demand."""
        return all(self.criteria.values())

    @property
    def sentence(self) -> str:
        """The claim, whether it holds, and which demands are not met."""
        failed = "; ".join(demand for demand, met in self.criteria.items() if not met)
        return f"{self.claim}: these numbers " + (
            f"do not bear it out (not so: {failed})." if failed else "bear it out."
        )


def main(run: Callable[[Any], Result], **presets: Any) -> None:
    """The command of an experiment.

    Args:
      run: the experiment, a function of its settings.
      presets: settings by name, instances of one frozen dataclass whose fields are integers, floats and strings; each
        field is a flag, that changes the preset's value.
    """
    name = Path(sys.argv[0]).stem
    first = next(iter(presets.values()))
    cli.define_path("workdir", None, f"Where {name}.png and {name}.json go.")
    flags.DEFINE_enum("preset", next(iter(presets)), list(presets), "The settings to start from.")
    for field in dataclasses.fields(first):
        DEFINE[type(getattr(first, field.name))](field.name, None, "Instead of the preset's.")
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
      UserError: if a setting is not possible, or the folder cannot be written.
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
    """Numbers in nested dictionaries and lists, with None for those that are not finite: JSON has no others."""
    if isinstance(values, dict):
        return {name: nulled(value) for name, value in values.items()}
    if isinstance(values, list):
        return [nulled(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def check(settings: Any) -> None:
    """Raises `UserError` for a number that is not positive and finite, or a seed that is out of range."""
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if field.name == "seed":
            if not 0 <= value < 2**32:
                raise UserError(f"--seed={value}: must be at least 0 and below {2**32:,}")
        elif not isinstance(value, str) and not 0 < value < math.inf:
            raise UserError(f"--{field.name}={value}: must be {'finite' if value == math.inf else 'positive'}")


def write_caption(figure: Figure, caption: str) -> None:
    """The caption below the figure, in lines as wide as it."""
    columns = round(figure.get_figwidth() * 15.5)
    figure.supxlabel(textwrap.fill(caption, columns), fontsize=8, color="#555555", x=0.01, ha="left")


def save(figure: Figure, path: Path) -> None:
    """A PNG of 128 colours: a third of the size, and these figures need no more."""
    pictures.save(figure, path)
    with Image.open(path) as picture:
        pictures.save(picture.convert("RGB").quantize(128), path)


def say(line: str) -> None:
    """A line on stderr, for who waits."""
    print(line, file=sys.stderr, flush=True)
