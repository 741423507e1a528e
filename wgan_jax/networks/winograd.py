"""Convolutions with fewer multiplications, for the CPU (Winograd 1980; Lavin and Gray 2015, arXiv 1509.09308).

A filter with three taps computes `y_q = Σ_i x_{q+i} w_i`. Four neighbouring outputs take twelve products if they are
computed one by one, but six are enough. With two taps five are enough instead of eight. To see this, write
`Σ_q y_q Σ_i x_{q+i} w_i`, which is linear in x, w and y, as `Σ_n (Xx)_n (Ww)_n (Yy)_n` with small matrices X, W and Y.
The filter, its input gradient and its kernel gradient are the partial gradients of this sum, so each of the three takes
as few products.

Here the filter runs over the rows of an image: it adds whole rows, whose numbers are adjacent in memory. Each product
is a matrix product over columns and channels. A 5×5 kernel of stride 2 needs 0.55 of the multiplications, a 3×3 kernel
of stride 1 half of them, and a 4×4 kernel of stride 2 five eighths. A tile is four rows of outputs, or two where this
takes fewer products, as for images with two rows of outputs or one. Rounding errors are about 2e-6 of the largest
result, about as large as in a plain convolution.

The functions `conv`, `input_gradient` and `kernel_gradient` compute the same as those of
`wgan_jax.networks.convolution`, for float32.
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
"""Points where the polynomials are evaluated and multiplied, chosen for small rounding errors.

One more point, infinity, is always used in addition.
"""


class Form(NamedTuple):
    """Matrices X, W and Y of a strided filter for one tile, with one row for each of the n products."""

    x: np.ndarray
    """Matrix X for the inputs of a tile, `[n, kernel + (outputs − 1) · stride]`."""
    w: np.ndarray
    """Matrix W for the taps of the kernel, `[n, kernel]`."""
    y: np.ndarray
    """Matrix Y for the outputs of a tile, `[n, outputs]`."""


def _filter(taps: int, outputs: int) -> Form:
    """Returns the matrices of a filter of stride 1.

    Read w and y as coefficients of polynomials. Then `Σ_q y_q Σ_i x_{q+i} w_i = Σ_k x_k c_k`, where c are the
    coefficients of the product `c(z) = w(z) y(z)`. Lagrange's interpolation computes them from the values of c at some
    points and from its highest coefficient.
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
    """Returns the matrices of a filter of any stride and size.

    The taps of each phase of the stride form filters of stride 1, with at most three taps each.
    """
    taps = [range(phase, kernel, stride)[i : i + 3] for phase in range(stride) for i in range(0, kernel, 3)]

    def part(some: range) -> Form:
        of = _filter(len(some), outputs)
        x, w = np.zeros((len(of.x), kernel + (outputs - 1) * stride)), np.zeros((len(of.x), kernel))
        x[:, some[0] : some[-1] + (outputs - 1) * stride + 1 : stride] = of.x
        w[:, some] = of.w
        return Form(x, w, of.y)

    return Form(*map(np.concatenate, zip(*(part(some) for some in taps if some), strict=True)))


