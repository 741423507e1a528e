"""Constraints beside clipping and the gradient penalty: their formulas, their states, and who converges with them."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import wgan_jax
from wgan_jax.config import check
from wgan_jax.cost import flops
from wgan_jax.method import constraints, draws, games, objectives, spectral
from wgan_jax.method.condition import Condition
from wgan_jax.method.draws import CriticPass, Keys
from wgan_jax.networks import dcgan, layers, mlp, resnet
from wgan_jax.run import training
from wgan_jax.run.interrupt import Interrupt

from .conftest import tiny_config
from .kill import differences

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(0)
N_CRITIC, BATCH, SHAPE = 2, 8, (8, 8, 1)


def keys(size, step=0, update=0):
    return Keys(KEY, step, update, jnp.arange(size))


def gan_of(constraint, **changes):
    settings = {
        "generator": mlp.Generator(SHAPE, width=6, depth=1),
        "critic": mlp.Critic(width=6, depth=1),
        "image_shape": SHAPE,
        "prior": wgan_jax.priors.Normal(2),
        "generator_optimizer": optax.adam(1e-3),
        "critic_optimizer": optax.adam(1e-2),
    }
    return wgan_jax.Gan(**settings | {"constraint": constraint} | changes)


def train(gan, steps=1, n_critic=N_CRITIC, state=None, **options):
    """States along a run on random examples, and the metrics of every iteration."""
    step = jax.jit(wgan_jax.make_train_step(gan, **options))
    states, history = [wgan_jax.init_state(gan, KEY) if state is None else state], []
    for i in range(int(states[0].step), int(states[0].step) + steps):
        images = np.random.default_rng(i).normal(size=(n_critic, BATCH, *gan.image_shape)).astype(np.float32)
        state, metrics = step(states[-1], {"image": images})
        states.append(state)
        history.append({name: float(value) for name, value in metrics.items()})
    return states, history


def largest(kernel):
    return np.linalg.svd(np.asarray(kernel, np.float64).reshape(-1, kernel.shape[-1]))[1].max()


# --- spectral normalization ---


class Everything(nn.Module):
    """A critic with every kind of parameter: kernels, a bias, an embedding, and scales by class."""

    @nn.compact
    def __call__(self, x, label=None, *, train=False):
        x = nn.tanh(nn.Conv(4, (3, 3), name="conv")(x)).reshape(len(x), -1)
        x = x * self.param("scale", nn.initializers.ones, (2, 1))[0]
        x = nn.Embed(3, x.shape[-1], name="embedding")(jnp.zeros(len(x), int)) * x
        return nn.Dense(1, name="score")(x)[:, 0]


def test_the_kernels_that_are_normalized():
    params = jax.eval_shape(Everything().init, KEY, jnp.zeros((1, 4, 4, 1)))["params"]
    assert set(spectral.kernels(params)) == {("conv", "kernel"), ("embedding", "embedding"), ("score", "kernel")}
    head = mlp.Critic(width=3, depth=1, conditioning="projection", num_classes=5)
    found = spectral.kernels(jax.eval_shape(head.init, KEY, jnp.zeros((1, 4)), jnp.zeros(1, int))["params"])
    assert {path[-1] for path in found} == {"kernel", "projection"}
    assert len(found) == 3
    assert spectral.normalize({}, spectral.init({}, KEY)) == ({}, {})


@pytest.mark.parametrize("critic", [dcgan.Critic(width=4), Everything()])
def test_every_kernel_has_norm_1_from_the_beginning_and_nothing_else_is_changed(critic):
    params = jax.jit(critic.init)(KEY, jnp.zeros((1, *SHAPE)))["params"]
    weights, _ = spectral.normalize(params, spectral.init(params, KEY))
    kernels = spectral.kernels(weights)
    for path, kernel in kernels.items():
        assert largest(kernel) == pytest.approx(1, abs=0.01), path
    assert jax.tree.structure(weights) == jax.tree.structure(params)
    before, after = (jax.tree_util.tree_leaves_with_path(tree) for tree in (params, weights))
    others = [(a, b) for (path, a), (_, b) in zip(before, after, strict=True) if path[-1].key in ("bias", "scale")]
    assert others
    for a, b in others:
        np.testing.assert_array_equal(a, b)


def test_one_power_step_against_numpy(rng):
    kernel, u = rng.normal(size=(3, 2, 4, 5)).astype(np.float32), rng.normal(size=5)
    u /= np.linalg.norm(u)
    w = kernel.reshape(-1, 5).T.astype(np.float64)  # the paper's W, [out, in · k · k]
    v = w.T @ u / np.linalg.norm(w.T @ u)
    after = w @ v / np.linalg.norm(w @ v)
    weights, state = spectral.normalize({"kernel": kernel}, {"kernel": jnp.asarray(u, jnp.float32)})
    np.testing.assert_allclose(state["kernel"], after, rtol=1e-5)
    np.testing.assert_allclose(weights["kernel"], kernel / (after @ w @ v), rtol=1e-5)


def test_many_power_steps_find_the_largest_singular_value(rng):
    kernel = jnp.asarray(rng.normal(size=(6, 4)), jnp.float32)
    state = {"kernel": jnp.ones(4) / 2}
    errors = []
    for _ in range(60):
        weights, state = spectral.normalize({"kernel": kernel}, state)
        errors.append(largest(weights["kernel"]) - 1)
    assert min(errors) > -1e-6  # a power step never finds more than there is
    assert errors[0] > 1e-2
    assert errors[-1] < 1e-5


def test_zeros_stay_zeros_and_are_normalized_when_they_grow(rng):
    state = spectral.init({"kernel": jnp.zeros((3, 2))}, KEY)
    weights, state = spectral.normalize({"kernel": jnp.zeros((3, 2))}, state)
    np.testing.assert_array_equal(weights["kernel"], 0)
    assert np.linalg.norm(state["kernel"]) > 0.1
    grown = jnp.asarray(rng.normal(size=(3, 2)), jnp.float32)
    for _ in range(30):
        weights, state = spectral.normalize({"kernel": grown}, state)
    assert largest(weights["kernel"]) == pytest.approx(1, abs=1e-3)


def test_a_normalized_linear_critic_has_slope_1():
    """Its Lipschitz constant is the norm of its one weight, whatever the game does to it."""

    class Line(nn.Module):
        @nn.compact
        def __call__(self, x, label=None, *, train=False):
            return nn.Dense(1)(x.reshape(len(x), -1))[:, 0]

    gan = gan_of(constraints.spectral_norm(), critic=Line())
    state = train(gan, steps=5)[0][-1]
    score = lambda x: gan.score(state.critic, x[None]).value[0]  # noqa: E731
    np.testing.assert_allclose(jnp.linalg.norm(jax.grad(score)(jnp.ones(SHAPE))), 1, rtol=1e-5)
    assert np.linalg.norm(state.critic.params["Dense_0"]["kernel"]) > 1.01


def test_u_goes_one_step_in_each_critic_update_and_no_other_pass_moves_it():
    gan = gan_of(constraints.spectral_norm(), critic_optimizer=optax.sgd(0.0))
    first, second = train(gan)[0]
    u = first.critic.constraint
    for _ in range(N_CRITIC):
        _, u = spectral.normalize(first.critic.params, u)
    for name in ("hidden/dense_0", "output"):
        path = [*name.split("/"), "kernel"]
        got, expected = (functools.reduce(lambda tree, key: tree[key], path, x) for x in (second.critic.constraint, u))
        np.testing.assert_allclose(got, expected, atol=1e-6)


# --- R1 and R2 ---


@pytest.fixture
def critic(rng):
    """A curved critic of points in three dimensions."""
    a, b = rng.normal(size=(3, 5)), rng.normal(size=5)
    return lambda x: jnp.tanh(x @ a) @ b


def by_differences(critic, x, h=1e-6):
    """The gradient of each example's score by its input."""
    steps = h * np.eye(x.shape[-1])
    return np.stack([(np.asarray(critic(x + e)) - np.asarray(critic(x - e))) / (2 * h) for e in steps], -1)


