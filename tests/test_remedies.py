"""Every remedy that a message names works as printed.

Each message of the package that names a flag, a setting or a command has a case here: it makes the mistake, reads the
remedy out of the message, applies it, and succeeds. A message without a case fails, unless `EXEMPT` says why.
"""

import ast
import contextlib
import dataclasses
import hashlib
import importlib
import re
import shutil
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from absl import app, flags
from ml_collections import ConfigDict, config_flags
from PIL import Image

import wgan_jax
from wgan_jax import UserError, cli, data
from wgan_jax.config import check, default
from wgan_jax.config.settings import flatten
from wgan_jax.cost import slices, suite
from wgan_jax.data import ArraySource, batches
from wgan_jax.data import tfds as of_tfds
from wgan_jax.devices import hosts, mesh
from wgan_jax.experiments import harness
from wgan_jax.method.schedule import CriticSchedule
from wgan_jax.metrics import choosing, evaluation, faces, weights
from wgan_jax.metrics.evaluators import EVALUATORS
from wgan_jax.report import media
from wgan_jax.run import checkpoint, identity, loop
from wgan_jax.run.best import check_best
from wgan_jax.run.resume import Options
from wgan_jax.run.training import train
from wgan_jax.run.workdir import claimed

from .commands import ROOT, command, run_here
from .conftest import tiny_config
from .runs import DIGITS, begin, go_on

pytestmark = pytest.mark.usefixtures("quick_compilation")

REMEDY = re.compile(r"--[a-z{]|config\.[a-z{]|python -m|pip install|elsewhere|(; |as in: )\{\}$")
"""What makes a message one that names a flag, a setting or a command, a thing to move, or a remedy that is put in."""

EXEMPT = {
    "libtpu says {}": "the remedy installs a package",
    "needs tensorflow_datasets, which cannot be imported": "the remedy installs a package",
    "preparing a data set needs TensorFlow": "the remedy installs a package",
    "looking for faces needs OpenCV ({})": "the remedy installs a package",
    "looking for faces needs OpenCV 4: version {}": "the remedy installs a package",
    "EfficientNet-Lite0's weights are in a package of their own": "the remedy installs a package",
    "a file of safetensors needs the package safetensors": "the remedy installs a package",
    "--name={}: TFDS knows no such data set": "the remedy is a page to read",
    "config.data.name = 'tfds:{}': TFDS knows no such data set": "the remedy is a page to read",
    "--name={}: {}": "the reason is the library's own, and no remedy is known",
    "config.data.name = 'tfds:{}': {}": "the reason is the library's own, and no remedy is known",
    "--name={}: cannot be prepared": "the reason is the network's or the disk's",
    "--coordinator_address={}: {}": "the reason is JAX's own",
    "is in it; name another split": "TFDS itself refuses every empty split that is known, with another message",
    "--workdir={}: cannot be written": "the reason is the system's",
    "--out={}: cannot be written": "the reason is the system's",
    "its file system cannot lock files": "the reason is the system's, and every folder of the tests can be locked",
    "--config: {}: {}": "the reason is an exception of the user's own file",
    "config.debug.nans: {}": "it names the place, and no remedy is known",
    "use the version that wrote it": "the remedy is another version of this package",
}


# --- the messages of the package ---


def text(node):
    """A string as it stands in the source, with {} for what is put in."""
    match node:
        case ast.Constant():
            return str(node.value)
        case ast.JoinedStr():
            return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        case _:
            return "{}"


