"""Settings that only some runs read.

A setting that nothing reads must keep its default. Any other value would do nothing, which is a mistake, or would one
day be taken for the cause of a result.
"""

import functools
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from wgan_jax.config.settings import default
from wgan_jax.config.tables import CONDITIONINGS, CONSTRAINTS, NETWORKS, OPTIMIZERS, parts
from wgan_jax.data.kinds import KINDS

Values = Mapping[str, Any]
"""Every setting of a run by its dotted key."""


class Reader(NamedTuple):
    """The part of a run that reads a setting."""

    name: str
    """Name in error messages."""
    present: Callable[[Values], bool]
    """`values -> bool`: whether a run has this part."""


class Choice(NamedTuple):
    """A choice of one or several rows of a table, which read the settings of one section."""

    section: str
    rows: Mapping[str, Collection[str]]
    """Settings that each row reads, by the row's name."""
    chosen: Callable[[Values], list[str]]
    """Names of the rows that a run has."""
    words: Callable[[list[str]], str]
    """`names -> text`: name of some rows in error messages."""

    def readers(self) -> dict[str, Reader]:
        """Returns who reads each setting that some rows read and others do not."""
        settings = dict.fromkeys(setting for row in self.rows.values() for setting in row)
        names = {setting: [name for name, row in self.rows.items() if setting in row] for setting in settings}
        return {
            f"{self.section}.{setting}": Reader(
                self.words(names[setting]), functools.partial(self._any, names[setting])
            )
            for setting in settings
            if len(names[setting]) < len(self.rows)
        }

    def _any(self, names: list[str], values: Values) -> bool:
        return any(name in names for name in self.chosen(values))


def readers() -> dict[str, Reader]:
    """Returns who reads each setting that not every run reads, as the tables are now."""
    warm_up = Reader("config.warmup.n_critic > 0", lambda values: values["warmup.n_critic"] > 0)
    choices = [
        Choice("data", _settings(KINDS), lambda values: [values["data.name"].partition(":")[0]], data_of_kinds),
        _choice("conditional", "conditional.kind", _settings(CONDITIONINGS)),
        _choice("constraint", "constraint.kind", _settings(CONSTRAINTS), parts),
    ]
    found = {"warmup.steps": warm_up, "warmup.every": warm_up}
    for player, other in (("generator", "critic"), ("critic", "generator")):
        keys = list(default()[player])
        networks = {name: [key for key in keys if row.reads(player, key)] for name, row in NETWORKS.items()}
        choices.append(_choice(player, f"{player}.network", networks))
        choices.append(_choice(f"{player}.optimizer", f"{player}.optimizer.name", _settings(OPTIMIZERS)))
        for key in keys:
            if _read_by_any(other, key) and not _read_by_any(player, key):
                found[f"{player}.{key}"] = Reader(f"a {other}", lambda values: False)
    for choice in choices:
        found |= choice.readers()
    return found


def data_of_kinds(names: list[str]) -> str:
    """Returns what an error message calls data of some kinds."""
    return f"a {' or '.join(name + ':' for name in names)} data set"


class _Row(Protocol):
    @property
    def settings(self) -> tuple[str, ...]: ...


def _settings(table: Mapping[str, _Row]) -> dict[str, tuple[str, ...]]:
    return {name: row.settings for name, row in table.items()}


def _choice(
    section: str,
    key: str,
    rows: Mapping[str, Collection[str]],
    split: Callable[[str], list[str]] = lambda name: [name],
) -> Choice:
    """Returns the choice that the setting `config.key` makes by the name of a row, or by several that `split` finds."""
    return Choice(
        section, rows, lambda values: split(values[key]), lambda names: f"config.{key} = {' or '.join(names)}"
    )


def _read_by_any(player: str, key: str) -> bool:
    return any(row.reads(player, key) for row in NETWORKS.values())


def unread(values: Values, defaults: Values) -> Iterator[tuple[str, Reader]]:
    """Yields each setting that differs from its default and that nothing in the run reads, with its reader."""
    for key, reader in readers().items():
        if values[key] != defaults[key] and not reader.present(values):
            yield key, reader
