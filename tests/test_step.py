"""One generator iteration against a numpy float64 computation with derivatives worked out by hand."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import wgan_jax
from wgan_jax.data import batches, digits
from wgan_jax.method import constraints, draws, games, lipschitz
from wgan_jax.method.schedule import CriticSchedule
from wgan_jax.method.state import named_arrays
from wgan_jax.method.step import repeat

from .conftest import tiny_config

pytestmark = pytest.mark.usefixtures("quick_compilation")

N_CRITIC, BATCH, LATENT, WIDTH = 5, 6, 3, 7
SHAPE = (2, 2, 1)
PENALTY, RATE = 10.0, 1e-2


class TanhGenerator(nn.Module):
    @nn.compact
    def __call__(self, z, label=None, *, train=False):
        h = jnp.tanh(nn.Dense(WIDTH, name="hidden", bias_init=nn.initializers.normal())(z))
        return nn.Dense(4, name="output")(h).reshape(-1, *SHAPE)


class TanhCritic(nn.Module):
    @nn.compact
    def __call__(self, x, label=None, *, train=False):
        h = jnp.tanh(nn.Dense(WIDTH, name="hidden", bias_init=nn.initializers.normal())(x.reshape(x.shape[0], -1)))
        return nn.Dense(1, name="output")(h)[:, 0]


def adam():
    return optax.adam(RATE, b1=0.5, b2=0.9)


def rmsprop():
    return optax.rmsprop(RATE, decay=0.99, eps=1e-8, eps_in_sqrt=False)


def small_gan(constraint, optimizer, **changes):
    gan = wgan_jax.Gan(
        generator=TanhGenerator(),
        critic=TanhCritic(),
        image_shape=SHAPE,
        prior=wgan_jax.priors.Normal(LATENT),
        generator_optimizer=optimizer(),
        critic_optimizer=optimizer(),
        constraint=constraint,
    )
    return dataclasses.replace(gan, **changes)


# --- the same in numpy: two layers, tanh between, derivatives by hand ---


def weights(params):
    return [
        np.asarray(params[layer][name], np.float64) for layer in ("hidden", "output") for name in ("kernel", "bias")
    ]


def forward(w, x):
    w1, b1, w2, b2 = w
    h = np.tanh(x @ w1 + b1)
    return h, h @ w2 + b2


def backward(w, x, h, d):
    """Gradients of Σ d·output by the weights and by x."""
    w1, _, w2, _ = w
    da = (d @ w2.T) * (1 - h**2)
    return [x.T @ da, da.sum(0), h.T @ d, d.sum(0)], da @ w1.T


def penalty_gradient(w, x):
    """mean((‖∇ critic‖ − 1)²) and its gradient by the weights, for the critic w2·tanh(w1ᵀx + b1) + b2."""
    w1, b1, w2, _ = w
    h = np.tanh(x @ w1 + b1)
    s = 1 - h**2
    u = s * w2[:, 0]
    g = u @ w1.T
    norms = np.linalg.norm(g, axis=1)
    dg = (2 * (norms - 1) / len(x) / norms)[:, None] * g
    du = dg @ w1
    dw2 = (du * s).sum(0)[:, None]
    da = du * w2[:, 0] * (-2 * h * s)
    dw1 = dg.T @ u + x.T @ da
    return np.mean((norms - 1) ** 2), [dw1, da.sum(0), dw2, np.zeros(1)], norms


class Adam:
    def __init__(self):
        self.t, self.m, self.v = 0, 0.0, 0.0

    def __call__(self, w, g):
        self.t += 1
        self.m = [0.5 * m + 0.5 * x for m, x in zip(self.m or [0] * 4, g, strict=True)]
        self.v = [0.9 * v + 0.1 * x**2 for v, x in zip(self.v or [0] * 4, g, strict=True)]
        hat = [(m / (1 - 0.5**self.t), v / (1 - 0.9**self.t)) for m, v in zip(self.m, self.v, strict=True)]
        return [x - RATE * m / (np.sqrt(v) + 1e-8) for x, (m, v) in zip(w, hat, strict=True)]


class RMSProp:
    def __init__(self):
        self.v = [0] * 4

    def __call__(self, w, g):
        self.v = [0.99 * v + 0.01 * x**2 for v, x in zip(self.v, g, strict=True)]
        return [x - RATE * y / (np.sqrt(v) + 1e-8) for x, y, v in zip(w, g, self.v, strict=True)]


def numpy_iteration(state, real, optimizer, *, clip=None, order="after"):
    index = jnp.arange(BATCH)
    critic, generator = weights(state.critic.params), weights(state.generator.params)
    update_critic, update_generator = optimizer(), optimizer()
    step = int(state.step)
    for k in range(N_CRITIC):
        z = np.asarray(draws.critic_latents(state.key, step, k, index, LATENT), np.float64)
        fake = forward(generator, z)[1]
        x = np.asarray(real[k], np.float64).reshape(BATCH, -1)
        if clip and order == "before":
            critic = [np.clip(w, -clip, clip) for w in critic]
        hr, r = forward(critic, x)
        hf, f = forward(critic, fake)
        gr, _ = backward(critic, x, hr, np.full((BATCH, 1), -1 / BATCH))
        gf, _ = backward(critic, fake, hf, np.full((BATCH, 1), 1 / BATCH))
        gradient = [a + b for a, b in zip(gr, gf, strict=True)]
        metrics = {"wasserstein_estimate": r.mean() - f.mean(), "critic_loss": f.mean() - r.mean()}
        if not clip:
            e = np.asarray(draws.epsilon(state.key, step, k, index), np.float64)[:, None]
            penalty, gp, norms = penalty_gradient(critic, e * x + (1 - e) * fake)
            gradient = [a + PENALTY * b for a, b in zip(gradient, gp, strict=True)]
            metrics["critic_loss"] += PENALTY * penalty
            metrics |= {"gradient_penalty": penalty, "gradient_norm": norms.mean()}
        critic = update_critic(critic, gradient)
        if clip and order == "after":
            critic = [np.clip(w, -clip, clip) for w in critic]
    metrics["critic_grad_norm"] = np.sqrt(sum((g**2).sum() for g in gradient))
    z = np.asarray(draws.generator_latents(state.key, step, index, LATENT), np.float64)
    hg, fake = forward(generator, z)
    h, scores = forward(critic, fake)
    _, by_fake = backward(critic, fake, h, np.full((BATCH, 1), -1 / BATCH))
    gradient, _ = backward(generator, z, hg, by_fake)
    metrics |= {
        "generator_loss": -scores.mean(),
        "generator_grad_norm": np.sqrt(sum((g**2).sum() for g in gradient)),
    }
    return update_generator(generator, gradient), critic, metrics


def assert_weights(params, expected, rtol=2e-4):
    for got, want in zip(weights(params), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=rtol, atol=2e-6)


@pytest.fixture
def real(rng):
    return rng.uniform(-1, 1, size=(N_CRITIC, BATCH, *SHAPE)).astype(np.float32)


@functools.cache
def compiled(kind):
    gan = {
        "penalty": lambda: small_gan(constraints.gradient_penalty(PENALTY), adam),
        "clip after": lambda: small_gan(constraints.clip(0.1), rmsprop),
        "clip before": lambda: small_gan(constraints.clip(0.1, order="before"), rmsprop),
    }[kind]()
    return gan, wgan_jax.init_state(gan, jax.random.key(1)), jax.jit(wgan_jax.make_train_step(gan))


@pytest.mark.parametrize(
    ("kind", "optimizer", "settings"),
    [
        ("penalty", Adam, {}),
        ("clip after", RMSProp, {"clip": 0.1}),
        ("clip before", RMSProp, {"clip": 0.1, "order": "before"}),
    ],
)
def test_one_iteration_against_numpy(kind, optimizer, settings, real):
    _, state, train_step = compiled(kind)
    after, metrics = train_step(state, {"image": real})
    generator, critic, expected = numpy_iteration(state, real, optimizer, **settings)
    assert_weights(after.critic.params, critic)
    assert_weights(after.generator.params, generator)
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=2e-4, atol=1e-5, err_msg=name)
    assert int(after.step) == 1


def test_clipping_after_leaves_no_weight_outside_and_before_does(real):
    for kind, inside in (("clip after", True), ("clip before", False)):
        _, state, train_step = compiled(kind)
        after, metrics = train_step(state, {"image": real})
        largest = max(float(jnp.abs(w).max()) for w in jax.tree.leaves(after.critic.params))
        assert (largest <= np.float32(0.1)) == inside
        assert 0 < float(metrics["clipped_fraction"]) < 1


def test_the_penalty_is_inside_the_critics_loss(real):
    """Parameters move by the gradient of estimate + λ·penalty, taken once."""
    _, state, train_step = compiled("penalty")
    _, metrics = train_step(state, {"image": real})
    expected = -metrics["wasserstein_estimate"] + PENALTY * metrics["gradient_penalty"]
    np.testing.assert_allclose(metrics["critic_loss"], expected, rtol=1e-5)

    def whole_loss(params, row):
        index = jnp.arange(BATCH)
        critic = lambda x: TanhCritic().apply({"params": params}, x)  # noqa: E731
        z = draws.critic_latents(state.key, 0, 0, index, LATENT)
        fake = TanhGenerator().apply(state.generator.variables, z)
        penalty = lipschitz.gradient_penalty(critic, row, fake, draws.epsilon(state.key, 0, 0, index))
        return games.wasserstein_critic_loss(critic(row), critic(fake)) + PENALTY * penalty

    gradient = jax.grad(whole_loss)(state.critic.params, real[0])
    updates, _ = adam().update(gradient, adam().init(state.critic.params))
    after, _ = train_step(state, {"image": real[:1]})
    assert_weights(after.critic.params, weights(optax.apply_updates(state.critic.params, updates)), rtol=1e-4)


def test_every_critic_update_has_data_latents_and_epsilon_of_its_own(real):
    """A recording critic optimizer sees as many different gradients as updates, even on one repeated batch."""
    seen = []

    def record(updates, state, params=None, **extra):
        jax.debug.callback(lambda g: seen.append(np.asarray(g)), updates["hidden"]["kernel"])
        return jax.tree.map(jnp.zeros_like, updates), state

    frozen = optax.GradientTransformation(lambda params: optax.EmptyState(), record)
    gan = small_gan(constraints.gradient_penalty(PENALTY), adam, critic_optimizer=frozen)
    state = wgan_jax.init_state(gan, jax.random.key(1))
    train_step = jax.jit(wgan_jax.make_train_step(gan))
    same = np.broadcast_to(real[:1], real.shape)
    for batch in (same, same, real):
        state, _ = train_step(state, {"image": batch})
        state = dataclasses.replace(state, generator=wgan_jax.init_state(gan, jax.random.key(1)).generator)
    jax.effects_barrier()
    assert len(seen) == 3 * N_CRITIC
    assert len(np.unique(np.stack(seen).reshape(len(seen), -1).round(7), axis=0)) == len(seen)


def test_the_state_survives_unless_donation_is_asked_for(real):
    gan, state, train_step = compiled("penalty")
    expected, _ = train_step(state, {"image": real})
    again, _ = train_step(state, {"image": real})
    jax.tree.map(np.testing.assert_array_equal, weights(again.critic.params), weights(expected.critic.params))

    donating = jax.jit(wgan_jax.make_train_step(gan), donate_argnums=0)
    given = wgan_jax.init_state(gan, jax.random.key(1))
    donated, _ = donating(given, {"image": real})
    jax.tree.map(np.testing.assert_array_equal, weights(donated.critic.params), weights(expected.critic.params))
    assert given.critic.params["hidden"]["kernel"].is_deleted()


def test_the_average_follows_the_generator(real):
    gan, state, train_step = compiled("penalty")
    average = weights(state.generator.params)
    for step in range(3):
        state, _ = train_step(state, {"image": real})
        decay = min(gan.ema_decay, (1 + step) / (10 + step))
        average = [decay * a + (1 - decay) * w for a, w in zip(average, weights(state.generator.params), strict=True)]
    assert_weights(state.ema["params"], average, rtol=1e-4)


def test_a_batch_of_another_shape_is_an_error():
    _, state, train_step = compiled("penalty")
    with pytest.raises(ValueError, match=r"\(5, 6, 8, 8, 1\) but expected \(None, None, 2, 2, 1\).*batch\['image'\]"):
        train_step(state, {"image": np.zeros((5, 6, 8, 8, 1), np.float32)})


class ColumnCritic(TanhCritic):
    @nn.compact
    def __call__(self, x, label=None, *, train=False):
        return nn.Dense(1)(x.reshape(x.shape[0], -1))


class FlatGenerator(nn.Module):
    @nn.compact
    def __call__(self, z, label=None, *, train=False):
        return nn.Dense(4)(z)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"critic": ColumnCritic()}, "one score for each example"),
        ({"generator": FlatGenerator()}, r"\(6, 4\) but expected \(6, 2, 2, 1\).*generator must return examples"),
        (
            {"constraint": constraints.Constraint(project=lambda w: (jax.tree.map(lambda x: x[None], w), {}))},
            "must return parameters of the same shapes",
        ),
    ],
)
def test_what_a_part_of_ones_own_returns_is_checked_when_it_is_traced(real, changes, words):
    """Scores `[B, 1]` would otherwise be broadcast in silence."""
    gan = dataclasses.replace(small_gan(constraints.Constraint(), adam), **changes)
    state = wgan_jax.init_state(gan, jax.random.key(0))
    with pytest.raises(ValueError, match=words):
        jax.eval_shape(wgan_jax.make_train_step(gan), state, {"image": real})


def test_a_larger_generator_batch(real):
    gan = small_gan(constraints.gradient_penalty(PENALTY), adam, generator_batch_multiple=3)
    _, state, _ = compiled("penalty")
    after, metrics = jax.jit(wgan_jax.make_train_step(gan))(state, {"image": real})
    latents = draws.generator_latents(state.key, 0, jnp.arange(3 * BATCH), LATENT)
    fake = forward(weights(state.generator.params), np.asarray(latents, np.float64))[1]
    scores = forward(weights(after.critic.params), fake)[1]
    np.testing.assert_allclose(metrics["generator_loss"], -scores.mean(), rtol=1e-4)


@pytest.mark.parametrize("name", ["minimax", "non_saturating", "least_squares", "hinge"])
def test_other_games_go_through_the_same_step(name, real):
    gan = small_gan(constraints.Constraint(), adam, game=games.GAMES[name])
    _, state, _ = compiled("penalty")
    after, metrics = jax.jit(wgan_jax.make_train_step(gan))(state, {"image": real})
    latents = draws.generator_latents(state.key, 0, jnp.arange(BATCH), LATENT)
    fake = forward(weights(state.generator.params), np.asarray(latents, np.float64))[1]
    scores = forward(weights(after.critic.params), fake)[1][:, 0]
    np.testing.assert_allclose(metrics["generator_loss"], games.GAMES[name].generator_loss(scores), rtol=1e-4)
    assert games.GAMES[name].estimate_name in metrics


def assert_same_bits(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


@pytest.mark.usefixtures("full_compilation")
@pytest.mark.parametrize("kind", ["gradient_penalty", "clip"])
def test_iterations_per_dispatch_do_not_change_a_bit(kind):
    config = tiny_config(constraint__kind=kind, batch_size=16, critic__width=64, generator__width=64)
    gan = wgan_jax.build(config)
    data = batches.dataset(digits.load("train"), CriticSchedule(2), seed=0, batch_size=16, steps=12)
    train_steps = jax.jit(repeat(wgan_jax.make_train_step(gan)))
    results = []
    for length in (1, 5):
        state, losses = wgan_jax.init_state(gan, jax.random.key(0)), []
        stacked = batches.stack(data, [(i, min(i + length, 12)) for i in range(0, 12, length)], length)
        for i in range(len(stacked)):
            count = min(length, 12 - i * length)
            state, metrics = train_steps(state, stacked[i], count)
            losses.extend(np.asarray(metrics["critic_loss"][:count]))
        results.append((state, np.array(losses)))
    for state, losses in results[1:]:
        assert_same_bits(state, results[0][0])
        np.testing.assert_array_equal(losses, results[0][1])


def test_a_generator_without_parameters(real):
    """A fixed distribution of one's own, to train a critic against."""

    class Noise(nn.Module):
        @nn.compact
        def __call__(self, z, label=None, *, train=False):
            return jnp.tile(z[:, :1], 4).reshape(-1, *SHAPE)

    gan = small_gan(constraints.gradient_penalty(PENALTY), adam, generator=Noise())
    state = wgan_jax.init_state(gan, jax.random.key(1))
    after, metrics = jax.jit(wgan_jax.make_train_step(gan))(state, {"image": real})
    assert after.generator.params == {}
    assert float(metrics["generator_grad_norm"]) == 0.0
    assert float(optax.tree.norm(optax.tree.sub(after.critic.params, state.critic.params))) > 0