@pytest.mark.parametrize("kind", ["r1", "r2"])
def test_r1_and_r2_by_finite_differences(kind, critic, rng, x64):
    real, fake = rng.normal(size=(2, 6, 3))
    term, metrics = getattr(constraints, kind)(4.0).loss(critic, real, fake, keys(6))
    gradient = by_differences(critic, real if kind == "r1" else fake)
    np.testing.assert_allclose(term, 4.0 / 2 * np.mean(np.sum(gradient**2, -1)), rtol=1e-6)
    np.testing.assert_allclose(metrics[f"{kind}_penalty"], np.mean(np.sum(gradient**2, -1)) / 2, rtol=1e-6)


def test_r1_of_a_flat_critic_has_a_gradient():
    loss = lambda w: constraints.r1().loss(lambda x: x @ w, jnp.ones((4, 2)), jnp.ones((4, 2)), keys(4))[0]  # noqa: E731
    np.testing.assert_array_equal(jax.grad(loss)(jnp.zeros(2)), 0)
    np.testing.assert_allclose(jax.grad(loss)(jnp.array([1.0, 2.0])), [10, 20], rtol=1e-6)


# --- penalties of the norm ---


def test_the_lipschitz_penalty_is_the_one_sided_gradient_penalty(critic, rng, x64):
    real, fake = rng.normal(size=(2, 6, 3))
    for scale in (0.05, 1.0, 3.0):
        scaled = lambda x: scale * critic(x)  # noqa: E731, B023
        args = scaled, real, fake, keys(6)
        term, metrics = constraints.lipschitz_penalty(5.0).loss(*args)
        epsilon = np.asarray(draws.epsilon(*keys(6)), np.float64)[:, None]
        norms = np.linalg.norm(by_differences(scaled, epsilon * real + (1 - epsilon) * fake), axis=-1)
        np.testing.assert_allclose(term, 5 * np.mean(np.maximum(norms - 1, 0) ** 2), rtol=1e-5)
        assert (float(metrics["lipschitz_penalty"]) == 0) == bool(norms.max() <= 1)
        np.testing.assert_allclose(metrics["gradient_norm"], norms.mean(), rtol=1e-5)


