"""The first parameters of each shipped config against the official code: for every layer the distribution that its
initializers draw from, worked out by hand (igul222/improved_wgan_training, martinarjovsky/WassersteinGAN)."""

import functools
import importlib.util
from math import sqrt
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

import wgan_jax

from .commands import ROOT


class Draw(NamedTuple):
    """U or N of a mean and a standard deviation."""

    kind: str
    std: float
    mean: float = 0.0


def uniform(variance):
    return Draw("uniform", sqrt(variance))


def tflib(dense, *convolutions):
    """tflib/ops: linear's Glorot, `√(2 / (in + out))`, and the `he_init` of conv2d, `√(4 / (fan_in + fan_out))`."""
    return [uniform(2 / sum(dense)), *(uniform(4 / sum(fans)) for fans in convolutions)]


def layers(*draws, names):
    return dict(zip(names, draws, strict=True))


def dcgan_generator(*draws):
    return layers(*draws, names=["dense", *(f"deconv_{i}" for i in range(1, len(draws)))])


def dcgan_critic(*draws):
    return layers(*draws, names=["score", *(f"conv_{i}" for i in range(1, len(draws)))])


# 5×5 kernels of stride 2, which divides the fan of the smaller image by 4.
CIFAR10 = {
    "generator": dcgan_generator(
        *tflib((128, 8192), (512 * 25 / 4, 256 * 25), (256 * 25 / 4, 128 * 25), (128 * 25 / 4, 3 * 25))
    ),
    "critic": dcgan_critic(
        *tflib((8192, 1), (3 * 25, 128 * 25 / 4), (128 * 25, 256 * 25 / 4), (256 * 25, 512 * 25 / 4))
    ),
}
MNIST = {
    "generator": dcgan_generator(
        *tflib((128, 4096), (256 * 25 / 4, 128 * 25), (128 * 25 / 4, 64 * 25), (64 * 25 / 4, 1 * 25))
    ),
    "critic": dcgan_critic(*tflib((4096, 1), (1 * 25, 64 * 25 / 4), (64 * 25, 128 * 25 / 4), (128 * 25, 256 * 25 / 4))),
}
# gan_64x64.py: DCGANGenerator and DCGANDiscriminator call set_weights_stdev(0.02), uniform in all layers.
SIXTY_FOUR = {
    "generator": dcgan_generator(*[Draw("uniform", 0.02)] * 5),
    "critic": dcgan_critic(*[Draw("uniform", 0.02)] * 5),
}
# gan_cifar_resnet.py: 3×3 with he_init, shortcuts of 1×1 and the output without.
BLOCK = {"conv_1": uniform(4 / (9 * 256)), "conv_2": uniform(4 / (9 * 256))}
SHORTCUT = {"shortcut": uniform(2 / 256)}


def blocks(**parts):
    return {f"{block}/{layer}": draw for block, drawn in parts.items() for layer, draw in drawn.items()}


RESNET = {
    "generator": {"dense": uniform(2 / (128 + 2048)), "output": uniform(2 / (9 * 131))}
    | blocks(**{f"block_{i}": BLOCK | SHORTCUT for i in (1, 2, 3)}),
    "critic": {"score": uniform(2 / 129)}
    | blocks(
        block_1=BLOCK | {"conv_1": uniform(4 / (9 * 131)), "shortcut": uniform(2 / 131)},
        block_2=BLOCK | SHORTCUT,
        block_3=BLOCK,
        block_4=BLOCK,
    ),
}
CONDITIONAL = {"generator": RESNET["generator"], "critic": RESNET["critic"] | {"classes/dense": uniform(2 / 138)}}
# gan_toy.py: hidden layers "he", √(2 / in); the output Glorot.
HIDDEN = {"hidden/dense_0": uniform(2 / 2), "hidden/dense_1": uniform(2 / 512), "hidden/dense_2": uniform(2 / 512)}
TOY = {
    "generator": HIDDEN | {"output": uniform(2 / (512 + 2))},
    "critic": HIDDEN | {"output": uniform(2 / (512 + 1))},
}
# main.py, weights_init: convolutions N(0, 0.02), norms N(1, 0.02).
NORMAL = {
    "generator": dcgan_generator(*[Draw("normal", 0.02)] * 5),
    "critic": dcgan_critic(*[Draw("normal", 0.02)] * 5),
}
# models/mlp.py: Linear, whose default is U(±1 / √in) for weights and biases, of variance 1 / (3 in).
LINEAR = {
    "hidden/dense_0": uniform(1 / 300),
    "hidden/dense_1": uniform(1 / 1536),
    "hidden/dense_2": uniform(1 / 1536),
    "output": uniform(1 / 1536),
}

