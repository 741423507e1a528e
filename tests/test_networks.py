import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from wgan_jax.networks import dcgan, mlp, resnet
from wgan_jax.networks.layers import ACTIVATIONS, NORMS, Norm, fan_uniform

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(0)


def count(module, *shape):
    variables = jax.eval_shape(module.init, KEY, jnp.zeros(shape))
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def kernel(taps, inputs, outputs):
    """Weights and biases of a convolution of taps × taps."""
    return taps * taps * inputs * outputs + outputs


def test_parameters_of_the_32_pixel_dcgan():
    # gan_cifar.py: dense 128 -> 4·4·256, then 256 -> 128 -> 64 -> 3; a norm has 2 numbers per channel.
    norms = 2 * (256 + 128 + 64)
    dense = 128 * 4096 + 4096
    deconvs = kernel(5, 256, 128) + kernel(5, 128, 64) + kernel(5, 64, 3)
    assert count(dcgan.Generator((32, 32, 3)), 1, 128) == dense + deconvs + norms
    convs = kernel(5, 3, 64) + kernel(5, 64, 128) + kernel(5, 128, 256)
    assert count(dcgan.Critic(), 1, 32, 32, 3) == convs + 4096 + 1
    # With layer normalization, which the first layer does not have.
    assert count(dcgan.Critic(norm="layer"), 1, 32, 32, 3) == convs + 4096 + 1 + 2 * (128 + 256)


def test_parameters_of_the_28_pixel_dcgan():
    # gan_mnist.py: as 32 pixels, for 28 -> 14 -> 7 -> 4 too ends in 4·4·256.
    deconvs = kernel(5, 256, 128) + kernel(5, 128, 64) + kernel(5, 64, 1)
    dense = 128 * 4096 + 4096
    assert count(dcgan.Generator((28, 28, 1), norm="none"), 1, 128) == dense + deconvs
    convs = kernel(5, 1, 64) + kernel(5, 64, 128) + kernel(5, 128, 256)
    assert count(dcgan.Critic(), 1, 28, 28, 1) == convs + 4096 + 1


def test_parameters_of_the_64_pixel_dcgan_and_of_the_poor_generator():
    # gan_64x64.py: one level more, 8·64 = 512 channels on the 4×4 map.
    deconvs = kernel(5, 512, 256) + kernel(5, 256, 128) + kernel(5, 128, 64) + kernel(5, 64, 3)
    dense = 128 * 16 * 512 + 16 * 512
    assert count(dcgan.Generator((64, 64, 3), norm="none"), 1, 128) == dense + deconvs
    poor = dcgan.Generator((64, 64, 3), norm="none", constant_width=True)
    deconvs = 3 * kernel(5, 64, 64) + kernel(5, 64, 3)
    assert count(poor, 1, 128) == 128 * 16 * 64 + 16 * 64 + deconvs


def test_parameters_of_the_32_pixel_resnet():
    # gan_cifar_resnet.py: each block two 3×3 convolutions; shortcuts 1×1 wherever the size changes.
    block = 2 * kernel(3, 128, 128) + kernel(1, 128, 128)
    output = kernel(3, 128, 3)
    norms = 2 * 128 * (3 * 2 + 1)
    dense = 128 * 2048 + 2048
    assert count(resnet.Generator((32, 32, 3)), 1, 128) == dense + 3 * block + output + norms
    first = kernel(3, 3, 128) + kernel(3, 128, 128) + kernel(1, 3, 128)
    plain = 2 * kernel(3, 128, 128)
    assert count(resnet.Critic(), 1, 32, 32, 3) == first + block + 2 * plain + 128 + 1