@pytest.mark.parametrize(("weight", "power"), [(2.0, 6.0), (0.5, 1.5)])
def test_the_wasserstein_divergence(weight, power, critic, rng, x64):
    real, fake = rng.normal(size=(2, 6, 3))
    term, metrics = constraints.wasserstein_divergence(weight, power).loss(critic, real, fake, keys(6))
    epsilon = np.asarray(draws.epsilon(*keys(6)), np.float64)[:, None]
    norms = np.linalg.norm(by_differences(critic, epsilon * real + (1 - epsilon) * fake), axis=-1)
    np.testing.assert_allclose(term, weight * np.mean(norms**power), rtol=1e-5)
    np.testing.assert_allclose(metrics["divergence_penalty"], np.mean(norms**power), rtol=1e-5)
    flat = lambda w: constraints.wasserstein_divergence(weight, power).loss(lambda x: x @ w, real, fake, keys(6))[0]  # noqa: E731
    np.testing.assert_array_equal(jax.grad(flat)(jnp.zeros(3)), 0)


def test_dragans_points_and_norms(rng):
    """A critic ‖x‖²/2 has the gradient x: what the penalty sees is where its points lie."""
    seen = []

    def critic(x):
        jax.debug.callback(lambda x: seen.append(np.array(x)), x)
        return jnp.sum(x**2, axis=(1, 2, 3)) / 2

    real, fake = rng.normal(size=(2, 6, 8, 8, 3)).astype(np.float32)
    term, metrics = constraints.dragan(3.0, noise=0.5).loss(critic, real, fake, keys(6))
    jax.effects_barrier()
    norms = np.linalg.norm(seen[0].reshape(6, -1), axis=1)
    np.testing.assert_allclose(term, 3 * np.mean((norms - 1) ** 2), rtol=1e-5)
    np.testing.assert_allclose(metrics["dragan_penalty"], np.mean((norms - 1) ** 2), rtol=1e-5)
    np.testing.assert_allclose(metrics["gradient_norm"], norms.mean(), rtol=1e-5)
    np.testing.assert_array_equal(*(draws.perturbation(*keys(6, 0, u), SHAPE) for u in (0, 0)))
    assert not np.allclose(*(draws.perturbation(*keys(6, 0, u), SHAPE) for u in (0, 1)))


# --- the consistency term, and dropout ---

RATE_OF_DROPOUT = 0.5


