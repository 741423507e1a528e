"""Checks every setting of a run, alone and together with the others, before anything is compiled."""

import difflib
import math
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from wgan_jax.config.readers import data_of_kinds, unread
from wgan_jax.config.settings import default, flatten
from wgan_jax.config.tables import CONDITIONINGS, CONSTRAINTS, NETWORKS, OPTIMIZERS, parts
from wgan_jax.data.kinds import KINDS, encoded, image_shape
from wgan_jax.errors import UserError, multiples
from wgan_jax.method.games import GAMES
from wgan_jax.networks import layers


class Rule(NamedTuple):
    """Condition on a value, in words and as a test; both read the tables when they are asked."""

    wanted: Callable[[], str]
    holds: Callable[[Any], bool]


def _at_least(low: float) -> Rule:
    return Rule(lambda: f"at least {low}", lambda value: value >= low)


def _between(low: float, high: float) -> Rule:
    return Rule(lambda: f"at least {low:,} and below {high:,}", lambda value: low <= value < high)


def _one_of(names: Collection[str]) -> Rule:
    return Rule(lambda: f"one of {', '.join(names)}", lambda value: value in names)


def _inits() -> list[str]:
    """Returns the names of initial weights that some network has."""
    return list(dict.fromkeys(name for row in NETWORKS.values() for name in row.inits))


def _are_constraints(kind: str) -> bool:
    """Tells whether a text is names of different constraints, joined by a plus."""
    names = parts(kind)
    return all(name in CONSTRAINTS for name in names) and len(set(names)) == len(names)


_INIT = Rule(lambda: f"one of {', '.join(_inits())}", lambda value: value in _inits())
_CONSTRAINTS = Rule(lambda: f"one of {', '.join(CONSTRAINTS)}, or several of them joined by +", _are_constraints)
_POSITIVE = Rule(lambda: "positive", lambda value: value > 0)

_PLAYER_RULES = {
    "network": _one_of(NETWORKS),
    "width": _between(1, 2**16),
    "depth": _between(1, 2**8),
    "activation": _one_of(layers.ACTIVATIONS),
    "norm": _one_of(layers.NORMS),
    "kernel_init": _INIT,
    "kernel_size": _between(1, 2**5),
    "optimizer.name": _one_of(OPTIMIZERS),
    "optimizer.learning_rate": _POSITIVE,
    "optimizer.schedule": _one_of(("constant", "linear")),
    "optimizer.b1": _between(0, 1),
    "optimizer.b2": _between(0, 1),
    "optimizer.decay": _between(0, 1),
    "optimizer.eps": _POSITIVE,
    "optimizer.weight_decay": _at_least(0),
}

RULES: dict[str, Rule] = {
    "seed": _between(0, 2**32),
    "steps": _between(1, 2**31),
    "batch_size": _between(1, 2**24),
    "n_critic": _between(1, 2**16),
    "latent_dim": _between(1, 2**16),
    "game": _one_of(GAMES),
    "precision": _one_of(("float32", "bfloat16")),
    "matmul_precision": _one_of(("default", "bfloat16", "high", "tensorfloat32", "highest", "float32")),
    "ema_decay": _between(0, 1),
    "microbatches": _between(1, 2**16),
    "steps_per_dispatch": _between(1, 2**16),
    "warmup.n_critic": _between(0, 2**16),
    "warmup.steps": _between(0, 2**31),
    "warmup.every": _between(0, 2**31),
    "data.size": _between(0, 2**13),
    "data.channels": _between(1, 2**10),
    "data.crop": _between(0, 2**20),
    "data.cache": _one_of(("auto", "always", "never")),
    "data.train_split": Rule(lambda: "the name of a split, such as train", bool),
    "data.held_out_fraction": Rule(lambda: "above 0 and below 1", lambda value: 0 < value < 1),
    "data.unreadable_fraction": _between(0, 1),
    **{f"generator.{key}": rule for key, rule in _PLAYER_RULES.items()},
    "generator.batch_multiple": _between(1, 2**10),
    "critic.dropout": _between(0, 1),
    **{f"critic.{key}": rule for key, rule in _PLAYER_RULES.items()},
    "conditional.kind": _one_of(CONDITIONINGS),
    "conditional.classes": _between(2, 2**16),
    "conditional.critic_weight": _at_least(0),
    "conditional.generator_weight": _at_least(0),
    "constraint.kind": _CONSTRAINTS,
    "constraint.weight": _at_least(0),
    "constraint.target": _at_least(0),
    "constraint.noise": _at_least(0),
    "constraint.divergence_weight": _at_least(0),
    "constraint.divergence_power": Rule(lambda: "above 1", lambda value: value > 1),
    "constraint.consistency_weight": _at_least(0),
    "constraint.consistency_margin": _at_least(0),
    "constraint.gamma": _at_least(0),
    "constraint.every": _between(1, 2**16),
    "constraint.bound": _POSITIVE,
    "constraint.order": _one_of(("after", "before")),
    "parallel.mode": _one_of(("jit", "pmap")),
    "report.every": _between(1, 2**31),
    "report.samples_every": _between(1, 2**31),
    "report.checkpoint_every": _between(1, 2**31),
    "report.checkpoints": _between(1, 2**31),
    "report.metrics": Rule(
        lambda: 'names of metrics, such as ("ms_ssim", "fd_lite0")',
        lambda value: all(type(name) is str and "," not in name for name in value),
    ),
    "report.metrics_every": _between(1, 2**31),
    "report.metrics_num": _between(16, 2**24),
}