def test_parameters_of_the_conditional_32_pixel_resnet():
    # gan_cifar_resnet.py: scale and offset of each of 10 classes in the blocks' norms, not in the last one; a second
    # linear layer on the critic's 128 features, to 10 logits.
    plain, conditional = resnet.Generator((32, 32, 3)), resnet.Generator((32, 32, 3), num_classes=10)
    more = [
        sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(module.init, KEY, *inputs)["params"]))
        for module, inputs in ((plain, [jnp.zeros((1, 128))]), (conditional, [jnp.zeros((1, 128)), jnp.zeros(1, int)]))
    ]
    assert more[1] - more[0] == (10 - 1) * 2 * 128 * 3 * 2
    plain, acgan = resnet.Critic(), resnet.Critic(num_classes=10, conditioning="auxiliary")
    assert count(acgan, 1, 32, 32, 3) - count(plain, 1, 32, 32, 3) == 128 * 10 + 10


def test_parameters_of_the_wgan_papers_dcgan():
    # As published for PyTorch's DCGAN, whose layers these are: kernels of 4×4, no biases, 100 latents.
    settings = {"norm": "batch", "kernel_size": 4, "use_bias": False}
    assert count(dcgan.Generator((64, 64, 3), **settings), 1, 100) == 3_576_704
    assert count(dcgan.Critic(**settings), 1, 64, 64, 3) == 2_765_568


def test_parameters_of_the_cifar_10_configs_dcgan():
    # gan_cifar.py with DIM = 128, and one scale per channel in the first norm.
    deconvs = kernel(5, 512, 256) + kernel(5, 256, 128) + kernel(5, 128, 3)
    norms = 2 * (512 + 256 + 128)
    assert count(dcgan.Generator((32, 32, 3), width=128), 1, 128) == 128 * 8192 + 8192 + deconvs + norms
    convs = kernel(5, 3, 128) + kernel(5, 128, 256) + kernel(5, 256, 512)
    assert count(dcgan.Critic(width=128), 1, 32, 32, 3) == convs + 8192 + 1


def test_parameters_of_the_wgan_papers_mlp():
    # models/mlp.py: three hidden layers of 512 and a linear one.
    hidden = 2 * (512 * 512 + 512)
    assert count(mlp.Generator((64, 64, 3)), 1, 100) == 100 * 512 + 512 + hidden + 512 * 12288 + 12288
    assert count(mlp.Critic(), 1, 64, 64, 3) == 12288 * 512 + 512 + hidden + 512 + 1


def test_activations():
    x = np.linspace(-3, 3, 13)
    expected = {
        "relu": np.maximum(x, 0),
        "leaky_relu": np.where(x > 0, x, 0.2 * x),
        "elu": np.where(x > 0, x, np.exp(x) - 1),
        "tanh": np.tanh(x),
        "softplus": np.log1p(np.exp(2 * x + 2)) / 2 - 1,
    }
    assert set(ACTIVATIONS) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(ACTIVATIONS[name](jnp.asarray(x)), values, rtol=1e-5, atol=1e-6)


def test_parameters_of_the_64_pixel_resnet():
    # gan_64x64.py: the first convolution of a block has no bias; up-sampling widens first, pooling last.
    def up(a, b):
        return (kernel(3, a, b) - b) + kernel(3, b, b) + kernel(1, a, b) + 2 * (a + b)

    def down(a, b):
        return (kernel(3, a, a) - a) + kernel(3, a, b) + kernel(1, a, b) + 2 * (a + a)

    generator = 128 * 8192 + 8192 + up(512, 512) + up(512, 256) + up(256, 128) + up(128, 64)
    generator += 2 * 64 + kernel(3, 64, 3)
    assert count(resnet.Generator((64, 64, 3), width=64), 1, 128) == generator
    critic = kernel(3, 3, 64) + down(64, 128) + down(128, 256) + down(256, 512) + down(512, 512)
    critic += 4 * 4 * 512 + 1
    assert count(resnet.Critic(width=64, norm="layer"), 1, 64, 64, 3) == critic


@pytest.mark.parametrize("network", [dcgan, resnet])
@pytest.mark.parametrize(
    ("size", "channels"), [(8, 1), (16, 4), (28, 1), (32, 3), (56, 1), (64, 3), (128, 3), (224, 2)]
)
def test_shapes(network, size, channels):
    shape = (size, size, channels)
    z = jnp.zeros((2, 16))
    images = jax.eval_shape(network.Generator(shape, width=2).init_with_output, KEY, z)[0]
    assert (images.shape, images.dtype) == ((2, *shape), jnp.float32)
    x = jnp.zeros((2, *shape))
    scores = jax.eval_shape(network.Critic(width=2).init_with_output, KEY, x)[0]
    assert (scores.shape, scores.dtype) == ((2,), jnp.float32)


