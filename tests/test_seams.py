"""What a stranger can add to a GAN in a few lines: a constraint with state, a network, a prior, a head."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import wgan_jax
from wgan_jax.method import draws
from wgan_jax.method.condition import Condition
from wgan_jax.method.constraints import Constraint, chain, gradient_penalty
from wgan_jax.method.draws import Keys, Stream
from wgan_jax.method.gan import mixes_examples
from wgan_jax.method.heads import Head
from wgan_jax.method.sampling import latents, walks
from wgan_jax.metrics.estimate import make_estimate, make_fakes
from wgan_jax.networks import mlp
from wgan_jax.run.checkpointer import Checkpointer

from .conftest import tiny_config

KEY = jax.random.key(0)
N_CRITIC, BATCH, SHAPE, LATENT = 3, 8, (5,), 2


class Linear(nn.Module):
    """A critic of one's own: one matrix and a vector."""

    @nn.compact
    def __call__(self, x, label=None, *, train=False):
        x = nn.Dense(4, use_bias=False, name="hidden")(x)
        return nn.Dense(1, use_bias=False, name="score")(x)[:, 0]


def gan(**changes) -> wgan_jax.Gan:
    whole = wgan_jax.Gan(
        generator=mlp.Generator(SHAPE, width=6, depth=1),
        critic=Linear(),
        image_shape=SHAPE,
        prior=wgan_jax.priors.Normal(LATENT),
        generator_optimizer=optax.adam(1e-3),
        critic_optimizer=optax.adam(1e-2),
    )
    return dataclasses.replace(whole, **changes)


def train(gan, steps=1, **options):
    """States along a run on random examples, and the metrics of the last iteration."""
    step = jax.jit(wgan_jax.make_train_step(gan, **options))
    states, metrics = [wgan_jax.init_state(gan, KEY)], {}
    images = np.random.default_rng(0).normal(size=(steps, N_CRITIC, BATCH, *SHAPE)).astype(np.float32)
    for batch in images:
        state, metrics = step(states[-1], {"image": batch})
        states.append(state)
    return states, metrics


# --- a constraint with state ---


def spectral_norm() -> Constraint:
    """Every kernel over its largest singular value, by one power step for each critic update (arXiv 1802.05957)."""

    def advance(kernel, u):
        u = kernel @ (kernel.T @ u)
        return jax.lax.stop_gradient(u / jnp.linalg.norm(u))

    def init(params, key):
        return jax.tree.map(lambda w: jnp.ones(len(w)) / len(w) ** 0.5, params)

    def weights(params, state):
        state = jax.tree.map(advance, params, state)
        return jax.tree.map(lambda w, u: w / jnp.linalg.norm(w.T @ u), params, state), state

    return Constraint(init=init, weights=weights)


@pytest.fixture(scope="module")
def normed():
    return train(gan(constraint=spectral_norm()), steps=60)[0]


def test_a_constraint_keeps_a_state_of_one_step_for_each_critic_update(normed):
    first, second = normed[0], normed[1]
    kernel = np.asarray(first.critic.params["hidden"]["kernel"])
    u = np.asarray(first.critic.constraint["hidden"]["kernel"])
    np.testing.assert_allclose(u, 1 / 5**0.5, rtol=1e-6)
    assert not np.allclose(second.critic.constraint["hidden"]["kernel"], u, atol=1e-3)
    # The weights moved by at most 3 · 0.01 in each number, so u stands near three power steps on the first kernel.
    for _ in range(N_CRITIC):
        u = kernel @ (kernel.T @ u)
        u /= np.linalg.norm(u)
    np.testing.assert_allclose(second.critic.constraint["hidden"]["kernel"], u, atol=0.1)


def test_what_every_pass_sees_is_the_constrained_critic(normed):
    state, whole = normed[-1], gan(constraint=spectral_norm())
    kernels = [np.asarray(state.critic.params[name]["kernel"], np.float64) for name in ("hidden", "score")]
    weight = np.linalg.multi_dot([w / np.linalg.svd(w)[1].max() for w in kernels])
    x = np.random.default_rng(1).normal(size=(4, *SHAPE)).astype(np.float32)
    score = whole.score(state.critic, jnp.asarray(x)).value
    np.testing.assert_allclose(score, x @ weight[:, 0], rtol=1e-3)
    assert np.linalg.svd(weight)[1].max() <= 1 + 1e-3

    real = np.broadcast_to(x, (1, *x.shape))
    fake = np.asarray(make_fakes(whole, 4)(state), np.float64)
    estimate = make_estimate(whole)(state, {"image": jnp.asarray(real)})
    np.testing.assert_allclose(estimate, (x @ weight).mean() - (fake @ weight).mean(), atol=1e-3)