def calls(*names):
    """All calls in the package of functions with these names."""
    for path in sorted((ROOT / "wgan_jax").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in names:
                yield node


TEMPLATES = sorted({text(call.args[0]) for call in calls("UserError", "DivergedError", "fail")})
NAMING = [template for template in TEMPLATES if REMEDY.search(template)]


def template_of(says):
    """The one message that is these words or has them in it."""
    found = [template for template in NAMING if says == template] or [t for t in NAMING if says in t]
    assert len(found) == 1, f"{says!r} is in {len(found)} messages: {found}"
    return found[0]


def matches(template, message):
    pattern = ".*".join(re.escape(part) for part in template.split("{}"))
    return re.fullmatch(pattern, message, re.DOTALL)


CASES = {}


def case(says):
    """Makes a function the case of the message that has these words; it returns the message that it got."""

    def add(function):
        assert says not in CASES
        CASES[says] = function
        return function

    return add


def test_every_message_with_a_remedy_has_a_case():
    known = [template_of(says) for says in (*CASES, *SETTINGS, *EXEMPT)]
    assert len(known) == len(set(known)), "two cases of one message"
    assert sorted(known) == NAMING


def test_every_flag_and_setting_that_a_message_names_exists():
    defining = ("define_path", *(name for name in dir(flags) if name.startswith("DEFINE")))
    defined = {text(call.args[0]) for call in calls(*defining)} | {"config", "flag"}  # --flag=value stands for any
    keys = {f"config.{key}" for key in dict(flatten(default()))} | {"config.py", "config.json"}
    for template in NAMING:
        for flag in re.findall(r"--([a-z]\w*)", template):
            assert flag in defined, template
        for key in re.findall(r"(?<!wgan_jax\.)config\.[a-z_]+(?:\.[a-z_]+)*(?![\w{]|\.[{(]|\.py)", template):
            assert key in keys or any(name.startswith(f"{key}.") for name in keys), (key, template)


@pytest.mark.parametrize("says", CASES)
def test_a_remedy_works_as_printed(says, tmp_path, monkeypatch, request):
    message = CASES[says](tmp_path, monkeypatch, request)
    assert matches(template_of(says), message), message
    assert "\n" not in message


def told(function, *args, **more):
    """The message that a call ends in."""
    with pytest.raises(UserError) as error:
        function(*args, **more)
    return str(error.value)


def read(pattern, message):
    """What a message says in these places."""
    found = re.search(pattern, message)
    assert found, message
    return found.groups() if len(found.groups()) > 1 else found[1]


# --- settings: each remedy is a value of the message ---

SETTINGS = {
    "must be {}, not {}": ({"steps": "many"}, {"steps": 3}),
    "must be finite": ({"constraint__weight": float("inf")}, {"constraint__weight": 10.0}),
    "config.{} = {}: must be {}": ({"steps": 0}, {"steps": 1}),
    "needs a critic that treats each example by itself": (
        {"critic__norm": "batch", "critic__network": "dcgan"},
        {"critic__norm": "layer"},
        {"critic__norm": "none"},
    ),
    "compares two passes with different dropout": (
        {"constraint__kind": "gradient_penalty+consistency"},
        {"critic__dropout": 0.5},
    ),
    "bounds the critic's slope by its kernels": (
        {"critic__norm": "layer", "critic__network": "dcgan", "constraint__kind": "spectral_norm"},
        {"critic__norm": "none"},
    ),
    "is 0 at some checkpoints": (
        {"constraint__every": 3, "report__best": "gradient_penalty"},
        {"constraint__every": 1},
        {"constraint__every": 8},
    ),
    "config.{}.kernel_init = {}: config.{}.network = {} has {}": (
        {"critic__kernel_init": "normal"},
        {"critic__kernel_init": "he_uniform"},
        {"critic__kernel_init": "he_glorot"},
        {"critic__kernel_init": "fan_in"},
    ),
    "has no effect here, only {} reads it": (
        {"critic__kernel_size": 3},
        {"critic__kernel_size": 5},
        {"critic__network": "dcgan"},
    ),
    "convolutions need images": (
        {"data__name": "toy:swissroll", "data__size": 0, "data__channels": 2, "critic__network": "dcgan"},
        {"critic__network": "mlp"},
    ),
    "config.data.size = {}: {}": (
        {"data__size": 50, "critic__network": "dcgan"},
        *({"data__size": size} for size in (8, 14, 16, 28, 32, 56, 64, 112, 128)),
    ),
    "has images; give the pixels of a side": ({"data__name": "folder:x", "data__size": 0}, {"data__size": 64}),
    "images have 1 (grey) or 3 (RGB)": (
        {"data__name": "folder:x", "data__channels": 4},
        {"data__channels": 1},
        {"data__channels": 3},
    ),
    "has no bytes to do it to": (
        {"data__flip": True},
        {"data__flip": False},
        {"data__name": "tfds:x"},
        {"data__name": "folder:x"},
    ),
    "enter a {} through its normalization": (
        {"generator__network": "dcgan", "conditional__kind": "projection"},
        {"generator__norm": "batch"},
        {"generator__norm": "layer"},
    ),
    "in so many dimensions": (
        {"report__wasserstein_exact": True},
        {"report__wasserstein_exact": False},
        {"data__name": "toy:swissroll", "data__size": 0, "data__channels": 2},
    ),
    "takes its moments of the whole batch": (
        {"microbatches": 2, "generator__network": "dcgan", "generator__norm": "batch"},
        {"microbatches": 1},
        {"generator__norm": "layer"},
        {"generator__norm": "none"},
    ),
    "must be divisible by config.microbatches": ({"microbatches": 3}, {"batch_size": 6}, {"batch_size": 9}),
    "config.report.best = {}: no such metric": ({"report__best": "held_out"}, {"report__best": "held_out_estimate"}),
    "is known every {} iterations only": (
        {"report__best": "held_out_estimate", "report__checkpoint_every": 6},
        {"report__checkpoint_every": 4},
    ),
    "must be 0 (off) or at least": (
        {"warmup__n_critic": 1},
        {"warmup__n_critic": 0},
        {"warmup__n_critic": 2},
    ),
}
"""The mistake, and the remedies that its message names."""


def accepted(config):
    """Checks a config as a run does."""
    check_best(config, EVALUATORS)
    wgan_jax.build(config)


@pytest.mark.parametrize("says", SETTINGS)
def test_a_setting_that_a_message_names_works(says):
    wrong, *remedies = SETTINGS[says]
    message = told(accepted, settings(wrong))
    assert matches(template_of(says), message), message
    for remedy in remedies:
        if not matches("config.{} = {}: must be {}", message) and "must be finite" not in message:
            assert str(next(iter(remedy.values()))).rstrip("x").removesuffix("swissroll") in message, message
        accepted(settings(wrong | remedy))


def settings(changes):
    """The settings of a tiny run with these changes, of whatever types."""
    networks = {key: value for key, value in changes.items() if key.endswith("__network")}  # the depth depends on them
    values = dict(flatten(tiny_config(**networks)))
    return nested(values | {key.replace("__", "."): value for key, value in changes.items()})


def nested(values):
    """A config of these values by dotted key, of whatever types."""
    tree = {}
    for key, value in values.items():
        *sections, name = key.split(".")
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    return ConfigDict(tree)


@case("get_config() must return a ConfigDict")
def _(*_):
    message = told(check, 3)
    assert "see wgan_jax.config.default()" in message
    check(wgan_jax.config.default())
    return message


@case("missing; start from wgan_jax.config.default()")
def _(*_):
    message = told(check, ConfigDict({"steps": 3}))
    config = wgan_jax.config.default()
    config.steps = 3
    check(config)
    return message


@case("must be a section of settings")
def _(*_):
    values = tiny_config().to_dict() | {"critic": 3}
    message = told(check, ConfigDict(values))
    check(ConfigDict(values | {"critic": wgan_jax.config.default().critic}))
    return message


@case("config.{}: unknown key; {}")
def _(*_):
    values = dict(flatten(tiny_config()))
    message = told(check, nested(values | {"critic.widht": 9}))
    check(nested(values | {read(r"did you mean (\S+)\?", message): 9}))
    return message


# --- the command line ---


def run_command(monkeypatch, capsys, *argv):
    """What a command with --config and --workdir, called so, ends with: its line, or "" if all is well."""
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, "", flag_values=values)
    flags.DEFINE_string("workdir", None, "", flag_values=values)
    flags.DEFINE_integer("verbosity", 0, "", flag_values=values)
    monkeypatch.setattr(flags, "FLAGS", values)
    monkeypatch.setattr(sys, "argv", ["command", *argv])
    monkeypatch.setattr(app, "run", lambda main, flags_parser: main(flags_parser(["command", *argv])))
    with contextlib.suppress(SystemExit), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of ml_collections' way to import a file
        cli.run(lambda: None)
    return capsys.readouterr().err.strip().removeprefix("error: ")