def test_images_are_in_range_and_every_pixel_is_drawn():
    generator = dcgan.Generator((14, 14, 1), width=2, norm="none")
    images = jax.jit(generator.init_with_output)(KEY, 9 * jax.random.normal(KEY, (64, 8)))[0]
    assert float(jnp.abs(images).max()) <= 1
    assert float(images.std(0).min()) > 0


@pytest.mark.parametrize("network", [dcgan, resnet])
def test_bfloat16_computes_near_float32_and_keeps_float32_parameters(network):
    x = jax.random.uniform(KEY, (4, 8, 8, 3), minval=-1)
    narrow, wide = network.Critic(width=8, dtype=jnp.bfloat16), network.Critic(width=8)
    variables = jax.jit(narrow.init)(KEY, x)
    chex.assert_type(jax.tree.leaves(variables), jnp.float32)
    scores = jax.jit(narrow.apply)(variables, x)
    assert scores.dtype == jnp.float32
    np.testing.assert_allclose(scores, jax.jit(wide.apply)(variables, x), atol=0.05)


@pytest.mark.parametrize("network", [dcgan, resnet])
@pytest.mark.parametrize("shape", [(30, 30, 1), (32, 28, 1), (4, 4, 1), (32, 32)])
def test_impossible_images_are_refused_with_the_possible_sizes(network, shape):
    with pytest.raises(ValueError, match=r"8, .*16, 28, 32"):
        network.Generator(shape).init(KEY, jnp.zeros((1, 8)))
    with pytest.raises(ValueError, match=r"8, .*16, 28, 32"):
        network.Critic().init(KEY, jnp.zeros((1, *shape)))


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="kernel_init 'he' must be one of he_uniform, normal, uniform"):
        dcgan.Critic(kernel_init="he").init(KEY, jnp.zeros((1, 8, 8, 1)))
    with pytest.raises(ValueError, match="kernel_init 'he' must be one of he_uniform, he_glorot, fan_in"):
        mlp.Critic(kernel_init="he").init(KEY, jnp.zeros((1, 2)))
    with pytest.raises(ValueError, match="norm 'group' must be one of none, batch, layer"):
        Norm("group").init(KEY, jnp.zeros((1, 8, 8, 1)))


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_initial_weights_have_the_papers_spread(scale):
    # conv2d.py and deconv2d.py: std = sqrt(2·scale / (fan_in + fan_out)), a stride of 2 dividing one fan by 4.
    kernel = fan_uniform(scale, 2)(KEY, (5, 5, 64, 128))
    std = np.sqrt(2 * scale / (64 * 25 + 128 * 25 / 4))
    np.testing.assert_allclose(kernel.std(), std, rtol=0.01)
    np.testing.assert_allclose(jnp.abs(kernel).max(), std * np.sqrt(3), rtol=0.01)
    dense = fan_uniform(scale)(KEY, (300, 200))
    np.testing.assert_allclose(dense.std(), np.sqrt(2 * scale / 500), rtol=0.02)


def test_normal_initialization_of_the_wgan_paper():
    # main.py, weights_init: convolutions N(0, 0.02), scales of batch norm N(1, 0.02).
    generator = dcgan.Generator((8, 8, 3), width=512, kernel_init="normal", use_bias=False)
    params = generator.init(KEY, jnp.zeros((1, 8)))["params"]
    for kernel in (params["dense"]["kernel"], params["deconv_1"]["kernel"]):
        np.testing.assert_allclose(kernel.std(), 0.02, rtol=0.05)
    scale = params["norm_0"]["batch"]["scale"]
    np.testing.assert_allclose([scale.mean(), scale.std()], [1, 0.02], rtol=0.1)
    assert not params["norm_0"]["batch"]["bias"].any()
    assert set(params["dense"]) == set(params["deconv_1"]) == {"kernel"}


