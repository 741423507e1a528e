"""Convolutions with fewer multiplications, for the CPU (Winograd 1980; Lavin and Gray 2015, arXiv 1509.09308).

Two neighbouring outputs of a filter with three taps, `y_q = Σ_i x_{q+i} w_i`, take four products instead of six, with
two taps three instead of four. The form `Σ_q y_q Σ_i x_{q+i} w_i` is then `Σ_n (Xx)_n (Ww)_n (Yy)_n` with small
matrices X, W and Y, and so its partial gradients, the input gradient and the kernel gradient, take as few. Here it
runs along the rows of images, whose sums are over adjacent memory; each product is a matrix product over columns and
channels. A 5×5 kernel of stride 2 needs 0.7 of the multiplications, a 3×3 kernel of stride 1 two thirds, a 4×4 kernel
of stride 2 three quarters. Rounding errors are some 2e-6 of the largest result.

The three functions are those of `wgan_jax.networks.convolution`, for float32.
"""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Pair = tuple[int, int]

# For 1, 2 and 3 taps: X over the inputs, W over the taps, Y over the two outputs, one row for each product.
_FILTERS: dict[int, tuple[list[list[float]], ...]] = {
    1: ([[1, 0], [0, 1]], [[1], [1]], [[1, 0], [0, 1]]),
    2: ([[1, -1, 0], [0, 1, 0], [0, 1, -1]], [[1, 0], [1, 1], [0, 1]], [[1, 0], [1, 1], [0, -1]]),
    3: (
        [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]],
        [[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]],
        [[1, 0], [1, 1], [1, -1], [0, -1]],
    ),
}