sample = importlib.import_module("wgan_jax.sample")  # the name in the package is a function's

CONFIG = f"--config={ROOT / 'configs' / 'digits.py'}"


@case("every argument is a --flag=value")
def _(_, monkeypatch, request):
    capsys = request.getfixturevalue("capsys")
    message = run_command(monkeypatch, capsys, CONFIG, "w")
    assert run_command(monkeypatch, capsys, CONFIG, "--workdir=w") == ""
    return message


@case("no such file; it is a Python file such as configs/digits.py")
def _(_, monkeypatch, request):
    capsys = request.getfixturevalue("capsys")
    monkeypatch.chdir(ROOT)
    message = run_command(monkeypatch, capsys, "--config=none.py")
    assert run_command(monkeypatch, capsys, f"--config={read('such as (.*)', message)}") == ""
    return message


@case("run it from the folder of the repository")
def _(tmp_path, monkeypatch, _):
    monkeypatch.chdir(tmp_path)
    message = told(suite.run, tmp_path / "out", 1.0)
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(suite, "UNTIL", {})  # no part is needed to see that it goes on
    suite.run(tmp_path / "out", 1.0)
    return message


@case("wgan_jax/config/settings.py explains every key")
def _(_, monkeypatch, request):
    capsys = request.getfixturevalue("capsys")
    message = run_command(monkeypatch, capsys, CONFIG, "--config.stpes=3")
    key = read('Did you mean "(.*?)"', message)
    assert f"c.{key} = " in (ROOT / "wgan_jax" / "config" / "settings.py").read_text()
    assert run_command(monkeypatch, capsys, CONFIG, f"--config.{key}=3") == ""
    return message


@case("--{}={}: must be {}")
def _(*_):
    settings = dataclasses.make_dataclass("Settings", ["steps", "rate"])
    message = told(harness.check, settings(steps=0, rate=0.1))
    assert message.endswith("must be positive")
    assert told(harness.check, settings(steps=1, rate=float("inf"))).endswith("must be finite")
    harness.check(settings(steps=1, rate=0.1))
    return message


@case("--seed={}: must be at least 0 and below {}")
def _(*_):
    settings = dataclasses.make_dataclass("Settings", ["seed"])
    message = told(harness.check, settings(seed=-1))
    low, high = (int(number.replace(",", "")) for number in read(r"at least (\d+) and below ([\d,]+)", message))
    assert told(harness.check, settings(seed=high))
    for seed in (low, high - 1):
        harness.check(settings(seed=seed))
    return message


@case("no such slice, which is given as KIND:SHAPE")
def _(_, monkeypatch, __):
    from jax.experimental import topologies

    monkeypatch.setattr(topologies, "get_topology_desc", lambda *args, **more: SimpleNamespace(devices=[args[0]]))
    message = told(slices.slice_devices, "v5e:3x5")
    for kind, shapes in re.findall(r"(\w+): ([\dx, ]+)", message.partition("known are ")[2]):
        for shape in shapes.split(", "):
            assert slices.slice_devices(f"{kind}:{shape}")[1] == [f"{kind}:{shape}"]
    return message


# --- samples ---


def write_samples(out, images, **changes):
    """Checks where samples are to go, and writes them there, as the command does."""
    media.check(out, wgan_jax.build(tiny_config(**changes)), len(images), "--num=4")
    media.write(out, images, None)
    assert out.exists()


IMAGES = np.zeros((4, 8, 8, 1), np.float32)


@case("must end in {}, to hold {}")
def _(tmp_path, *_):
    plane = {"data__name": "toy:swissroll", "data__size": 0, "data__channels": 2}
    points = np.zeros((4, 2), np.float32)
    for wrong, examples, changes in (("a.jpeg", IMAGES, {}), ("a.png", points, plane)):
        message = told(write_samples, tmp_path / wrong, examples, **changes)
        for ending in re.findall(r"\.\w+", read("end in (.*), to", message)):
            write_samples(tmp_path / f"a{ending}", examples, **changes)
    return message


