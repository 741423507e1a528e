"""Convolutions of pretrained networks, whose batch norms are folded into kernels and biases.

At inference a batch norm is `(x − mean) · scale / √(var + ε) + bias`. It follows a convolution without a bias, so the
two are one convolution with a bias.
"""

import functools
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import lax

EPSILON = 1e-3
"""The ε of batch norm in networks that come from TensorFlow."""

OIHW, HWIO = (3, 2, 0, 1), (2, 3, 1, 0)
"""Axes that turn a kernel of ours into one of PyTorch, and back."""
NORM = ("weight", "bias", "running_mean", "running_var")
"""Names of a batch norm's tensors."""

Pair = tuple[int, int]
Path = tuple[str, ...]
Names = Callable[[Path], tuple[str, str]]
"""`path -> (name of the convolution, name of its batch norm)`: how a file calls a module at some path."""


class Conv(nn.Module):
    """A convolution with a bias: images `[B, H, W, C]` become `[B, H', W', features]`."""

    features: int
    kernel_size: Pair = (1, 1)
    strides: int = 1
    padding: str = "SAME"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel, bias = _parameters(self, (*self.kernel_size, x.shape[-1], self.features))
        strides, layout = (self.strides, self.strides), ("NHWC", "HWIO", "NHWC")
        padding = lax.padtype_to_pads(x.shape[1:3], self.kernel_size, strides, self.padding)
        width = (sum(padding[1]) + x.shape[2] - self.kernel_size[1]) // self.strides + 1
        if self.kernel_size != (1, 1) and padding[1] == (0, 0):
            # One more column of zeros, whose results are cut off. Without padding XLA's convolution takes four times
            # as long on the CPU.
            padding = [padding[0], (0, self.strides)]
        x = lax.conv_general_dilated(
            x, kernel, strides, padding, dimension_numbers=layout, precision=lax.Precision.HIGHEST
        )
        return bias + x[:, :, :width]


class DepthwiseConv(nn.Module):
    """A convolution of each channel by itself, with a bias: images `[B, H, W, C]` become `[B, H', W', C]`.

    It is a sum of shifted images, which XLA fuses into one loop. On the CPU this takes a twentieth of the time of
    XLA's convolution of groups.
    """

    kernel_size: Pair
    strides: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel, y = _parameters(self, (*self.kernel_size, 1, x.shape[-1]))
        strides = (1, self.strides, self.strides, 1)
        padding = lax.padtype_to_pads(x.shape[1:3], self.kernel_size, strides[1:3], "SAME")
        size = [-(-n // self.strides) for n in x.shape[1:3]]
        x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
        for i, j in itertools.product(*map(range, self.kernel_size)):
            end = (i + (size[0] - 1) * self.strides + 1, j + (size[1] - 1) * self.strides + 1)
            y += lax.slice(x, (0, i, j, 0), (x.shape[0], *end, x.shape[3]), strides) * kernel[i, j, 0]
        return y


class Head(nn.Module):
    """The last layer: features `[B, D]` become logits `[B, classes]`, with and without a bias."""

    classes: int

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        kernel, bias = _parameters(self, (x.shape[-1], self.classes))
        products = jnp.matmul(x, kernel, precision=lax.Precision.HIGHEST)
        return products + bias, products


def _parameters(module: nn.Module, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """Returns a kernel of this shape and a bias. Both come from a file, so their initial values are zeros."""
    zeros = nn.initializers.zeros
    return module.param("kernel", zeros, shape), module.param("bias", zeros, shape[-1:])


def shapes(network: nn.Module, size: int, names: Names) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of a network's tensors in a file of PyTorch, by name.

    Kernels are `[out, in, kh, kw]`, and the weights of the last layer `[out, in]`.

    Args:
      network: its modules with parameters are `Conv` and `Head`.
      size: height and width of its input.
      names: how the file calls the convolutions and their batch norms, and the last layer twice.
    """
    found: dict[str, tuple[int, ...]] = {}
    for path, shape in _kernels(network, size).items():
        name, norm = names(path)
        is_conv = len(shape) == 4
        found[f"{name}.weight"] = tuple(shape[i] for i in (OIHW if is_conv else (1, 0)))
        found |= {f"{norm}.{each}": shape[-1:] for each in (NORM if is_conv else ("bias",))}
    return found


def variables(tensors: Mapping[str, np.ndarray], network: nn.Module, size: int, names: Names) -> dict[str, Any]:
    """Returns the variables of a network from the tensors of a file, with every batch norm folded in.

    Args:
      tensors: arrays by PyTorch's names.
      network: see `shapes`.
      size: see `shapes`.
      names: see `shapes`.

    Raises:
      ValueError: if the tensors are not this network's. It names the first difference.
    """
    check(tensors, shapes(network, size, names))
    params: dict[Path, np.ndarray] = {}
    for path, shape in _kernels(network, size).items():
        name, norm = names(path)
        kernel, bias = (np.asarray(tensors[key], np.float64) for key in (f"{name}.weight", f"{norm}.bias"))
        if len(shape) == 4:
            scale, _, mean, var = (np.asarray(tensors[f"{norm}.{each}"], np.float64) for each in NORM)
            scale = scale / np.sqrt(var + EPSILON)
            kernel, bias = kernel.transpose(HWIO) * scale, bias - mean * scale
        else:
            kernel = kernel.T
        params[*path, "kernel"], params[*path, "bias"] = kernel.astype(np.float32), bias.astype(np.float32)
    if not all(np.isfinite(x).all() for x in params.values()):
        raise ValueError("some of its numbers are not finite")
    return {"params": unflatten_dict(params)}


@functools.cache
def _kernels(network: nn.Module, size: int) -> dict[Path, tuple[int, ...]]:
    """Returns the shapes of a network's kernels by the paths of their modules."""
    images = jax.ShapeDtypeStruct((1, size, size, 3), np.float32)
    params = jax.eval_shape(network.init, jax.random.key(0), images)["params"]
    return {path[:-1]: x.shape for path, x in flatten_dict(params).items() if path[-1] == "kernel"}


def check(tensors: Mapping[str, np.ndarray], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raises a `ValueError` that names the first tensor that is missing, of another shape or not expected."""
    for name, shape in expected.items():
        if name not in tensors:
            raise ValueError(f"it has no {name} {list(shape)}")
        if tensors[name].shape != tuple(shape) or tensors[name].dtype.kind != "f":
            found = tensors[name]
            raise ValueError(f"its {name} is {found.dtype} {list(found.shape)}, not float {list(shape)}")
    for name in tensors:
        if name not in expected and not name.endswith(".num_batches_tracked"):
            raise ValueError(f"it has {name[:80]!a}, which the network does not")
