"""Which examples of the global batch a step has, and how means over parts of it are joined."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from wgan_jax.method.batch import Batch
from wgan_jax.method.draws import Integer


class Placement(NamedTuple):
    """The examples of the global batch that this device has. The default is all of them."""

    example_index: Callable[[int], jax.Array] = jnp.arange
    """`n -> [n]` int32: numbers in the global batch of the n examples that are here."""
    mean: Callable[[Any], Any] = lambda tree: tree
    """Averages a tree of floats over all devices: from local means to means over the global batch."""


WHOLE_BATCH = Placement()


def take(batch: Batch, part: Integer, parts: int) -> Batch:
    """Returns the examples `part`, `part + parts`, … of a batch `[B, ...]`."""
    if parts == 1:
        return batch
    return jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:])[:, part], batch)


def mean_of(function: Callable[[Integer], Any], parts: int, unroll: bool) -> Any:
    """Returns the mean of `function(part)`, a tree of floats, over the parts, computed one after another."""
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