@case("--out={}: is a folder")
def _(tmp_path, *_):
    (tmp_path / "a.png").mkdir()
    message = told(write_samples, tmp_path / "a.png", IMAGES)
    write_samples(Path(read("--out=(.*): is", message)) / "b.png", IMAGES)
    return message


def call_sample(monkeypatch, workdir, out, **more):
    """Does what the command does with these flags; returns what it writes."""
    asked = {"step": "latest", "seed": 0, "num": 2, "label": None, "by_class": False, "interpolate": False, "ema": True}
    monkeypatch.setattr(flags, "FLAGS", SimpleNamespace(**asked | {"workdir": workdir, "out": out} | more))
    sample.main()
    with np.load(out) as written:
        return dict(written)


@case("--by_class: needs a run with classes, and no --label")
def _(tmp_path, monkeypatch, _):
    begin(tmp_path / "plain", 4)
    begin(tmp_path / "classes", 4, conditional__kind="auxiliary")
    asked = {"out": tmp_path / "a.npz", "by_class": True}
    message = told(call_sample, monkeypatch, tmp_path / "plain", **asked)
    assert told(call_sample, monkeypatch, tmp_path / "classes", label=3, **asked) == message
    written = call_sample(monkeypatch, tmp_path / "classes", **asked)
    assert written["label"].tolist() == np.arange(10).repeat(2).tolist()
    return message


@case("draw fewer at once, each time with another --seed")
def _(tmp_path, monkeypatch, _):
    begin(tmp_path / "run", 4)
    monkeypatch.setattr(media, "available", lambda: 1000)
    message = told(call_sample, monkeypatch, tmp_path / "run", tmp_path / "a.npz", num=2)
    parts = [call_sample(monkeypatch, tmp_path / "run", tmp_path / "a.npz", num=1, seed=seed) for seed in (0, 1)]
    assert (parts[0]["image"] != parts[1]["image"]).any()
    return message


# --- data ---


@case("{} needs {} and {}")
def _(*_):
    message = told(data.load, tiny_config(data__size=9), "train")
    size, channels = read(r"needs (\d+) and (\d+)", message)
    data.load(tiny_config(data__size=int(size), data__channels=int(channels)), "train")
    return message


@case("has {}; use that number")
def _(*_):
    settings = {"conditional__kind": "auxiliary"}
    message = told(data.load, tiny_config(conditional__classes=7, **settings), "train")
    data.load(tiny_config(conditional__classes=int(read(r"has (\d+); use that", message)), **settings), "train")
    return message


@case("has no labels; {}, or 'none'")
def _(tmp_path, *_):
    draw(tmp_path / "0.png", tmp_path / "1.png", tmp_path / "2.png", tmp_path / "3.png")
    settings = {"data__name": f"folder:{tmp_path}", "conditional__classes": 2}
    message = told(data.load, tiny_config(conditional__kind="auxiliary", **settings), "train")
    data.load(tiny_config(conditional__kind="none", **settings), "train")
    assert "one sub-folder per class" in message
    for i in range(4):
        (tmp_path / str(i % 2)).mkdir(exist_ok=True)
        (tmp_path / f"{i}.png").rename(tmp_path / str(i % 2) / f"{i}.png")
    data.load(tiny_config(conditional__kind="auxiliary", **settings), "train")
    return message


@case("config.data.name = {}: no such data set; {}")
def _(*_):
    message = told(data.load, tiny_config(data__name="digitz"), "train")
    data.load(tiny_config(data__name=read(r"did you mean (.*)\?", message)), "train")
    return message


@case("must be divisible by the number of hosts")
def _(*_):
    source, schedule = data.load(tiny_config(), "train"), CriticSchedule(2)
    message = told(batches.dataset, source, schedule, seed=0, batch_size=8, steps=1, hosts=3)
    size = 3 * int(read(r"hosts, (\d+)", message))
    assert batches.dataset(source, schedule, seed=0, batch_size=size, steps=1, hosts=3)[0]["image"].shape[1] == 3
    return message


def draw(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), 7, np.uint8)).save(path)


@case("no such folder; give the path of a folder of images")
def _(tmp_path, *_):
    message = told(data.load, tiny_config(data__name=f"folder:{tmp_path / 'a'}"), "train")
    draw(tmp_path / "b" / "0.png", tmp_path / "b" / "1.png")
    data.load(tiny_config(data__name=f"folder:{tmp_path / 'b'}"), "train")
    return message


@case("images there, and two are needed at least")
def _(tmp_path, *_):
    draw(tmp_path / "0.png")
    config = tiny_config(data__name=f"folder:{tmp_path}")
    message = told(data.load, config, "train")
    for ending in re.findall(r"\.\w+", message.partition("end in")[2]):
        draw(tmp_path / f"1{ending}")
        assert len(data.load(config, "train")) == 1
        (tmp_path / f"1{ending}").unlink()
    return message


