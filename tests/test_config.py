import contextlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

import wgan_jax
from wgan_jax import UserError
from wgan_jax.config import check, default
from wgan_jax.config.check import without_unread
from wgan_jax.config.readers import readers
from wgan_jax.config.settings import complete, flatten, from_json, to_json
from wgan_jax.networks import dcgan, mlp
from wgan_jax.run import differences

from .commands import environment
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


@pytest.mark.parametrize(
    ("name", "variant", "setting", "value"),
    [
        ("digits", "clip", "constraint.kind", "clip"),
        ("digits", "auxiliary", "conditional.kind", "auxiliary"),
        ("digits", "projection", "conditional.kind", "projection"),
        ("cifar10", "spectral_norm", "game", "hinge"),
        ("cifar10", "two_rates", "critic.optimizer.learning_rate", 3e-4),
        ("fashion_mnist", "unlabelled", "conditional.kind", "none"),
        ("fashion_mnist", "paper", "n_critic", 5),
        ("cifar10_resnet", "auxiliary", "conditional.kind", "auxiliary"),
        ("cifar10_resnet", "projection", "conditional.kind", "projection"),
    ],
)
def test_a_variant_of_a_config_is_its_argument(name, variant, setting, value):
    spec = importlib.util.spec_from_file_location(name, CONFIGS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    changed = module.get_config(variant)
    wgan_jax.build(changed)
    assert dict(flatten(changed))[setting] == value
    assert dict(flatten(module.get_config()))[setting] != value
    assert f"    {variant} " in module.__doc__
    with pytest.raises(UserError, match=f"'vae': must be one of .*{variant}"):
        module.get_config("vae")


@pytest.mark.parametrize(
    ("networks", "generator"),
    [
        ("dcgan", dcgan.Generator((64, 64, 3), norm="batch", kernel_init="normal", kernel_size=4, use_bias=False)),
        (
            "dcgan_no_norm",
            dcgan.Generator((64, 64, 3), norm="none", kernel_init="normal", kernel_size=4, use_bias=False),
        ),
        (
            "poor",
            dcgan.Generator(
                (64, 64, 3), norm="none", kernel_init="normal", kernel_size=4, use_bias=False, constant_width=True
            ),
        ),
        ("mlp", mlp.Generator((64, 64, 3), width=512, depth=3, kernel_init="fan_in")),
    ],
)
def test_the_generators_of_the_wgan_paper(networks, generator):
    spec = importlib.util.spec_from_file_location("wgan_clip", CONFIGS / "wgan_clip.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    gan = wgan_jax.build(module.get_config(networks))
    assert gan.generator == generator
    assert gan.critic == dcgan.Critic(norm="batch", kernel_init="normal", kernel_size=4, use_bias=False)
    with pytest.raises(UserError, match="'vae': must be one of dcgan, "):
        module.get_config("vae")


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
    ("microbatches", 0),
    ("microbatches", 2.0),
    ("parallel.mode", "vmap"),
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
    ("critic.kernel_size", 0),
    ("critic.use_bias", "no"),
    ("conditional.kind", "acgan"),
    ("conditional.classes", 1),
    ("conditional.generator_weight", -0.1),
    ("constraint.kind", "spectral"),
    ("constraint.weight", -10.0),
    ("constraint.bound", 0.0),
    ("constraint.order", "during"),
    ("constraint.gamma", -1.0),
    ("constraint.every", 0),
    ("constraint.noise", -0.1),
    ("constraint.divergence_weight", -1.0),
    ("constraint.divergence_power", 1.0),
    ("constraint.consistency_weight", -1.0),
    ("constraint.consistency_margin", -1.0),
    ("critic.dropout", 1.0),
    ("report.checkpoints", 0),
    ("seed", 2**40),
    ("seed", "0"),
    ("steps", -5),
    ("steps", 2**31),
    ("batch_size", 64.0),
    ("batch_size", None),
    ("batch_size", [64]),
    ("n_critic", -5),
    ("latent_dim", 0),
    ("game", ""),
    ("game", 1),
    ("precision", "double"),
    ("ema_decay", -0.1),
    ("ema_decay", "0.9"),
    ("warmup.steps", -1),
    ("warmup.every", -500),
    ("data.name", 3),
    ("data.cache", "sometimes"),
    ("data.train_split", ""),
    ("data.held_out_fraction", 1.0),
    ("data.unreadable_fraction", -0.5),
    ("generator.width", 2**20),
    ("generator.depth", -1),
    ("generator.constant_width", "yes"),
    ("generator.kernel_init", "xavier"),
    ("critic.network", "DCGAN"),
    ("critic.width", "256"),
    ("critic.optimizer.b2", -0.9),
    ("critic.optimizer.decay", 2.0),
    ("critic.optimizer.weight_decay", -1e-4),
    ("constraint.one_sided", 1),
    ("constraint.target", -1.0),
    ("constraint.weight", 10**400),
    ("constraint.bound", float("-inf")),
    ("report.every", 0),
    ("report.samples_every", -1),
    ("report.checkpoint_every", 0.5),
    ("debug.nans", "true"),
    ("critic", 3),
    ("constraint", None),
]


def set_key(c: dict, key: str, value) -> None:
    *path, last = key.split(".")
    for name in path:
        c = c[name]
    c[last] = value


def changed(key: str, value) -> dict:
    c = default().to_dict()
    set_key(c, key, value)
    return c


def test_the_table_is_long_enough():
    assert len(BAD) >= 60


@pytest.mark.parametrize(("key", "value"), BAD, ids=lambda value: str(value)[:20])
def test_a_value_that_cannot_be_is_named_with_its_remedy(key, value):
    with pytest.raises(UserError) as error:
        check(from_json(json.dumps(changed(key, value))))
    message = str(error.value)
    assert message.startswith(f"config.{key} = ")
    assert "must be" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("n_critics", "did you mean n_critic?"),
        ("critic.learning_rates", "optimizer.learning_rate?"),
        ("zzz", "wgan_jax/config/settings.py explains every key"),
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
        check(c)
    assert hint in str(error.value)


def test_a_missing_key_is_named():
    c = default()
    del c.critic.width
    with pytest.raises(UserError, match=r"config\.critic\.width: missing"):
        check(c)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"critic__norm": "batch", "critic__network": "dcgan"}, "treats each example by itself"),
        (
            {"conditional__kind": "auxiliary", "generator__network": "dcgan"},
            "config.generator.norm = 'none': the classes of config.conditional.kind = 'auxiliary' enter a dcgan",
        ),
        ({"generator__network": "dcgan", "data__size": 0}, "convolutions need images"),
        ({"data__flip": True}, "config.data.flip = True: digits has no bytes"),
        ({"data__dequantise": True, "data__name": "toy:swissroll"}, "toy:swissroll has no bytes"),
        ({"data__name": "folder:x", "data__size": 0}, "config.data.size = 0: folder:x has images"),
        ({"data__name": "tfds:x", "data__channels": 4}, "config.data.channels = 4"),
        ({"data__size": 50, "critic__network": "dcgan"}, "config.data.size = 50: .* a DCGAN needs"),
        ({"microbatches": 3}, "batch_size = 8: must be divisible by config.microbatches = 3; 6 and 9 are the nearest"),
        (
            {"microbatches": 2, "generator__network": "dcgan", "generator__norm": "batch"},
            "config.generator.norm = 'batch' takes its moments of the whole batch",
        ),
        ({"warmup__n_critic": 1}, "at least config.n_critic = 2"),
        ({"report__wasserstein_exact": True}, "in so many dimensions"),
    ],
)
def test_impossible_pairs(changes, words):
    with pytest.raises(UserError, match=words):
        wgan_jax.build(tiny_config(**changes))