def test_a_constraint_is_chained_with_a_penalty():
    both = chain(spectral_norm(), gradient_penalty(3.0))
    (first, second), metrics = train(gan(constraint=both))
    _, alone = train(gan(constraint=spectral_norm()))
    assert "gradient_penalty" in metrics
    assert len(first.critic.constraint) == 2
    assert not np.array_equal(
        first.critic.constraint[0]["hidden"]["kernel"], second.critic.constraint[0]["hidden"]["kernel"]
    )
    # The penalty's gradient is that of the normalised critic: at most 1, where an unconstrained one is not.
    assert float(metrics["gradient_norm"]) <= 1 + 1e-3
    assert "gradient_penalty" not in alone


def test_the_terms_of_a_chain_are_added():
    one, two = (train(gan(constraint=chain(*[gradient_penalty(3.0)] * n)))[0][-1] for n in (1, 2))
    whole = train(gan(constraint=gradient_penalty(6.0)))[0][-1]
    for a, b in zip(jax.tree.leaves(two.critic.params), jax.tree.leaves(whole.critic.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4)
    assert not np.allclose(one.critic.params["hidden"]["kernel"], two.critic.params["hidden"]["kernel"], rtol=1e-4)


def test_microbatches_see_the_same_constrained_critic(normed):
    state = train(gan(constraint=spectral_norm()), microbatches=4)[0][-1]
    for a, b in zip(jax.tree.leaves(state.critic), jax.tree.leaves(normed[1].critic), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_constraints_state_is_in_a_checkpoint_and_an_empty_one_adds_nothing(tmp_path):
    from wgan_jax.run import checkpoint

    for name, constraint in (("with", spectral_norm()), ("without", gradient_penalty())):
        whole, folder = gan(constraint=constraint), tmp_path / name
        folder.mkdir()
        states, _ = train(whole)
        with Checkpointer(folder) as checkpointer:
            checkpointer.save(1, states[-1])
        loaded = checkpoint.load(folder, 1, whole)
        names = wgan_jax.named_arrays(loaded)
        assert any("critic/constraint" in array for array in names) == (name == "with")
        for array, value in wgan_jax.named_arrays(states[-1]).items():
            if array != "key":
                np.testing.assert_array_equal(value, names[array])


# --- a network ---


class Watched(nn.Module):
    """A critic with a running mean that no example of the batch sees: it mixes none, and says so."""

    mixes_examples: bool = False

    @nn.compact
    def __call__(self, x, label=None, *, train=False):
        count = self.variable("batch_stats", "passes", lambda: jnp.zeros(()))
        if train:
            count.value += 1
        return nn.Dense(1)(x)[:, 0]


def test_a_network_is_asked_what_it_is_and_not_what_it_keeps():
    whole = gan(critic=Watched())
    states, _ = train(whole)
    stats = states[-1].critic.variables["batch_stats"]
    assert float(stats["passes"]) == 1 + N_CRITIC  # at its initialization, and in one pass over real and fake together
    train(whole, microbatches=2)
    undeclared = dataclasses.replace(whole, critic=Watched(mixes_examples=True))
    states, _ = train(undeclared)
    assert float(states[-1].critic.variables["batch_stats"]["passes"]) == 1 + 2 * N_CRITIC
    with pytest.raises(ValueError, match="normalization"):
        train(undeclared, microbatches=2)


def test_networks_of_ours_mix_examples_only_by_batch_norm():
    for norm, mixes in (("batch", True), ("layer", False), ("none", False)):
        config = tiny_config(
            generator__network="dcgan", generator__norm=norm, data__size=8, constraint__kind="none", critic__norm="none"
        )
        network = wgan_jax.build(config).generator
        assert mixes_examples(network, {"params": {}}) == mixes


# --- a prior ---


@dataclasses.dataclass(frozen=True)
class Square:
    """Latents uniform in [−1, 1]²; the quadrant is what a head must recover."""

    latent_dim: int = 2
    num_classes: int = 0

    def classes(self, keys):
        return None

    def draw(self, keys, label=None):
        z = jax.vmap(lambda key: jax.random.uniform(key, (2,), minval=-1.0))(keys)
        return z, Condition(code=(z > 0).astype(jnp.float32))


def test_a_prior_of_ones_own_is_what_everything_draws_from():
    whole = gan(prior=Square())
    (state, _), _ = train(whole)
    z = np.asarray(latents(whole, KEY, 500))
    assert np.abs(z).max() <= 1
    assert np.abs(z).max() > 0.98
    keys = Keys(KEY, 0, 0, jnp.arange(500)).of(Stream.SAMPLE_LATENTS)
    np.testing.assert_array_equal(z, whole.prior.draw(keys)[0])
    assert not np.allclose(z, draws.sample_latents(KEY, jnp.arange(500), 2))
    held_out = Keys(state.key, 0, 0, jnp.arange(6)).of(Stream.HELD_OUT_LATENTS)
    expected = whole.generate(state.generator.variables, whole.prior.draw(held_out)[0]).value
    np.testing.assert_allclose(make_fakes(whole, 6)(state), expected, atol=1e-6)


# --- a head ---


class Coded(nn.Module):
    """A critic that also tells the quadrant of the latent."""

    @nn.compact
    def __call__(self, x, label=None, *, train=False):
        hidden = nn.tanh(nn.Dense(8)(x))
        self.sow("intermediates", "code", nn.Dense(2)(hidden))
        return nn.Dense(1)(hidden)[:, 0]


def code_loss(logits: Any, condition: Condition) -> jax.Array:
    assert condition.code is not None
    return jnp.mean(optax.sigmoid_binary_cross_entropy(logits, condition.code))


def test_a_head_joins_both_losses():
    """The bound of InfoGAN (arXiv 1606.03657) in miniature: a code that the critic recovers from what is generated."""
    head = Head("code", "code", "code", code_loss, on_fake=1.0, for_generator=1.0)
    fast = {name: optax.adam(1e-2) for name in ("generator_optimizer", "critic_optimizer")}
    whole = gan(prior=Square(), critic=Coded(), heads=(head,), **fast)
    _, first = train(whole)
    _, metrics = train(whole, steps=150)
    assert {"critic_fake_code_loss", "generator_code_loss"} <= metrics.keys()
    assert "critic_code_loss" not in metrics
    assert float(metrics["generator_code_loss"]) < 0.5 * float(first["generator_code_loss"])
    _, silent = train(dataclasses.replace(whole, heads=()))
    assert not any("code" in name for name in silent)


class Talkative(Linear):
    """A critic that sows what no head asks for: a scalar and a dict."""

    @nn.compact
    def __call__(self, x, label=None, *, train=False):
        self.sow("intermediates", "mean", jnp.mean(x))
        self.sow("intermediates", "features", {"x": x})
        return nn.Dense(1, use_bias=False, name="score")(x)[:, 0]


def test_what_a_critic_sows_for_no_head_may_have_any_form():
    _, metrics = train(gan(critic=Talkative()))
    assert np.isfinite(metrics["critic_loss"])


@dataclasses.dataclass(frozen=True)
class Apart(wgan_jax.priors.Normal):
    """Latents around a centre for each class, and a network that is half grown."""

    def draw(self, keys, label=None):
        z, condition = super().draw(keys, label)
        return z + 100 * label[:, None], dataclasses.replace(condition, fade=jnp.float32(0.5))


class Grown(nn.Module):
    """A generator that returns the first latent, times the share of its newest block."""

    @nn.compact
    def __call__(self, z, label=None, *, train=False, fade=1.0):
        return fade * jnp.tile(z[:, :1], (1, *SHAPE))


class Growing(Linear):
    @nn.compact
    def __call__(self, x, label=None, *, train=False, fade=1.0):
        return fade * x[:, 0]


def test_samples_walks_and_estimates_know_what_the_prior_says_of_its_latents():
    whole = gan(prior=Apart(LATENT, 3), generator=Grown(), critic=Growing())
    state = wgan_jax.init_state(whole, KEY)
    label = np.array([0, 1, 2, 2])
    images = wgan_jax.sample(whole, state, KEY, 4, label=label)
    np.testing.assert_allclose(images[:, 0], 50 * label, atol=5)
    assert np.abs(wgan_jax.sample(whole, state, KEY, 4) % 50 - 25).min() > 15
    paths = walks(whole, KEY, 4, label).reshape(4, -1, LATENT)
    np.testing.assert_allclose(paths[:, [0, -1], 0], 100 * np.stack([label, label], 1), atol=5)
    batch = {"image": np.zeros((1, 4, *SHAPE), np.float32), "label": label[None]}
    assert make_estimate(whole)(state, batch) == pytest.approx(-0.25 * 100 * label.mean(), abs=3)
