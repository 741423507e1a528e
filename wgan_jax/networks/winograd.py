"""Convolutions with fewer multiplications, for the CPU (Winograd 1980; Lavin and Gray 2015, arXiv 1509.09308).

Four neighbouring outputs of a filter with three taps, `y_q = Σ_i x_{q+i} w_i`, take six products instead of twelve,
with two taps five instead of eight. The form `Σ_q y_q Σ_i x_{q+i} w_i` is then `Σ_n (Xx)_n (Ww)_n (Yy)_n` with small
matrices X, W and Y, and so its partial gradients, the input gradient and the kernel gradient, take as few. Here it
runs along the rows of images, whose sums are over adjacent memory; each product is a matrix product over columns and
channels. A 5×5 kernel of stride 2 needs 0.55 of the multiplications, a 3×3 kernel of stride 1 half, a 4×4 kernel of
stride 2 five eighths; where there are two rows of outputs or less, two are taken together. Rounding errors are some
2e-6 of the largest result, about those of a plain convolution.

The three functions are those of `wgan_jax.networks.convolution`, for float32.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Pair = tuple[int, int]

POINTS = np.array([0, 1, -1, 2, -1 / 2])
"""Where polynomials are multiplied; with them rounding errors are small. The last point is infinity."""


class Form(NamedTuple):
    """Of a strided filter's tile, one row for each product."""

    x: np.ndarray
    """`[n, kernel + (outputs − 1) · stride]`."""
    w: np.ndarray
    """`[n, kernel]`."""
    y: np.ndarray
    """`[n, outputs]`."""


def _filter(taps: int, outputs: int) -> Form:
    """The form of a filter of stride 1.

    `Σ_q y_q Σ_i x_{q+i} w_i` is `Σ_k x_k c_k`, where `c(z) = w(z) y(z)`. Lagrange has c's coefficients from its values
    at some points, and from its highest one.
    """
    if taps == 1:
        return Form(np.eye(outputs), np.ones((outputs, 1)), np.eye(outputs))
    points = POINTS[: taps + outputs - 2]
    others = [points[points != point] for point in points]
    x = [[*np.poly(some)[::-1], 0] for some in others] + [np.poly(points)[::-1]]
    w = [p ** np.arange(taps) / np.prod(p - some) for p, some in zip(points, others, strict=True)]
    y = [p ** np.arange(outputs) for p in points]
    return Form(np.array(x), np.array([*w, np.eye(taps)[-1]]), np.array([*y, np.eye(outputs)[-1]]))


@functools.cache
def matrices(kernel: int, stride: int, outputs: int) -> Form:
    """The form of a filter, each phase of the stride with its taps apart."""
    taps = [range(phase, kernel, stride)[i : i + 3] for phase in range(stride) for i in range(0, kernel, 3)]

    def part(some: range) -> Form:
        of = _filter(len(some), outputs)
        x, w = np.zeros((len(of.x), kernel + (outputs - 1) * stride)), np.zeros((len(of.x), kernel))
        x[:, some[0] : some[-1] + (outputs - 1) * stride + 1 : stride] = of.x
        w[:, some] = of.w
        return Form(x, w, of.y)

    return Form(*map(np.concatenate, zip(*(part(some) for some in taps if some), strict=True)))


