r"""Floating point operations that a generator iteration needs, by formulas over the shapes of the networks' layers.

Only matrix products and convolutions count. A multiplication and an addition are two operations. In a forward pass one
layer needs for one example:

    dense, in -> out                         2 · in · out
    convolution to h×w pixels                2 · h · w · kh · kw · C · N
    transposed convolution from h×w pixels   2 · h · w · kh · kw · C · N
    3×3 convolution and 2×2 mean pool, or nearest up-sampling and 3×3 convolution, with h×w small pixels
                                             2 · h · w · 16 · C · N

The gradient with respect to a layer's input costs the same amount again, and so does the gradient with respect to its
kernel. The first layers of a network are those whose input depends on no parameter. They need no gradient with respect
to their input, except where it is the result. Write C for a forward pass of the critic, G for one of the generator, and
C₁ and G₁ for the shares of their first layers.

A critic update of B examples costs

    B · (G + 2 · (3C − C₁) + penalty)

This is one forward pass of the generator, and a forward pass, input gradients and kernel gradients of the critic for
real and for fake examples. The gradient penalty takes a forward pass and the input gradients at the interpolates, C
each, and other penalties at their own points. Its derivative with respect to the kernels differentiates the input
gradient of each layer twice, once with respect to the gradient that came in and once with respect to the kernel: 2C.
This is all if the activations are piecewise linear. Curved ones (tanh, softplus, elu) and layer normalization also send
a derivative back through the forward pass, which costs 2C − C₁ more.

A constraint says itself at how many points for each example it takes the gradient, and how many further passes of
3C − C₁ it takes, as if these had nothing in common. A term that is there in every k-th update alone costs a k-th. The
power steps of spectral normalization, which do not grow with the batch, are left out.

The generator's update of M examples costs

    M · (3G − G₁ + 2C)
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Literal

from wgan_jax.method import priors
from wgan_jax.method.condition import UNCONDITIONAL, Condition
from wgan_jax.method.gan import Gan, call, initialize


class Layer(NamedTuple):
    """Cost of one matrix product or convolution of a network."""

    name: str
    flops: int
    """Floating point operations of a forward pass of one example."""
    first: bool
    """Whether the layer's input depends on no parameter, so that the gradient with respect to it is not needed."""


def layers(network: nn.Module, x: jax.ShapeDtypeStruct, condition: Condition = UNCONDITIONAL) -> list[Layer]:
    """Returns the layers of a network in the order of its forward pass.

    Args:
      network: generator or critic.
      x: shape and dtype of its input, `[1, ...]`.
      condition: shapes and dtypes of its condition.
    """
    found: list[tuple[str, int]] = []
    given: list[jax.Array] = []

    def record(method, args, kwargs, context):
        output = method(*args, **kwargs)
        if context.method_name == "__call__" and _counted(context.module):
            flops = 2 * _products(context.module, args[0].shape[1:], output.shape[1:])
            found.append(("/".join(context.module.path), flops))
            given.append(args[0])
        return output

    def inputs(params, x, condition):
        found.clear()
        given.clear()
        with nn.intercept_methods(record):
            call(network, others | {"params": params}, x, condition, train=True)
        return given

    key = jax.random.key(0)
    others = jax.eval_shape(lambda key, *of: initialize(network, key, *of), key, x, condition)
    params = others.pop("params")
    others = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), others)
    trained = _depend(jax.make_jaxpr(inputs)(params, x, condition), len(jax.tree.leaves(params)))
    return [Layer(name, flops, not after) for (name, flops), after in zip(found, trained, strict=True)]


def _depend(closed: ClosedJaxpr, count: int) -> list[bool]:
    """Tells for each result of a program whether it depends on one of the first `count` arguments."""
    reached = set(closed.jaxpr.invars[:count])
    for equation in closed.jaxpr.eqns:
        if any(not isinstance(of, Literal) and of in reached for of in equation.invars):
            reached.update(equation.outvars)
    return [not isinstance(of, Literal) and of in reached for of in closed.jaxpr.outvars]


def _counted(layer: nn.Module) -> bool:
    """Tells whether a layer's products are counted: a dense one's, and of those that have a method `products`."""
    return isinstance(layer, nn.Dense) or hasattr(layer, "products")


def _products(layer: Any, given: tuple[int, ...], output: tuple[int, ...]) -> int:
    """Returns how many products a layer forms for one example, from the shapes of its input and output."""
    return given[-1] * output[-1] if isinstance(layer, nn.Dense) else layer.products(given, output)


def _curved(gan: Gan) -> bool:
    """Tells whether the critic is curved instead of piecewise linear: its gradient changes smoothly with its input."""
    activation = getattr(gan.critic, "activation", "relu")
    return activation not in ("relu", "leaky_relu") or getattr(gan.critic, "norm", "none") != "none"


def of_step(gan: Gan, batch_size: int, n_critic: int) -> int:
    """Returns the floating point operations of one generator iteration.

    Args:
      gan: networks, prior and losses.
      batch_size: number of real examples per critic update.
      n_critic: number of critic updates.
    """
    images = jax.ShapeDtypeStruct((1, *gan.image_shape), jnp.float32)
    latents, condition = jax.eval_shape(lambda: priors.zeros(gan.prior, 1))
    generator, critic = layers(gan.generator, latents, condition), layers(gan.critic, images, condition)
    G, C = (sum(layer.flops for layer in network) for network in (generator, critic))
    G1, C1 = (sum(layer.flops for layer in network if layer.first) for network in (generator, critic))
    penalty = 4 * C + (2 * C - C1 if _curved(gan) else 0)
    critic_update = G + (2 + gan.constraint.passes) * (3 * C - C1) + gan.constraint.gradients * penalty
    generator_update = 3 * G - G1 + 2 * C
    return round(batch_size * (n_critic * critic_update + gan.generator_batch_multiple * generator_update))