@jax.jit
def plain(x, w):
    return lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


@pytest.mark.parametrize("resample", ["up", "down"])
def test_rewritten_resampling_has_the_values_of_the_two_steps(resample):
    x = jax.random.normal(KEY, (2, 6, 8, 3))
    module = resnet.ResampledConv(5, resample)
    y, variables = jax.jit(module.init_with_output)(KEY, x)
    w = variables["params"]["kernel"]
    if resample == "up":
        expected = plain(jax.image.resize(x, (2, 12, 16, 3), "nearest"), w)
    else:
        expected = nn.avg_pool(plain(x, w), (2, 2), (2, 2))
    np.testing.assert_allclose(y, expected, atol=1e-5)


def test_residual_block_follows_the_papers_code():
    x = jax.random.normal(KEY, (2, 4, 4, 3))
    up = resnet.Block(5, "up", norm="layer")
    y, variables = jax.jit(up.init_with_output)(KEY, x)
    p = variables["params"]

    def norm(x):
        mean, var = x.mean((1, 2, 3), keepdims=True), x.var((1, 2, 3), keepdims=True)
        return (x - mean) / jnp.sqrt(var + 1e-5)

    def big(x):
        return jnp.repeat(jnp.repeat(x, 2, 1), 2, 2)

    h = plain(big(nn.relu(norm(x))), p["conv_1"]["kernel"])
    h = plain(nn.relu(norm(h)), p["conv_2"]["kernel"])
    np.testing.assert_allclose(y, h + plain(big(x), p["shortcut"]["kernel"]), atol=1e-4)

    first = resnet.Block(5, "down", preactivate=False)
    y, variables = jax.jit(first.init_with_output)(KEY, x)
    p = variables["params"]
    h = plain(nn.relu(plain(x, p["conv_1"]["kernel"])), p["conv_2"]["kernel"])
    h = h + plain(x, p["shortcut"]["kernel"])
    np.testing.assert_allclose(y, nn.avg_pool(h, (2, 2), (2, 2)), atol=1e-4)


def test_batch_norm_of_a_sample_does_not_depend_on_the_others():
    generator = dcgan.Generator((8, 8, 1), width=4)
    z = jax.random.normal(KEY, (6, 8))
    variables = jax.jit(generator.init)(KEY, z)
    _, changed = jax.jit(lambda v: generator.apply(v, z, train=True, mutable=["batch_stats"]))(variables)
    variables = variables | changed
    apply = jax.jit(generator.apply)
    np.testing.assert_allclose(apply(variables, z)[:2], apply(variables, z[:2]), atol=1e-6)


def test_norms():
    x = 3 + 2 * jax.random.normal(KEY, (16, 4, 4, 5))
    for kind in NORMS:
        module = Norm(kind)
        variables = module.init(KEY, x)
        y, _ = module.apply(variables, x, train=True, mutable=["batch_stats"])
        axes = {"none": (), "batch": (0, 1, 2), "layer": (1, 2, 3)}[kind]
        expected = x if not axes else (x - x.mean(axes, keepdims=True)) / x.std(axes, keepdims=True)
        np.testing.assert_allclose(y, expected, atol=1e-4)
    _, stats = Norm("batch").apply(Norm("batch").init(KEY, x), x, train=True, mutable=["batch_stats"])
    # Running mean, from 0, with momentum 0.9.
    mean = stats["batch_stats"]["batch"]["mean"]
    np.testing.assert_allclose(mean, 0.1 * x.mean((0, 1, 2)), rtol=1e-4)


@pytest.mark.parametrize(("network", "norm"), [(dcgan, "layer"), (resnet, "layer")])
def test_a_critic_treats_each_example_by_itself(network, norm):
    critic = network.Critic(width=2, norm=norm)
    x = jax.random.normal(KEY, (3, 8, 8, 2))
    apply = jax.jit(lambda x: critic.init_with_output(KEY, x)[0])
    np.testing.assert_allclose(apply(x)[:1], apply(x[:1]), atol=1e-5)
