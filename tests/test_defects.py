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
from wgan_jax.method import constraints, draws, objectives, spectral
from wgan_jax.method.condition import Condition
from wgan_jax.method.draws import Keys
from wgan_jax.method.gan import Gan
from wgan_jax.networks import mlp, resnet

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


def test_the_penalty_alone_is_minimised():
    """Only `gp.backward()`: the adversarial part of the loss is never back-propagated (a public DRAGAN)."""
    weight = np.asarray(observed()["after"].critic.params["weight"])
    assert np.allclose(weight, expected_critic(N_CRITIC), rtol=1e-4, atol=1e-5)


# --- other penalties ---


def term_of(constraint, critic, size=4, real=1.0, fake=-1.0, shape=(2,)):
    """A constraint's term for batches of one number each."""
    keys = Keys(KEY, 0, 0, jnp.arange(size))
    return constraint.loss(critic, jnp.full((size, *shape), real), jnp.full((size, *shape), fake), keys)[0]


def line(x):
    """A critic of slope (3, 4)."""
    return x @ jnp.array([3.0, 4.0])


@pytest.mark.parametrize("kind", ["r1", "r2"])
def test_r1_without_its_half(kind):
    """`reg_param * grad2.mean()`, and the paper's γ put in for it."""
    assert np.isclose(term_of(getattr(constraints, kind)(2.0), line), 2 / 2 * 25)


@pytest.mark.parametrize("kind", ["r1", "r2"])
def test_r1_summed_over_the_batch(kind):
    """`grad2.sum()`: the penalty grows with the batch."""
    one, many = (term_of(getattr(constraints, kind)(2.0), line, size) for size in (1, 16))
    assert np.isclose(one, many)


@pytest.mark.parametrize("kind", ["dragan", "r1", "lipschitz_penalty"])
def test_gradient_of_the_probability(kind):
    """The penalty's gradient taken of `sigmoid(D)`: where the critic is sure, nothing is penalised."""
    assert term_of(getattr(constraints, kind)(), line, real=9.0, fake=9.0) > 100


@functools.cache
def around(real):
    """Where DRAGAN's points lie around real examples of one number each, over the largest noise: `[B, pixels]`."""
    seen = []

    def critic(x):
        jax.debug.callback(lambda x: seen.append(np.array(x, np.float64)), x)
        return jnp.sum(x, axis=1)

    term_of(constraints.dragan(noise=0.5), critic, 64, real=real, shape=(200,))
    jax.effects_barrier()
    return (seen[0] - real) / 0.5


def test_dragans_alpha_per_pixel():
    """α drawn like the noise: points fill a box unevenly, and none lies on a line of its own length."""
    each = around(0.0)
    alpha = each.max(1)
    assert kstest(alpha, "uniform").pvalue > 0.01
    assert kstest((each / alpha[:, None]).ravel()[::7], "uniform").pvalue > 0.001


def test_dragans_noise_of_one_number_for_each_example():
    """`u` of shape `[B, 1, 1, 1]`: all pixels become brighter together."""
    assert (around(0.0).std(1) > 0.2 * around(0.0).max(1)).all()


def test_dragans_noise_centred():
    """`2 * u - 1`, or a normal distribution, and no word of it: the code's noise is never negative."""
    assert around(0.0).min() >= 0


def test_dragans_points_clipped():
    """Points kept in the range of the data, and no word of it."""
    assert around(1.0).max() > 0.9


def consistency(apart, hidden=0.0, **settings):
    """The consistency term where the scores of the examples are this far apart, and all hidden units."""

    class Two:
        def with_features(self, x, critic_pass):
            second = critic_pass is draws.CriticPass.AGAIN
            return jnp.asarray(apart) * second, jnp.full((len(apart), 3), hidden) * second

    return constraints.consistency(**settings).loss(Two(), None, None, None)[0]


def test_consistency_without_the_hidden_layer():
    """The scores alone: 0.1 times the distance of the last hidden layers is missing."""
    assert np.isclose(consistency([0.0, 0.0], hidden=3.0), 2 * 0.1 * 9)


def test_consistency_that_is_not_squared():
    """`abs` for the square."""
    assert np.isclose(consistency([3.0, 1.0]), 2 * (9 + 1) / 2)


def test_the_hinge_of_the_consistency_term_over_the_batch():
    """`torch.max(term, 0)`, or a hinge of the mean: an example below M' pays for another above it."""
    assert np.isclose(consistency([2.0, 0.0], margin=3.0), (8 - 3 + 0) / 2)


def test_a_margin_that_turns_the_consistency_term_off():
    """An M' that no pair of scores ever exceeds."""
    assert default().constraint.consistency_margin == 0
    assert consistency([0.01, 0.01]) > 0


