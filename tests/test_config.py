import importlib.util
import json
from pathlib import Path

import jax
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wgan_jax
from wgan_jax import UserError, config
from wgan_jax.config import default

from .conftest import tiny_config

CONFIGS = Path(__file__).parent.parent / "configs"


def test_the_default_config_builds():
    gan = wgan_jax.build(default())
    assert gan.image_shape == (8, 8, 1)
    assert gan.schedule.n_critic == 5


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.py")), ids=lambda path: path.stem)
def test_every_config_builds_and_has_a_run_card(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    gan = wgan_jax.build(module.get_config())
    state = jax.eval_shape(lambda key: wgan_jax.init_state(gan, key), jax.random.key(0))
    assert jax.tree.leaves(state.critic.params)
    for words in (f"--config=configs/{path.name}", "Machine:", "arXiv"):
        assert words in module.__doc__


BAD = [
    ("seed", -1),
    ("steps", 0),
    ("steps", 1.5),
    ("steps", "many"),
    ("steps", True),
    ("batch_size", 0),
    ("n_critic", 0),
    ("latent_dim", -2),
    ("game", "wgan"),
    ("precision", "float16"),
    ("ema_decay", 1.0),
    ("ema_decay", float("nan")),
    ("steps_per_dispatch", 0),
    ("warmup.n_critic", -1),
    ("data.size", -8),
    ("data.channels", 0),
    ("data.cache", "sometimes"),
    ("data.crop", -1),
    ("data.train_split", ""),
    ("data.held_out_fraction", 0.0),
    ("data.unreadable_fraction", 1.0),
    ("generator.network", "unet"),
    ("generator.width", 0),
    ("generator.batch_multiple", 0),
    ("critic.depth", 0),
    ("critic.activation", "gelu"),
    ("critic.norm", "instance"),
    ("critic.optimizer.name", "adamw"),
    ("critic.optimizer.learning_rate", 0.0),
    ("critic.optimizer.learning_rate", float("inf")),
    ("critic.optimizer.schedule", "cosine"),
    ("generator.optimizer.b1", 1.0),
    ("generator.optimizer.eps", 0.0),
    ("constraint.kind", "spectral"),
    ("constraint.weight", -10.0),
    ("constraint.bound", 0.0),
    ("constraint.order", "during"),
    ("report.checkpoints", 0),
]


@pytest.mark.parametrize(("key", "value"), BAD)
def test_a_value_that_cannot_be_is_named_with_its_remedy(key, value):
    c = default().to_dict()
    *path, last = key.split(".")
    node = c
    for name in path:
        node = node[name]
    node[last] = value
    with pytest.raises(UserError) as error:
        config.check(config.from_json(json.dumps(c)))
    message = str(error.value)
    assert message.startswith(f"config.{key} = {value!r}")
    assert "must be" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("n_critics", "did you mean n_critic?"),
        ("critic.learning_rates", "optimizer.learning_rate?"),
        ("zzz", "wgan_jax/config.py explains every key"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest(key, hint):
    c = default()
    node = c
    *path, last = key.split(".")
    for name in path:
        node = node[name]
    node[last] = 1
    with pytest.raises(UserError, match=f"config.{key}: unknown key") as error:
        config.check(c)
    assert hint in str(error.value)


def test_a_missing_key_is_named():
    c = default()
    del c.critic.width
    with pytest.raises(UserError, match=r"config\.critic\.width: missing"):
        config.check(c)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"critic__norm": "batch", "critic__network": "dcgan"}, "treats each example by itself"),
        ({"critic__norm": "layer"}, "the mlp has none"),
        ({"generator__network": "dcgan", "data__size": 0}, "convolutions need images"),
        ({"data__flip": True}, "config.data.flip = True: digits has no bytes"),
        ({"data__dequantise": True, "data__name": "toy:swissroll"}, "toy:swissroll has no bytes"),
        ({"data__name": "folder:x", "data__size": 0}, "config.data.size = 0: folder:x has images"),
        ({"data__name": "tfds:x", "data__channels": 4}, "config.data.channels = 4"),
        ({"data__size": 50, "critic__network": "dcgan"}, "config.data.size = 50: .* a DCGAN needs"),
        ({"warmup__n_critic": 1}, "at least config.n_critic = 2"),
    ],
)
def test_impossible_pairs(changes, words):
    with pytest.raises(UserError, match=words):
        wgan_jax.build(tiny_config(**changes))


def test_batch_norm_in_a_clipped_critic_is_allowed():
    wgan_jax.build(tiny_config(critic__norm="batch", critic__network="dcgan", constraint__kind="clip"))


def test_integers_pass_for_floats():
    config.check(tiny_config(constraint__weight=10))


@given(st.floats(0.0, 0.99), st.integers(1, 1000))
def test_json_round_trip(decay, steps):
    c = tiny_config(ema_decay=decay, steps=steps)
    assert config.differences(config.from_json(config.to_json(c)), c) == []


def test_differences_name_both_values():
    lines = config.differences(tiny_config(), tiny_config(seed=3, critic__width=9))
    assert lines == ["config.critic.width: 8 there, 9 here", "config.seed: 0 there, 3 here"]