@case("allow a larger part than config.data.unreadable_fraction")
def _(tmp_path, *_):
    draw(*(tmp_path / f"{i}.png" for i in range(9)))
    (tmp_path / "9.png").write_bytes(b"")
    name = {"data__name": f"folder:{tmp_path}", "data__held_out_fraction": 0.3}
    message = told(lambda: [data.load(tiny_config(**name), split) for split in ("train", "held_out")])
    larger = tiny_config(**name, data__unreadable_fraction=0.5)
    assert sum(len(data.load(larger, split)) for split in ("train", "held_out")) == 9
    (tmp_path / "9.png").unlink()
    assert sum(len(data.load(tiny_config(**name), split)) for split in ("train", "held_out")) == 9
    return message


@case("or give other images in config.data.name")
def _(tmp_path, *_):
    bad, good = tmp_path / "bad", tmp_path / "good"
    draw(*(folder / f"{i}.png" for folder in (bad, good) for i in range(4)))
    whole = (bad / "0.png").read_bytes()
    for file in bad.iterdir():
        file.write_bytes(b"")
    message = told(data.load, tiny_config(data__name=f"folder:{bad}"), "train")
    assert len(data.load(tiny_config(data__name=f"folder:{good}"), "train")) == 3
    for file in bad.iterdir():
        file.write_bytes(whole)
    assert len(data.load(tiny_config(data__name=f"folder:{bad}"), "train")) == 3
    return message


@pytest.fixture(scope="module")
def tfds(tmp_path_factory):
    """A folder of small TFDS sets."""
    from . import tfds_sets

    place = tmp_path_factory.mktemp("tfds")
    both = {"train": tfds_sets.clothes(40, 0), "test": tfds_sets.clothes(10, 1)}
    tfds_sets.write(place, "fashion_mnist", both, version="3.0.1")
    tfds_sets.write(place, "no_split_held_out", {"train": tfds_sets.clothes(20, 2)})
    tfds_sets.write(place, "as_tfrecord", both, file_format="tfrecord")
    tfds_sets.write(place, "without_images", both, feature="picture")
    images, label = tfds_sets.clothes(10, 3)
    unlabelled = {"train": both["train"], "test": (images, np.full_like(label, -1))}
    tfds_sets.write(place, "unlabelled_test", unlabelled)
    tfds_sets.write(place, "labelled_validation", unlabelled | {"validation": both["test"]})
    return place


SPLITS = ("train", "held_out")


def load_tfds(directory, name="fashion_mnist", split="train", **changes):
    size = {"data__size": 28, "data__dir": str(directory)}
    return data.load(tiny_config(data__name=f"tfds:{name}", **(size | changes)), split)


@case("use a TFDS data set of images")
def _(_, __, request):
    directory = request.getfixturevalue("tfds")
    message = told(load_tfds, directory, "without_images")
    load_tfds(directory)
    return message


@case("{} has no such split, but {} ({})")
def _(_, __, request):
    directory = request.getfixturevalue("tfds")
    message = told(load_tfds, directory, data__train_split="valid")
    for split in read(r"no such split, but (.*) \(", message).split(", "):
        load_tfds(directory, data__train_split=split)
    return message


@case("name a part in config.data.held_out_split, such as")
def _(_, __, request):
    directory = request.getfixturevalue("tfds")
    message = told(load_tfds, directory, "no_split_held_out", data__train_split="train[:5]")
    part = read(r"held_out_split, such as (.*)", message)
    more = {"data__train_split": "train[:5]", "data__held_out_split": part}
    assert len(load_tfds(directory, "no_split_held_out", "held_out", **more)) == 2
    return message


@case("has images of label {}, which is none of its {} classes")
def _(_, __, request):
    def load(name, split, **changes):
        return load_tfds(directory, name, split, **({"conditional__kind": "auxiliary"} | changes))

    directory = request.getfixturevalue("tfds")
    trained = told(load, "unlabelled_test", "train", data__train_split="test")
    load("unlabelled_test", "train")
    assert "by config.data.train_split, or use --config.conditional.kind=none" in trained
    load("unlabelled_test", "train", data__train_split="test", conditional__kind="none")

    named = told(load, "labelled_validation", "held_out", data__held_out_split="test")
    other = {"data__held_out_split": read(r"use --config.data.held_out_split=(\w+)$", named)}
    assert len(load("labelled_validation", "held_out", **other)) == 10

    message = told(load, "unlabelled_test", "held_out")
    parts = dict(re.findall(r"--config\.data\.(\w+)='(.*?)'", message))
    assert set(parts) == {"train_split", "held_out_split"}
    both = [load("unlabelled_test", split, **{f"data__{key}": part for key, part in parts.items()}) for split in SPLITS]
    assert [len(source) for source in both] == [36, 4]
    return message


@case("or config.data.dir for the folder where it is")
def _(tmp_path, _, request):
    directory = request.getfixturevalue("tfds")
    message = told(load_tfds, tmp_path)
    load_tfds(directory)
    name, place = read(r"python -m wgan_jax.prepare --name=(\S+) --dir=(\S+),", message)
    shutil.copytree(directory / name, Path(place) / name)  # what preparing it leaves
    assert f"{name} is in" in of_tfds.prepare(name, place)
    load_tfds(tmp_path)
    return message


@case("no random access; {}, and then --config.data.dir={}")
def _(tmp_path, _, request):
    directory = request.getfixturevalue("tfds")
    shutil.copytree(directory / "as_tfrecord", tmp_path / "as_tfrecord")
    message = told(load_tfds, tmp_path, "as_tfrecord")
    name, place, there = read(r"prepare --name=(\S+) --dir=(\S+), and then --config.data.dir=(\S+)", message)
    assert place == there
    shutil.copytree(directory / "fashion_mnist", Path(place) / name)
    for file in Path(place).glob("*/*/*"):
        file.write_bytes(file.read_bytes().replace(b'"fashion_mnist"', f'"{name}"'.encode()))
        file.rename(file.with_name(file.name.replace("fashion_mnist", name)))
    assert f"{name} is in" in of_tfds.prepare(name, place)
    load_tfds(there, name)
    return message


