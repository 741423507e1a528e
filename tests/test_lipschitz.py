import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wgan_jax import clip_weights, gradient_penalty
from wgan_jax.method import lipschitz

pytestmark = pytest.mark.usefixtures("quick_compilation")

SHAPES = [(5, 3), (5, 4, 3), (5, 4, 4, 2), (5, 2, 3, 2, 2)]


def linear_critic(weight):
    return lambda x: jnp.sum(x * weight, axis=tuple(range(1, x.ndim)))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_linear_critics_norm_is_its_weights_norm(shape, rng):
    real, fake, weight = rng.normal(size=shape), rng.normal(size=shape), rng.normal(size=shape[1:])
    norm = np.linalg.norm(weight.ravel())
    penalty = gradient_penalty(linear_critic(weight), real, fake, rng.uniform(size=5))
    np.testing.assert_allclose(penalty, (norm - 1) ** 2, rtol=1e-5)


@pytest.mark.parametrize(("scale", "two_sided", "one_sided"), [(3.0, 4.0, 4.0), (0.25, 0.5625, 0.0), (1.0, 0.0, 0.0)])
def test_one_sided_penalises_only_norms_above_the_target(scale, two_sided, one_sided):
    weight = scale * np.array([0.6, 0.8])
    x = np.ones((4, 2))
    args = linear_critic(weight), x, -x, np.full(4, 0.5)
    np.testing.assert_allclose(gradient_penalty(*args), two_sided, atol=1e-6)
    np.testing.assert_allclose(gradient_penalty(*args, one_sided=True), one_sided, atol=1e-6)


def test_another_target():
    x = np.ones((4, 2))
    penalty = gradient_penalty(linear_critic(np.array([3.0, 4.0])), x, x, np.zeros(4), target=2.0)
    np.testing.assert_allclose(penalty, 9.0, rtol=1e-6)


def test_a_quadratic_critic_shows_where_each_interpolate_lies(rng):
    """critic(x) = ‖x‖²/2 has the gradient x, so the norms are those of ε·real + (1 − ε)·fake."""
    real, fake = rng.normal(size=(6, 4, 4, 1)), rng.normal(size=(6, 4, 4, 1))
    epsilon = rng.uniform(size=6)
    mixed = np.stack([e * r + (1 - e) * f for e, r, f in zip(epsilon, real, fake, strict=True)])
    norms = np.linalg.norm(mixed.reshape(6, -1), axis=1)
    penalty = gradient_penalty(lambda x: jnp.sum(x**2, axis=(1, 2, 3)) / 2, real, fake, epsilon)
    np.testing.assert_allclose(penalty, np.mean((norms - 1) ** 2), rtol=1e-5)


def test_interpolates_end_at_real_and_at_fake(rng):
    real, fake = rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
    mixed = lipschitz.interpolate(real, fake, np.array([1.0, 0.0]))
    np.testing.assert_allclose(mixed, [real[0], fake[1]], rtol=1e-6)


@pytest.mark.parametrize("epsilon", [np.array(0.5), np.full((4, 2), 0.5), np.full(1, 0.5)])
def test_epsilon_must_be_one_number_per_example(epsilon):
    with pytest.raises(ValueError, match=r"expected \(4\).*epsilon must be one number per example"):
        gradient_penalty(linear_critic(np.ones(2)), np.ones((4, 2)), np.ones((4, 2)), epsilon)


def test_real_and_fake_must_have_one_shape():
    with pytest.raises(ValueError, match="same shape"):
        gradient_penalty(linear_critic(np.ones(2)), np.ones((4, 2)), np.ones((5, 2)), np.ones(4))


def mlp_critic(params):
    return lambda x: jnp.tanh(x @ params["w"] + params["b"]) @ params["v"]


def test_gradient_by_parameters_against_finite_differences(x64, rng):
    params = {"w": rng.normal(size=(3, 5)), "b": rng.normal(size=5), "v": rng.normal(size=5)}
    real, fake, epsilon = rng.normal(size=(7, 3)), rng.normal(size=(7, 3)), rng.uniform(size=7)

    @jax.jit
    def penalty(params):
        return gradient_penalty(mlp_critic(params), real, fake, epsilon)

    gradient = jax.grad(penalty)(params)
    h = 1e-6
    for name, value in params.items():
        for i in np.ndindex(value.shape):
            up, down = value.copy(), value.copy()
            up[i] += h
            down[i] -= h
            difference = (penalty(params | {name: up}) - penalty(params | {name: down})) / (2 * h)
            np.testing.assert_allclose(gradient[name][i], difference, rtol=1e-6, atol=1e-8)


def test_finite_where_the_gradient_is_zero():
    """sqrt has an infinite slope at 0: the plain norm makes the parameters NaN."""
    real = np.ones((3, 2))

    def penalty(weight):
        return gradient_penalty(linear_critic(weight), real, real, np.full(3, 0.5))

    value, gradient = jax.value_and_grad(penalty)(jnp.zeros(2))
    assert value == 1.0
    np.testing.assert_array_equal(gradient, np.zeros(2))


def test_clip_weights_projects_every_leaf(rng):
    params = {"a": rng.normal(size=(3, 4)), "b": {"c": rng.normal(size=5)}}
    clipped = clip_weights(params, 0.5)
    np.testing.assert_allclose(clipped["a"], np.clip(params["a"], -0.5, 0.5), rtol=1e-6)
    np.testing.assert_allclose(clipped["b"]["c"], np.clip(params["b"]["c"], -0.5, 0.5), rtol=1e-6)
    again = clip_weights(clipped, 0.5)
    jax.tree.map(np.testing.assert_array_equal, again, clipped)


@pytest.mark.parametrize("bound", [0, -0.01])
def test_clip_weights_needs_a_positive_bound(bound):
    with pytest.raises(ValueError, match=f"must be positive, not {bound}"):
        clip_weights({"a": np.ones(2)}, bound)


def test_clipped_fraction_counts_parameters():
    params = {"a": jnp.array([0.2, -0.01, 0.0, 0.005]), "b": jnp.array([-3.0])}
    np.testing.assert_allclose(lipschitz.clipped_fraction(params, 0.01), 3 / 5)


def test_no_parameter_of_a_critic_without_any_is_at_the_bound():
    assert lipschitz.clipped_fraction({}, 0.01) == 0
