"""The defects that public implementations of WGAN and WGAN-GP are known for; each test fails if its defect is put in.

`python -m tests.mutations` puts each one in, in a copy of the package, and demands that its test fails.
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import ndtr
from scipy.stats import kstest

import wgan_jax
from wgan_jax import UserError
from wgan_jax.config import default
from wgan_jax.data import batches, digits
from wgan_jax.method import constraints
from wgan_jax.networks import resnet

from .conftest import tiny_config

pytestmark = pytest.mark.usefixtures("quick_compilation")

N_CRITIC, BATCH, SHAPE, RATE = 5, 32, (4, 4, 1), 0.02
KEY = jax.random.key(0)


class ShiftedLatents(nn.Module):
    """A generator whose images are its latents, moved by its one parameter."""

    watch: Callable

    @nn.compact
    def __call__(self, z, *args, **kwargs):
        jax.debug.callback(self.watch, z, ordered=True)
        return (z + self.param("shift", nn.initializers.zeros_init(), z.shape[1:])).reshape(-1, *SHAPE)


class LinearCritic(nn.Module):
    @nn.compact
    def __call__(self, x, *args, **kwargs):
        weight = self.param("weight", nn.initializers.normal(), SHAPE)
        return jnp.sum(x * weight, axis=(1, 2, 3))


def watched():
    """A GAN with the penalty of the library, SGD, and a record of what its step feeds to its parts."""
    seen = {"latents": [], "real": [], "fake": [], "mixed": []}
    penalty = constraints.gradient_penalty(10.0)

    def keep(*names):
        return lambda *arrays: [seen[name].append(np.array(x)) for name, x in zip(names, arrays, strict=True)]

    def loss(critic_fn, real, fake, *args):
        def watched_critic(x, *args):
            jax.debug.callback(keep("mixed"), x, ordered=True)
            return critic_fn(x, *args)

        jax.debug.callback(keep("real", "fake"), real, fake, ordered=True)
        return penalty.loss(watched_critic, real, fake, *args)

    gan = wgan_jax.Gan(
        generator=ShiftedLatents(keep("latents")),
        critic=LinearCritic(),
        image_shape=SHAPE,
        prior=wgan_jax.priors.Normal(16),
        generator_optimizer=optax.sgd(RATE),
        critic_optimizer=optax.scale_by_schedule(lambda count: -RATE),
        constraint=constraints.Constraint(loss=loss),
    )
    return gan, seen


@functools.cache
def observed():
    """One generator iteration of `watched`: what its parts saw, by critic update; states and metrics."""
    gan, seen = watched()
    before = wgan_jax.init_state(gan, KEY)
    for values in seen.values():
        values.clear()
    images = np.random.default_rng(0).uniform(-1, 1, (N_CRITIC, BATCH, *SHAPE)).astype(np.float32)
    after, metrics = jax.jit(wgan_jax.make_train_step(gan))(before, {"image": images})
    jax.effects_barrier()
    return {name: np.concatenate(x) for name, x in seen.items()} | {
        "images": images,
        "before": before,
        "after": after,
        "metrics": metrics,
    }


def epsilons():
    """Where on the line from its fake to its real each interpolate lies, and how far off that line."""
    real, fake, mixed = (observed()[name].reshape(-1, 16) for name in ("real", "fake", "mixed"))
    epsilon = np.sum((mixed - fake) * (real - fake), 1) / np.sum((real - fake) ** 2, 1)
    off = mixed - fake - epsilon[:, None] * (real - fake)
    return epsilon, np.abs(off).max(1)


def linear_penalty(weight, x, **settings):
    critic = lambda x: jnp.sum(x * weight, axis=tuple(range(1, x.ndim)))  # noqa: E731
    return wgan_jax.gradient_penalty(critic, x, -x, jnp.full(len(x), 0.5), **settings)


# --- the gradient penalty ---


def test_one_epsilon_for_the_whole_batch():
    """`alpha = torch.rand(1)`, expanded to the batch: all interpolates lie equally far along their lines."""
    epsilon, _ = epsilons()
    for row in epsilon.reshape(N_CRITIC, BATCH):
        assert len(np.unique(row.round(6))) == BATCH


def test_epsilon_per_pixel():
    """`torch.rand(real.size())`: interpolates fill the box between two images instead of the line."""
    _, off = epsilons()
    assert off.max() < 1e-5


def test_epsilon_from_a_normal_distribution():
    """`randn` for `rand`: interpolates lie beyond their ends."""
    epsilon, _ = epsilons()
    assert epsilon.min() > -1e-5
    assert epsilon.max() < 1 + 1e-5
    assert kstest(epsilon, "uniform").pvalue > 0.01


@pytest.mark.parametrize("shape", [(4, 4, 2), (5, 3)])
def test_norm_over_one_axis_of_an_image_or_a_sequence(shape):
    """`gradients.norm(2, dim=1)` on what is not flat: norms of pixels' channels or of rows, not of examples."""
    weight = np.random.default_rng(0).normal(size=shape)
    penalty = linear_penalty(weight, np.ones((6, *shape)))
    assert np.isclose(penalty, (np.linalg.norm(weight.ravel()) - 1) ** 2, rtol=1e-5)