def _fewest(kernel: int, stride: int, rows: int) -> Form:
    """The form that takes the fewest products for so many rows of outputs."""
    forms = (matrices(kernel, stride, outputs) for outputs in (4, 2))
    return min(forms, key=lambda form: -(-rows // form.y.shape[1]) * len(form.y))


def conv(x: jax.Array, w: jax.Array, strides: Pair, padding: Sequence[Pair]) -> jax.Array:
    """`[B, H, W, C]`, `[kh, kw, C, N]` -> `[B, ceil(H/s), ceil(W/s), N]`."""
    rows = -(-x.shape[1] // strides[0])
    form = _fewest(w.shape[0], strides[0], rows)
    products = _dot(_of_inputs(x, form, w.shape[1], strides, padding), _apply(form.w, w), (4, 5), (1, 2))
    y = jnp.moveaxis(_apply(form.y.T, products), 0, 2)
    return y.reshape(y.shape[0], -1, *y.shape[3:])[:, :rows]


def input_gradient(y: jax.Array, w: jax.Array, size: Pair, strides: Pair, padding: Sequence[Pair]) -> jax.Array:
    """`[B, ceil(H/s), ceil(W/s), N]`, `[kh, kw, C, N]` -> `[B, H, W, C]`."""
    form = _fewest(w.shape[0], strides[0], y.shape[1])
    products = lax.optimization_barrier(_dot(_of_outputs(y, form), _apply(form.w, w), (4,), (3,)))
    sums = lax.optimization_barrier(_fold(products, size[1], strides[1], padding[1][0]))
    rows = lax.optimization_barrier(_apply(form.x.T, sums))  # [kh + (outputs - 1) * s, B, tiles, W, C]
    step, low = form.y.shape[1] * strides[0], padding[0][0]

    def part(first: int) -> jax.Array:
        some = jnp.moveaxis(rows[first : first + step], 0, 2)
        some = pad(some, {2: (0, step - some.shape[2])})
        return _shift(some.reshape(some.shape[0], -1, *some.shape[3:]), 1, low - first, size[0])

    return sum((part(first) for first in range(step, len(rows), step)), part(0))


def kernel_gradient(x: jax.Array, y: jax.Array, size: Pair, strides: Pair, padding: Sequence[Pair]) -> jax.Array:
    """`[B, H, W, C]`, `[B, ceil(H/s), ceil(W/s), N]` -> `[kh, kw, C, N]`."""
    form = _fewest(size[0], strides[0], y.shape[1])
    products = _dot(_of_inputs(x, form, size[1], strides, padding), _of_outputs(y, form), (1, 2, 3), (1, 2, 3))
    return _apply(form.w.T, products)


def _of_inputs(x: jax.Array, form: Form, kernel: int, strides: Pair, padding: Sequence[Pair]) -> jax.Array:
    """Xx for every tile of rows, of the columns that each output sees: `[n, B, tiles, ceil(W/s), kw, C]`."""
    reach, step, (low, _) = form.x.shape[1], form.y.shape[1] * strides[0], padding[0]
    tiles = -(-x.shape[1] // step)
    x = pad(x, {1: (low, step * (tiles - 1) + reach - low - x.shape[1]), 2: padding[1]})
    ends = x.shape[2:]
    rows = windows(x.reshape(*x.shape[:2], -1), 1, reach, step)
    # For each image and tile one small product, so that all copies are of adjacent numbers.
    of_x = jnp.broadcast_to(form.x.astype(x.dtype), (*rows.shape[:2], *form.x.shape))
    sums = lax.dot_general(of_x, rows, (((3,), (2,)), ((0, 1), (0, 1))))
    columns = windows(sums.reshape(*sums.shape[:3], *ends), 3, kernel, strides[1])
    return lax.optimization_barrier(jnp.moveaxis(columns, 2, 0))


def windows(x: jax.Array, axis: int, window: int, step: int) -> jax.Array:
    """The windows along an axis, on two axes: which one, and where in it."""
    index = np.arange(0, x.shape[axis] - window + 1, step)[:, None] + np.arange(window)
    # A gather compiles many times faster than a stack of slices, and runs no slower.
    return lax.optimization_barrier(jnp.take(lax.optimization_barrier(x), index, axis=axis, mode="clip"))


def _of_outputs(y: jax.Array, form: Form) -> jax.Array:
    """Yy for every tile of rows: `[n, B, tiles, W, N]`."""
    outputs = form.y.shape[1]
    y = pad(y, {1: (0, -y.shape[1] % outputs)})
    y = jnp.moveaxis(y.reshape(y.shape[0], -1, outputs, *y.shape[2:]), 2, 0)
    return _apply(form.y, lax.optimization_barrier(y))


def _apply(matrix: np.ndarray, x: jax.Array) -> jax.Array:
    """The matrix times an array along its first axis. A small product compiles many times faster than written sums."""
    return lax.dot(matrix.astype(x.dtype), x.reshape(len(x), -1)).reshape(-1, *x.shape[1:])


def _fold(p: jax.Array, size: int, stride: int, low: int) -> jax.Array:
    """The sum over what met each column: `[n, B, tiles, ceil(W/s), kw, C] -> [n, B, tiles, W, C]`."""
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


def pad(x: jax.Array, edges: dict[int, Pair]) -> jax.Array:
    """Zeros before and after along the given axes; negative numbers crop."""
    return lax.pad(x, jnp.zeros((), x.dtype), [(*edges.get(a, (0, 0)), 0) for a in range(x.ndim)])


def _shift(x: jax.Array, axis: int, by: int, count: int) -> jax.Array:
    """`x[by : by + count]` along an axis, zeros where x has nothing."""
    return pad(x, {axis: (-by, by + count - x.shape[axis])})
