"""Strided convolutions that are fast on every backend, and whose derivatives of any order are fast too.

The number `⟨conv(x, w), y⟩` is linear in each of `x`, `w` and `y`. Its three partial gradients are the convolution, the
input gradient `(y, w) → x`, which is also the transposed convolution, and the kernel gradient `(x, y) → w`. Each of the
three is a JAX primitive, and its derivatives are expressed through the other two. A derivative of any order, in forward
mode, in reverse mode or in a mixture of them, therefore consists of these three operations. The second derivative that
the gradient penalty needs is an example.

On a TPU the three are XLA's own convolutions. On the CPU each of them has a special form, because XLA computes
convolutions with an unusual layout in a naive loop there, which is many times slower. The convolutions in derivatives
have such layouts. On a GPU they have a special form for small images and few channels, where XLA does not find the fast
kernels of cuDNN.

Images have the shape `[B, H, W, C]` and kernels `[kernel height, kernel width, C, features]`. The padding is SAME: an
image of height H becomes an image of height `ceil(H / stride)`.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from flax.typing import Dtype, Initializer
from jax import lax

from wgan_jax.networks import bilinear, winograd

Pair = tuple[int, int]


def conv(x: jax.Array, w: jax.Array, strides: Pair = (1, 1)) -> jax.Array:
    """Returns the convolution of `x [B, H, W, C]` with the kernel `w [kh, kw, C, N]`: `[B, ceil(H/s), ceil(W/s), N]`.

    Both operands have the same dtype. Products of bfloat16 numbers are summed in float32, and the result is rounded to
    bfloat16.
    """
    return _conv.bind(x, w, strides=strides, precision=_precision())


def input_gradient(y: jax.Array, w: jax.Array, size: Pair, strides: Pair = (1, 1)) -> jax.Array:
    """Returns the transposed convolution of `y` with the kernel `w`: `[B, H, W, C]`.

    Args:
      y: array of the shape that `conv` returns for an image of the given size, `[B, ceil(H/s), ceil(W/s), N]`.
      w: kernel `[kh, kw, C, N]` of the same dtype.
      size: height and width `(H, W)` of the result.
      strides: strides of the convolution.
    """
    return _input_gradient.bind(y, w, size=size, strides=strides, precision=_precision())


def kernel_gradient(x: jax.Array, y: jax.Array, kernel_size: Pair, strides: Pair = (1, 1)) -> jax.Array:
    """Returns the gradient with respect to the kernel, `[kh, kw, C, N]`.

    Args:
      x: input of the convolution, `[B, H, W, C]`.
      y: cotangent of its output, `[B, ceil(H/s), ceil(W/s), N]`, of the same dtype.
      kernel_size: height and width `(kh, kw)` of the kernel.
      strides: strides of the convolution.
    """
    return _kernel_gradient.bind(x, y, size=kernel_size, strides=strides, precision=_precision())


def _precision() -> str | None:
    """Returns JAX's current setting of the precision of matrix products, or None.

    The primitives store the setting when a convolution is traced. They are lowered later, and the setting may have
    changed by then.
    """
    return jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]


def _same(size: Sequence[int], kernel: Sequence[int], strides: Pair) -> list[Pair]:
    """Returns the number of zeros that SAME padding adds before and after each axis."""
    totals = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(size, kernel, strides, strict=True)]
    return [(total // 2, total - total // 2) for total in totals]


def _conv_xla(x: jax.Array, w: jax.Array, strides: Pair, padding: list[Pair] | None = None) -> jax.Array:
    padding = padding or _same(x.shape[1:3], w.shape[:2], strides)
    return lax.conv_general_dilated(x, w, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _input_gradient_xla(y: jax.Array, w: jax.Array, size: Pair, strides: Pair) -> jax.Array:
    x = jax.ShapeDtypeStruct((y.shape[0], *size, w.shape[2]), y.dtype)
    return jax.linear_transpose(lambda x: _conv_xla(x, w, strides), x)(y)[0]


def _kernel_gradient_xla(x: jax.Array, y: jax.Array, size: Pair, strides: Pair) -> jax.Array:
    w = jax.ShapeDtypeStruct((*size, x.shape[-1], y.shape[-1]), x.dtype)
    return jax.linear_transpose(lambda w: _conv_xla(x, w, strides), w)(y)[0]


# The forms for the CPU: Winograd's, and plain ones for few channels (a critic's first layer, a generator's last).


def _fewer_products(kernel: Sequence[int], channels: int) -> bool:
    """Tells whether Winograd's form is the faster one. It is where the matrices are wide enough."""
    return kernel[0] > 1 and channels >= 8


