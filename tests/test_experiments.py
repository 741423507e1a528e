"""Every experiment from settings to files, too small for the claims to hold; and the parts that are mathematics."""

import dataclasses
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import wgan_jax
from wgan_jax.config import build
from wgan_jax.config.tables import CONSTRAINTS
from wgan_jax.cost import flops
from wgan_jax.data import toy
from wgan_jax.errors import UserError
from wgan_jax.experiments import constraints as measured_constraints
from wgan_jax.experiments import (
    gradient_norms,
    harness,
    meaningful_loss,
    overfitting,
    parallel_lines,
    robustness,
    setups,
    value_surfaces,
    weights,
)
from wgan_jax.method import constraints, draws
from wgan_jax.metrics import transport

from .commands import command, run_here

pytestmark = pytest.mark.usefixtures("quick_compilation")


def finite_numbers(values):
    """All numbers in nested dictionaries and lists, each checked to be finite."""
    if isinstance(values, dict):
        values = list(values.values())
    if isinstance(values, list):
        return [number for value in values for number in finite_numbers(value)]
    if isinstance(values, int | float):
        assert np.isfinite(values)
        return [values]
    return []


TINY = {
    value_surfaces: {"data": "8gaussians", "width": 8, "updates": 4, "batch_size": 16, "points": 50},
    gradient_norms: {"bounds": "0.01", "width": 8, "depth": 3, "steps": 4, "batch_size": 16, "measurements": 2},
    weights: {"width": 8, "depth": 3, "steps": 2, "batch_size": 16},
    parallel_lines: {"width": 8, "updates": 4, "batch_size": 16, "steps": 3},
    meaningful_loss: {"width": 8, "generators": "8:1e-3", "steps": 4, "batch_size": 16, "warmup": 6, "measurements": 4},
    overfitting: {"width": 8, "steps": 4, "few": 20, "many": 40, "batch_size": 10, "measurements": 2},
    robustness: {"architectures": 1, "seeds": 2, "depths": "1", "widths": "8", "steps": 12, "batch_size": 16},
    measured_constraints: {"width": 8, "updates": 4, "steps": 2, "batch_size": 16, "seeds": 1},
}
NUMBERS = {
    value_surfaces: {"8gaussians"},
    gradient_norms: {"penalty", "clip 0.01"},
    weights: {"clipped", "penalised"},
    parallel_lines: {"wasserstein_estimate", "jensen_shannon_estimate", "descent", "reached_0"},
    meaningful_loss: {"wasserstein", "non_saturating"},
    overfitting: {"20 images", "40 images"},
    robustness: {"criterion", "successes", "against", "architectures"},
    measured_constraints: {"plane", "digits", "floor"},
}


QUICK = {value_surfaces, gradient_norms}
"""`weights` is below, through its command; the others compile more: together they would take minutes."""


@pytest.mark.parametrize(
    "module",
    [pytest.param(module, marks=[] if module in QUICK else pytest.mark.slow) for module in TINY],
    ids=lambda module: module.__name__.rpartition(".")[2],
)
def test_an_experiment_leaves_its_figure_and_numbers_and_says_what_they_show(module, tmp_path, capsys):
    settings = dataclasses.replace(module.QUICK, **TINY[module])
    result = harness.report("name", module.run, settings, tmp_path)
    document = json.loads((tmp_path / "name.json").read_text())
    assert document["settings"] == dataclasses.asdict(settings)
    assert document["criteria"] == result.criteria
    assert document["holds"] == result.holds == all(result.criteria.values())
    assert document["numbers"].keys() >= NUMBERS[module]
    assert len(finite_numbers(document["numbers"])) >= 4
    with Image.open(tmp_path / "name.png") as picture:
        assert picture.width > 600
        assert len(np.unique(np.asarray(picture.convert("L")))) > 50
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last == document["sentence"]


def test_numbers_that_json_has_not_become_null():
    assert harness.nulled({"a": [1.5, float("inf")], "b": {"c": float("nan"), "d": "x"}}) == {
        "a": [1.5, None],
        "b": {"c": None, "d": "x"},
    }


def test_the_command(tmp_path):
    args = ["--width=8", "--depth=2", "--steps=2", "--batch_size=8"]
    done = run_here(command("experiments.weights", f"--workdir={tmp_path / 'out'}", *args))
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "out" / "weights.json").read_text())
    assert (document["settings"]["width"], document["settings"]["bound"]) == (8, 0.1)
    assert done.stdout.strip().splitlines()[-1] == document["sentence"]
    assert (tmp_path / "out" / "weights.png").is_file()
    bad = run_here(command("experiments.weights", f"--workdir={tmp_path / 'bad'}", "--width=0"))
    assert bad.returncode == 2
    assert bad.stderr.strip() == "error: --width=0: must be positive"