@case("give another --dir, and the same in config.data.dir")
def _(tmp_path, _, request):
    directory = request.getfixturevalue("tfds")
    message = told(of_tfds.prepare, "as_tfrecord", str(directory))
    shutil.copytree(directory / "fashion_mnist", tmp_path / "fashion_mnist")
    assert "fashion_mnist is in" in of_tfds.prepare("fashion_mnist", str(tmp_path))
    load_tfds(tmp_path)
    return message


# --- devices and hosts ---


@case("must be divisible by {} devices{}; {}{}")
def _(*_):
    message = told(mesh.check_shares, 12, 1, 8)
    for size in read(r"(\d+) and (\d+) are the nearest", message):
        mesh.check_shares(int(size), 1, 8)
    for devices in read(r"this one on (\d+) or (\d+) devices", message):
        mesh.check_shares(12, 1, int(devices))
    return message


@case("belong together: give all three")
def _(_, monkeypatch, __):
    given = []
    message = told(hosts.initialize, "a:1", None, None)
    monkeypatch.setattr(jax.distributed, "initialize", lambda *args, **more: given.append(args))
    hosts.initialize("a:1", 2, 0)
    hosts.initialize()
    assert given == [("a:1", 2, 0), (None, None, None)]
    return message


@case("must be at least 0 and below --num_processes")
def _(_, monkeypatch, __):
    given = []
    message = told(hosts.initialize, "a:1", 2, 2)
    monkeypatch.setattr(jax.distributed, "initialize", lambda *args, **more: given.append(args))
    for index in range(int(read(r"below --num_processes=(\d+)", message))):
        hosts.initialize("a:1", 2, index)
    assert len(given) == 2
    return message


# --- runs ---


def begin_as_told(message, workdir, **changes):
    """Begins a run in another folder, with the networks that a message names."""
    origin = Path(read(r"--init_from=(\S+?)[,;]? ", f"{message} "))
    state = go_on(workdir, Options(init_from=origin), **changes)
    assert Path(identity.read(workdir).origin.workdir) == origin.resolve()
    return state


def damage(path):
    """Damages a checkpoint."""
    shutil.rmtree(path / "state")


def claim(workdir):
    """Does the first thing that a start of a run does."""
    with claimed(workdir):
        pass


@case("is a link, and a run neither writes nor deletes through one")
def _(tmp_path, *_):
    (tmp_path / "large" / "samples").mkdir(parents=True)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "samples").symlink_to(tmp_path / "large" / "samples")
    message = told(claim, tmp_path / "run")
    link = Path(read("(.*) is a link", message))
    claim(link.resolve().parent)
    link.unlink()
    claim(tmp_path / "run")
    return message


@case("{} holds no run ({} is missing), but {}")
def _(tmp_path, *_):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text("mine")
    message = told(claim, tmp_path / "run")
    claim(tmp_path / "another")
    (tmp_path / "run" / read(r"but (\S+),", message)).rename(tmp_path / "mine")
    claim(tmp_path / "run")
    return message


@case("{} holds no run, but {}")
def _(tmp_path, *_):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("mine")
    message = told(go_on, tmp_path / "run")
    go_on(tmp_path / "another")
    (tmp_path / "run" / read(r"but (\S+),", message)).rename(tmp_path / "mine")
    go_on(tmp_path / "run")
    return message


@case("is in the way, and no checkpoint of this run")
def _(tmp_path, *_):
    begin(tmp_path / "run", 4)
    (tmp_path / "run" / "checkpoints" / "8").write_text("mine")
    message = told(train, tiny_config(steps=8), tmp_path / "run", options=Options(allow_other_data=True))
    Path(read("(.*) is in the way", message)).rename(tmp_path / "mine")
    state = train(tiny_config(steps=8), tmp_path / "run", options=Options(allow_other_data=True))
    assert (int(state.step), checkpoint.steps(tmp_path / "run")) == (8, [8, 4])
    return message


@case("must make way for the run, and holds {}")
def _(tmp_path, *_):
    begin(tmp_path / "run", 4, 8)
    newest = tmp_path / "run" / "checkpoints" / "8"
    damage(newest)
    (newest / "notes.txt").write_text("mine")
    message = told(train, tiny_config(steps=8), tmp_path / "run", options=Options(allow_other_data=True))
    place, name = read(r"(\S+) must make way for the run, and holds (\S+),", message)
    (Path(place) / name).rename(tmp_path / "mine")
    state = train(tiny_config(steps=8), tmp_path / "run", options=Options(allow_other_data=True))
    assert (int(state.step), checkpoint.steps(tmp_path / "run")) == (8, [8, 4])
    return message


@case("train one first: python -m wgan_jax.train --config=… --workdir={}")
def _(tmp_path, *_):
    message = told(wgan_jax.restore, tmp_path / "run")
    begin(Path(read(r"--workdir=(.*)", message)), 4)
    wgan_jax.restore(tmp_path / "run")
    return message