def _fewest(kernel: int, stride: int, rows: int) -> Form:
    """Returns the matrices that need the fewest products for `rows` rows of outputs."""
    forms = (matrices(kernel, stride, outputs) for outputs in (4, 2))
    return min(forms, key=lambda form: -(-rows // form.y.shape[1]) * len(form.y))


def conv(x: jax.Array, w: jax.Array, strides: Pair, padding: Sequence[Pair]) -> jax.Array:
    """Returns the convolution of `x [B, H, W, C]` with the kernel `w [kh, kw, C, N]`: `[B, ceil(H/s), ceil(W/s), N]`.

    `padding` contains the number of zeros before and after the rows, and before and after the columns.
    """
    rows = -(-x.shape[1] // strides[0])
    form = _fewest(w.shape[0], strides[0], rows)
    products = _dot(_of_inputs(x, form, w.shape[1], strides, padding), _apply(form.w, w), (4, 5), (1, 2))
    y = jnp.moveaxis(_apply(form.y.T, products), 0, 2)
    return y.reshape(y.shape[0], -1, *y.shape[3:])[:, :rows]


def input_gradient(y: jax.Array, w: jax.Array, size: Pair, strides: Pair, padding: Sequence[Pair]) -> jax.Array:
    """Returns the gradient of `conv` with respect to its input: `[B, ceil(H/s), ceil(W/s), N]` -> `[B, H, W, C]`.

    `w [kh, kw, C, N]` is the kernel and `size` is `(H, W)`.
    """
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
    """Returns the gradient of `conv` with respect to its kernel, `[kh, kw, C, N]`.

    `x [B, H, W, C]` is the input of `conv`, `y [B, ceil(H/s), ceil(W/s), N]` is the cotangent of its output, and `size`
    is `(kh, kw)`.
    """
    form = _fewest(size[0], strides[0], y.shape[1])
    products = _dot(_of_inputs(x, form, size[1], strides, padding), _of_outputs(y, form), (1, 2, 3), (1, 2, 3))
    return _apply(form.w.T, products)


def _of_inputs(x: jax.Array, form: Form, kernel: int, strides: Pair, padding: Sequence[Pair]) -> jax.Array:
    """Computes Xx for every tile of rows and gathers the columns that each output sees.

    The result is `[n, B, tiles, ceil(W/s), kw, C]`.
    """
    reach, step, (low, _) = form.x.shape[1], form.y.shape[1] * strides[0], padding[0]
    tiles = -(-x.shape[1] // step)
    x = pad(x, {1: (low, step * (tiles - 1) + reach - low - x.shape[1]), 2: padding[1]})
    ends = x.shape[2:]
    rows = windows(x.reshape(*x.shape[:2], -1), 1, reach, step)
    # One small matrix product for each image and tile, so that only adjacent numbers are copied.
    of_x = jnp.broadcast_to(form.x.astype(x.dtype), (*rows.shape[:2], *form.x.shape))
    sums = lax.dot_general(of_x, rows, (((3,), (2,)), ((0, 1), (0, 1))))
    columns = windows(sums.reshape(*sums.shape[:3], *ends), 3, kernel, strides[1])
    return lax.optimization_barrier(jnp.moveaxis(columns, 2, 0))


def windows(x: jax.Array, axis: int, window: int, step: int) -> jax.Array:
    """Returns all windows along an axis. Two axes replace it: the number of the window and the place in it."""
    index = np.arange(0, x.shape[axis] - window + 1, step)[:, None] + np.arange(window)
    # A gather compiles many times faster than a stack of slices, and is as fast to run.
    return lax.optimization_barrier(jnp.take(lax.optimization_barrier(x), index, axis=axis, mode="clip"))


def _of_outputs(y: jax.Array, form: Form) -> jax.Array:
    """Computes Yy for every tile of rows: `[n, B, tiles, W, N]`."""
    outputs = form.y.shape[1]
    y = pad(y, {1: (0, -y.shape[1] % outputs)})
    y = jnp.moveaxis(y.reshape(y.shape[0], -1, outputs, *y.shape[2:]), 2, 0)
    return _apply(form.y, lax.optimization_barrier(y))


def _apply(matrix: np.ndarray, x: jax.Array) -> jax.Array:
    """Multiplies an array by a matrix along its first axis.

    A small matrix product compiles many times faster than sums that are written out.
    """
    return lax.dot(matrix.astype(x.dtype), x.reshape(len(x), -1)).reshape(-1, *x.shape[1:])


def _fold(p: jax.Array, size: int, stride: int, low: int) -> jax.Array:
    """Adds all contributions to each column: `[n, B, tiles, ceil(W/s), kw, C] -> [n, B, tiles, W, C]`."""
    kernel, count = p.shape[4], p.shape[3]

    def column(c: int) -> jax.Array:
        met = [i for i in range(kernel) if (c + low - i) % stride == 0]
        return sum((_shift(p[..., i, :], 3, (c + low - i) // stride, count) for i in met), jnp.zeros((), p.dtype))

    columns = jnp.stack([jnp.broadcast_to(column(c), p[..., 0, :].shape) for c in range(stride)], 4)
    return columns.reshape(*p.shape[:3], -1, p.shape[-1])[:, :, :, :size]


def _dot(a: jax.Array, b: jax.Array, axes_a: Sequence[int], axes_b: Sequence[int]) -> jax.Array:
    """Returns matrix products of `a` and `b`, one for each index of their first axis.

    It sums over `axes_a` of `a` and `axes_b` of `b`, which must be adjacent. The result has the first axis, then the
    remaining axes of `a`, then the remaining axes of `b`.
    """

    def merged(x: jax.Array, axes: Sequence[int]) -> tuple[jax.Array, int, tuple[int, ...]]:
        # As matrices, because XLA first copies an array of more axes into another order.
        summed = math.prod(x.shape[axis] for axis in axes)
        left = tuple(n for axis, n in enumerate(x.shape) if axis and axis not in axes)
        first = axes[0] == 1
        return x.reshape(x.shape[0], *((summed, -1) if first else (-1, summed))), 1 if first else 2, left

    a, axis_a, left_a = merged(a, axes_a)
    b, axis_b, left_b = merged(b, axes_b)
    p = lax.dot_general(a, b, (((axis_a,), (axis_b,)), ((0,), (0,))))
    return p.reshape(p.shape[0], *left_a, *left_b)


def pad(x: jax.Array, edges: dict[int, Pair]) -> jax.Array:
    """Adds zeros before and after the given axes. Negative numbers crop."""
    return lax.pad(x, jnp.zeros((), x.dtype), [(*edges.get(a, (0, 0)), 0) for a in range(x.ndim)])


def _shift(x: jax.Array, axis: int, by: int, count: int) -> jax.Array:
    """Returns `x[by : by + count]` along an axis, with zeros for indices outside of x."""
    return pad(x, {axis: (-by, by + count - x.shape[axis])})
