"""Pretrained features equal those of pytorch-fid, torch-fidelity, clean-FID's definition and PyTorch.

With their packages in the environment (see `features_reference.py`) all run side by side:

    pytest -m slow tests/test_features.py

Without them, ours is held against what they gave when `python -m tests.features_reference` last wrote it down.
"""

import functools
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_sample_images

from wgan_jax import UserError
from wgan_jax.metrics import features, folding, inception, lite0, resizing, weights

from . import features_reference as reference
from .features_reference import INPUTS, SIZES, picture
from .other_packages import need

RECORD = json.loads(reference.RECORD.read_text())
TOLERANCE = 1e-5
FEW = (32, 512)
"""Sizes of images in the fast tests: one is enlarged and one shrinks."""


@functools.cache
def tensors():
    """Random weights of Inception, by PyTorch's names."""
    return reference.random_tensors(folding.shapes(inception.Inception(), 299, inception.names))


@functools.cache
def variables():
    return folding.variables(tensors(), inception.Inception(), 299, inception.names)


compiled = jax.jit(inception.Inception().apply)


def ours(image, input, network=compiled):
    return network(variables(), resizing.INPUTS[input](image))


def error(ours, theirs):
    """‖ours − theirs‖ / ‖theirs‖."""
    theirs = np.asarray(theirs, np.float64)
    return np.linalg.norm(np.asarray(ours, np.float64).ravel() - theirs.ravel()) / np.linalg.norm(theirs)


def recorded_error(found, recorded):
    """The error of a layer along the recorded directions, or of its norm, whichever is larger."""
    *some, norm = reference.some(found)
    return max(error(some, recorded[:-1]), abs(norm / recorded[-1] - 1))


def pool_error(image, input="tf1", of=None, network=compiled):
    recorded = RECORD["inception"][f"{of or input} {image.shape[1]}"]["pool"]
    return recorded_error(ours(image, input, network)["pool"], recorded)


@pytest.mark.parametrize("input", INPUTS)
@pytest.mark.parametrize("size", FEW)
def test_inception_equals_what_other_packages_gave(size, input):
    recorded, found = RECORD["inception"][f"{input} {size}"], ours(picture(size), input)
    for layer, expected in recorded.items():
        assert recorded_error(found[layer], expected) <= TOLERANCE, layer


# Each of these makes the network another one, and the comparison above must see it.


@pytest.mark.parametrize("other", INPUTS)
@pytest.mark.parametrize("input", INPUTS)
def test_the_inputs_are_told_apart(input, other):
    assert (pool_error(picture(32), input, of=other) <= TOLERANCE) == (input == other)


def test_average_pools_that_divide_by_all_pixels_are_found(monkeypatch):
    same = ((1, 1), (1, 1))
    monkeypatch.setattr(inception, "average_pool", lambda x: nn.avg_pool(x, (3, 3), (1, 1), same))
    assert pool_error(picture(32), network=jax.jit(inception.Inception().apply)) > 1000 * TOLERANCE


def test_an_average_in_the_last_block_is_found(monkeypatch):
    max_pool = inception.max_pool
    monkeypatch.setattr(
        inception,
        "max_pool",
        lambda x, strides=2, padding=0: inception.average_pool(x) if strides == 1 else max_pool(x, strides, padding),
    )
    assert pool_error(picture(32), network=jax.jit(inception.Inception().apply)) > 1000 * TOLERANCE


def test_the_logits_bias_is_found():
    recorded, found = RECORD["inception"]["tf1 32"], ours(picture(32), "tf1")
    assert recorded_error(found["logits"], recorded["unbiased_logits"]) > 100 * TOLERANCE
    assert recorded_error(found["unbiased_logits"], recorded["logits"]) > 100 * TOLERANCE


def test_the_epsilon_of_batch_norm_is_found(monkeypatch):
    monkeypatch.setattr(folding, "EPSILON", 1e-5)
    other = folding.variables(tensors(), inception.Inception(), 299, inception.names)
    found = compiled(other, resizing.tf1(picture(32)))["pool"]
    assert recorded_error(found, RECORD["inception"]["tf1 32"]["pool"]) > 10 * TOLERANCE


# EfficientNet-Lite0, whose weights are real.


@functools.cache
def lite():
    network, values = features.load_lite0()
    compiled = jax.jit(lite0.Lite0().apply)
    return network, values, lambda images: compiled(values, resizing.lite0(images))


def test_lite0_equals_what_pytorch_gave():
    _, _, apply = lite()
    for size in FEW:
        found = apply(picture(size))
        for layer, expected in RECORD["lite0"][f"{size}"].items():
            assert recorded_error(found[layer], expected) <= TOLERANCE, (size, layer)


def test_lite0_knows_a_palace_and_a_daisy():
    _, _, apply = lite()
    squares = [image[:, 106:533] for image in load_sample_images().images]  # the middle of 427×640 pixels
    classes = [int(np.argmax(apply(square[None])["logits"])) for square in squares]
    assert classes == [698, 985]  # ImageNet's palace and daisy


