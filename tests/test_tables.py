"""What one row of a table adds: a constraint, a network, an optimizer, a kind of data, a medium."""

import dataclasses
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import wgan_jax
from wgan_jax import UserError
from wgan_jax.config import check
from wgan_jax.config.tables import (
    CONDITIONINGS,
    CONSTRAINTS,
    NETWORKS,
    OPTIMIZERS,
    ConstraintKind,
    NetworkKind,
    OptimizerKind,
)
from wgan_jax.data import ArraySource
from wgan_jax.data.kinds import KINDS, Kind
from wgan_jax.method.constraints import Constraint
from wgan_jax.networks import layers
from wgan_jax.report import media
from wgan_jax.report.media import MEDIA, Medium
from wgan_jax.run.resume import Options
from wgan_jax.run.training import train

from .conftest import tiny_config

pytestmark = pytest.mark.usefixtures("quick_compilation")

ONE = {"steps": 1, "report__every": 1, "report__samples_every": 1, "report__checkpoint_every": 1}


def metrics_of(workdir):
    """The metrics of a run's last iteration."""
    return json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-1])


def drift(config):
    """Keeps scores of real examples near 0 (arXiv 1710.10196, appendix A.1)."""

    def loss(critic_fn, real, fake, *_):
        squares = jnp.mean(jnp.square(critic_fn(real)))
        return config.weight * squares, {"drift": squares}

    return Constraint(loss=loss)


@pytest.fixture
def with_drift(monkeypatch):
    monkeypatch.setitem(CONSTRAINTS, "drift", ConstraintKind(drift, settings=("weight",), metrics=("drift",)))


@pytest.mark.usefixtures("with_drift")
def test_a_constraint_is_a_row(tmp_path):
    config = tiny_config(constraint__kind="drift", constraint__weight=0.5, report__best="drift", **ONE)
    train(config, tmp_path / "w")
    metrics = metrics_of(tmp_path / "w")
    assert metrics["drift"] > 0
    assert "gradient_penalty" not in metrics


@pytest.mark.usefixtures("with_drift")
def test_rules_and_messages_read_the_rows():
    with pytest.raises(UserError, match=f"one of {', '.join(CONSTRAINTS)}, or several of them joined by"):
        check(tiny_config(constraint__kind="drifts"))
    with pytest.raises(UserError, match=r"only config\.constraint\.kind = gradient_penalty or .* or drift reads it"):
        check(tiny_config(constraint__kind="clip", constraint__weight=0.5))
    with pytest.raises(UserError, match=r"only config\.constraint\.kind = clip reads it"):
        check(tiny_config(constraint__kind="drift", constraint__bound=0.5))


def test_constraints_are_joined_by_a_plus(tmp_path):
    """The parts read their own settings, and both have their effect."""
    config = tiny_config(
        constraint__kind="clip+gradient_penalty",
        constraint__bound=0.02,
        constraint__weight=3.0,
        report__best="clipped_fraction",
        **ONE,
    )
    state = train(config, tmp_path / "w")
    assert {"clipped_fraction", "gradient_penalty"} <= metrics_of(tmp_path / "w").keys()
    largest = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(state.critic.params))
    assert largest == pytest.approx(0.02)


@pytest.mark.parametrize("kind", ["clip+", "clip+clip", "clip + gradient_penalty", "clip+spectral", "+"])
def test_what_a_plus_joins_is_names_of_different_constraints(kind):
    with pytest.raises(
        UserError, match=r"must be one of gradient_penalty, .*, clip, none, or several of them joined by"
    ):
        check(tiny_config(constraint__kind=kind))


def test_a_chain_demands_of_the_critic_what_its_parts_demand():
    batch = {"critic__network": "dcgan", "critic__norm": "batch"}
    check(tiny_config(constraint__kind="clip", **batch))
    with pytest.raises(UserError, match="'gradient_penalty' needs a critic that treats each example by itself"):
        check(tiny_config(constraint__kind="clip+gradient_penalty", **batch))


class LinearGenerator(nn.Module):
    image_shape: tuple[int, ...]

    @nn.compact
    def __call__(self, z, label=None, *, train=False):
        return nn.tanh(nn.Dense(int(np.prod(self.image_shape)))(z)).reshape(-1, *self.image_shape)


class LinearCritic(nn.Module):
    use_bias: bool = True

    @nn.compact
    def __call__(self, x, label=None, *, train=False):
        return nn.Dense(1, use_bias=self.use_bias)(x.reshape(x.shape[0], -1))[:, 0]


def test_a_network_and_an_optimizer_are_rows(tmp_path, monkeypatch):
    monkeypatch.setitem(NETWORKS, "linear", NetworkKind(LinearGenerator, LinearCritic))
    monkeypatch.setitem(OPTIMIZERS, "sign", OptimizerKind(lambda c: optax.scale_by_sign()))
    players = {f"{p}__network": "linear" for p in ("generator", "critic")} | {"critic__use_bias": False}
    plain = {f"{p}__{key}": value for p in ("generator", "critic") for key, value in (("width", 256), ("depth", 3))}
    config = tiny_config(**players, **plain, critic__optimizer__name="sign", **ONE)
    gan = wgan_jax.build(config)
    assert gan.critic == LinearCritic(use_bias=False)
    state = train(config, tmp_path / "w")
    assert sum(x.size for x in jax.tree.leaves(state.critic.params)) == 64
    with pytest.raises(UserError, match=r"only config\.critic\.network = mlp or dcgan or resnet reads it"):
        check(tiny_config(**players, **plain | {"critic__width": 9}))
    with pytest.raises(UserError, match=r"only config\.critic\.network = dcgan or linear reads it"):
        check(tiny_config(critic__use_bias=False))