IMAGES = {"generator__network": "dcgan", "critic__network": "resnet"}
OF_NORMS = "gradient_penalty or lipschitz_penalty or dragan"

UNREAD = [
    ({}, "warmup.steps", 10, "config.warmup.n_critic > 0"),
    ({}, "warmup.every", 0, "config.warmup.n_critic > 0"),
    ({}, "data.crop", 8, "a tfds: or folder: data set"),
    ({"data__name": "toy:swissroll", "data__size": 0}, "data.crop", 8, "a tfds: or folder: data set"),
    ({}, "data.cache", "never", "a tfds: or folder: data set"),
    ({"data__name": "folder:x"}, "data.train_split", "train[:9]", "a tfds: data set"),
    ({"data__name": "folder:x"}, "data.held_out_split", "test", "a tfds: data set"),
    ({"data__name": "folder:x"}, "data.dir", "/data", "a tfds: data set"),
    ({}, "data.held_out_fraction", 0.2, "a tfds: or folder: data set"),
    ({}, "data.unreadable_fraction", 0.2, "a tfds: or folder: data set"),
    ({}, "critic.norm", "layer", "config.critic.network = dcgan or resnet"),
    (IMAGES, "critic.kernel_init", "normal", "config.critic.network = mlp or dcgan"),
    (IMAGES, "generator.depth", 4, "config.generator.network = mlp"),
    (IMAGES, "critic.depth", 4, "config.critic.network = mlp"),
    (IMAGES, "critic.kernel_size", 4, "config.critic.network = dcgan"),
    (IMAGES, "critic.use_bias", False, "config.critic.network = dcgan"),
    ({}, "generator.kernel_size", 4, "config.generator.network = dcgan"),
    ({}, "generator.use_bias", False, "config.generator.network = dcgan"),
    ({}, "generator.constant_width", True, "config.generator.network = dcgan"),
    ({"critic__network": "dcgan"}, "critic.constant_width", True, "a generator"),
    ({"critic__optimizer__name": "rmsprop"}, "critic.optimizer.b1", 0.9, "config.critic.optimizer.name = adam"),
    ({"critic__optimizer__name": "sgd"}, "critic.optimizer.b2", 0.99, "config.critic.optimizer.name = adam"),
    ({}, "critic.optimizer.decay", 0.9, "config.critic.optimizer.name = rmsprop or rmsprop_tf"),
    (
        {"critic__optimizer__name": "sgd"},
        "critic.optimizer.eps",
        1e-3,
        "config.critic.optimizer.name = adam or rmsprop or rmsprop_tf",
    ),
    ({}, "conditional.classes", 5, "config.conditional.kind = auxiliary or projection"),
    ({"conditional__kind": "projection"}, "conditional.critic_weight", 2.0, "config.conditional.kind = auxiliary"),
    ({"conditional__kind": "projection"}, "conditional.generator_weight", 2.0, "config.conditional.kind = auxiliary"),
    ({"constraint__kind": "clip"}, "constraint.weight", 0.1, f"config.constraint.kind = {OF_NORMS}"),
    ({"constraint__kind": "clip"}, "constraint.target", 0.0, f"config.constraint.kind = {OF_NORMS}"),
    ({"constraint__kind": "none"}, "constraint.one_sided", True, "config.constraint.kind = gradient_penalty"),
    ({}, "constraint.noise", 0.1, "config.constraint.kind = dragan"),
    ({}, "constraint.divergence_weight", 1.0, "config.constraint.kind = wasserstein_divergence"),
    ({}, "constraint.divergence_power", 2.0, "config.constraint.kind = wasserstein_divergence"),
    ({}, "constraint.consistency_weight", 1.0, "config.constraint.kind = consistency"),
    ({}, "constraint.consistency_margin", 1.0, "config.constraint.kind = consistency"),
    ({}, "constraint.gamma", 1.0, "config.constraint.kind = r1 or r2"),
    (
        {"constraint__kind": "spectral_norm"},
        "constraint.every",
        2,
        f"config.constraint.kind = {OF_NORMS} or wasserstein_divergence or consistency or r1 or r2",
    ),
    ({}, "constraint.bound", 0.1, "config.constraint.kind = clip"),
    ({}, "constraint.order", "before", "config.constraint.kind = clip"),
]


