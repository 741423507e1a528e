"""Each optimizer setting of the papers against its update written out in numpy, float64, over a dozen iterations."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import wgan_jax
from wgan_jax.config import default, optimizers
from wgan_jax.method import constraints

from .conftest import tiny_config

pytestmark = pytest.mark.usefixtures("quick_compilation")

ITERATIONS, N_CRITIC, STEPS = 12, 5, 10

PAPERS = {
    # arXiv 1701.07875, its code and the clipped toy runs
    "wgan": {"name": "rmsprop", "learning_rate": 5e-5},
    # gan_toy.py and the other scripts of arXiv 1704.00028, mode wgan: TensorFlow's defaults
    "wgan_gp_clipped": {"name": "rmsprop_tf", "learning_rate": 5e-5, "decay": 0.9, "eps": 1e-10},
    # arXiv 1704.00028: Algorithm 1 and 64×64 images
    "wgan_gp": {"name": "adam", "learning_rate": 1e-4, "b1": 0.0, "b2": 0.9},
    # toy data, MNIST, the DCGAN on CIFAR-10, characters
    "wgan_gp_scripts": {"name": "adam", "learning_rate": 1e-4, "b1": 0.5, "b2": 0.9},
    # the ResNet on CIFAR-10
    "wgan_gp_resnet": {"name": "adam", "learning_rate": 2e-4, "b1": 0.0, "b2": 0.9, "schedule": "linear"},
}
OTHERS = {
    "rmsprop_linear": {"name": "rmsprop", "learning_rate": 5e-5, "schedule": "linear"},
    "rmsprop_other": {"name": "rmsprop", "learning_rate": 1e-3, "decay": 0.8, "eps": 1e-3},
    "rmsprop_tf_other": {"name": "rmsprop_tf", "learning_rate": 1e-3, "decay": 0.99, "eps": 1e-4, "weight_decay": 0.1},
    "adam_other": {"name": "adam", "learning_rate": 1e-3, "b1": 0.9, "b2": 0.999, "eps": 1e-3},
    "adam_decoupled": {"name": "adam", "learning_rate": 1e-3, "weight_decay": 0.1, "schedule": "linear"},
    "rmsprop_decoupled": {"name": "rmsprop", "learning_rate": 1e-3, "weight_decay": 0.1},
    "sgd": {"name": "sgd", "learning_rate": 1e-2, "weight_decay": 0.1, "schedule": "linear"},
}
every_setting = pytest.mark.parametrize("settings", [*PAPERS.values(), *OTHERS.values()], ids=[*PAPERS, *OTHERS])


def config_of(settings):
    c = default().critic.optimizer
    c.update(settings)
    return c


def rate(c, iteration):
    """The learning rate of a generator iteration, counted from 0: linear to 0 at iteration `STEPS`, and 0 after it."""
    return c.learning_rate * (max(1 - iteration / STEPS, 0) if c.schedule == "linear" else 1)


def by_hand(c, w, gradients):
    """The parameter after each update. Adam: Kingma and Ba 2015, Algorithm 1; RMSProp: PyTorch's, TensorFlow's."""
    m = v = np.zeros_like(w)
    v = np.ones_like(w) if c.name == "rmsprop_tf" else v
    for t, g in enumerate(gradients, 1):
        match c.name:
            case "adam":
                m = c.b1 * m + (1 - c.b1) * g
                v = c.b2 * v + (1 - c.b2) * g**2
                direction = (m / (1 - c.b1**t)) / (np.sqrt(v / (1 - c.b2**t)) + c.eps)
            case "rmsprop":
                v = c.decay * v + (1 - c.decay) * g**2
                direction = g / (np.sqrt(v) + c.eps)
            case "rmsprop_tf":
                v = c.decay * v + (1 - c.decay) * g**2
                direction = g / np.sqrt(v + c.eps)
            case "sgd":
                direction = g
        w = w - rate(c, (t - 1) // N_CRITIC) * (direction + c.weight_decay * w)
        yield w


@every_setting
def test_against_numpy(settings, rng):
    """Gradients as small as a clipped critic's, and zeros, among large ones; `N_CRITIC` updates an iteration."""
    c = config_of(settings)
    optimizer = optimizers.build(c, STEPS)
    w = rng.normal(size=64)
    gradients = rng.normal(size=(ITERATIONS * N_CRITIC, 64)) * 10.0 ** rng.integers(-7, 2, size=64)
    gradients[:, :4] = 0
    gradients = gradients.astype(np.float32)

    @jax.jit
    def update(w, state, gradient, step):
        updates, state = optimizer.update(gradient, state, w, step=step)
        return updates, optax.apply_updates(w, updates), state

    params = jnp.asarray(w, jnp.float32)
    state, before = optimizer.init(params), np.asarray(params, np.float64)
    for i, expected in enumerate(by_hand(c, before, gradients.astype(np.float64))):
        updates, params, state = update(params, state, gradients[i], i // N_CRITIC)
        np.testing.assert_allclose(updates, expected - before, rtol=1e-4, atol=2e-6 * c.learning_rate, err_msg=str(i))
        np.testing.assert_allclose(params, expected, rtol=1e-5, atol=1e-6)
        before = expected


def test_the_defaults_are_the_papers():
    """Adam of WGAN-GP's scripts, RMSProp with PyTorch's decay and ε, no weight decay."""
    for player in (default().critic, default().generator):
        c = player.optimizer
        assert (c.name, c.learning_rate, c.b1, c.b2, c.schedule) == ("adam", 1e-4, 0.5, 0.9, "constant")
        assert (c.decay, c.eps, c.weight_decay) == (0.99, 1e-8, 0)


def test_epsilon_of_rmsprop_stands_outside_the_root():
    """Inside it, as optax has it by default, 1e-8 would hold a gradient of 1e-6 to a hundredth of its step."""
    c = config_of(PAPERS["wgan"])
    optimizer = optimizers.build(c, STEPS)
    gradient = jnp.array([1e-6])
    updates, _ = optimizer.update(gradient, optimizer.init(gradient), gradient, step=jnp.int32(0))
    np.testing.assert_allclose(updates, -5e-5 * 1e-6 / (np.sqrt(0.01 * 1e-12) + 1e-8), rtol=1e-5)


@pytest.mark.parametrize("player", ["critic", "generator"])
def test_the_rate_falls_with_the_generators_iterations(player):
    """In a training step too: SGD on one constant gradient moves by `rate(iteration)` in each update."""
    config = tiny_config(steps=4, n_critic=3, constraint__kind="none")
    config[player].optimizer.update(name="sgd", learning_rate=0.5, schedule="linear")
    gan = wgan_jax.build(config)
    rates = []

    def watch(gradient, state, params=None, **extra):
        updates, state = optimizers.build(config[player].optimizer, config.steps).update(
            jax.tree.map(jnp.ones_like, gradient), state, params, **extra
        )
        jax.debug.callback(lambda u: rates.append(-float(u.ravel()[0])), jax.tree.leaves(updates)[0], ordered=True)
        return updates, state

    optimizer = optax.GradientTransformationExtraArgs(getattr(gan, f"{player}_optimizer").init, watch)
    gan = wgan_jax.Gan(**vars(gan) | {f"{player}_optimizer": optimizer})
    state = wgan_jax.init_state(gan, jax.random.key(0))
    train_step = jax.jit(wgan_jax.make_train_step(gan))
    for _ in range(5):
        state, _ = train_step(state, {"image": np.zeros((3, 2, 8, 8, 1), np.float32)})
    jax.effects_barrier()
    expected = np.repeat([0.5, 0.375, 0.25, 0.125, 0], 3 if player == "critic" else 1)
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


@pytest.mark.parametrize("order", ["after", "before"])
def test_the_order_of_clipping(order):
    """A dozen RMSProp updates of a critic that reaches its bound, clipped after each update or before the next."""
    bound = 0.01
    c = config_of({"name": "rmsprop", "learning_rate": 2e-3})
    optimizer, constraint = optimizers.build(c, STEPS), constraints.clip(bound, order=order)
    target = np.linspace(-0.05, 0.05, 9)
    w, v = np.full(9, 0.02), np.zeros(9)
    params = jnp.asarray(w, jnp.float32)
    state = optimizer.init(params)
    for i in range(12):
        params, _ = constraint.before(params)
        gradient = params - jnp.asarray(target, jnp.float32)
        updates, state = optimizer.update(gradient, state, params, step=jnp.int32(i))
        params, _ = constraint.project(optax.apply_updates(params, updates))

        w = np.clip(w, -bound, bound) if order == "before" else w
        g = w - target
        v = 0.99 * v + 0.01 * g**2
        w = w - 2e-3 * g / (np.sqrt(v) + 1e-8)
        w = np.clip(w, -bound, bound) if order == "after" else w
        np.testing.assert_allclose(params, w, rtol=1e-4, atol=1e-7, err_msg=str(i))
    assert (np.abs(w).max() <= bound) == (order == "after")


def test_the_warm_up_of_wgans_code():
    """`if gen_iterations < 25 or gen_iterations % 500 == 0: Diters = 100`, else 5 (arXiv 1701.07875, `main.py`)."""
    schedule = wgan_jax.build(tiny_config(n_critic=5, warmup__n_critic=100)).schedule
    for iteration in range(2_001):
        expected = 100 if iteration < 25 or iteration % 500 == 0 else 5
        assert schedule.updates(iteration) == expected