@pytest.mark.parametrize("module", list(TINY), ids=lambda module: module.__name__.rpartition(".")[2])
def test_the_full_preset_can_be_set_up(module):
    """Its fields are those of the quick one, and possible."""
    harness.check(module.FULL)
    assert module.FULL != module.QUICK


def test_more_images_than_there_are():
    with pytest.raises(UserError, match="2000 training images: digits has 1297; take fewer"):
        overfitting.run(dataclasses.replace(overfitting.QUICK, few=2_000))


@pytest.fixture(scope="module")
def plane():
    """A GAN of the plane and its first state."""
    gan = wgan_jax.build(setups.toy_config("swissroll", width=4, batch_size=16))
    return gan, wgan_jax.init_state(gan, jax.random.key(0))


class Linear(nn.Module):
    """A critic `slope · x₀`."""

    slope: float

    @nn.compact
    def __call__(self, x, label=None, *, train=False):
        return self.slope * x[:, 0]


@pytest.mark.parametrize(("slope", "ratio", "explained"), [(-1.0, 1, 1), (-3.0, 3, 1), (2.0, -2, -1), (0.0, 0, 0)])
def test_how_much_of_the_distance_a_critic_explains(plane, slope, ratio, explained):
    """Points and the same points 0.5 further: W₁ is 0.5, and the critic −x₀ explains it all."""
    real = np.random.default_rng(0).standard_normal((60, 2)).astype(np.float32)
    fake = real + np.float32([0.5, 0])
    gan, state = plane
    gan = dataclasses.replace(gan, critic=Linear(slope))
    found = value_surfaces.measure(gan, state, real, fake, transport.wasserstein(real, fake))
    assert (found["ratio"], found["explained"]) == (pytest.approx(ratio, abs=1e-5), pytest.approx(explained, abs=1e-5))


def test_the_fixed_generator_perturbs_the_very_batch(plane):
    """Points 1,000 apart: the fakes' mean is that of the reals and of the noise, to the last digits."""
    points = (1_000 * np.random.default_rng(0).standard_normal((500, 2))).astype(np.float32)
    source = setups.numbered(points)
    gan = setups.against(plane[0], setups.Perturbed(points), latent_dim=2, num_classes=len(points))
    gan = dataclasses.replace(gan, critic=Linear(1.0), constraint=constraints.Constraint())
    state = wgan_jax.init_state(gan, jax.random.key(0))
    batch = {name: values[None] for name, values in source.read(np.arange(100, 116)).items()}
    _, metrics = jax.jit(wgan_jax.make_train_step(gan))(state, batch)
    noise = draws.critic_latents(state.key, 0, 0, jnp.arange(16), 2)
    assert metrics["wasserstein_estimate"] == pytest.approx(-float(noise[:, 0].mean()), abs=1e-3)


def test_the_slope_of_a_critic(plane):
    gan, state = plane
    slope = gradient_norms.critic_slope(dataclasses.replace(gan, critic=Linear(-3.0)))
    assert slope(state, jnp.ones((7, 2))) == pytest.approx(3.0)


def test_initial_weights_that_are_clipped_make_gradients_shrink():
    """Twelve layers of 64, clipped at 0.1 and not trained: no such critic passes for one whose gradients grow."""
    gan = wgan_jax.build(setups.penalised(setups.DeepSettings()))
    state = wgan_jax.init_state(gan, jax.random.key(0))
    params = wgan_jax.clip_weights(state.critic.params, 0.1)
    critic = dataclasses.replace(state.critic, variables={"params": params})
    real = jnp.asarray(np.random.default_rng(0).standard_normal((32, 2)), jnp.float32)
    gradients = jax.jit(gradient_norms.activation_gradients(gan))
    values = gradients(dataclasses.replace(state, critic=critic), real)
    found = gradient_norms.summary([float(values[name]) for name in gradient_norms.layers(gan)])
    assert found["decades"] > 1
    assert found["factor_per_layer"] < 1


def test_the_standard_error_of_a_gap(plane):
    gan, state = plane
    gan = dataclasses.replace(gan, critic=Linear(2.0))
    x, y = np.random.default_rng(0).standard_normal((2, 3, 40, 2)).astype(np.float32)
    expected = 2 * np.sqrt(x[..., 0].var(ddof=1) / 120 + y[..., 0].var(ddof=1) / 120)
    assert overfitting.standard_error(gan, state, x, y) == pytest.approx(expected, rel=1e-5)