def dropping_out(kind="mlp", rate=RATE_OF_DROPOUT, **changes):
    critic = {"mlp": mlp.Critic(width=32, depth=2), "dcgan": dcgan.Critic(width=2), "resnet": resnet.Critic(width=2)}[
        kind
    ]
    return gan_of(**{"constraint": constraints.consistency(), "critic": critic.clone(dropout=rate)} | changes)


def scores_of(gan, step=0, update=0):
    """The critic of one update as a constraint calls it."""
    critic = wgan_jax.init_state(gan, KEY).critic
    return objectives.Scores(gan, critic, Condition(), keys(BATCH, step, update))


IMAGES = np.random.default_rng(0).normal(size=(BATCH, *SHAPE)).astype(np.float32)


@pytest.mark.parametrize(("weight", "margin"), [(2.0, 0.0), (3.0, 1.0)])
def test_the_consistency_term_by_its_formula(weight, margin, rng):
    first, second, h, k = *0.3 * rng.normal(size=(2, 8)), *rng.normal(size=(2, 8, 5))

    class Two:
        def with_features(self, x, critic_pass):
            return (first, h) if critic_pass is CriticPass.REAL else (second, k)

    term, metrics = constraints.consistency(weight, margin).loss(Two(), IMAGES, IMAGES, keys(8))
    each = [
        weight * ((a - b) ** 2 + 0.1 * np.mean((c - d) ** 2)) for a, b, c, d in zip(first, second, h, k, strict=True)
    ]
    assert min(each) < 1.0 < max(each)
    np.testing.assert_allclose(term, np.mean([max(0, e - margin) for e in each]), rtol=1e-5)
    np.testing.assert_allclose(metrics["consistency_term"], term)


@pytest.mark.parametrize("kind", ["mlp", "dcgan", "resnet"])
def test_the_consistency_term_is_0_without_dropout_and_above_it_with(kind):
    critic_fn = scores_of(dropping_out(kind))
    term = constraints.consistency().loss(critic_fn, IMAGES, IMAGES, keys(BATCH))[0]
    assert term > 1e-6
    evaluated = critic_fn.gan.score(critic_fn.critic, IMAGES)

    class Still(objectives.Scores):
        def _pass(self, x, critic_pass):
            return self.gan.score(self.critic, x, self.condition, train=True)

    still = Still(*(getattr(critic_fn, name) for name in ("gan", "critic", "condition", "keys")))
    assert constraints.consistency().loss(still, IMAGES, IMAGES, keys(BATCH))[0] == 0
    np.testing.assert_array_equal(still(IMAGES), evaluated.value)  # outside training nothing is dropped
    plain = dropping_out(kind, 0.0)
    np.testing.assert_array_equal(plain.score(critic_fn.critic, IMAGES, train=True).value, evaluated.value)
    with pytest.raises(ValueError, match="must sow its last hidden layer as `features`"):
        constraints.consistency().loss(objectives.Scores(plain, critic_fn.critic, Condition(), keys(8)), IMAGES, 0, 0)


def test_dropout_by_its_law():
    x = jnp.ones((400, 50)) * 3
    y = np.asarray(layers.dropped(x, 0.2, jax.random.split(KEY, 400), 0))
    assert set(np.unique(y)) == {0.0, np.float32(3 / 0.8)}
    assert (y == 0).mean() == pytest.approx(0.2, abs=0.01)
    assert (y == 0).mean(0).std() < 0.03  # and evenly over units and over examples
    assert (y == 0).mean(1).std() == pytest.approx((0.2 * 0.8 / 50) ** 0.5, rel=0.2)
    other = np.asarray(layers.dropped(x, 0.2, jax.random.split(KEY, 400), 1))
    assert abs(np.corrcoef(y.ravel(), other.ravel())[0, 1]) < 0.03
    np.testing.assert_array_equal(layers.dropped(x, 0.2, None, 0), x)