def _nearest_key(key: str, known: list[str]) -> str:
    by_name = {name.rpartition(".")[2]: name for name in known}
    close = difflib.get_close_matches(key, known, n=1) or [
        by_name[name] for name in difflib.get_close_matches(key.rpartition(".")[2], by_name, n=1)
    ]
    return f"did you mean {close[0]}?" if close else "wgan_jax/config/settings.py explains every key"


def check(config: ConfigDict) -> None:
    """Checks every setting. Raises `UserError` for the first that is invalid or unread, with key, value and remedy."""
    _check_each(config)
    values, defaults = dict(flatten(config)), dict(flatten(default()))
    for key, reader in unread(values, defaults):
        raise UserError(
            f"config.{key} = {values[key]!r}: has no effect here, only {reader.name} reads it; "
            f"leave it at {defaults[key]!r}"
        )
    _check_pairs(config)


def without_unread(config: ConfigDict) -> ConfigDict:
    """Returns the config with defaults for settings that nothing reads, for which older versions took any value.

    A config with other faults is returned as it is, so that `check` can name them.
    """
    try:
        _check_each(config)
    except UserError:
        return config
    config, defaults = ConfigDict(config.to_dict()), dict(flatten(default()))
    names = [key for key, _ in unread(dict(flatten(config)), defaults)]
    for name in ("generator", "critic"):
        inits = NETWORKS[config[name].network].inits
        if inits and config[name].kernel_init not in inits:
            names.append(f"{name}.kernel_init")
    config.update_from_flattened_dict({key: defaults[key] for key in names})
    return config


def _check_each(config: ConfigDict) -> None:
    if not isinstance(config, ConfigDict):
        raise UserError(f"config = {config!r}: get_config() must return a ConfigDict; see wgan_jax.config.default()")
    values, defaults = dict(flatten(config)), dict(flatten(default()))
    sections = {key.rpartition(".")[0] for key in defaults}
    for key, value in values.items():
        if key in sections:
            raise UserError(f"config.{key} = {value!r}: must be a section of settings, such as wgan_jax.config has")
        if key not in defaults:
            raise UserError(f"config.{key}: unknown key; {_nearest_key(key, list(defaults))}")
    for key, example in defaults.items():
        if key not in values:
            raise UserError(f"config.{key}: missing; start from wgan_jax.config.default()")
        _check_type(key, values[key], example)
    for key, rule in RULES.items():
        if not rule.holds(values[key]):
            raise UserError(f"config.{key} = {values[key]!r}: must be {rule.wanted()}")


def _check_type(key: str, value: Any, example: Any) -> None:
    kind = type(example)
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise UserError(f"config.{key} = {value!r}: must be {kind.__name__}, not {type(value).__name__}")
    if kind is float and not (abs(value) < 1e300 and math.isfinite(value)):
        raise UserError(f"config.{key} = {value}: must be finite")