def test_a_depthwise_convolution_is_xlas_convolution_of_groups(rng):
    for kernel, strides, size in ((3, 1, 8), (3, 2, 8), (5, 2, 7)):
        x, w, b = (
            rng.normal(size=shape).astype(np.float32)
            for shape in ((2, size, size + 1, 6), (kernel, kernel, 1, 6), (6,))
        )
        network = folding.DepthwiseConv((kernel, kernel), strides)
        found = jax.jit(network.apply)({"params": {"kernel": w, "bias": b}}, x)
        expected = b + jax.lax.conv_general_dilated(
            x, w, (strides, strides), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=6
        )
        np.testing.assert_allclose(found, expected, atol=1e-5)


# The uniform form.


def test_a_network_says_what_its_features_are_comparable_with():
    network, values, _ = lite()
    assert (network.name, network.dim, network.size, network.input) == ("lite0-57934424 bicubic", 1280, 224, "bicubic")
    shapes = jax.eval_shape(network.apply, values, jax.ShapeDtypeStruct((5, 28, 28, 1), np.uint8))
    assert {name: x.shape for name, x in shapes.items()} == {
        "pool": (5, 1280),
        "logits": (5, 1000),
        "probabilities": (5, 1000),
    }
    assert lite0.load().keys() == values.keys()


@pytest.fixture(scope="module")
def random_file(tmp_path_factory):
    """A file of safetensors with the random weights of Inception, and PyTorch's counts."""
    from safetensors.numpy import save_file

    path = tmp_path_factory.mktemp("weights") / "inception.safetensors"
    counts = {"Conv2d_1a_3x3.bn.num_batches_tracked": np.zeros((), np.int64)}
    save_file(tensors() | counts, path)
    return path


def test_inception_from_a_file(random_file):
    network, values = features.load_inception(str(random_file), input="clean")
    digest = weights.read(random_file, None).sha256
    assert (network.name, network.dim, network.size) == (f"inception-{digest[:8]} clean", 2048, 299)
    jax.tree.map(np.testing.assert_array_equal, values, variables())
    jax.tree.map(np.testing.assert_array_equal, values, inception.load(str(random_file), digest))
    shapes = jax.eval_shape(network.apply, values, jax.ShapeDtypeStruct((5, 28, 28, 1), np.uint8))
    assert {name: x.shape for name, x in shapes.items()} == {
        "64": (5, 64),
        "192": (5, 192),
        "768": (5, 768),
        "pool": (5, 2048),
        "logits": (5, 1008),
        "unbiased_logits": (5, 1008),
        "probabilities": (5, 1008),
    }
    with pytest.raises(UserError, match=r"^input 'cleen' of Inception: did you mean clean\?$"):
        features.load_inception(str(random_file), input="cleen")


def test_probabilities_of_the_inception_score_have_no_bias(random_file, monkeypatch):
    logits = {"unbiased_logits": jnp.log(jnp.array([[1.0, 3.0]])), "logits": jnp.array([[5.0, 0.0]])}
    monkeypatch.setattr(inception.Inception, "apply", lambda *args: logits)
    network, _ = features.load_inception(str(random_file))
    np.testing.assert_allclose(network.apply({}, picture(32))["probabilities"], [[0.25, 0.75]], rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda t: t.pop("Mixed_5b.branch1x1.bn.running_var"),
            r"it has no Mixed_5b\.branch1x1\.bn\.running_var \[64\]",
        ),
        (
            lambda t: t.update({"fc.weight": np.zeros((1000, 2048), np.float32)}),
            r"its fc\.weight is float32 \[1000, 2048\], not float \[1008, 2048\]",
        ),
        (
            lambda t: t.update({"fc.bias": np.zeros(1008, np.int64)}),
            r"its fc\.bias is int64 \[1008\], not float \[1008\]",
        ),
        (
            lambda t: t.update({"AuxLogits.fc.bias": np.zeros(3)}),
            r"it has 'AuxLogits\.fc\.bias', which the network does not",
        ),
        (lambda t: t.update({"fc.bias": np.full(1008, np.nan)}), r"some of its numbers are not finite"),
    ],
)
def test_weights_of_another_network_are_refused(change, says, tmp_path):
    others = dict(tensors())
    change(others)
    with pytest.raises(UserError, match=rf"^\S*x: not the weights of Inception: {says}$"):
        inception.from_weights(weights.Weights(tmp_path / "x", "0" * 64, others))


# With the other packages at hand.


@pytest.fixture(scope="module")
def theirs():
    need("torch", "torchvision", "pytorch_fid", "torch_fidelity")
    return reference.Networks(tensors())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("input", INPUTS)
@pytest.mark.parametrize("size", SIZES)
def test_inception_equals_other_packages_that_run_beside_it(size, input, theirs):
    found, expected = ours(picture(size), input), theirs.features(picture(size), input)
    assert {layer: error(found[layer], x) <= TOLERANCE for layer, x in expected.items()} == dict.fromkeys(
        expected, True
    )
    assert expected.keys() >= {"64", "192", "768", "pool"}
    for layer, recorded in RECORD["inception"][f"{input} {size}"].items():
        assert recorded_error(expected[layer], recorded) <= TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
def test_lite0_equals_pytorch_that_runs_beside_it(size):
    pytest.importorskip("torch")
    _, _, apply = lite()
    found = apply(picture(size))
    for layer, expected in reference.lite0(picture(size)).items():
        assert error(found[layer], expected) <= TOLERANCE
