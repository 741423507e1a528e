r"""How many floating point operations a generator iteration needs, counted from the networks' shapes by hand.

Only multiplications and additions of the matrix products and convolutions are counted, two per pair. For one example
and one layer they are, forward:

    dense, in -> out                         2 · in · out
    convolution to h×w pixels                2 · h · w · kh · kw · C · N
    transposed convolution from h×w pixels   2 · h · w · kh · kw · C · N
    3×3 convolution and 2×2 mean pool, or nearest up-sampling and 3×3 convolution, with h×w small pixels
                                             2 · h · w · 16 · C · N

The gradient by a layer's input costs as much again, and so does the gradient by its kernel; the first layer of a
network (sum C₁ or G₁) needs no gradient by its input, unless that is what is asked for. With C for a critic's forward
pass and G for a generator's, a critic update of B examples costs

    B · (G + 2 · (3C − C₁) + penalty)

with one pass of the generator, and forward, input gradient and kernel gradient for real and fake. The penalty's
interpolates cost a forward pass and an input gradient, C each, and the derivative of that gradient by the kernels:
each layer's input gradient is differentiated once by what went into it and once by its kernel, 2C. Where activations
are piecewise linear that is all; curved ones (tanh, softplus, elu) and layer normalization send a derivative back
through the forward pass too: 2C − C₁ more. The generator's update of M examples costs

    M · (3G − G₁ + 2C)
"""

import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Literal

from wgan_jax.method import priors
from wgan_jax.method.condition import UNCONDITIONAL, Condition
from wgan_jax.method.draws import Keys
from wgan_jax.method.gan import Gan, call, initialize
from wgan_jax.networks.convolution import Conv, ConvTranspose
from wgan_jax.networks.resnet import ResampledConv


class Layer(NamedTuple):
    """One product of a network."""

    name: str
    flops: int
    """Forward, for one example."""
    first: bool
    """Whether its input depends on no parameter, so that nobody needs the loss's gradient by it."""


def layers(network: nn.Module, x: jax.ShapeDtypeStruct, condition: Condition = UNCONDITIONAL) -> list[Layer]:
    """Returns the products of a network on input `[1, ...]` under a condition, in their order."""
    found: list[tuple[str, int]] = []
    given: list[jax.Array] = []

    def record(method, args, kwargs, context):
        output = method(*args, **kwargs)
        if context.method_name == "__call__" and isinstance(
            context.module, nn.Dense | Conv | ConvTranspose | ResampledConv
        ):
            flops = 2 * _products(context.module, args[0].shape, output.shape)
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
    """Returns for each result of a program whether one of its first `count` arguments goes into it."""
    reached = set(closed.jaxpr.invars[:count])
    for equation in closed.jaxpr.eqns:
        if any(not isinstance(of, Literal) and of in reached for of in equation.invars):
            reached.update(equation.outvars)
    return [not isinstance(of, Literal) and of in reached for of in closed.jaxpr.outvars]


def _products(layer: nn.Module, given: tuple[int, ...], output: tuple[int, ...]) -> int:
    channels = given[-1] * output[-1]
    match layer:
        case nn.Dense():
            return channels
        case Conv():
            return math.prod(output[1:3]) * math.prod(layer.kernel_size) * channels
        case ConvTranspose():
            return math.prod(given[1:3]) * math.prod(layer.kernel_size) * channels
        case ResampledConv(resample="none"):
            return math.prod(output[1:3]) * 9 * channels
        case _:
            return min(math.prod(given[1:3]), math.prod(output[1:3])) * 16 * channels


def _curved(gan: Gan) -> bool:
    """Whether the critic's gradient depends on its input smoothly, not only piecewise."""
    activation = getattr(gan.critic, "activation", "relu")
    return activation not in ("relu", "leaky_relu") or getattr(gan.critic, "norm", "none") != "none"


def of_step(gan: Gan, batch_size: int, n_critic: int) -> int:
    """Floating point operations of one generator iteration with `n_critic` critic updates of `batch_size` examples."""
    images = jax.ShapeDtypeStruct((1, *gan.image_shape), jnp.float32)
    latents, condition = jax.eval_shape(lambda: priors.zeros(gan.prior, 1))
    generator, critic = layers(gan.generator, latents, condition), layers(gan.critic, images, condition)
    G, C = (sum(layer.flops for layer in network) for network in (generator, critic))
    G1, C1 = (sum(layer.flops for layer in network if layer.first) for network in (generator, critic))
    penalty = 4 * C + (2 * C - C1 if _curved(gan) else 0)
    critic_update = G + 2 * (3 * C - C1) + (penalty if _penalised(gan) else 0)
    generator_update = 3 * G - G1 + 2 * C
    return batch_size * (n_critic * critic_update + gan.generator_batch_multiple * generator_update)


def _penalised(gan: Gan) -> bool:
    """Whether the constraint takes the critic's gradient at interpolates."""
    x = jax.ShapeDtypeStruct((2, *gan.image_shape), jnp.float32)
    keys = Keys(jax.random.key(0), 0, 0, jnp.arange(2))
    linear = lambda x: x.sum(range(1, x.ndim))  # noqa: E731
    return "gradient_penalty" in jax.eval_shape(lambda x: gan.constraint.loss(linear, x, x, keys)[1], x)
