import functools
import importlib.util
import os
import re
import subprocess
import sys

import chex
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from wgan_jax.config import build
from wgan_jax.method.batch import batch_shapes
from wgan_jax.method.state import init_state
from wgan_jax.method.step import make_train_step
from wgan_jax.networks import convolution, dcgan, winograd
from wgan_jax.networks.convolution import (
    Conv,
    ConvTranspose,
    conv,
    input_gradient,
    kernel_gradient,
)

from .commands import ROOT

pytestmark = pytest.mark.usefixtures("quick_compilation")

CONFIGS = ROOT / "configs"


def reference(x, w, strides):
    return lax.conv_general_dilated(x, w, strides, "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def arrays(shape_x, shape_w, strides, dtype=np.float32):
    r = np.random.default_rng(0)
    rows, columns = (-(-n // s) for n, s in zip(shape_x[1:3], strides, strict=True))
    shapes = shape_x, shape_w, (shape_x[0], rows, columns, shape_w[-1])
    return [jnp.asarray(r.standard_normal(shape), dtype) for shape in shapes]


def assert_close(ours, theirs, tolerance=1e-5):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        chex.assert_equal_shape([a, b])
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        assert np.linalg.norm(a - b) <= tolerance * np.linalg.norm(b) + 1e-12


def derivatives(f, x, w, y):
    """Value, both first derivatives, and both derivatives of each of the squared first derivatives."""

    def first(x, w):
        return jax.vjp(f, x, w)[1](y)

    def second(x, w):
        return [jax.grad(lambda x, w, i=i: jnp.sum(first(x, w)[i] ** 3), (0, 1))(x, w) for i in (0, 1)]

    return f(x, w), first(x, w), second(x, w)


def compare(x, w, y, strides):
    def of(f):
        return jax.jit(functools.partial(derivatives, lambda x, w: f(x, w, strides)))(x, w, y)

    assert_close(of(conv), of(reference))


SIZE = st.integers(1, 9)
KERNEL = st.integers(1, 6)
STRIDE = st.integers(1, 3)
CHANNELS = st.sampled_from([1, 3, 8, 9])  # few and many: forms of their own


@settings(max_examples=6, deadline=None, derandomize=True)
@given(
    batch=st.integers(1, 3),
    size=st.tuples(SIZE, SIZE),
    kernel=st.tuples(KERNEL, KERNEL),
    strides=st.tuples(STRIDE, STRIDE),
    channels=CHANNELS,
    features=CHANNELS,
)
def test_values_and_two_orders_of_derivatives_are_those_of_xla(batch, size, kernel, strides, channels, features):
    x, w, y = arrays((batch, *size, channels), (*kernel, channels, features), strides)
    compare(x, w, y, strides)


LAYERS = [((2, 16, 16, 24), (5, 5, 24, 48), (2, 2)), ((2, 8, 8, 8), (3, 3, 8, 8), (1, 1))]


@pytest.mark.parametrize(("x", "w", "strides"), LAYERS)
def test_layers_of_the_networks(x, w, strides):
    x, w, y = arrays(x, w, strides)
    compare(x, w, y, strides)


def test_the_three_are_partial_gradients_of_one_trilinear_form():
    strides = (2, 3)
    x, w, y = arrays((2, 7, 8, 3), (4, 5, 3, 5), strides)
    forms = (
        jnp.vdot(conv(x, w, strides), y),
        jnp.vdot(x, input_gradient(y, w, (7, 8), strides)),
        jnp.vdot(w, kernel_gradient(x, y, (4, 5), strides)),
    )
    np.testing.assert_allclose(forms, forms[0], rtol=1e-5)


def test_third_derivative():
    x, w, _ = arrays((1, 6, 6, 2), (3, 3, 2, 3), (2, 2))

    def third(f):
        g = lambda x: jnp.sum(f(x, w) ** 4)  # noqa: E731
        for _ in range(3):
            g = (lambda h: lambda x: jnp.sum(jax.grad(h)(x) ** 2))(g)
        return jax.jit(g)(x)

    ours, theirs = third(lambda x, w: conv(x, w, (2, 2))), third(lambda x, w: reference(x, w, (2, 2)))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)


@pytest.mark.parametrize("channels", [3, 24])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
def test_bfloat16_sums_in_float32_and_rounds_once(channels, strides):
    x, w, y = arrays((2, 8, 8, channels), (5, 5, channels, 8), strides, jnp.bfloat16)
    wide = [a.astype(jnp.float32) for a in (x, w, y)]
    f, g = (lambda x, w: conv(x, w, strides)), (lambda x, w: reference(x, w, strides))
    ours = jax.jit(lambda x, w, y: (f(x, w), *jax.vjp(f, x, w)[1](y)))(x, w, y)
    theirs = jax.jit(lambda x, w, y: (g(x, w), *jax.vjp(g, x, w)[1](y)))(*wide)
    assert {a.dtype for a in ours} == {jnp.dtype(jnp.bfloat16)}
    assert_close(ours, theirs, tolerance=2**-8 / np.sqrt(3))


def penalty(f, x, w):
    return jnp.sum(jax.grad(lambda x: jnp.sum(jnp.tanh(f(x, w))))(x) ** 2)


def test_vmap_scan_and_jit_agree():
    x, w, _ = arrays((3, 8, 8, 4), (5, 5, 4, 8), (2, 2))
    xs = jnp.stack([x, 2 * x])
    f = lambda x, w: conv(x, w, (2, 2))  # noqa: E731
    gradient = jax.jit(jax.grad(lambda w, x: penalty(f, x, w)))
    one_by_one = jnp.stack([gradient(w, x) for x in xs])
    assert_close(jax.vmap(gradient, (None, 0))(w, xs), one_by_one)
    scanned = jax.jit(lambda: lax.scan(lambda c, x: (c, gradient(w, x)), 0, xs)[1])()
    assert_close(scanned, one_by_one)
    kernels = jnp.stack([w, -w])
    assert_close(jax.vmap(gradient, (0, None))(kernels, x), jnp.stack([gradient(v, x) for v in kernels]))


def test_export_for_every_platform():
    x, w, _ = arrays((2, 8, 8, 4), (3, 3, 4, 4), (2, 2))
    f = jax.jit(jax.grad(lambda w, x: penalty(lambda x, w: conv(x, w, (2, 2)), x, w)))
    exported = jax.export.export(f, platforms=["cpu", "cuda", "tpu"])(w, x)
    assert_close(jax.jit(exported.call)(w, x), f(w, x))


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_accelerators_get_plain_convolutions(platform):
    x, w, _ = arrays((2, 8, 8, 4), (3, 3, 4, 4), (2, 2), jnp.bfloat16)
    f = jax.jit(jax.grad(lambda w, x: penalty(lambda x, w: conv(x, w, (2, 2)), x, w)))
    text = f.trace(w, x).lower(lowering_platforms=(platform,)).as_text()
    assert "stablehlo.convolution" in text
    assert "stablehlo.dot_general" not in text


@pytest.mark.parametrize("channels", [4, 9])
def test_accelerators_form_has_the_cpu_forms_values(channels):
    size, kernel, strides = (7, 8), (5, 3), (2, 1)
    x, w, y = arrays((2, *size, channels), (*kernel, channels, 6), strides)
    assert_close(conv(x, w, strides), convolution._conv_xla(x, w, strides))
    assert_close(input_gradient(y, w, size, strides), convolution._input_gradient_xla(y, w, size, strides))
    assert_close(kernel_gradient(x, y, kernel, strides), convolution._kernel_gradient_xla(x, y, kernel, strides))


def jvp_of_grad(h, x, v):
    return jax.jvp(jax.grad(h), (x,), (v,))[1]


def grad_of_jvp(h, x, v):
    return jax.grad(lambda x: jax.jvp(h, (x,), (v,))[1])(x)


def grad_of_grad(h, x, v):
    return jax.grad(lambda x: jnp.vdot(jax.grad(h)(x), v))(x)


def second_jvp(h, x, v):
    return jax.jvp(lambda x: jax.jvp(h, (x,), (v,))[1], (x,), (v,))


def third_order(h, x, v):
    """Forwards of backwards of forwards."""
    return jax.jvp(jax.grad(lambda x: jax.jvp(h, (x,), (v,))[1]), (x,), (v,))


MODES = (jvp_of_grad, grad_of_jvp, grad_of_grad, second_jvp, third_order)
FORWARD = [
    ((2, 6, 5, 3), (3, 3, 3, 4), (1, 1)),
    ((2, 6, 6, 9), (5, 5, 9, 8), (2, 2)),
    ((1, 8, 8, 8), (4, 4, 8, 2), (2, 2)),
    ((2, 4, 6, 1), (4, 3, 1, 9), (1, 2)),
]


@pytest.mark.parametrize(("x", "w", "strides"), FORWARD)
def test_forward_mode_and_its_mixtures_with_reverse_mode_are_those_of_xla(x, w, strides):
    x, w, y = arrays(x, w, strides)
    w = w / np.sqrt(w[..., 0].size)  # so that no tanh is flat
    v = jax.tree.map(lambda a: jnp.cos(3 * a), (x, w))

    def of(f):
        h = lambda x_w: jnp.vdot(jnp.tanh(f(*x_w, strides)), y)  # noqa: E731
        forward = jax.jvp(lambda x, w: f(x, w, strides), (x, w), v)

        def mixed(x_w, v):
            # As one vector, so that both operands move.
            flat, unravel = jax.flatten_util.ravel_pytree(x_w)
            v, _ = jax.flatten_util.ravel_pytree(v)
            return [mode(lambda x: h(unravel(x)), flat, v) for mode in MODES]

        return forward, jax.jit(mixed)((x, w), v)

    assert_close(of(conv), of(reference), tolerance=3e-5)


@pytest.mark.parametrize("channels", [2, 8])
def test_whole_jacobians_and_hessians_agree_in_every_order_of_modes(channels):
    x, w, _ = arrays((1, 3, 3, channels), (3, 3, channels, 2), (2, 2))
    f = lambda x: jnp.tanh(conv(x, w, (2, 2)))  # noqa: E731
    plain = lambda x: jnp.tanh(reference(x, w, (2, 2)))  # noqa: E731
    theirs = jax.jacrev(plain)(x)
    assert_close([jax.jacfwd(f)(x), jax.jacrev(f)(x)], [theirs, theirs])
    h, hessian = (lambda x: jnp.sum(f(x) ** 2)), jax.hessian(lambda x: jnp.sum(plain(x) ** 2))(x)
    for outer, inner in ((jax.jacfwd, jax.jacrev), (jax.jacrev, jax.jacfwd)):
        assert_close(jax.jit(outer(inner(h)))(x), hessian)


def test_the_gradients_are_differentiated_forwards_too():
    strides = (2, 1)
    x, w, y = arrays((2, 6, 5, 3), (4, 3, 3, 8), strides)
    dx, dw, dy = (jnp.sin(5 * a) for a in (x, w, y))
    ours = jax.jvp(lambda y, w: input_gradient(y, w, (6, 5), strides), (y, w), (dy, dw))[1]
    assert_close(ours, input_gradient(dy, w, (6, 5), strides) + input_gradient(y, dw, (6, 5), strides))
    ours = jax.jvp(lambda x, y: kernel_gradient(x, y, (4, 3), strides), (x, y), (dx, dy))[1]
    assert_close(ours, kernel_gradient(dx, y, (4, 3), strides) + kernel_gradient(x, dy, (4, 3), strides))


def test_forward_mode_within_scan_remat_and_vmap():
    x, w, _ = arrays((3, 6, 6, 2), (3, 3, 2, 8), (2, 2))
    v = jnp.cos(x)
    xs = jnp.stack([x, -x])

    def of(f):
        h = lambda x: jnp.sum(jnp.tanh(f(x, w, (2, 2))))  # noqa: E731
        one = lambda x: jvp_of_grad(jax.checkpoint(h), x, v)  # noqa: E731
        scanned = jax.jit(lambda xs: lax.scan(lambda c, x: (c, one(x)), 0, xs)[1])
        through = lambda xs: lax.scan(lambda c, x: (c + h(x), None), 0.0, xs)[0]  # noqa: E731
        return jax.vmap(one)(xs), scanned(xs), jax.jit(lambda xs: jvp_of_grad(through, xs, 2 * xs))(xs)

    assert_close(of(conv), of(reference))


@pytest.mark.parametrize("axes", [(1, None), (None, 3), (3, 0)])
def test_vmap_over_either_operand_or_both_and_twice(axes):
    x, w, _ = arrays((2, 6, 6, 3), (3, 3, 3, 4), (2, 2))
    x, w = (a if axis is None else jnp.stack([a, -a, 2 * a], axis) for a, axis in zip((x, w), axes, strict=True))

    def of(f):
        gradients = lambda x, w: jax.grad(lambda x, w: jnp.sum(jnp.tanh(f(x, w, (2, 2)))), (0, 1))(x, w)  # noqa: E731
        once = jax.vmap(gradients, axes)
        twice = jax.vmap(once, (None, 0))(x, jnp.stack([w, 3 * w]))
        return jax.vmap(lambda x, w: f(x, w, (2, 2)), axes)(x, w), once(x, w), twice

    assert_close(jax.jit(lambda: of(conv))(), jax.jit(lambda: of(reference))())


SHARDED = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from wgan_jax.networks.convolution import conv
mesh = Mesh(np.array(jax.devices()), "data")
assert mesh.size == 8
x = jax.random.normal(jax.random.key(0), (16, 8, 8, 6))
w = jax.random.normal(jax.random.key(1), (5, 5, 6, 8))
def loss(w, x):
    score = lambda x: jnp.sum(jnp.tanh(conv(jnp.tanh(conv(x, w, (2, 2))), w.swapaxes(2, 3), (2, 2))))
    return jnp.sum(jax.grad(score)(x) ** 2)
f = jax.jit(jax.grad(loss))
one = f(w, x)
many = f.lower(w, jax.device_put(x, NamedSharding(mesh, P("data")))).compile()
text = many.as_text()
assert "all-gather" not in text and "all-to-all" not in text, "an example left its device"
eight = many(jax.device_put(w, NamedSharding(mesh, P())), jax.device_put(x, NamedSharding(mesh, P("data"))))
np.testing.assert_allclose(one, eight, rtol=1e-3, atol=1e-4 * float(jnp.abs(one).max()))
def product(w, x):
    return jax.lax.psum(jax.jvp(jax.grad(lambda w: loss(w, x)), (w,), (jnp.cos(w),))[1], "data")
spread = jax.shard_map(product, mesh=mesh, in_specs=(P(), P("data")), out_specs=P(), check_vma=False)
one_product = jax.jit(lambda w, x: jax.jvp(jax.grad(lambda w: loss(w, x)), (w,), (jnp.cos(w),))[1])(w, x)
np.testing.assert_allclose(
    one_product, jax.jit(spread)(w, x), rtol=1e-3, atol=1e-4 * float(jnp.abs(one_product).max())
)
mapped = jax.pmap(lambda x: jax.lax.psum(jax.grad(loss)(w, x), "data"), axis_name="data")
np.testing.assert_allclose(one, mapped(x.reshape(8, 2, 8, 8, 6))[0], rtol=1e-3, atol=1e-4 * float(jnp.abs(one).max()))
"""


def test_examples_stay_on_their_device():
    env = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    }
    done = subprocess.run([sys.executable, "-c", SHARDED], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def slow_convolutions(text):
    """Lines of optimized CPU HLO whose convolution XLA would run in a naive loop."""
    lines = [line for line in text.splitlines() if " convolution(" in line]
    return [line for line in lines if "reversal" in line or "dim_labels=b01f_01io->b01f" not in line]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_no_slow_convolution_is_left_in_a_penalty(dtype):
    critic = dcgan.Critic(width=4, dtype=dtype)
    x = jnp.zeros((5, 2, 16, 16, 1))
    params = critic.init(jax.random.key(0), x[0])

    def loss(params, x):
        return penalty(lambda x, params: critic.apply(params, x), x, params)

    def body(params, x):
        gradient = jax.grad(loss)(params, x)
        return jax.tree.map(lambda p, g: p - g, params, gradient), None

    f = jax.jit(lambda params, x: lax.scan(body, params, x))
    assert slow_convolutions(f.lower(params, x).compile().as_text()) == []

    # What this test would find: XLA's own second derivative.
    w = jnp.ones((5, 5, 8, 16))
    plain = jax.jit(jax.grad(lambda w, x: penalty(lambda x, w: reference(x, w, (2, 2)), x, w)))
    text = plain.lower(w, jnp.ones((4, 8, 8, 8))).compile().as_text()
    assert slow_convolutions(text) != []


def test_modules_hold_the_fields_parameters():
    x = jnp.ones((2, 8, 8, 3))
    variables = Conv(5, (3, 3), (2, 2)).init(jax.random.key(0), x)
    chex.assert_shape(variables["params"]["kernel"], (3, 3, 3, 5))
    chex.assert_shape(variables["params"]["bias"], (5,))
    module = ConvTranspose(5, (3, 3), (2, 2), use_bias=False, dtype=jnp.bfloat16)
    y, variables = module.init_with_output(jax.random.key(0), x)
    chex.assert_shape(y, (2, 16, 16, 5))
    assert y.dtype == jnp.bfloat16
    assert list(variables["params"]) == ["kernel"]
    chex.assert_type(variables["params"]["kernel"], jnp.float32)
    chex.assert_shape(variables["params"]["kernel"], (3, 3, 5, 3))


def test_transposed_module_is_the_adjoint_of_the_module():
    down, up = Conv(4, (5, 5), (2, 2)), ConvTranspose(3, (5, 5), (2, 2))
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    y = jax.random.normal(jax.random.key(1), (2, 4, 4, 4))
    kernel = jax.random.normal(jax.random.key(2), (5, 5, 3, 4))
    forward = down.apply({"params": {"kernel": kernel, "bias": jnp.zeros(4)}}, x)
    backward = up.apply({"params": {"kernel": kernel, "bias": jnp.zeros(3)}}, y)
    np.testing.assert_allclose(jnp.vdot(forward, y), jnp.vdot(x, backward), rtol=1e-4)


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("outputs", [2, 4])
def test_winograds_sums_are_those_of_the_filter(kernel, stride, outputs):
    x, w, y = winograd.matrices(kernel, stride, outputs)
    form = np.einsum("np,ni,nq->piq", x, w, y)  # how input p, tap i and output q meet
    p, i, q = np.indices(form.shape)
    np.testing.assert_allclose(form, p == stride * q + i, atol=1e-12)
    assert len(x) <= outputs * kernel  # never more products than without


@pytest.mark.parametrize(
    ("size", "kernel", "strides"),
    [((8, 8), (5, 5), (2, 2)), ((7, 4), (3, 3), (1, 1)), ((3, 9), (4, 6), (2, 3)), ((1, 2), (7, 2), (1, 2))],
)
def test_the_forms_of_fewer_products_are_xlas(size, kernel, strides):
    x, w, y = arrays((2, *size, 9), (*kernel, 9, 8), strides)
    assert_close(conv(x, w, strides), reference(x, w, strides))
    theirs = jax.linear_transpose(lambda x: reference(x, w, strides), x)(y)[0]
    assert_close(input_gradient(y, w, size, strides), theirs)
    theirs = jax.linear_transpose(lambda w: reference(x, w, strides), w)(y)[0]
    assert_close(kernel_gradient(x, y, kernel, strides), theirs)


def image_configs():
    for path in sorted(CONFIGS.glob("*.py")):
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        config = module.get_config()
        if {config.critic.network, config.generator.network} & {"dcgan", "resnet"}:
            yield pytest.param(config, id=path.stem)


@pytest.mark.slow
@pytest.mark.parametrize("config", list(image_configs()))
def test_no_slow_convolution_is_left_in_a_configs_step(config):
    gan = build(config)
    state = jax.eval_shape(lambda: init_state(gan, jax.random.key(0)))
    batch = batch_shapes(gan, 2, 4)
    lowered = jax.jit(make_train_step(gan)).lower(state, batch)
    options = {"xla_backend_optimization_level": 0}  # of the machine's code, which is not looked at
    assert slow_convolutions(lowered.compile(compiler_options=options).as_text()) == []


FOR_GPUS = [
    ((2, 8, 8, 9), (5, 5, 9, 6), (2, 2)),  # no larger than the kernel, when halved
    ((2, 7, 7, 9), (5, 5, 9, 6), (2, 2)),
    ((2, 8, 8, 9), (4, 4, 9, 6), (2, 2)),
    ((2, 16, 16, 3), (5, 5, 3, 6), (2, 2)),  # few channels
    ((2, 8, 8, 3), (3, 3, 3, 5), (1, 1)),
    ((2, 5, 9, 3), (2, 5, 3, 5), (3, 2)),
    ((2, 4, 6, 2), (6, 1, 2, 5), (2, 1)),
]


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 1e-5), (jnp.bfloat16, 2**-8 / np.sqrt(3))])
@pytest.mark.parametrize(("x", "w", "strides"), FOR_GPUS)
def test_the_forms_for_gpus_are_those_of_xla(x, w, strides, dtype, tolerance):
    x, w, y = arrays(x, w, strides, dtype)

    def of(kind):
        forms = (getattr(convolution, f"_{name}_{kind}") for name in ("conv", "input_gradient", "kernel_gradient"))
        f, g, h = forms
        return jax.jit(
            lambda x, w, y: (f(x, w, strides), g(y, w, x.shape[1:3], strides), h(x, y, w.shape[:2], strides))
        )

    ours = of("gpu")(x, w, y)
    assert {a.dtype for a in ours} == {jnp.dtype(dtype)}
    assert_close(ours, of("xla")(*(a.astype(jnp.float32) for a in (x, w, y))), tolerance)


def gradients_for(platform, x, w, strides):
    """The program of both gradients."""
    f = lambda x, w, y: jax.vjp(lambda x, w: conv(x, w, strides), x, w)[1](y)  # noqa: E731
    traced = jax.jit(f).trace(*arrays(x, w, strides))
    return traced.lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize(("x", "w", "strides"), [layer for layer in FOR_GPUS if layer[2] != (1, 1)])
def test_no_zeros_between_pixels_are_multiplied_on_a_gpu(x, w, strides):
    dilated = re.compile(r"(lhs|rhs)_dilate = \[(?!1, 1\])")
    assert dilated.search(gradients_for("tpu", x, w, strides))
    assert not dilated.search(gradients_for("cuda", x, w, strides))


def test_other_convolutions_on_a_gpu_are_xlas():
    x, w, strides = (2, 16, 16, 16), (5, 5, 16, 8), (2, 2)
    assert gradients_for("cuda", x, w, strides) == gradients_for("tpu", x, w, strides)