def test_an_examples_dropout_is_its_own_in_every_pass_and_update():
    """It depends on the run, the pass, the step, the update and the example, and not on the others of the batch."""
    gan = dropping_out()
    same = np.broadcast_to(IMAGES[:1], IMAGES.shape)
    scores = {
        (step, update, critic_pass): np.asarray(scores_of(gan, step, update).with_features(same, critic_pass)[0])
        for step, update, critic_pass in [(0, 0, p) for p in CriticPass]
        + [(1, 0, CriticPass.REAL), (0, 1, CriticPass.REAL)]
    }
    found = np.concatenate(list(scores.values()))
    assert len(np.unique(found.round(5))) == len(found)
    part = objectives.Scores(gan, scores_of(gan).critic, Condition(), keys(BATCH)._replace(example=jnp.array([5, 2])))
    np.testing.assert_allclose(
        part.with_features(same[:2], CriticPass.REAL)[0], scores[0, 0, CriticPass.REAL][[5, 2]], rtol=1e-5
    )
    np.testing.assert_allclose(scores_of(gan)(same), scores[0, 0, CriticPass.PENALTY], rtol=1e-5)


def test_dropout_is_on_in_every_pass_of_a_step():
    """The game's scores, the penalty's, the term's own and the generator's: some half of what they see is 0."""
    masks = []

    class Share(nn.Module):
        dropout: float = 0.5

        @nn.compact
        def __call__(self, x, label=None, *, train=False, dropout=None):
            mask = layers.dropped(jnp.ones((len(x), 64)), self.dropout, dropout, 0)
            jax.debug.callback(lambda mask: masks.append(np.array(mask)), mask)
            x = mask * x.reshape(len(x), -1)
            self.sow("intermediates", "features", x)
            return x @ self.param("w", nn.initializers.ones, (x.shape[-1],))

    gan = gan_of(constraints.chain(constraints.gradient_penalty(), constraints.consistency()), critic=Share())
    state = wgan_jax.init_state(gan, KEY)
    masks.clear()
    real = jnp.ones((1, BATCH, *SHAPE))
    jax.jit(wgan_jax.make_train_step(gan))(state, {"image": real})
    jax.effects_barrier()
    both = [mask for mask in masks if len(mask) == 2 * BATCH]
    others = {mask.tobytes(): mask for mask in masks if len(mask) == BATCH}
    real, fake = np.split(both[0], 2)
    assert (real != fake).mean() == pytest.approx(0.5, abs=0.1)
    assert len(others) == 4  # the penalty's, the two passes of the term, and the generator's
    assert real.tobytes() in others
    for mask in others.values():
        assert (mask == 0).mean() == pytest.approx(0.5, abs=0.1)


@pytest.mark.slow
def test_microbatches_have_the_same_dropout_and_the_same_normalized_critic():
    terms = [constraints.spectral_norm(), constraints.dragan(), constraints.consistency()]
    terms.append(constraints.lazy(constraints.r1(), 2, N_CRITIC))
    gan = dropping_out(constraint=constraints.chain(*terms))
    whole, parts = train(gan, 2)[0][-1], train(gan, 2, microbatches=2)[0][-1]
    for player in ("critic", "generator"):
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, atol=1e-4), *(getattr(s, player) for s in (whole, parts))
        )


# --- Dirac-GAN (arXiv 1801.04406, section 2): data at 0, one parameter each ---


class Dirac(nn.Module):
    start: float

    @nn.compact
    def __call__(self, z, label=None, *, train=False):
        return jnp.broadcast_to(self.param("theta", nn.initializers.constant(self.start), (1,)), (len(z), 1))


class Slope(nn.Module):
    start: float

    @nn.compact
    def __call__(self, x, label=None, *, train=False):
        return (x @ self.param("psi", nn.initializers.constant(self.start), (1, 1)))[:, 0]


RATE = 0.1


def dirac(constraint, game, theta=1.0, psi=1.0, steps=400):
    """The generator's θ and the critic's ψ along a run of alternating gradient descent."""
    gan = wgan_jax.Gan(
        generator=Dirac(theta),
        critic=Slope(psi),
        image_shape=(1,),
        prior=wgan_jax.priors.Normal(1),
        generator_optimizer=optax.sgd(RATE),
        critic_optimizer=optax.sgd(RATE),
        constraint=constraint,
        game=games.GAMES[game],
        heads=(),
    )
    step = wgan_jax.make_train_step(gan)
    batch = {"image": jnp.zeros((1, 1, 1))}

    def one(state, _):
        state, _ = step(state, batch)
        return state, (state.generator.params["theta"][0], state.critic.params["psi"][0, 0])

    return np.stack(jax.jit(lambda state: jax.lax.scan(one, state, length=steps)[1])(wgan_jax.init_state(gan, KEY)), 1)