def _phases(kernel: int, stride: int, low: int, rows: int) -> list[list[Pair]]:
    """Returns for each phase of the input rows the pairs `(i, d)` of a tap and an offset between rows.

    Input row r = s·m + phase, where s is the stride, contributes to output row m + d through tap i. This is the case
    where r + low − i = s·(m + d).
    """
    taps = [[(i, (phase + low - i) // stride) for i in range(kernel)] for phase in range(stride)]
    return [
        [(i, d) for i, d in pairs if (phase + low - i) % stride == 0 and abs(d) < rows]
        for phase, pairs in enumerate(taps)
    ]


def _dot(a: jax.Array, b: jax.Array, axes_a: Sequence[int], axes_b: Sequence[int]) -> jax.Array:
    # The axes are not merged into one, because a merged batch axis could not be sharded.
    return lax.dot_general(a, b, ((axes_a, axes_b), ((), ())))


def _conv_cpu(x: jax.Array, w: jax.Array, strides: Pair, padding: list[Pair] | None = None) -> jax.Array:
    (kh, kw), size = w.shape[:2], x.shape[1:3]
    padding = padding or _same(size, (kh, kw), strides)
    if _fewer_products(w.shape, x.shape[-1]):
        return winograd.conv(x, w, strides, padding)
    if kh > size[0] or kw > size[1]:  # XLA would swap the operands and not use its fast convolution
        x, padding = lax.optimization_barrier(winograd.pad(x, dict(enumerate(padding, 1)))), [(0, 0), (0, 0)]
    return _conv_xla(x, w, strides, padding)


def _input_gradient_cpu(y: jax.Array, w: jax.Array, size: Pair, strides: Pair) -> jax.Array:
    padding = _same(size, w.shape[:2], strides)
    if _fewer_products(w.shape, w.shape[2]):
        return winograd.input_gradient(y, w, size, strides, padding)
    if strides == (1, 1):
        return _conv_cpu(y, w[::-1, ::-1].swapaxes(2, 3), strides, [p[::-1] for p in padding])
    rows, columns = (
        _phases(k, s, low, n) for k, s, (low, _), n in zip(w.shape[:2], strides, padding, y.shape[1:3], strict=True)
    )
    p = _dot(y, w, (3,), (3,))  # [B, ceil(H/s), ceil(W/s), kh, kw, C]
    zeros = jnp.zeros(p.shape[:3] + p.shape[5:], p.dtype)

    def pixels(r: list[Pair], c: list[Pair]) -> jax.Array:
        return sum((winograd.pad(p[:, :, :, i, j], {1: (-d, d), 2: (-e, e)}) for i, d in r for j, e in c), zeros)

    x = jnp.stack([jnp.stack([pixels(r, c) for c in columns], 3) for r in rows], 2)
    x = x.reshape(x.shape[0], x.shape[1] * strides[0], -1, x.shape[-1])
    return x[:, : size[0], : size[1]]


def _kernel_gradient_cpu(x: jax.Array, y: jax.Array, size: Pair, strides: Pair) -> jax.Array:
    padding = _same(x.shape[1:3], size, strides)
    if _fewer_products(size, x.shape[-1]):
        return winograd.kernel_gradient(x, y, size, strides, padding)
    (kh, kw), (sh, sw) = size, strides
    columns = winograd.windows(winograd.pad(x, dict(enumerate(padding, 1))), 2, kw, sw)
    both = jnp.moveaxis(winograd.windows(columns, 1, kh, sh), 2, 3)  # [B, ceil(H/s), ceil(W/s), kh, kw, C]
    return _dot(lax.optimization_barrier(both), y, (0, 1, 2), (0, 1, 2))


# The GPU's forms. XLA finds cuDNN's gradients by the shapes of its own convolutions. Where an image is no larger than
# the kernel it takes one for the other, and multiplies by all the zeros between strided pixels: 8 times the work for
# 4×4 pixels and a 5×5 kernel. And in bfloat16, cuDNN is slow with channels that do not fill 16 bytes.


def _aligned(x: jax.Array, *axes: int, unit: int = 8) -> jax.Array:
    """Fills axes of channels up with zeros to a multiple of `unit`, in bfloat16."""
    if x.dtype.itemsize != 2:
        return x  # float32 is a little faster as it is
    return winograd.pad(x, {axis: (0, -x.shape[axis] % unit) for axis in axes})


def _in_phases(image: Sequence[int], kernel: Sequence[int], channels: int, strides: Pair) -> bool:
    """Tells whether the gradients of a strided convolution are faster by way of `_input_gradient_phases`."""
    small = any(n <= k for n, k in zip(image, kernel, strict=True))
    return strides != (1, 1) and (small or channels < 8)


def _input_gradient_phases(y: jax.Array, w: jax.Array, size: Pair, strides: Pair) -> jax.Array:
    """Computes each phase of the rows and columns by a convolution of stride 1, and interleaves them.

    Phase p of row m is `Σ_d y[m + d] w[p + low − s·d]` over the offsets d for which there is such a tap.
    """
    (sh, sw), channels = strides, w.shape[2]
    w = _aligned(w, 2, unit=max(1, 8 // (sh * sw)))
    kh, kw, wide, features = w.shape
    pads, offsets = {}, []
    for axis, (k, s, (low, _)) in enumerate(zip((kh, kw), strides, _same(size, (kh, kw), strides), strict=True)):
        first, last = -((k - 1 - low) // s), (s - 1 + low) // s
        taps = s * (last - first + 1)
        pads[axis] = (s * last - low, taps - k - (s * last - low))
        offsets.append((-first, last))
    w = winograd.pad(w, pads)
    w = w.reshape(-1, sh, w.shape[1] // sw, sw, wide, features)[::-1, :, ::-1]
    w = w.transpose(0, 2, 5, 1, 3, 4).reshape(w.shape[0], w.shape[2], features, sh * sw * wide)
    x = _conv_xla(y, w, (1, 1), offsets)
    x = x.reshape(*x.shape[:3], sh, sw, wide).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(x.shape[0], x.shape[1] * sh, -1, wide)
    return x[:, : size[0], : size[1], :channels]


def _conv_gpu(x: jax.Array, w: jax.Array, strides: Pair) -> jax.Array:
    return _conv_xla(_aligned(x, 3), _aligned(w, 2, 3), strides)[..., : w.shape[3]]


def _input_gradient_gpu(y: jax.Array, w: jax.Array, size: Pair, strides: Pair) -> jax.Array:
    if _in_phases(y.shape[1:3], w.shape[:2], w.shape[2], strides):
        return _input_gradient_phases(y, w, size, strides)
    return _input_gradient_xla(_aligned(y, 3), _aligned(w, 2, 3), size, strides)[..., : w.shape[2]]


def _kernel_gradient_gpu(x: jax.Array, y: jax.Array, size: Pair, strides: Pair) -> jax.Array:
    channels, features = x.shape[3], y.shape[3]
    if not _in_phases(y.shape[1:3], size, channels, strides):
        return _kernel_gradient_xla(_aligned(x, 3), _aligned(y, 3), size, strides)[:, :, :channels, :features]
    shape, (height, width) = jax.ShapeDtypeStruct((*size, channels, features), x.dtype), x.shape[1:3]
    return jax.linear_transpose(lambda w: _input_gradient_phases(y, w, (height, width), strides), shape)(x)[0]


def _in_float32(form: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    def rounded(a: jax.Array, b: jax.Array, **params: Any) -> jax.Array:
        # Few CPUs multiply bfloat16. In float32 the products are exact, and Winograd's forms need fewer of them.
        wide = (x.astype(jnp.promote_types(x.dtype, jnp.float32)) for x in (a, b))
        return form(*wide, **params).astype(a.dtype)

    return rounded


_conv = bilinear.primitive("conv", _conv_xla, _in_float32(_conv_cpu), _conv_gpu, batch=True)
_input_gradient = bilinear.primitive(
    "conv_input_gradient", _input_gradient_xla, _in_float32(_input_gradient_cpu), _input_gradient_gpu, batch=True
)
_kernel_gradient = bilinear.primitive(
    "conv_kernel_gradient",
    _kernel_gradient_xla,
    _in_float32(_kernel_gradient_cpu),
    _kernel_gradient_gpu,
    batch=False,
)

bilinear.define_gradients(
    _conv,
    lambda y, x, w, **params: _input_gradient.bind(y, w, size=x.aval.shape[-3:-1], **params),
    lambda y, x, w, **params: _kernel_gradient.bind(x, y, size=w.aval.shape[-4:-2], **params),
)
bilinear.define_gradients(
    _input_gradient,
    lambda x, y, w, size, **params: _conv.bind(x, w, **params),
    lambda x, y, w, size, **params: _kernel_gradient.bind(x, y, size=w.aval.shape[-4:-2], **params),
)
bilinear.define_gradients(
    _kernel_gradient,
    lambda w, x, y, size, **params: _input_gradient.bind(y, w, size=x.aval.shape[-3:-1], **params),
    lambda w, x, y, size, **params: _conv.bind(x, w, **params),
)


class Conv(nn.Module):
    """Convolution like `nn.Conv` with SAME padding: `[B, H, W, C] -> [B, ceil(H/s), ceil(W/s), features]`.

    Its parameters, of dtype `param_dtype`, are `kernel` `[kh, kw, C, features]` and `bias` `[features]`.
    """

    features: int
    kernel_size: Pair
    strides: Pair = (1, 1)
    use_bias: bool = True
    kernel_init: Initializer = nn.initializers.lecun_normal()
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (*self.kernel_size, x.shape[-1], self.features)
        x, kernel, bias = _parameters(self, x, shape)
        y = conv(x, kernel, self.strides)
        return y if bias is None else y + bias

    def products(self, given: Sequence[int], output: Sequence[int]) -> int:
        """Returns how many products one image takes, from its shapes `[H, W, C]` before and after."""
        return math.prod(output[:2]) * math.prod(self.kernel_size) * given[2] * output[2]


class ConvTranspose(nn.Module):
    """Transposed convolution with SAME padding: `[B, H, W, C] -> [B, s·H, s·W, features]`.

    It is like `nn.ConvTranspose(transpose_kernel=True)`. Its parameters, of dtype `param_dtype`, are `kernel`
    `[kh, kw, features, C]` and `bias` `[features]`.
    """

    features: int
    kernel_size: Pair
    strides: Pair = (1, 1)
    use_bias: bool = True
    kernel_init: Initializer = nn.initializers.lecun_normal(in_axis=-1, out_axis=-2)
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (*self.kernel_size, self.features, x.shape[-1])
        x, kernel, bias = _parameters(self, x, shape)
        size = (x.shape[1] * self.strides[0], x.shape[2] * self.strides[1])
        y = input_gradient(x, kernel, size, self.strides)
        return y if bias is None else y + bias

    def products(self, given: Sequence[int], output: Sequence[int]) -> int:
        """Returns how many products one image takes, from its shapes `[H, W, C]` before and after."""
        return math.prod(given[:2]) * math.prod(self.kernel_size) * given[2] * output[2]


def _parameters(
    module: Conv | ConvTranspose, x: jax.Array, shape: tuple[int, ...]
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    kernel = module.param("kernel", module.kernel_init, shape, module.param_dtype)
    bias = None
    if module.use_bias:
        zeros = nn.initializers.zeros_init()
        bias = module.param("bias", zeros, (module.features,), module.param_dtype)
    x, kernel, bias = promote_dtype(x, kernel, bias, dtype=module.dtype)
    return x, kernel, bias