def test_dropout_off_in_the_penalty():
    """`critic.eval()` before the gradient penalty: it bounds the slope of another critic than the one that plays."""
    gan = Gan(critic=mlp.Critic(width=64, depth=1, dropout=0.5), **OTHERS)
    critic = wgan_jax.init_state(gan, KEY).critic
    score = objectives.Scores(gan, critic, Condition(), Keys(KEY, 0, 0, jnp.arange(8)))
    x = jnp.ones((8, *SHAPE))
    assert len(np.unique(score(x))) == 8
    assert len(np.unique(gan.score(critic, x).value)) == 1


# --- spectral normalization ---

OTHERS = {
    "generator": mlp.Generator(SHAPE, width=4, depth=1),
    "image_shape": SHAPE,
    "prior": wgan_jax.priors.Normal(2),
    "generator_optimizer": optax.sgd(0.1),
    "critic_optimizer": optax.sgd(0.0),
}


def power_step(kernel, u):
    """One step by hand on the kernel's matrix `[inputs, outputs]`: v, u and σ."""
    w = np.asarray(kernel, np.float64).reshape(-1, kernel.shape[-1])
    v = w @ u / np.linalg.norm(w @ u)
    after = v @ w / np.linalg.norm(v @ w)
    return v, after, v @ w @ after


KERNEL = np.random.default_rng(1).normal(size=(3, 3, 4, 5)).astype(np.float32)
START = np.array([0.6, 0.0, 0.8, 0.0, 0.0])


def normalized(kernel):
    """The kernel after one step from `START`, and u."""
    weights, state = spectral.normalize({"kernel": kernel}, {"kernel": jnp.asarray(START, jnp.float32)})
    return weights["kernel"], state["kernel"]


def test_u_moved_by_every_pass():
    """u advanced in D(real), in D(fake) and in the generator's step, so that no two of them see the same weights."""
    gan = Gan(critic=mlp.Critic(width=3, depth=1), constraint=constraints.spectral_norm(), **OTHERS)
    state = wgan_jax.init_state(gan, KEY)
    u = np.array([0.6, 0.0, 0.8])
    state.critic.constraint["hidden"]["dense_0"]["kernel"] = jnp.asarray(u, jnp.float32)
    kernel = state.critic.params["hidden"]["dense_0"]["kernel"]
    after, _ = jax.jit(wgan_jax.make_train_step(gan))(state, {"image": jnp.ones((1, 4, *SHAPE))})
    got = after.critic.constraint["hidden"]["dense_0"]["kernel"]
    assert np.allclose(got, power_step(kernel, u)[1], atol=1e-5)
    assert not np.allclose(got, u, atol=1e-2)


def test_weights_that_are_not_normalized_outside_training():
    """Evaluation with weights as they are, or as they were in the last step of training."""
    gan = Gan(critic=LinearCritic(), constraint=constraints.spectral_norm(), **OTHERS)
    state = wgan_jax.init_state(gan, KEY)
    x = jnp.ones((1, *SHAPE))
    for scale in (1.0, 7.0):
        critic = state.critic.with_params(jax.tree.map(lambda w, scale=scale: scale * w, state.critic.params))
        slope = jax.grad(lambda x, critic=critic: gan.score(critic, x).value[0])(x)
        assert np.isclose(np.linalg.svd(slope.reshape(-1, 1))[1].max(), 1, rtol=1e-2)


def test_differentiated_through_the_power_step():
    """u and v are constants: `∂(W/σ) = (∂W − ⟨W, ∂W⟩ vuᵀ/σ)/σ` in the kernel's layout."""
    direction = np.random.default_rng(2).normal(size=KERNEL.shape)
    v, u, sigma = power_step(KERNEL, START)
    gradient = jax.grad(lambda kernel: jnp.sum(normalized(kernel)[0] * direction))(jnp.asarray(KERNEL))
    expected = (direction - np.sum(KERNEL * direction) * np.outer(v, u).reshape(KERNEL.shape) / sigma) / sigma
    assert np.allclose(gradient, expected, atol=1e-4)


def test_another_matrix_of_the_kernel():
    """A kernel `[kh, kw, in, out]` cut into rows of another meaning, as PyTorch's `reshape(out, -1)` would here."""
    assert np.allclose(normalized(KERNEL)[0], KERNEL / power_step(KERNEL, START)[2], rtol=1e-4)


def test_one_power_step_before_the_first_update():
    """A single step from a random u: σ is too small, so the first critics are too steep."""
    kernel = {"kernel": jnp.asarray(np.random.default_rng(3).uniform(-1, 1, (64, 64)), jnp.float32)}
    weights, _ = spectral.normalize(kernel, spectral.init(kernel, KEY))
    assert np.linalg.svd(weights["kernel"])[1].max() < 1.01


def test_no_epsilon_under_the_norms():
    """`a / a.norm()`: a kernel of zeros makes u NaN, and then the weights for good."""
    weights, state = spectral.normalize({"kernel": jnp.zeros((3, 5))}, {"kernel": jnp.asarray(START, jnp.float32)})
    assert np.all(np.asarray(weights["kernel"]) == 0)
    assert np.allclose(state["kernel"], START)


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