def worked_out(slope, penalty, steps=400):
    """The same by hand, from (1, 1): ψ ← ψ − h (s θ + penalty'(ψ)), θ ← θ + h s ψ, with the loss's slope s at ψθ."""
    theta = psi = 1.0
    walk = []
    for _ in range(steps):
        psi -= RATE * (slope(psi * theta) * theta + penalty(psi))
        theta += RATE * slope(psi * theta) * psi
        walk.append((theta, psi))
    return np.array(walk)


def logistic(t):
    return 1 / (1 + np.exp(-t))


@pytest.mark.parametrize(
    ("game", "slope", "constraint", "penalty", "converges"),
    [
        ("minimax", logistic, constraints.Constraint(), lambda psi: 0, False),
        ("wasserstein", lambda t: 1, constraints.Constraint(), lambda psi: 0, False),
        ("wasserstein", lambda t: 1, constraints.gradient_penalty(1), lambda psi: 2 * (psi - np.sign(psi)), False),
        ("minimax", logistic, constraints.r1(1.0), lambda psi: psi, True),
        ("minimax", logistic, constraints.r2(1.0), lambda psi: psi, True),
        ("wasserstein", lambda t: 1, constraints.r1(1.0), lambda psi: psi, True),
    ],
)
def test_who_converges_and_who_circles(game, slope, constraint, penalty, converges):
    walk = dirac(constraint, game)
    np.testing.assert_allclose(walk[:50], worked_out(slope, penalty)[:50], atol=1e-3)
    radius = np.hypot(*walk.T)
    if converges:
        assert radius[-1] < 1e-3
    else:
        assert radius[-100:].max() > 0.5


@pytest.mark.parametrize("gamma", [0.0, 0.5])
def test_the_eigenvalues_at_the_equilibrium(gamma):
    """An iteration is ψ ← (1 − hγ) ψ − h/2 θ, then θ ← θ + h/2 ψ: of determinant 1 − hγ."""
    constraint = constraints.r1(gamma) if gamma else constraints.Constraint()
    small = 1e-3
    moved = np.stack([dirac(constraint, "minimax", *small * e, steps=1)[0] / small for e in np.eye(2)], 1)
    critic, generator = np.array([[1, 0], [-RATE / 2, 1 - RATE * gamma]]), np.array([[1, RATE / 2], [0, 1]])
    np.testing.assert_allclose(moved, generator @ critic, atol=1e-5)
    np.testing.assert_allclose(np.abs(np.linalg.eigvals(moved)), (1 - RATE * gamma) ** 0.5, rtol=1e-4)


# --- lazy regularization ---


def counting(computed):
    """R1 that writes down in which updates it is computed."""

    def loss(critic_fn, real, fake, keys):
        jax.debug.callback(lambda *at: computed.append(tuple(map(int, at))), keys.step, keys.update, ordered=True)
        return constraints.r1(3.0).loss(critic_fn, real, fake, keys)

    return constraints.Constraint(loss=loss, gradients=1)


@pytest.mark.parametrize(("every", "n_critic"), [(3, 2), (2, 1)])
def test_a_lazy_term_is_computed_in_every_kth_update_alone(every, n_critic):
    computed = []
    gan = gan_of(constraints.lazy(counting(computed), every, n_critic))
    _, history = train(gan, 4, n_critic)
    jax.effects_barrier()
    updates = [(step, update) for step in range(4) for update in range(n_critic)]
    assert computed == updates[every - 1 :: every]
    # The last update of an iteration is the one that is reported.
    assert [h["r1_penalty"] > 0 for h in history] == [n_critic * (step + 1) % every == 0 for step in range(4)]
    for h in history:
        assert h["critic_loss"] == pytest.approx(-h["wasserstein_estimate"] + every * 3.0 * h["r1_penalty"], rel=1e-3)


def test_a_lazy_run_that_resumes_goes_on_in_step():
    gan = gan_of(constraints.lazy(constraints.r1(), 3, N_CRITIC))
    whole, history = train(gan, 4)
    again, more = train(gan, 2, state=whole[2])
    jax.tree.map(np.testing.assert_array_equal, whole[-1].critic, again[-1].critic)
    assert more == history[2:]


