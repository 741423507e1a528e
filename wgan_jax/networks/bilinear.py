"""JAX primitives for functions that are linear in each of two arrays.

A function with a `custom_vjp` can be differentiated backwards only. A bilinear primitive whose gradients by both
operands are given is differentiated in both directions, in any order and as often as one likes: forwards, `f(a, b)`
moves by `f(da, b) + f(a, db)`; backwards, the gradients are bilinear functions again.
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
"""`(a, b, **params) -> result`; all three have four axes."""


def primitive(name: str, default: Form, cpu: Form, *, batch: bool) -> Primitive:
    """Returns a primitive that computes `default(a, b, **params)`, and `cpu(a, b, **params)` on the CPU.

    Its operands and its result may have further axes in front, the same ones: `vmap` adds them. Its parameter
    `precision`, a name that `jax.default_matmul_precision` takes or None, holds for the products of both forms.

    Args:
      name: of the operation in a jaxpr.
      default: the function, on every platform but the CPU.
      cpu: the same function, in a form that is faster on the CPU.
      batch: whether the first axis of `a` and of the result is a batch of independent examples. `vmap` over `a` alone
        then only makes that batch larger.
    """
    result = Primitive(name)
    default, cpu = _over_leading_axes(default), _over_leading_axes(cpu)
    traced = jax.jit(default, static_argnames=("strides", "size", "precision"))
    result.def_impl(functools.partial(xla.apply_primitive, result))
    result.def_abstract_eval(lambda a, b, **params: traced.trace(a, b, **params).jaxpr.out_avals[0])
    mlir.register_lowering(result, mlir.lower_fun(default, multiple_results=False))
    mlir.register_lowering(result, mlir.lower_fun(cpu, multiple_results=False), platform="cpu")
    batching.primitive_batchers[result] = functools.partial(_batched, result, batch)
    return result


def define_gradients(of: Primitive, first: Form, second: Form) -> None:
    """Sets the gradients of a primitive's result by each operand.

    Args:
      of: a primitive that `primitive` made.
      first: `(y, a, b, **params) -> gradient by a`, for the result's cotangent `y`; of `a` only `a.aval` is known.
      second: the same by `b`, of which only `b.aval` is known.
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
    """Applies `vmap` to a primitive; returns the result and its mapped axis."""
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