def test_bfloat16_steps_near_float32_and_keeps_float32_state():
    """A step's gradients, as Adam's first moments with β₁ = 0, of a DCGAN: bfloat16 has 8 bits."""
    ends = {}
    for precision in ("float32", "bfloat16"):
        changes = {
            f"{p}__{k}": v for p in ("generator", "critic") for k, v in (("network", "dcgan"), ("optimizer.b1", 0.0))
        }
        gan = wgan_jax.build(
            tiny_config(precision=precision, data__name="tfds:any", data__size=16, latent_dim=16, **changes)
        )
        state = wgan_jax.init_state(gan, jax.random.key(0))
        real = np.random.default_rng(0).uniform(-1, 1, (1, 32, *gan.image_shape)).astype(np.float32)
        ends[precision] = jax.jit(wgan_jax.make_train_step(gan))(state, {"image": real})
    (wide, wide_metrics), (narrow, narrow_metrics) = ends.values()
    for name, array in named_arrays(narrow).items():
        assert array.dtype == named_arrays(wide)[name].dtype, name
    for name, value in narrow_metrics.items():
        assert value.dtype == jnp.float32
        np.testing.assert_allclose(value, wide_metrics[name], rtol=0.02, atol=0.01, err_msg=name)
    for player in ("critic", "generator"):
        a, b = (
            np.concatenate([np.ravel(x) for x in jax.tree.leaves(getattr(state, player).opt_state[0].mu)])
            for state in (wide, narrow)
        )
        assert 1e-3 < np.linalg.norm(a - b) / np.linalg.norm(a) < 0.1
