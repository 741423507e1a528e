"""`config.matmul_precision` reaches every product of what a run computes, on every backend."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import wgan_jax
from wgan_jax import UserError
from wgan_jax.method.batch import batch_shapes
from wgan_jax.method.sampling import CHUNK, generate
from wgan_jax.method.step import repeat
from wgan_jax.metrics.estimate import make_estimate

from .conftest import tiny_config

LEVELS = {"bfloat16": "DEFAULT", "tensorfloat32": "HIGH", "float32": "HIGHEST"}


def dcgan(**changes):
    both = {f"{player}__network": "dcgan" for player in ("generator", "critic")}
    return tiny_config(data__name="tfds:fashion_mnist", critic__norm="layer", **both, **changes)


def lowered(function, *args):
    """The program for platforms that need not be there, with what is particular to each of them side by side."""
    return jax.jit(function).trace(*args).lower(lowering_platforms=("cpu", "cuda", "tpu")).as_text()


def precisions(text):
    """The precision of each operand of every matrix product and convolution."""
    products = [line for line in text.splitlines() if re.search(r"stablehlo\.(dot_general|convolution)\b", line)]
    assert products
    return [re.findall(r"\b(DEFAULT|HIGHEST|HIGH)\b", line) for line in products]


def shapes(config):
    gan = wgan_jax.build(config)
    state = jax.eval_shape(lambda key: wgan_jax.init_state(gan, key), jax.random.key(0))
    return gan, state, batch_shapes(gan, config.n_critic, config.batch_size)


@pytest.mark.parametrize("name", LEVELS)
@pytest.mark.parametrize("make", [dcgan, tiny_config], ids=["dcgan", "mlp"])
def test_every_product_of_a_step_has_the_precision(make, name):
    """Forward, backward, and the penalty's second derivative; the convolutions' own forms of each platform."""
    gan, state, batch = shapes(make(matmul_precision=name))
    found = precisions(lowered(wgan_jax.make_train_step(gan), state, batch))
    # The critic's three passes and their gradients, and those of the generator: some for each layer of each player.
    assert len(found) >= 20
    assert all(operands == [LEVELS[name]] * 2 for operands in found)


def test_microbatches_and_written_out_updates_have_it_too():
    gan, state, batch = shapes(tiny_config(matmul_precision="float32"))
    for more in ({"unroll": True}, {"microbatches": 2}):
        found = precisions(lowered(wgan_jax.make_train_step(gan, **more), state, batch))
        assert all(operands == ["HIGHEST"] * 2 for operands in found)


@pytest.mark.parametrize("kind", ["auxiliary", "projection"])
def test_a_product_that_names_its_own_precision_keeps_it(kind):
    """Rows of a table by class are taken exactly, whatever the rest is multiplied in."""
    gan, state, batch = shapes(tiny_config(matmul_precision="tensorfloat32", conditional__kind=kind))
    found = precisions(lowered(wgan_jax.make_train_step(gan), state, batch))
    assert {tuple(operands) for operands in found} == {("HIGH", "HIGH"), ("HIGHEST", "HIGHEST")}


def test_estimates_and_samples_have_it():
    gan, state, batch = shapes(dcgan(matmul_precision="float32"))
    found = precisions(lowered(make_estimate(gan), state, batch))
    assert all(operands == ["HIGHEST"] * 2 for operands in found)
    z = jax.ShapeDtypeStruct((CHUNK, gan.latent_dim), np.float32)
    found = precisions(lowered(lambda state, z: generate(gan, state, z), state, z))
    assert all(operands == ["HIGHEST"] * 2 for operands in found)


def test_by_default_it_is_left_to_jax():
    gan, state, batch = shapes(tiny_config())
    assert gan.matmul_precision == "default"
    found = precisions(lowered(wgan_jax.make_train_step(gan), state, batch))
    assert all(operands == ["DEFAULT"] * 2 for operands in found)
    with jax.default_matmul_precision("float32"):
        found = precisions(lowered(wgan_jax.make_train_step(gan), state, batch))
    assert all(operands == ["HIGHEST"] * 2 for operands in found)


def test_an_unknown_precision_is_an_error():
    with pytest.raises(UserError, match=r"config.matmul_precision = 'tf32': must be one of default, .*tensorfloat32"):
        wgan_jax.build(tiny_config(matmul_precision="tf32"))


@pytest.mark.parametrize("name", ["default", "bfloat16", "high", "tensorfloat32", "highest", "float32"])
def test_jax_knows_every_precision_that_a_config_may_have(name):
    gan = wgan_jax.build(tiny_config(matmul_precision=name))
    assert gan.with_precision(lambda: jax.config.jax_default_matmul_precision)() == (
        None if name == "default" else name
    )


@pytest.mark.parametrize("make", [dcgan, tiny_config], ids=["dcgan", "mlp"])
def test_no_operation_of_a_step_lacks_a_deterministic_form(make):
    """XLA refuses select-and-scatter on a GPU when only deterministic operations are wanted, and expands a scatter."""
    gan, state, batch = shapes(make())
    batches = jax.tree.map(lambda x: jax.ShapeDtypeStruct((3, *x.shape), x.dtype), batch)
    text = lowered(repeat(wgan_jax.make_train_step(gan)), state, batches, jnp.int32(3))
    assert "select_and_scatter" not in text
    # Only metrics are written to places that the program computes, each to its own.
    assert re.findall(r'"stablehlo.scatter".*unique_indices = (\w+)', text) == ["true"] * text.count(
        '"stablehlo.scatter"'
    )
