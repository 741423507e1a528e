"""Where the examples of a global batch are, and how means over parts of it are joined."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from wgan_jax.method.batch import Batch
from wgan_jax.method.draws import Integer


class Placement(NamedTuple):
    """Where the examples of the global batch are. As it stands, the step has all of them in hand."""

    numbers: Callable[[int], jax.Array] = jnp.arange
    """Of n examples in hand, their numbers in the global batch: `[n]` int32."""
    mean: Callable[[Any], Any] = lambda tree: tree
    """From means over the examples in hand, the means over the global batch: any tree of floats."""


IN_HAND = Placement()


def take(batch: Batch, part: Integer, parts: int) -> Batch:
    """Of `[B, ...]` the examples `part`, `part + parts`, …"""
    if parts == 1:
        return batch
    return jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:])[:, part], batch)


def mean_of(function: Callable[[Integer], Any], parts: int, unroll: bool) -> Any:
    """The mean of `function(part)`, a tree of floats, over the parts, one after another."""
    if parts == 1:
        return function(0)
    total = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(function, 0))
    add = lambda part, total: jax.tree.map(jnp.add, total, function(part))  # noqa: E731
    if unroll:
        for part in range(parts):
            total = add(part, total)
    else:
        total = jax.lax.fori_loop(0, parts, add, total)
    return jax.tree.map(lambda x: x / parts, total)
