"""JAX primitives for functions that are linear in each of two arrays.

JAX can differentiate a function with a `custom_vjp` in reverse mode only. A bilinear primitive has no such limit: once
its gradients with respect to both operands are defined, JAX can differentiate it in both modes, in any order and any
number of times. In forward mode the derivative of `f(a, b)` is `f(da, b) + f(a, db)`. In reverse mode the gradients are
bilinear functions again.
"""

import functools
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir, xla

Form = Callable[..., jax.Array]
"""Function `(a, b, **params) -> result`. The operands and the result have four axes each."""


def primitive(name: str, default: Form, cpu: Form, gpu: Form, *, batch: bool) -> Primitive:
    """Returns a primitive that computes `default(a, b, **params)`, or the form for the CPU or for a GPU.

    The operands and the result may have additional leading axes, the same for all three. `vmap` adds them. The
    primitive's parameter `precision` applies to the matrix products of every form. It is a name that
    `jax.default_matmul_precision` accepts, or None.

    Args:
      name: name of the operation in a jaxpr.
      default: the function for every platform except the CPU and GPUs.
      cpu: the same function in a form that is faster on the CPU.
      gpu: the same function in a form that is faster on a GPU.
      batch: whether the first axis of `a` and of the result is a batch of independent examples. `vmap` over `a` alone
        then only makes this batch larger.
    """
    result = Primitive(name)
    default, cpu, gpu = (_over_leading_axes(form) for form in (default, cpu, gpu))
    traced = jax.jit(default, static_argnames=("strides", "size", "precision"))
    result.def_impl(functools.partial(xla.apply_primitive, result))
    result.def_abstract_eval(lambda a, b, **params: traced.trace(a, b, **params).jaxpr.out_avals[0])
    mlir.register_lowering(result, mlir.lower_fun(default, multiple_results=False))
    mlir.register_lowering(result, mlir.lower_fun(cpu, multiple_results=False), platform="cpu")
    mlir.register_lowering(result, mlir.lower_fun(gpu, multiple_results=False), platform="gpu")
    batching.primitive_batchers[result] = functools.partial(_batched, result, batch)
    return result


def define_gradients(of: Primitive, first: Form, second: Form) -> None:
    """Sets the gradients of a primitive with respect to each of its operands.

    Args:
      of: a primitive that `primitive` returned.
      first: function `(y, a, b, **params) -> gradient with respect to a`, where `y` is the cotangent of the result. It
        may use the shape and dtype of `a` (`a.aval`), but not its values.
      second: the same for `b`. It may use `b.aval`, but not the values of `b`.
    """
    ad.defbilinear(of, first, second)


def _over_leading_axes(form: Form) -> Form:
    def mapped(a: jax.Array, b: jax.Array, *, precision: str | None, **params: Any) -> jax.Array:
        function = functools.partial(form, **params)
        for _ in range(a.ndim - 4):
            function = jax.vmap(function)
        with nullcontext() if precision is None else jax.default_matmul_precision(precision):
            return function(a, b)

    return mapped


def _batched(
    of: Primitive,
    batch: bool,
    operands: tuple[jax.Array, jax.Array],
    axes: tuple[int | None, int | None],
    **params: Any,
) -> tuple[jax.Array, int]:
    """Applies a primitive under `vmap`. Returns the result and the position of its mapped axis."""
    (a, b), (axis_a, axis_b) = operands, axes
    if batch and axis_a is not None and axis_b is None:
        a = jnp.moveaxis(a, axis_a, -5)
        n, examples = a.shape[-5:-3]
        result = of.bind(a.reshape(*a.shape[:-5], n * examples, *a.shape[-3:]), b, **params)
        result = result.reshape(*result.shape[:-4], n, examples, *result.shape[-3:])
        return result, result.ndim - 5
    n = next(x.shape[axis] for x, axis in zip(operands, axes, strict=True) if axis is not None)
    front = (batching.bdim_at_front(x, axis, n) for x, axis in zip(operands, axes, strict=True))
    return of.bind(*front, **params), 0
