"""What a run is besides its settings: its data, the run that it began from, and what has computed it.

`run.json` holds these beside `config.json`. It has no times of day, so that two runs that are the same have the same.
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
"""Names of the libraries in `run.json`, and as they are installed."""

ARITHMETIC = ("precision", "matmul_precision", "microbatches")
"""Settings that change how numbers are rounded."""


@dataclasses.dataclass(frozen=True)
class Origin:
    """The run whose networks another run began with."""

    workdir: str
    """Its folder, an absolute path."""
    step: int
    """Its generator iterations at that moment."""
    settings: str
    """SHA-256 of its settings, as `config.to_json` writes them."""
    optimizer: bool
    """Whether the state of the optimizers was taken too."""


@dataclasses.dataclass(frozen=True)
class Identity:
    """All that `run.json` holds."""

    data: dict[str, Any]
    """The number of examples of each split, and a digest: see `wgan_jax.data.fingerprint`."""
    origin: Origin | None = None
    """None for a run that began with random networks."""
    starts: tuple[dict[str, Any], ...] = ()
    """One record of `environment` for each start of the program, with `step` iterations done and `steps` wanted."""

    def started(self, start: dict[str, Any]) -> "Identity":
        """Returns the identity with one more start; one that repeats the last one is not counted."""
        if self.starts and self.starts[-1] == start:
            return self
        return dataclasses.replace(self, starts=(*self.starts, start))


def path(workdir: Path) -> Path:
    """Returns where a run's identity is."""
    return workdir / "run.json"


def read(workdir: Path) -> Identity | None:
    """Reads a run's identity; None if an older version of wgan_jax made the run.

    Raises:
      UserError: if the file cannot be read.
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
                raise ValueError("an example count or a digest is none")
        if origin and not (type(origin.workdir) is str and type(origin.step) is int and type(origin.optimizer) is bool):
            raise ValueError("the origin is none")
        return Identity(data, origin, starts)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"{file} is damaged ({' '.join(str(error).split())[:80]}); restore it, or delete it, and the run goes on "
            "without a comparison of its data and versions"
        ) from None


def refuse_foreign(workdir: Path) -> None:
    """Raises `UserError` if a folder that holds no run has a `run.json` that no run wrote."""
    try:
        read(workdir)
    except UserError:
        raise UserError(
            f"{workdir} holds no run, but {path(workdir).name}, which a run would take for its own; use another "
            "workdir, or move it elsewhere"
        ) from None


def write(workdir: Path, identity: Identity) -> None:
    """Writes a run's identity, where it has changed."""
    update(path(workdir), json.dumps(dataclasses.asdict(identity), indent=1) + "\n")


def environment(config: ConfigDict) -> dict[str, Any]:
    """Returns what the bits of a result depend on besides the settings of the method: versions and devices."""
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
    """Returns the model of the CPU: which instructions it has decides the order of sums."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