def test_the_weight_of_a_lazy_term_makes_its_mean_that_of_the_term():
    loss = lambda c, step: c.loss(lambda x: x @ jnp.ones(2), jnp.ones((4, 2)), jnp.ones((4, 2)), keys(4, step))[0]  # noqa: E731
    term, lazy = constraints.r1(), constraints.lazy(constraints.r1(), 5, 1)
    assert sum(loss(lazy, step) for step in range(10)) == pytest.approx(10 * loss(term, 0))
    with pytest.raises(ValueError, match="every must be at least 1, not 0"):
        constraints.lazy(term, 0, 1)


# --- settings, and what all of them go through ---

KINDS = {
    "spectral_norm+r1+r2": {"game": "hinge", "constraint__every": 3, "constraint__gamma": 1.0},
    "gradient_penalty+consistency": {"critic__dropout": 0.5},
    "dragan+lipschitz_penalty+wasserstein_divergence": {"game": "non_saturating"},
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_constraint_trains_from_its_settings_in_bfloat16(kind):
    config = tiny_config(constraint__kind=kind, precision="bfloat16", **KINDS[kind])
    gan = wgan_jax.build(config)
    states, history = train(gan, 2)
    assert all(np.isfinite(list(metrics.values())).all() for metrics in history)
    for name, x in wgan_jax.named_arrays(states[-1]).items():
        assert name == "key" or np.isfinite(np.asarray(x, np.float64)).all(), name


class Stopped(Interrupt):
    """Stops a run after some of its iterations."""

    def stops(self, number):
        return number == 4


@pytest.mark.slow
def test_a_run_with_all_of_it_resumes_bit_for_bit(tmp_path):
    config = tiny_config(
        constraint__kind="spectral_norm+dragan+consistency+r1",
        constraint__every=3,
        critic__dropout=0.5,
        steps=8,
        report__checkpoint_every=8,
    )
    whole = training.train(config, tmp_path / "whole")
    assert int(training.train(config, tmp_path / "stopped", Stopped()).step) == 5
    assert int(training.train(config, tmp_path / "stopped").step) == 8
    assert differences(tmp_path / "whole", tmp_path / "stopped") == []
    _, restored = wgan_jax.restore(tmp_path / "stopped")
    u, *others = restored.critic.constraint
    assert others == [(), (), ()]
    np.testing.assert_array_equal(u["output"]["kernel"], whole.critic.constraint[0]["output"]["kernel"])


def test_the_settings_reach_the_formula():
    x = jnp.ones((4, 2))
    line = lambda x: x @ jnp.array([3.0, 4.0])  # noqa: E731
    loss = lambda **c: float(wgan_jax.build(tiny_config(**c)).constraint.loss(line, x, x, keys(4, 0, 1))[0])  # noqa: E731
    assert loss(constraint__kind="r1", constraint__gamma=2.0) == pytest.approx(25)
    assert loss(constraint__kind="r1+r2", constraint__gamma=2.0) == pytest.approx(50)
    assert loss(constraint__kind="r1+gradient_penalty", constraint__weight=3.0) == pytest.approx(10 / 2 * 25 + 3 * 16)
    assert loss(constraint__kind="r1", constraint__every=2) == pytest.approx(2 * 125)
    assert loss(constraint__kind="r1", constraint__every=3) == 0
    assert loss(constraint__kind="spectral_norm") == 0


def test_a_normalization_is_refused_beside_spectral_norm():
    with pytest.raises(wgan_jax.UserError, match=r"config\.critic\.norm = 'layer': .*use 'none'"):
        check(tiny_config(constraint__kind="spectral_norm", critic__network="dcgan", critic__norm="layer"))
    with pytest.raises(wgan_jax.UserError, match=r"only config\.constraint\.kind = gradient_penalty or .*r1"):
        check(tiny_config(constraint__kind="spectral_norm", constraint__every=2))


def test_what_the_terms_cost_in_arithmetic():
    def of(**changes):
        return flops.of_step(wgan_jax.build(tiny_config(**changes)), 8, 2)

    none = of(constraint__kind="none")
    penalty = of() - none
    assert penalty > 0
    assert of(constraint__kind="r1") - none == penalty
    assert of(constraint__kind="spectral_norm+r1+r2") - none == 2 * penalty
    assert of(constraint__kind="r1", constraint__every=2) - none == penalty // 2
    assert of(constraint__kind="spectral_norm+clip") == none