def test_norm_over_the_whole_batch():
    """`gradients.norm(2)`: grows with the batch, and pulls on the examples' root mean square alone."""
    weight = np.array([0.6, 0.8])
    for size in (1, 4, 25):
        assert np.isclose(linear_penalty(weight, np.ones((size, 2))), 0, atol=1e-6)


def test_nan_where_the_gradient_is_zero():
    """`jnp.linalg.norm`, whose derivative at 0 is 0/0: where all ReLUs are off, all parameters become NaN."""
    x = np.ones((3, 2))

    def penalty(params):
        critic = lambda x: nn.relu(x @ params["hidden"] - 100) @ params["output"]  # noqa: E731
        return wgan_jax.gradient_penalty(critic, x, x, jnp.full(3, 0.5))

    value, gradient = jax.value_and_grad(penalty)({"hidden": jnp.ones((2, 4)), "output": jnp.ones(4)})
    assert value == 1
    assert all(np.all(np.asarray(leaf) == 0) for leaf in jax.tree.leaves(gradient))


def test_penalty_that_is_not_squared():
    """`(norm - 1).mean()`, or its absolute value."""
    x, weight = np.ones((4, 2)), np.array([1.8, 2.4])
    assert np.isclose(linear_penalty(weight, x), 4, rtol=1e-5)
    assert np.isclose(linear_penalty(weight, x, one_sided=True), 4, rtol=1e-5)


def test_lambda_of_the_toy_script_on_images():
    """`gradient_penalty * LAMBDA * 0.1`: the toy script's λ, on images."""
    metrics = observed()["metrics"]
    penalty_term = metrics["critic_loss"] + metrics["wasserstein_estimate"]
    assert np.isclose(penalty_term, 10 * metrics["gradient_penalty"], rtol=1e-5)
    assert default().constraint.weight == 10


def expected_critic(updates):
    """The linear critic's weight after SGD on `mean(fake) − mean(real) + 10 (‖w‖ − 1)²`, worked out by hand."""
    seen = observed()
    weight = np.asarray(seen["before"].critic.params["weight"], np.float64)
    real, fake = (seen[name].reshape(-1, BATCH, *SHAPE).astype(np.float64) for name in ("real", "fake"))
    for k in range(updates):
        norm = np.linalg.norm(weight)
        gradient = fake[k].mean(0) - real[k].mean(0) + 20 * (norm - 1) / norm * weight
        weight = weight - RATE * gradient
    return weight


def test_penalty_computed_and_never_added():
    """The penalty is logged, but is no part of what the critic minimises: the critic's slope grows without bound."""
    weight = np.asarray(observed()["after"].critic.params["weight"])
    assert np.allclose(weight, expected_critic(N_CRITIC), rtol=1e-4, atol=1e-5)


def test_penalty_with_an_optimizer_step_of_its_own():
    """`gp.backward(); optimizer.step()` beside the loss's own: twice as many steps, and moments of two objectives."""
    state = observed()["after"].critic.opt_state
    assert optax.tree_utils.tree_get(state, "count") == N_CRITIC


@pytest.mark.parametrize("network", ["dcgan", "resnet"])
def test_batch_norm_in_a_critic_under_a_penalty(network):
    """DCGAN's critic taken over as it was: with batch norm the gradient of a score is no longer of one example."""
    config = tiny_config(critic__network=network, critic__norm="batch")
    with pytest.raises(UserError, match=r"config\.critic\.norm = 'batch': .*each example by itself.*use 'layer'"):
        wgan_jax.build(config)


# --- the order of play ---