@case("holds a run with other settings")
def _(tmp_path, *_):
    begin(tmp_path / "run", 4)
    message = told(go_on, tmp_path / "run", critic__optimizer__learning_rate=0.5)
    go_on(tmp_path / "run")
    begin_as_told(message, tmp_path / "new", critic__optimizer__learning_rate=0.5)
    return message


@case("holds a run on other data")
def _(tmp_path, *_):
    begin(tmp_path, 4)
    other = DIGITS | {"train": {"examples": 7, "digest": "z"}}
    message = told(go_on, tmp_path, fingerprint=other)
    go_on(tmp_path)
    go_on(tmp_path, Options(**{read(r"add --(\w+)", message): True}), other)
    return message


@case("iterations are done already")
def _(tmp_path, *_):
    begin(tmp_path, 4, 8)
    message = told(go_on, tmp_path, steps=7)
    go_on(tmp_path, steps=int(read(r"use at least (\d+)", message)))
    go_on(tmp_path / "another", steps=7)
    return message


@case("the learning rates decay to 0")
def _(tmp_path, *_):
    linear = {"critic__optimizer__schedule": "linear"}
    begin(tmp_path, 4, 8, **linear)
    message = told(go_on, tmp_path, steps=16, **linear)
    go_on(tmp_path, steps=int(read(r"use --config.steps=(\d+)", message)), **linear)
    go_on(tmp_path, Options(**{read(r"add --(\w+)", message): True}), steps=16, **linear)
    return message


@case("--step and --init_optimizer")
def _(tmp_path, *_):
    begin(tmp_path / "run", 4)
    message = told(Options, step="4")
    assert told(Options, init_optimizer=True) == message
    Options()
    begin_as_told(message.replace("WORKDIR", str(tmp_path / "run")), tmp_path / "new")
    return message


@case("where it began is not there any more")
def _(tmp_path, monkeypatch, request):
    begin(tmp_path / "old", 4)
    go_on(tmp_path / "new", Options(init_from=tmp_path / "old"))
    shutil.rmtree(tmp_path / "old" / "checkpoints")
    begin(tmp_path / "old", 8)
    message = told(go_on, tmp_path / "new")
    again = Options(init_from=Path(read(r"add --init_from=(\S+) to begin", message)))
    state = go_on(tmp_path / "new", again)
    expected = checkpoint.load(tmp_path / "old", 8, wgan_jax.build(tiny_config()))
    jax.tree.map(np.testing.assert_array_equal, state.ema, expected.ema)
    return message


@case("leave --init_from out to go on with it")
def _(tmp_path, *_):
    begin(tmp_path / "run", 4)
    begin(tmp_path / "other", 4)
    message = told(go_on, tmp_path / "run", Options(init_from=tmp_path / "other"))
    go_on(tmp_path / "run")
    begin_as_told(message.replace(": ", " "), tmp_path / "new")
    return message


@case("no checkpoint is there yet")
def _(tmp_path, *_):
    begin(tmp_path / "run")
    message = told(go_on, tmp_path / "new", Options(init_from=tmp_path / "run"))
    begin(tmp_path / "run", 4)
    begin_as_told(message.replace(": ", " "), tmp_path / "new")
    return message


def applied_steps(tmp_path, message):
    """Begins a run with each checkpoint that a message names."""
    number = read(r"or one of (\d+)", message)
    for step in ("latest", number):
        assert step in message
        go_on(tmp_path / f"new_{step}", Options(init_from=tmp_path / "run", step=step))
    return message


@case("was trained without config.report.best")
def _(tmp_path, *_):
    begin(tmp_path / "run", 4, 8)
    return applied_steps(tmp_path, told(go_on, tmp_path / "new", Options(init_from=tmp_path / "run", step="best")))


@case("has no such checkpoint; {}")
def _(tmp_path, *_):
    begin(tmp_path / "run")
    none = told(wgan_jax.restore, tmp_path / "run", 5)
    assert none.endswith("no checkpoint is there yet: start the run again to go on with it")
    assert go_on(tmp_path / "run").step == 0
    begin(tmp_path / "run", 4, 8)
    return applied_steps(tmp_path, told(go_on, tmp_path / "new", Options(init_from=tmp_path / "run", step="5")))


@case("--step=best: no checkpoint of {} has a value of {}")
def _(tmp_path, *_):
    begin(tmp_path / "run", 4, 8, report__best="critic_loss")  # the checkpoints know another metric
    return applied_steps(tmp_path, told(go_on, tmp_path / "new", Options(init_from=tmp_path / "run", step="best")))


@case("--step={}: that checkpoint of {} is damaged")
def _(tmp_path, *_):
    begin(tmp_path / "single", 8)
    damage(tmp_path / "single" / "checkpoints" / "8")
    alone = told(wgan_jax.restore, tmp_path / "single", 8)
    assert alone.endswith("no other is there: restore it from a backup, or start in another workdir")
    begin(tmp_path / "single", 8)
    wgan_jax.restore(tmp_path / "single", 8)
    begin(tmp_path / "run", 4, 8)
    damage(tmp_path / "run" / "checkpoints" / "8")
    return applied_steps(tmp_path, told(go_on, tmp_path / "new", Options(init_from=tmp_path / "run", step="8")))


@case("leave --init_optimizer out")
def _(tmp_path, *_):
    begin(tmp_path / "run", 4)
    asked = Options(init_from=tmp_path / "run", init_optimizer=True)
    message = told(go_on, tmp_path / "new", asked, critic__optimizer__name="rmsprop")
    begin_as_told(message.replace(": ", " "), tmp_path / "new", critic__optimizer__name="rmsprop")
    return message