OFFICIAL = {
    "cifar10": CIFAR10,
    "cifar10_resnet": RESNET,
    "cifar10_resnet:auxiliary": CONDITIONAL,
    "mnist": MNIST,
    "lsun_bedroom": SIXTY_FOUR,
    "celeb_a": SIXTY_FOUR,
    "folder": SIXTY_FOUR,
    "toy": TOY,
    "toy:8gaussians,clip": TOY,
    "wgan_clip": NORMAL,
    "wgan_clip:mlp": {"generator": LINEAR, "critic": NORMAL["critic"]},
}
SCALES = {"wgan_clip": Draw("normal", 0.02, 1), "wgan_clip:mlp": Draw("normal", 0.02, 1)}
BIASES_TOO = ("wgan_clip:mlp", "generator")
SLOW = ("cifar10", "cifar10_resnet", "cifar10_resnet:auxiliary", "mnist")
OURS = {"digits", "fashion_mnist", "folder32"}


def gan(name):
    stem, _, choice = name.partition(":")
    spec = importlib.util.spec_from_file_location(stem, ROOT / "configs" / f"{stem}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return wgan_jax.build(module.get_config(*[choice] * bool(choice)))


@functools.cache  # configs share networks
def drawn(module, shape, classes):
    label = [jnp.zeros(1, jnp.int32)] * bool(classes)
    params = jax.jit(module.init)(jax.random.key(1, impl="unsafe_rbg"), jnp.zeros((1, *shape)), *label)["params"]
    return {key: np.asarray(x, np.float64) for key, x in traverse_util.flatten_dict(params, sep="/").items()}


def first_parameters(gan, player):
    shape = (gan.latent_dim,) if player == "generator" else gan.image_shape
    return drawn(getattr(gan, player), shape, gan.num_classes)


def assert_drawn_from(x, draw, name):
    """Within five standard errors of the deviation; a uniform one has a sharp edge at √3 of it, a normal one none."""
    x = x.ravel() - draw.mean
    np.testing.assert_allclose(np.sqrt(np.mean(x**2)), draw.std, rtol=4 / sqrt(x.size), err_msg=name)
    edge = np.abs(x).max() / draw.std
    if draw.kind == "uniform":
        assert edge <= sqrt(3) * (1 + 1e-6), name
        assert x.size < 1000 or edge > 1.72, name
    else:
        assert x.size < 1000 or edge > 3, name


def test_every_config_has_its_rule_or_is_ours():
    assert {name.partition(":")[0] for name in OFFICIAL} | OURS == {
        path.stem for path in (ROOT / "configs").glob("*.py")
    }


@pytest.mark.parametrize("player", ["generator", "critic"])
@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in OFFICIAL])
def test_the_first_parameters_are_drawn_as_in_the_official_code(name, player):
    params, table = first_parameters(gan(name), player), OFFICIAL[name][player]
    assert {key.removesuffix("/kernel") for key in params if key.endswith("kernel")} == set(table)
    for key, x in params.items():
        layer, _, kind = key.rpartition("/")
        if kind == "kernel" or (kind == "bias" and (name, player) == BIASES_TOO):
            assert_drawn_from(x, table[layer], key)
        elif kind == "scale" and name in SCALES:
            assert_drawn_from(x, SCALES[name], key)
        else:
            assert kind in ("bias", "scale")
            np.testing.assert_array_equal(x, float(kind == "scale"), err_msg=key)


def test_digits_keep_the_output_layer_that_their_figures_were_measured_with():
    """LeCun's normal, √(1 / in), behind hidden layers of He's uniform."""
    for player, inputs in (("generator", 128), ("critic", 64)):
        params = first_parameters(gan("digits"), player)
        assert_drawn_from(params["hidden/dense_0/kernel"], uniform(2 / inputs), player)
        assert_drawn_from(params["hidden/dense_2/kernel"], uniform(2 / 256), player)
        np.testing.assert_allclose(params["output/kernel"].std(), sqrt(1 / 256), rtol=0.1)
        assert np.abs(params["output/kernel"]).max() > 2 * sqrt(1 / 256)
