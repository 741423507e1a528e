"""The hand count of a step's arithmetic, against closed forms and whatever the widths happen to be."""

import jax
import jax.numpy as jnp
import pytest

from wgan_jax.config import build
from wgan_jax.cost import flops
from wgan_jax.method.condition import Condition

from .conftest import tiny_config


def mlps(width, **changes):
    """MLPs of three hidden layers on 8×8 images, from 128 latents."""
    both = {f"{player}__{key}": value for player in ("generator", "critic") for key, value in (("depth", 3),)}
    return build(tiny_config(latent_dim=128, generator__width=width, critic__width=width, **both, **changes))


def step(inputs, width, outputs):
    """One product pair is two operations; forward, and what of it is the first layer."""
    return 2 * (inputs * width + 2 * width**2 + width * outputs), 2 * inputs * width


@pytest.mark.parametrize("width", [63, 64, 65, 127, 128, 129])
def test_a_step_of_mlps_has_its_closed_form(width):
    """Also where a hidden layer happens to be as wide as the network's input, 128 latents or 64 pixels."""
    (G, G1), (C, C1) = step(128, width, 64), step(64, width, 1)
    critic_update = G + 2 * (3 * C - C1) + 4 * C  # the penalty's activations are piecewise linear
    generator_update = 3 * G - G1 + 2 * C
    assert flops.of_step(mlps(width), 8, 5) == 8 * (5 * critic_update + generator_update)


@pytest.mark.parametrize("width", [63, 64, 65])
def test_the_first_layer_is_the_first(width):
    gan = mlps(width)
    found = flops.layers(gan.critic, jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32))
    assert [layer.first for layer in found] == [True, False, False, False]
    assert [layer.name for layer in found] == ["hidden/dense_0", "hidden/dense_1", "hidden/dense_2", "output"]


def firsts(config):
    gan = build(config)
    label = jax.ShapeDtypeStruct((1,), jnp.int32) if gan.num_classes else None
    latents = jax.ShapeDtypeStruct((1, gan.latent_dim), jnp.float32)
    images = jax.ShapeDtypeStruct((1, *gan.image_shape), jnp.float32)
    return [
        {layer.name for layer in flops.layers(network, x, Condition(label)) if layer.first}
        for network, x in ((gan.generator, latents), (gan.critic, images))
    ]


def convolutional(network, **changes):
    both = {f"{player}__network": network for player in ("generator", "critic")}
    return tiny_config(data__name="tfds:cifar10", data__size=32, data__channels=3, **both, **changes)


def test_the_first_layers_of_convolutional_networks():
    """A residual critic has two: its first block's convolution, and the shortcut beside it, of a pooled image."""
    assert firsts(convolutional("dcgan", critic__width=3)) == [{"dense"}, {"conv_1"}]
    assert firsts(convolutional("resnet", critic__width=3)) == [{"dense"}, {"block_1/shortcut", "block_1/conv_1"}]


@pytest.mark.parametrize("kind", ["auxiliary", "projection"])
def test_classes_that_enter_make_no_layer_a_first_one(kind):
    """A generator's normalization has parameters of each class."""
    config = convolutional("resnet", generator__norm="batch", conditional__kind=kind)
    assert firsts(config) == [{"dense"}, {"block_1/shortcut", "block_1/conv_1"}]
    mlp = tiny_config(conditional__kind=kind)
    assert firsts(mlp) == [{"hidden/dense_0"}, {"hidden/dense_0"}]
