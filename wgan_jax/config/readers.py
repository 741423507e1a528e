"""Settings that only some runs read.

A setting that nothing reads must keep its default: any other value does nothing, which is a mistake, or will one day be
taken for the reason of a result.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from wgan_jax.data.kinds import KINDS

Values = Mapping[str, Any]
"""Every setting of a run by its dotted key."""


class Reader(NamedTuple):
    """The part of a run that reads a setting."""

    name: str
    """What an error message calls it."""
    present: Callable[[Values], bool]
    """Whether a run has this part."""


def _where(key: str, *wanted: str) -> Reader:
    """Returns the reader of settings that count where `config.key` is one of some values."""
    return Reader(f"config.{key} = {' or '.join(wanted)}", lambda values: values[key] in wanted)


def _data() -> dict[str, Reader]:
    """Returns the readers of settings that count for some kinds of data."""
    settings = dict.fromkeys(setting for kind in KINDS.values() for setting in kind.settings)
    kinds = {setting: [name for name, kind in KINDS.items() if setting in kind.settings] for setting in settings}
    return {f"data.{setting}": _data_of(names) for setting, names in kinds.items()}


def _data_of(kinds: list[str]) -> Reader:
    name = f"a {' or '.join(kind + ':' for kind in kinds)} data set"
    return Reader(name, lambda values: values["data.name"].partition(":")[0] in kinds)


def _player(player: str) -> dict[str, Reader]:
    network, optimizer = f"{player}.network", f"{player}.optimizer.name"
    readers = {
        "depth": _where(network, "mlp"),
        "kernel_size": _where(network, "dcgan"),
        "use_bias": _where(network, "dcgan"),
        "optimizer.b1": _where(optimizer, "adam"),
        "optimizer.b2": _where(optimizer, "adam"),
        "optimizer.decay": _where(optimizer, "rmsprop", "rmsprop_tf"),
        "optimizer.eps": _where(optimizer, "adam", "rmsprop", "rmsprop_tf"),
    }
    return {f"{player}.{key}": reader for key, reader in readers.items()}


_WARM_UP = Reader("config.warmup.n_critic > 0", lambda values: values["warmup.n_critic"] > 0)

READERS: dict[str, Reader] = {
    "warmup.steps": _WARM_UP,
    "warmup.every": _WARM_UP,
    **_data(),
    **_player("generator"),
    "generator.constant_width": _where("generator.network", "dcgan"),
    **_player("critic"),
    "critic.constant_width": Reader("a generator", lambda values: False),
    "conditional.classes": _where("conditional.kind", "auxiliary", "projection"),
    "conditional.critic_weight": _where("conditional.kind", "auxiliary"),
    "conditional.generator_weight": _where("conditional.kind", "auxiliary"),
    "constraint.weight": _where("constraint.kind", "gradient_penalty"),
    "constraint.target": _where("constraint.kind", "gradient_penalty"),
    "constraint.one_sided": _where("constraint.kind", "gradient_penalty"),
    "constraint.bound": _where("constraint.kind", "clip"),
    "constraint.order": _where("constraint.kind", "clip"),
}
"""Who reads each setting that not every run reads."""


def unread(values: Values, defaults: Values) -> Iterator[tuple[str, Reader]]:
    """Yields each setting that differs from its default and that nothing in the run reads, with its reader."""
    for key, reader in READERS.items():
        if values[key] != defaults[key] and not reader.present(values):
            yield key, reader
