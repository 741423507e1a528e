"""Spectral normalization: every kernel over its largest singular value, by power iteration (arXiv 1802.05957).

The matrix of a kernel has one column for each output: `[..., outputs]` becomes `[inputs, outputs]`, where the inputs of
a convolution are those of all its taps. It is the transpose of the paper's W, so u belongs to the outputs, as there.
The norm of this matrix is not that of the convolution, which may be larger.
"""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from flax import traverse_util

Path = tuple[str, ...]

NOT_KERNELS = ("bias", "scale")
"""Names of parameters that are none, although they may have two axes: those of a normalization by class do."""
WARM_START = 100
"""Power steps on the first weights. One step from a random vector gives a σ that is too small."""
EPSILON = 1e-12
"""Number added to a norm before a vector is divided by it, as in the paper's code."""


class Pair(NamedTuple):
    """Approximate singular vectors of a matrix `[inputs, outputs]`."""

    v: jax.Array
    """`[inputs]`, of norm 1."""
    u: jax.Array
    """`[outputs]`, of norm 1."""


def kernels(params: chex.ArrayTree) -> dict[Path, jax.Array]:
    """Returns the parameters that are normalized, by their path: all with two axes or more, but for `NOT_KERNELS`.

    So the last layer and the vectors of an embedding or of a projection are among them, and biases are not.
    """
    found: dict[Path, Any] = traverse_util.flatten_dict(params)
    return {path: w for path, w in found.items() if w.ndim > 1 and path[-1] not in NOT_KERNELS}


def matrix(kernel: jax.Array) -> jax.Array:
    """Returns a kernel as a matrix: `[..., outputs] -> [inputs, outputs]`."""
    return kernel.reshape(-1, kernel.shape[-1])


def power_step(w: jax.Array, u: jax.Array) -> Pair:
    """Returns the singular vectors after one step of power iteration (arXiv 1802.05957, Algorithm 1), as constants.

    A matrix of zeros leaves u as it was, so that it is still good when the matrix grows.

    Args:
      w: `[inputs, outputs]`.
      u: `[outputs]`.
    """
    w = jax.lax.stop_gradient(w)
    v = _unit(_dot(w, u))
    after = _unit(_dot(v, w))
    return Pair(v, jnp.where(jnp.any(after != 0), after, u))


def sigma(w: jax.Array, pair: Pair) -> jax.Array:
    """Returns `vᵀ w u`, the largest singular value if the vectors are its: `[]`, of gradient `v uᵀ` by w."""
    return _dot(_dot(pair.v, w), pair.u)


@jax.jit
def init(params: chex.ArrayTree, key: chex.PRNGKey) -> chex.ArrayTree:
    """Returns u of every kernel, after `WARM_START` steps from N(0, I): nested dictionaries with the kernels' paths."""

    def start(kernel: jax.Array, key: chex.PRNGKey) -> jax.Array:
        u = jax.random.normal(key, kernel.shape[-1:], kernel.dtype)
        return jax.lax.fori_loop(0, WARM_START, lambda _, u: power_step(matrix(kernel), u).u, u)

    found = kernels(params)
    keys = jax.random.split(key, max(1, len(found)))
    vectors = {path: start(found[path], keys[i]) for i, path in enumerate(sorted(found))}
    return traverse_util.unflatten_dict(vectors)


def normalize(params: chex.ArrayTree, state: chex.ArrayTree) -> tuple[chex.ArrayTree, chex.ArrayTree]:
    """Returns the parameters with every kernel over its σ, and u after the one power step that σ was found with."""
    weights: dict[Path, Any] = traverse_util.flatten_dict(params)
    vectors: dict[Path, Any] = traverse_util.flatten_dict(state)
    for path, u in vectors.items():
        w = matrix(weights[path])
        pair = power_step(w, u)
        largest = sigma(w, pair)
        weights[path] = weights[path] / jnp.where(largest > 0, largest, 1.0)
        vectors[path] = pair.u
    return traverse_util.unflatten_dict(weights), traverse_util.unflatten_dict(vectors)


def _unit(a: jax.Array) -> jax.Array:
    return a / (jnp.linalg.norm(a) + EPSILON)


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.dot(a, b, precision="highest")