@pytest.mark.parametrize(("changes", "key", "value", "reader"), UNREAD, ids=lambda value: str(value)[:20])
def test_a_setting_that_nothing_reads_is_refused_and_its_remedy_works(changes, key, value, reader):
    kept = dict(flatten(default()))[key]
    check(tiny_config(**changes))
    with pytest.raises(UserError) as error:
        check(tiny_config(**changes, **{key.replace(".", "__"): value}))
    assert str(error.value) == (
        f"config.{key} = {value!r}: has no effect here, only {reader} reads it; leave it at {kept!r}"
    )
    check(tiny_config(**changes, **{key.replace(".", "__"): kept}))


def test_every_setting_that_not_every_run_reads_is_tried():
    players = {key.replace("generator.", "critic.") for key in readers()}
    assert {key.replace("generator.", "critic.") for _, key, _, _ in UNREAD} == players


def test_a_run_of_an_older_version_may_hold_settings_that_nothing_reads():
    changes = {
        "critic__kernel_size": 4,
        "critic__use_bias": False,
        "critic__kernel_init": "normal",
        "constraint__bound": 2.0,
    }
    old = tiny_config(**changes, critic__width=9)
    assert without_unread(old) == tiny_config(critic__width=9)
    assert without_unread(tiny_config(critic__width=9)) == tiny_config(critic__width=9)
    damaged = tiny_config(critic__width=0, constraint__bound=2.0)
    assert without_unread(damaged) is damaged


