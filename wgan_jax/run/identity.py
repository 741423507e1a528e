"""The identity of a run besides its settings: its data, its origin, and the machines and versions that compute it.

`run.json` contains the identity, next to `config.json`. It contains no times, so equal runs have equal files.
"""

import dataclasses
import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from wgan_jax.config.settings import flatten
from wgan_jax.devices import determinism
from wgan_jax.errors import UserError
from wgan_jax.run.workdir import update
from wgan_jax.version import __version__

LIBRARIES = {"jax": "jax", "jaxlib": "jaxlib", "flax": "flax", "optax": "optax", "orbax": "orbax-checkpoint"}
"""Libraries whose versions `run.json` records: the name there, and the name of the installed package."""

ARITHMETIC = ("precision", "matmul_precision", "microbatches")
"""Settings that change how numbers are rounded."""


@dataclasses.dataclass(frozen=True)
class Origin:
    """The run whose networks another run began with."""

    workdir: str
    """Folder of that run, as an absolute path."""
    step: int
    """Number of generator iterations that it had done."""
    settings: str
    """SHA-256 hash of its settings, as `config.settings.to_json` writes them."""
    optimizer: bool
    """Whether the new run took the state of the optimizers too."""


@dataclasses.dataclass(frozen=True)
class Identity:
    """The content of `run.json`."""

    data: dict[str, Any]
    """The number of examples of each split, and their digest: see `wgan_jax.data.fingerprint`."""
    origin: Origin | None = None
    """The run whose networks this one began with; None if it began with random networks."""
    starts: tuple[dict[str, Any], ...] = ()
    """One `environment` for each start of the program.

    Each also has `step`, the number of iterations done, and `steps`, the number wanted.
    """

    stages: tuple[tuple[int, int, int], ...] | None = None
    """Batch size, start and stop of each stage of a run that was given stages; None for those of its config."""

    def started(self, start: dict[str, Any]) -> "Identity":
        """Returns the identity with one more start. A start equal to the last one is not added again."""
        if self.starts and self.starts[-1] == start:
            return self
        return dataclasses.replace(self, starts=(*self.starts, start))


def path(workdir: Path) -> Path:
    """Returns the path of a run's identity."""
    return workdir / "run.json"


def read(workdir: Path) -> Identity | None:
    """Reads the identity of a run. Returns None if the run has none, because an older version of wgan_jax made it.

    Raises:
      UserError: if the file is damaged or cannot be read.
    """
    file = path(workdir)
    if not os.path.lexists(file):
        return None
    try:
        values = json.loads(file.read_text())
        origin = Origin(**values["origin"]) if values["origin"] else None
        starts = tuple(dict(start) for start in values["starts"])
        data = {split: dict(values["data"][split]) for split in ("train", "held_out")}
        for part in data.values():
            if type(part["examples"]) is not int or type(part["digest"]) is not str:
                raise ValueError("a number of examples or a digest is invalid")
        if origin and not (type(origin.workdir) is str and type(origin.step) is int and type(origin.optimizer) is bool):
            raise ValueError("the origin is invalid")
        stages = tuple((int(size), int(start), int(stop)) for size, start, stop in values.get("stages") or ())
        return Identity(data, origin, starts, stages or None)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"{file} is damaged ({' '.join(str(error).split())[:80]}); restore it, or delete it, and the run goes on "
            "without a comparison of its data and versions"
        ) from None


def refuse_foreign(workdir: Path) -> None:
    """Raises `UserError` if a folder without a run contains a `run.json` that no run has written."""
    try:
        read(workdir)
    except UserError:
        raise UserError(
            f"{workdir} holds no run, but {path(workdir).name}, which a run would take for its own; use another "
            "workdir, or move it elsewhere"
        ) from None


def write(workdir: Path, identity: Identity) -> None:
    """Writes the identity of a run, if it has changed."""
    values = dataclasses.asdict(identity)
    if identity.stages is None:
        del values["stages"]
    update(path(workdir), json.dumps(values, indent=1) + "\n")


def environment(config: ConfigDict) -> dict[str, Any]:
    """Returns what the bits of a result depend on besides the method's settings: versions, devices and precision."""
    device = jax.devices()[0]
    settings = dict(flatten(config))
    return {
        "wgan_jax": __version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(package) for name, package in LIBRARIES.items()},
        "backend": device.platform,
        "device": device.device_kind,
        "devices": jax.device_count(),
        "hosts": jax.process_count(),
        "cpu": _processor(),
        **determinism.record(),
        **{key: settings[key] for key in ARITHMETIC},
    }


def _processor() -> str:
    """Returns the model of the CPU, whose instructions decide the order of sums."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