def _check_pairs(c: ConfigDict) -> None:
    for kind in parts(c.constraint.kind):
        if CONSTRAINTS[kind].each_example and c.critic.norm == "batch":
            raise UserError(
                f"config.critic.norm = 'batch': config.constraint.kind = {kind!r} needs a critic that treats each "
                "example by itself, and batch normalization mixes them; use 'layer' or 'none'"
            )
        if CONSTRAINTS[kind].dropout and not c.critic.dropout:
            raise UserError(
                f"config.critic.dropout = {c.critic.dropout}: config.constraint.kind = {kind!r} compares two passes "
                "with different dropout, and without any it is 0; use a rate above 0, such as 0.5"
            )
        if CONSTRAINTS[kind].unnormalized and c.critic.norm != "none":
            raise UserError(
                f"config.critic.norm = {c.critic.norm!r}: config.constraint.kind = {kind!r} bounds the critic's slope "
                "by its kernels, and a normalization scales what they return; use 'none'"
            )
    for player in ("generator", "critic"):
        _check_network(c, player)
    if encoded(c.data.name):
        if not c.data.size:
            raise UserError(f"config.data.size = 0: {c.data.name} has images; give the pixels of a side, such as 64")
        if c.data.channels not in (1, 3):
            raise UserError(f"config.data.channels = {c.data.channels}: images have 1 (grey) or 3 (RGB)")
    else:
        for key in ("flip", "dequantise"):
            if c.data[key]:
                raise UserError(
                    f"config.data.{key} = True: {c.data.name} has no bytes to do it to; "
                    f"use False, or {data_of_kinds([name for name, kind in KINDS.items() if kind.encoded])}"
                )
    by_norm = NETWORKS[c.generator.network].classes_by_norm
    if c.conditional.kind != "none" and by_norm and c.generator.norm == "none":
        raise UserError(
            f"config.generator.norm = 'none': the classes of config.conditional.kind = {c.conditional.kind!r} enter a "
            f"{c.generator.network} through its normalization; use 'batch' or 'layer'"
        )
    if c.report.wasserstein_exact and c.data.size:
        raise UserError(
            f"config.report.wasserstein_exact = True: {c.data.name} has images, and in so many dimensions the distance "
            "of two samples says little of that of their distributions; use False, or a toy: data set"
        )
    _check_microbatches(c)
    if c.warmup.n_critic and c.warmup.n_critic < c.n_critic:
        raise UserError(
            f"config.warmup.n_critic = {c.warmup.n_critic}: must be 0 (off) or at least config.n_critic = {c.n_critic}"
        )


def _check_network(c: ConfigDict, player: str) -> None:
    """Checks that a player's network has the initial weights and the shape that are asked for."""
    name, init = c[player].network, c[player].kernel_init
    network = NETWORKS[name]
    if network.inits and init not in network.inits:
        raise UserError(
            f"config.{player}.kernel_init = {init!r}: config.{player}.network = {name!r} has "
            f"{' or '.join(network.inits)}"
        )
    if network.levels is None:
        return
    if not c.data.size:
        others = " or ".join(repr(name) for name, row in NETWORKS.items() if row.levels is None)
        raise UserError(
            f"config.{player}.network = {name!r}: convolutions need images, and config.data.size is 0; use {others}"
        )
    try:
        network.levels(image_shape(c))
    except ValueError as error:
        raise UserError(f"config.data.size = {c.data.size}: {error}") from None


def _check_microbatches(c: ConfigDict) -> None:
    for name, player in (("generator", c.generator), ("critic", c.critic)):
        if c.microbatches > 1 and player.norm == "batch":
            raise UserError(
                f"config.microbatches = {c.microbatches}: config.{name}.norm = 'batch' takes its moments of the whole "
                "batch, and a microbatch has only a part of it; use 1, or 'layer' or 'none'"
            )
    if c.batch_size % c.microbatches:
        raise UserError(
            f"config.batch_size = {c.batch_size}: must be divisible by config.microbatches = {c.microbatches}; "
            f"{multiples(c.batch_size, c.microbatches)}"
        )