@functools.cache
def matrices(kernel: int, stride: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """X `[n, kernel + stride]`, W `[n, kernel]` and Y `[n, 2]` for two outputs of a strided filter."""
    taps = [range(phase, kernel, stride)[i : i + 3] for phase in range(stride) for i in range(0, kernel, 3)]
    products = [(some, n) for some in taps if some for n in range(len(some) + 1)]
    x, w, y = (
        np.zeros((len(products), kernel + stride)),
        np.zeros((len(products), kernel)),
        np.zeros((len(products), 2)),
    )
    for row, (some, n) in enumerate(products):
        of_x, of_w, of_y = _FILTERS[len(some)]
        x[row, [*some, some[-1] + stride]] = of_x[n]
        w[row, list(some)] = of_w[n]
        y[row] = of_y[n]
    return x, w, y


def conv(x: jax.Array, w: jax.Array, strides: Pair, padding: Sequence[Pair]) -> jax.Array:
    """`[B, H, W, C]`, `[kh, kw, C, N]` -> `[B, ceil(H/s), ceil(W/s), N]`."""
    rows = -(-x.shape[1] // strides[0])
    u = _unfold(_of_inputs(x, w.shape[0], strides[0], padding[0][0]), w.shape[1], strides[1], padding[1])
    products = _dot(u, _of_taps(w, strides[0]), (4, 5), (1, 2))
    y = [_sum(products, column) for column in matrices(w.shape[0], strides[0])[2].T]
    return _interleave(y)[:, :rows]


def input_gradient(y: jax.Array, w: jax.Array, size: Pair, strides: Pair, padding: Sequence[Pair]) -> jax.Array:
    """`[B, ceil(H/s), ceil(W/s), N]`, `[kh, kw, C, N]` -> `[B, H, W, C]`."""
    products = lax.optimization_barrier(
        _dot(_of_outputs(y, w.shape[0], strides[0]), _of_taps(w, strides[0]), (4,), (3,))
    )
    sums = lax.optimization_barrier(_fold(products, size[1], strides[1], padding[1][0]))
    (kernel, _), stride, low = w.shape[:2], strides[0], padding[0][0]
    tiles, x = 2 * stride, matrices(kernel, stride)[0]
    count = -(-size[0] // tiles)

    def row(r: int) -> jax.Array:
        met = [(n, p) for n, p in zip(*np.nonzero(x), strict=True) if (r + low - p) % tiles == 0]
        parts = [_shift(sums[n], 1, (r + low - p) // tiles, count) for n, p in met]
        return _sum(parts, [x[n, p] for n, p in met])

    return _interleave([row(r) for r in range(tiles)])[:, : size[0]]


def kernel_gradient(x: jax.Array, y: jax.Array, size: Pair, strides: Pair, padding: Sequence[Pair]) -> jax.Array:
    """`[B, H, W, C]`, `[B, ceil(H/s), ceil(W/s), N]` -> `[kh, kw, C, N]`."""
    u = _unfold(_of_inputs(x, size[0], strides[0], padding[0][0]), size[1], strides[1], padding[1])
    products = _dot(u, _of_outputs(y, size[0], strides[0]), (1, 2, 3), (1, 2, 3))
    return jnp.stack([_sum(products, column) for column in matrices(size[0], strides[0])[1].T])


def _of_inputs(x: jax.Array, kernel: int, stride: int, low: int) -> jax.Array:
    """Xx for every two output rows: `[n, B, tiles, W, C]`."""
    tiles = -(-x.shape[1] // (2 * stride))
    reach = 2 * stride * (tiles - 1) + 1
    x = lax.optimization_barrier(_pad(x, 1, low, reach + kernel + stride - 1 - low - x.shape[1]))
    rows = [lax.slice_in_dim(x, p, p + reach, 2 * stride, 1) for p in range(kernel + stride)]
    return lax.optimization_barrier(jnp.stack([_sum(rows, row) for row in matrices(kernel, stride)[0]]))


def _of_taps(w: jax.Array, stride: int) -> jax.Array:
    """Ww: `[n, kw, C, N]`."""
    return jnp.stack([_sum(w, row) for row in matrices(w.shape[0], stride)[1]])


def _of_outputs(y: jax.Array, kernel: int, stride: int) -> jax.Array:
    """Yy for every two rows: `[n, B, tiles, W, N]`."""
    y = _pad(y, 1, 0, y.shape[1] % 2)
    rows = [y[:, 0::2], y[:, 1::2]]
    return lax.optimization_barrier(jnp.stack([_sum(rows, row) for row in matrices(kernel, stride)[2]]))


def _unfold(x: jax.Array, kernel: int, stride: int, padding: Pair) -> jax.Array:
    """The columns that each output sees: `[n, B, tiles, W, C] -> [n, B, tiles, ceil(W/s), kw, C]`."""
    x = lax.optimization_barrier(_pad(x, 3, *padding))
    columns = np.arange(0, x.shape[3] - kernel + 1, stride)[:, None] + np.arange(kernel)
    # A gather compiles many times faster than a stack of slices, and runs no slower.
    return lax.optimization_barrier(jnp.take(x, columns, axis=3, mode="clip"))


def _fold(p: jax.Array, size: int, stride: int, low: int) -> jax.Array:
    """The transpose of `_unfold`: `[n, B, tiles, ceil(W/s), kw, C] -> [n, B, tiles, W, C]`."""
    kernel, count = p.shape[4], p.shape[3]

    def column(c: int) -> jax.Array:
        met = [i for i in range(kernel) if (c + low - i) % stride == 0]
        return sum((_shift(p[..., i, :], 3, (c + low - i) // stride, count) for i in met), jnp.zeros((), p.dtype))

    columns = jnp.stack([jnp.broadcast_to(column(c), p[..., 0, :].shape) for c in range(stride)], 4)
    return columns.reshape(*p.shape[:3], -1, p.shape[-1])[:, :, :, :size]


def _dot(a: jax.Array, b: jax.Array, axes_a: Sequence[int], axes_b: Sequence[int]) -> jax.Array:
    """The product over some adjacent axes for each index of the first; the others of `a`, then those of `b`, stay."""

    def merged(x: jax.Array, axes: Sequence[int]) -> tuple[jax.Array, int, tuple[int, ...]]:
        # As matrices: with more axes XLA copies the array into another order first.
        summed = math.prod(x.shape[axis] for axis in axes)
        left = tuple(n for axis, n in enumerate(x.shape) if axis and axis not in axes)
        first = axes[0] == 1
        return x.reshape(x.shape[0], *((summed, -1) if first else (-1, summed))), 1 if first else 2, left

    a, axis_a, left_a = merged(a, axes_a)
    b, axis_b, left_b = merged(b, axes_b)
    p = lax.dot_general(a, b, (((axis_a,), (axis_b,)), ((0,), (0,))))
    return p.reshape(p.shape[0], *left_a, *left_b)


def _sum(parts: Sequence[jax.Array] | jax.Array, weights: Sequence[float]) -> jax.Array:
    """The weighted sum, without the parts of weight 0."""
    terms = [part if abs(v) == 1 else abs(v) * part for part, v in zip(parts, weights, strict=True) if v]
    signs = [v < 0 for v in weights if v]
    total = -terms[0] if signs[0] else terms[0]
    for term, negative in zip(terms[1:], signs[1:], strict=True):
        total = total - term if negative else total + term
    return total


def _interleave(rows: Sequence[jax.Array]) -> jax.Array:
    """Arrays `[B, tiles, ...]`, k of them, as `[B, k · tiles, ...]`, in turn."""
    x = jnp.stack(rows, 2)
    return x.reshape(x.shape[0], -1, *x.shape[3:])


def _pad(x: jax.Array, axis: int, before: int, after: int) -> jax.Array:
    """Zeros around an axis; negative numbers crop."""
    edges = [(before, after, 0) if a == axis else (0, 0, 0) for a in range(x.ndim)]
    return lax.pad(x, jnp.zeros((), x.dtype), edges)


def _shift(x: jax.Array, axis: int, by: int, count: int) -> jax.Array:
    """`x[by : by + count]` along an axis, zeros where x has nothing."""
    return _pad(x, axis, -by, by + count - x.shape[axis])