@pytest.mark.parametrize(
    ("network", "init", "words"),
    [
        ("mlp", "normal", "config.critic.network = 'mlp' has he_uniform or he_glorot or fan_in"),
        ("dcgan", "fan_in", "config.critic.network = 'dcgan' has he_uniform or normal or uniform"),
    ],
)
def test_initial_weights_that_a_network_does_not_have_are_refused(network, init, words):
    with pytest.raises(UserError, match=f"config.critic.kernel_init = '{init}': {words}"):
        check(tiny_config(critic__network=network, critic__kernel_init=init))


def test_batch_norm_in_a_clipped_critic_is_allowed():
    wgan_jax.build(tiny_config(critic__norm="batch", critic__network="dcgan", constraint__kind="clip"))


def test_integers_pass_for_floats():
    check(tiny_config(constraint__weight=10))


@given(st.floats(0.0, 0.99), st.integers(1, 1000))
def test_json_round_trip(decay, steps):
    c = tiny_config(ema_decay=decay, steps=steps)
    assert differences.of_settings(from_json(to_json(c)), c) == {}


def test_differences_name_both_values():
    lines = differences.of_settings(tiny_config(), tiny_config(seed=3, critic__width=9))
    assert lines == {
        "critic.width": "config.critic.width: 8 there, 9 here",
        "seed": "config.seed: 0 there, 3 here",
    }


def test_a_key_is_within_itself_and_its_sections_alone():
    assert differences.within("report.every", ["report"])
    assert differences.within("data.dir", ["data.dir"])
    assert not differences.within("reporter.every", ["report"])
    assert not differences.within("data.directory", ["data.dir"])


def test_complete_settings_stay_as_they_are_and_others_get_their_defaults():
    c = tiny_config(seed=3)
    assert complete(c) == (c, {})
    values = c.to_dict()
    del values["critic"]["optimizer"]["eps"], values["debug"]
    whole, absent = complete(ConfigDict(values | {"zzz": 1}))
    assert absent == {"critic.optimizer.eps": 1e-8, "debug.nans": False}
    assert whole.to_dict() == c.to_dict() | {"zzz": 1}


BEFORE_ANY_DEVICE = """
import json, sys, time
from pathlib import Path
from jax._src import xla_bridge
from wgan_jax import UserError
from wgan_jax.config.settings import from_json
from wgan_jax.run.training import train
for text in json.load(sys.stdin):
    began = time.monotonic()
    try:
        train(from_json(text), Path(sys.argv[1]))
    except UserError as error:
        assert chr(10) not in str(error)
        assert time.monotonic() - began < 5
    else:
        raise AssertionError(text)
assert not xla_bridge._backends, "a device was touched"
assert not Path(sys.argv[1]).exists(), "the workdir was made"
"""


def test_bad_configs_end_before_any_device_work_and_leave_nothing(tmp_path):
    texts = [json.dumps(changed(key, value)) for key, value in BAD]
    args = [sys.executable, "-c", BEFORE_ANY_DEVICE, str(tmp_path / "w")]
    done = subprocess.run(args, input=json.dumps(texts), env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


KEYS = sorted(dict(flatten(default())))
ODD_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 70),
    st.sampled_from([2**31, 10**400, -(2**70)]),
    st.floats(),
    st.text(max_size=4),
    st.sampled_from(
        [
            "mlp",
            "dcgan",
            "resnet",
            "batch",
            "layer",
            "none",
            "clip",
            "normal",
            "rmsprop",
            "sgd",
            "bfloat16",
            "auxiliary",
            "projection",
        ]
    ),
    st.lists(st.integers(), max_size=2),
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from([*KEYS, "critic", "zzz", "critic.zzz"]), ODD_VALUES, max_size=4))
def test_no_config_ends_in_a_traceback(changes):
    """It builds, with networks whose shapes fit, or it is a user's mistake."""
    c = tiny_config().to_dict()
    for key, value in changes.items():
        with contextlib.suppress(TypeError, KeyError):  # a section that another change has replaced
            set_key(c, key, value)
    try:
        gan = wgan_jax.build(ConfigDict(c))
    except UserError:
        return
    jax.eval_shape(lambda key: wgan_jax.init_state(gan, key), jax.random.key(0))
