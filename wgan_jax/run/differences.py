"""Differences between a run so far and the run that is to continue it.

They may be in the settings, in the data, or in versions and devices.
"""

from collections.abc import Iterable
from typing import Any

from ml_collections import ConfigDict

from wgan_jax.config.settings import flatten

FREE = (
    "steps_per_dispatch",
    "microbatches",
    "parallel",
    "report",
    "debug",
    "data.cache",
    "data.dir",
    "data.unreadable_fraction",
)
"""Settings, and sections of settings, that do not change what a run computes.

A run may continue with other values of them.
"""

DATA = ("data.name", "data.train_split", "data.held_out_split", "data.held_out_fraction")
"""Settings that choose the examples.

A run may continue with other values that choose the same examples.
"""


def within(key: str, keys: Iterable[str]) -> bool:
    """Tells whether a dotted key is one of `keys`, or lies in a section that is one of them."""
    return any(f"{key}.".startswith(f"{name}.") for name in keys)


def of_settings(old: ConfigDict, new: ConfigDict) -> dict[str, str]:
    """Returns a message for each setting that differs between two configs: `{dotted key: message}`, sorted by key."""
    before, after = dict(flatten(old)), dict(flatten(new))
    return {
        key: f"config.{key}: {before.get(key, 'absent')!r} there, {after.get(key, 'absent')!r} here"
        for key in sorted(before.keys() | after.keys())
        if before.get(key, before) != after.get(key, after)
    }


HOST = ("cpu", "cores")
"""Entries of an environment that change the results only if the CPU itself computes them."""


def of_environments(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """Returns a message for each version, device or precision that differs between two starts of a run."""
    ignored = {"step", "steps"} | (set() if "cpu" in (there.get("backend"), here.get("backend")) else set(HOST))
    return [
        f"{name}: {there.get(name, 'absent')} there, {here.get(name, 'absent')} here"
        for name in (there | here)
        if name not in ignored and there.get(name) != here.get(name)
    ]


def of_data(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """Returns a message for each split whose examples differ between two fingerprints."""
    found = []
    for split in ("train", "held_out"):
        old, new = there[split], here[split]
        if old.get("examples") != new.get("examples"):
            found.append(f"{split}: {old.get('examples'):,} examples there, {new.get('examples'):,} here")
        elif old != new:
            found.append(f"{split}: {new.get('examples'):,} examples, but not the same ones")
    return found