@case("not enough memory; {}")
def _(tmp_path, monkeypatch, _):
    def run(*args, **more):
        raise MemoryError

    monkeypatch.setattr(loop, "run", run)
    message = told(train, tiny_config(), tmp_path / "run")
    assert (
        "raise config.microbatches, or, in another workdir, lower config.batch_size or the networks' widths" in message
    )
    config = tiny_config()
    fingerprint = data.fingerprint(data.load(config, "train"), data.load(config, "held_out"))
    go_on(tmp_path / "run", fingerprint=fingerprint, microbatches=2)
    go_on(tmp_path / "smaller", batch_size=4)
    go_on(tmp_path / "narrower", critic__width=4)
    return message


@case("no file of Inception's weights")
def _(tmp_path, monkeypatch, _):
    published = tmp_path / "published"
    published.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    monkeypatch.setattr(weights, "INCEPTION", weights.Published("w.pth", 7, digest, published.as_uri()))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(weights.VARIABLE, raising=False)
    message = told(weights.find)
    variable = read(r"let (\w+) name the file", message)
    monkeypatch.setenv(variable, str(published))
    assert weights.find() == published
    monkeypatch.delenv(variable)
    assert read(r"--download fetches (\S+)", message) == published.as_uri()
    weights.download()  # what the flag does
    assert str(weights.find()) == read(r"Apache-2\.0\) to ([^;]+);", message)
    return message


@case("{}: there is no metric {}; {}")
def _(*_):
    message = told(choosing.check_names, ["fd_lite"], "--metrics")
    choosing.check_names([read(r"did you mean (\w+)\?", message)], "--metrics")
    return message


def image_set(num, side=16):
    return ArraySource(np.zeros((num, side, side, 1), np.uint8))


def more_than_there_are(wish):
    """The case of a wish for more images than there are: as many as the message says are there will do."""
    wishes = evaluation.Wishes(metrics=("ms_ssim",), **{wish: 30})
    message = told(evaluation.evaluate_images, image_set(20), image_set(20), wishes)
    there = int(read(r"there are (\d+) images", message))
    evaluation.evaluate_images(image_set(20), image_set(20), dataclasses.replace(wishes, **{wish: there}))
    return message


@case("--num={}: there are {} images")
def _(*_):
    return more_than_there_are("num")


@case("--reference_num={}: there are {} images")
def _(*_):
    return more_than_there_are("reference_num")


@case("--images and --reference must have one size")
def _(*_):
    wishes = evaluation.Wishes(metrics=("ms_ssim",))
    message = told(evaluation.evaluate_images, image_set(20), image_set(20, 8), wishes)
    evaluation.evaluate_images(image_set(20), image_set(20, 16), wishes)
    return message


@case("what to measure: give either --workdir=FOLDER")
def _(tmp_path, monkeypatch, _):
    begin(tmp_path / "run", 4)
    np.savez(tmp_path / "a.npz", image=np.zeros((20, 16, 16, 1), np.uint8))
    message = run_here(command("evaluate")).stderr.strip().removeprefix("error: ")
    workdir, images, reference = read(r"--(\w+)=FOLDER, or both --(\w+)=PATH and --(\w+)=PATH", message)
    here, there = f"--{workdir}={tmp_path / 'run'}", [f"--{name}={tmp_path / 'a.npz'}" for name in (images, reference)]
    for given in ([here], [*there, "--metrics=ms_ssim"]):
        assert run_here(command("evaluate", *given)).returncode == 0
    for given in ([here, there[1]], there[:1], ["--download", there[1]]):
        monkeypatch.setattr(weights, "download", lambda: tmp_path)
        assert message in run_here(command("evaluate", *given)).stderr
    return message


@case("leave --cascade out")
def _(*_):
    import cv2

    cascade = faces.load_cascade(f"{cv2.data.haarcascades}haarcascade_frontalface_default.xml")
    message = told(faces.has_face, np.zeros((2, 16, 16, 1), np.uint8), cascade)
    wishes = evaluation.Wishes(metrics=("ms_ssim",))
    evaluation.evaluate_images(image_set(20), image_set(20), wishes)  # without a cascade
    return message


@case("the same command with --config.debug.nans=True")
def _(tmp_path, *_):
    """A run whose fourth iteration overflows: from its last checkpoint the operation is found, or avoided."""
    fast = {"critic__optimizer__name": "sgd", "critic__optimizer__learning_rate": 1.0, "n_critic": 1}
    saved = {"report__checkpoint_every": 1, "report__every": 100, "report__samples_every": 100}
    message = told(train, tiny_config(**fast, **saved), tmp_path / "run")
    assert "lower learning rates" in message
    assert checkpoint.steps(tmp_path / "run")
    nans = told(train, tiny_config(**fast, **saved, debug__nans=True), tmp_path / "run")
    assert re.match(r"config.debug.nans: invalid value \((nan|inf)\) encountered in .*, in .*\.py, line \d+: ", nans), (
        nans
    )
    slow = fast | {"critic__optimizer__learning_rate": 1e-4, "steps": 2}
    origin, step = read(r"--init_from=(\S+) --step=(\d+) begins", message)
    state = train(tiny_config(**slow), tmp_path / "new", options=Options(init_from=Path(origin), step=step))
    assert state.step == 2
    return message