def test_the_same_noise_for_all_critic_updates():
    """`z` drawn once, above the loop over critic updates."""
    fake = observed()["fake"].reshape(-1, 16)
    assert len(fake) == N_CRITIC * BATCH
    assert len(np.unique(fake.round(6), axis=0)) == len(fake)


def test_the_same_real_batch_for_all_critic_updates():
    """One batch fetched per generator iteration, and shown to the critic five times."""
    assert np.array_equal(observed()["real"].reshape(observed()["images"].shape), observed()["images"])
    config = tiny_config(n_critic=N_CRITIC)
    data = batches.dataset(digits.load("train"), wgan_jax.build(config).schedule, seed=0, batch_size=8, steps=2)
    rows = np.concatenate([data[0]["image"], data[1]["image"]])
    assert rows.shape[:2] == (2 * N_CRITIC, 8)
    assert len(np.unique(rows.reshape(2 * N_CRITIC * 8, -1), axis=0)) == 2 * N_CRITIC * 8


def test_the_same_key_for_latents_and_epsilon():
    """One `key` used twice in a critic update: ε is then a function of a latent (its normal quantile)."""
    epsilon, _ = epsilons()
    quantiles = ndtr(observed()["fake"].reshape(-1, 16)).T
    assert max(abs(np.corrcoef(q, epsilon)[0, 1]) for q in quantiles) < 0.4


def test_the_generators_latents_reused_from_the_critic():
    """The generator steps on fakes that the critic has just been trained on."""
    latents = observed()["latents"]
    assert len(latents) == (N_CRITIC + 1) * BATCH
    assert len(np.unique(latents.round(6), axis=0)) == len(latents)


def test_the_generator_steps_on_every_nth_batch_only():
    """`if i % n_critic == 0` in a loop over batches: of an iteration's n_critic batches, or of n_critic iterations."""
    gan, _ = watched()
    train_step = jax.jit(wgan_jax.make_train_step(gan))
    state, images = observed()["before"], observed()["images"]
    for step in range(1, N_CRITIC + 2):
        before = np.asarray(state.generator.params["shift"])
        state, _ = train_step(state, {"image": images})
        # SGD on −w·mean(z + shift): the generator moves by rate · w.
        moved = np.asarray(state.generator.params["shift"]) - before
        assert np.allclose(moved, RATE * np.ravel(state.critic.params["weight"]), atol=1e-6)
        assert state.step == step


def test_warm_up_configured_and_never_used():
    """`100 if step < 25 or step % 500 == 0 else 5` that no loop asks."""
    config = tiny_config(warmup__n_critic=100, warmup__steps=25, warmup__every=500, n_critic=5)
    schedule = wgan_jax.build(config).schedule
    data = batches.dataset(digits.load("train"), schedule, seed=0, batch_size=8, steps=502)
    assert [len(data[step]["image"]) for step in (0, 24, 25, 499, 500, 501)] == [100, 100, 5, 5, 100, 5]


# --- the residual networks ---


def test_bilinear_up_sampling():
    """`nn.Upsample(mode="bilinear")` where the paper's code repeats pixels."""
    x = np.random.default_rng(0).normal(size=(1, 3, 3, 1)).astype(np.float32)
    repeated = np.kron(x[0, :, :, 0], np.ones((2, 2)))
    assert np.allclose(resnet.upsample(x)[0, :, :, 0], repeated)
    identity = np.zeros((3, 3, 1, 1), np.float32)
    identity[1, 1] = 1
    params = {"kernel": identity, "bias": np.zeros(1, np.float32)}
    y = resnet.ResampledConv(1, "up").apply({"params": params}, x)
    assert np.allclose(y[0, :, :, 0], repeated, atol=1e-6)


@pytest.mark.parametrize("player", ["generator", "critic"])
def test_half_the_width(player):
    """64 features a layer, and the paper's name on it; here every 3×3 convolution has the paper's 128."""
    module, x = {
        "generator": (resnet.Generator((32, 32, 3)), jnp.zeros((1, 128))),
        "critic": (resnet.Critic(), jnp.zeros((1, 32, 32, 3))),
    }[player]
    params = jax.eval_shape(module.init, KEY, x)["params"]
    blocks = [name for name in params if name.startswith("block_")]
    assert len(blocks) == {"generator": 3, "critic": 4}[player]
    for name in blocks:
        assert params[name]["conv_1"]["kernel"].shape[-1] == 128
        assert params[name]["conv_2"]["kernel"].shape == (3, 3, 128, 128)