def test_a_kind_of_data_is_a_row(tmp_path, monkeypatch):
    def ring(config, rest, split):
        angle = np.random.default_rng(["train", "held_out"].index(split)).uniform(0, 2 * np.pi, 200)
        points = float(rest) * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        return ArraySource(points.astype(np.float32))

    monkeypatch.setitem(KINDS, "ring", Kind(ring, ("ring:0.5",)))
    config = tiny_config(data__name="ring:0.5", data__size=0, data__channels=2, **ONE)
    train(config, tmp_path / "w")
    assert np.isfinite(metrics_of(tmp_path / "w")["held_out_estimate"])
    assert (tmp_path / "w" / "samples" / "0000001.png").exists()
    with pytest.raises(UserError, match=r"did you mean ring:0\.5\?"):
        wgan_jax.data.load(tiny_config(data__name="rings:0.5"), "train")


def test_a_medium_is_a_row(tmp_path, monkeypatch):
    """Series of five numbers, which are shown and written as text."""

    def series(config, rest, split):
        steps = np.random.default_rng(["train", "held_out"].index(split)).normal(size=(200, 5))
        return ArraySource(steps.cumsum(1).astype(np.float32))

    def write(path, examples, label, columns):
        np.savetxt(path, examples)

    def snapshot(path, gan, state, key, step, real):
        path.parent.mkdir(exist_ok=True)
        write(path.with_suffix(".txt"), wgan_jax.sample(gan, state, key, 3), None, None)

    monkeypatch.setitem(KINDS, "series", Kind(series, ("series",), names=("",)))
    monkeypatch.setitem(MEDIA, "series", Medium(lambda shape: shape == (5,), snapshot, {".txt": write}))
    state = train(tiny_config(data__name="series", data__size=0, data__channels=5, **ONE), tmp_path / "w")
    assert np.loadtxt(tmp_path / "w" / "samples" / "0000001.txt").shape == (3, 5)
    gan = wgan_jax.build(tiny_config(data__name="series", data__size=0, data__channels=5))
    examples = np.asarray(wgan_jax.sample(gan, state, jax.random.key(0), 2))
    media.check(tmp_path / "a.txt", gan, 2, "--num=2")
    media.write(tmp_path / "a.txt", examples, None)
    np.testing.assert_allclose(np.loadtxt(tmp_path / "a.txt"), examples)
    with pytest.raises(UserError, match=r"a\.png: must end in \.txt, to hold series"):
        media.check(tmp_path / "a.png", gan, 2, "--num=2")
    with pytest.raises(UserError, match=r"must end in \.npz, to hold arrays"):
        media.check(tmp_path / "a.png", dataclasses.replace(gan, image_shape=(7,)), 2, "--num=2")


def test_rows_name_what_there_is():
    """A setting of a row is a setting of the config, and a network's fields fit its player."""
    config = tiny_config().to_dict()
    assert all(set(row.settings) <= config["constraint"].keys() for row in CONSTRAINTS.values())
    assert all(set(row.settings) <= config["conditional"].keys() for row in CONDITIONINGS.values())
    assert all(set(row.settings) <= config["critic"]["optimizer"].keys() for row in OPTIMIZERS.values())
    assert tuple(CONDITIONINGS) == layers.CONDITIONINGS
    for row in NETWORKS.values():
        for player in ("generator", "critic"):
            fields = {field.name for field in dataclasses.fields(row.module(player))} - {"parent", "name"}
            given = {"image_shape", "dtype", "num_classes", "conditioning", "axis_name"}
            assert fields <= config[player].keys() | given
            assert bool(row.inits) == ("kernel_init" in fields)


def test_a_run_may_begin_with_the_networks_of_one_with_another_constraint(tmp_path, monkeypatch, capsys):
    counting = Constraint(init=lambda params, key: jnp.zeros(()), weights=lambda params, state: (params, state + 1))
    monkeypatch.setitem(CONSTRAINTS, "counting", ConstraintKind(lambda c: counting))
    train(tiny_config(**ONE, constraint__kind="counting"), tmp_path / "old")
    options = Options(init_from=tmp_path / "old")
    again = train(tiny_config(**ONE, constraint__kind="counting", seed=1), tmp_path / "same", options=options)
    assert again.critic.constraint == 4  # n_critic = 2 in each of two runs
    assert "begins anew" not in capsys.readouterr().err
    chained = train(tiny_config(**ONE, constraint__kind="counting+clip"), tmp_path / "chained", options=options)
    assert chained.critic.constraint[0] == 2
    assert "its constraint has another state than this run's, which begins anew" in capsys.readouterr().err
    assert train(tiny_config(**ONE), tmp_path / "without", options=options).critic.constraint == ()