def test_activation_gradients_against_ones_by_hand():
    """A critic of two hidden layers written out, differentiated by each layer's output."""
    config = setups.toy_config("swissroll", width=5, depth=2)
    gan = wgan_jax.build(config)
    state = wgan_jax.init_state(gan, jax.random.key(0))
    real = jnp.asarray(toy.load("swissroll", "held_out").examples["image"][:7])
    z = draws.held_out_latents(state.key, 0, jnp.arange(7), 2)
    x = jnp.concatenate([real, gan.generator.apply(state.generator.variables, z)])
    p = state.critic.params
    first = nn.relu(x @ p["hidden"]["dense_0"]["kernel"] + p["hidden"]["dense_0"]["bias"])
    rest = lambda h: nn.relu(h @ p["hidden"]["dense_1"]["kernel"] + p["hidden"]["dense_1"]["bias"])  # noqa: E731

    def loss(h):
        scores = (h @ p["output"]["kernel"] + p["output"]["bias"])[:, 0]
        return scores[7:].mean() - scores[:7].mean()

    norms = gradient_norms.activation_gradients(gan)(state, real)
    np.testing.assert_allclose(norms["dense_1"], jnp.linalg.norm(jax.grad(lambda h: loss(rest(h)))(first)), rtol=1e-5)
    np.testing.assert_allclose(norms["output"], jnp.linalg.norm(jax.grad(loss)(rest(first))), rtol=1e-5)
    assert gradient_norms.layers(gan) == ["dense_1", "output"]


def test_a_norm_of_tiny_numbers_does_not_underflow():
    np.testing.assert_allclose(gradient_norms.norm(jnp.array([3e-30, 4e-30])), 5e-30, rtol=1e-6)
    assert gradient_norms.norm(jnp.zeros(3)) > 0


def test_the_slope_of_norms():
    found = gradient_norms.summary([1e-6 * 10**i for i in range(7)])
    assert found["factor_per_layer"] == pytest.approx(0.1)
    assert found["decades"] == pytest.approx(6)


@pytest.mark.parametrize(
    ("gap", "opens"),
    [([0, 1, 2, 2, 3], 30), ([0, 3, 0, 0, 0], None), ([3, 3, 3, 3, 3], 10), ([0, 0, 0, 0, 2], 50)],
)
def test_where_a_gap_opens(gap, opens):
    """Against a training estimate of 4, of which half is wanted."""
    numbers = {"step": [10, 20, 30, 40, 50], "gap": gap, "training": [4.0] * 5}
    assert overfitting.opening(numbers) == opens


def test_lines_are_parallel():
    z = jax.random.normal(jax.random.key(0), (10_000, 1))
    points = parallel_lines.Line().apply({"params": {"theta": jnp.float32(0.3)}}, z)
    assert np.all(points[:, 0] == np.float32(0.3))
    height = np.sort(points[:, 1])
    np.testing.assert_allclose(height, np.linspace(0, 1, 10_000), atol=0.02)


def test_every_constraint_is_measured():
    kinds = {kind for row in measured_constraints.ROWS.values() for kind in row.kind.split("+")}
    assert kinds == set(CONSTRAINTS) - {"r2"}


@pytest.mark.parametrize("where", measured_constraints.SETS)
@pytest.mark.parametrize("name", measured_constraints.ROWS)
def test_the_cost_of_a_row_is_its_share_of_the_counted_arithmetic(where, name):
    """Counted from the widths here, and from the traced networks in `cost`."""
    settings = dataclasses.replace(measured_constraints.QUICK, width=24, n_critic=3)

    def costs(row):
        config = measured_constraints.config_of(settings, where, row)
        gan = build(config)
        return measured_constraints.products(gan, config), flops.of_step(gan, 1, config.n_critic)

    ours, counted = costs(measured_constraints.ROWS[name])
    assert 2 * ours == pytest.approx(counted, rel=1e-9, abs=1)  # rounded there; a product and a sum


def test_each_fixed_fake_is_drawn_as_often_as_the_others():
    points = np.arange(40, dtype=np.float32).reshape(10, 4)
    z = jax.random.normal(jax.random.key(0), (20_000, 1))
    drawn = np.asarray(measured_constraints.Drawn(points).apply({}, z))
    assert {tuple(row) for row in drawn} == {tuple(row) for row in points}
    counts = np.bincount((drawn[:, 0] / 4).astype(int))
    np.testing.assert_allclose(counts, 2_000, atol=212)  # five standard deviations
    far = measured_constraints.Drawn(points).apply({}, jnp.array([[-50.0], [50.0]]))
    np.testing.assert_array_equal(far, points[[0, -1]])


def test_noise_is_as_wide_as_the_examples():
    points = 3 * np.random.default_rng(1).standard_normal((20_000, 2)).astype(np.float32) + 5
    noise = measured_constraints.noisy(points, 0) - points
    np.testing.assert_allclose(noise.std(axis=0), 3, rtol=0.03)
    np.testing.assert_allclose(noise.mean(axis=0), 0, atol=0.1)


def test_the_quality_of_samples():
    rng = np.random.default_rng(0)
    points, images = rng.standard_normal((50, 2)), rng.uniform(-1, 1, (50, 4, 4, 1))
    assert measured_constraints.quality(points + np.array([3.0, 4.0]), points) == pytest.approx(5.0)
    assert measured_constraints.quality(images + 10.0, images) == 1.0
    assert measured_constraints.quality(np.full((50, 2), np.nan), points) == np.inf
