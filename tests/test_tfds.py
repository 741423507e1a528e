"""TFDS data sets, small ones that the tests write themselves."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest

from wgan_jax import UserError, data
from wgan_jax.data import tfds
from wgan_jax.report import records

from . import tfds_sets
from .commands import ROOT, TINY, command, environment, run_here
from .conftest import tiny_config
from .test_commands import assert_one_line


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    place = tmp_path_factory.mktemp("tfds")
    both = {"train": tfds_sets.clothes(40, 0), "test": tfds_sets.clothes(10, 1)}
    tfds_sets.write(place, "fashion_mnist", both, version="3.0.1")
    tfds_sets.write(place, "no_split_held_out", {"train": tfds_sets.clothes(20, 2, (12, 20, 3))})
    tfds_sets.write(place, "as_tfrecord", both, file_format="tfrecord")
    tfds_sets.write(place, "without_images", both, feature="picture")
    tfds_sets.write(place, "of_16_bits", both, dtype="uint16")
    return place


def config(directory, name="fashion_mnist", size=28, channels=1, **changes):
    return tiny_config(
        data__name=f"tfds:{name}", data__dir=str(directory), data__size=size, data__channels=channels, **changes
    )


def everything(source):
    return source.read(np.arange(len(source)))


@pytest.mark.parametrize("cache", ["always", "never", "auto"])
@pytest.mark.parametrize(("split", "num", "seed"), [("train", 40, 0), ("held_out", 10, 1)])
def test_the_images_and_labels_are_those_of_the_set(directory, cache, split, num, seed):
    source = data.load(config(directory), split, cache=cache)
    images, labels = tfds_sets.clothes(num, seed)
    examples = everything(source)
    np.testing.assert_array_equal(examples["image"], images)
    np.testing.assert_array_equal(examples["label"], labels)
    assert (examples["image"].dtype, examples["label"].dtype) == (np.uint8, np.int32)
    some = np.array([3, 0, 3, 9])
    np.testing.assert_array_equal(source.read(some)["image"], images[some])


def test_its_labels_are_classes(directory):
    settings = config(directory, conditional__kind="auxiliary")
    for cache in ("always", "never"):
        assert data.load(settings, "train", cache=cache).num_classes == 10
    settings.conditional.classes = 1_000
    with pytest.raises(UserError, match=r"config.conditional.classes = 1000: tfds:fashion_mnist has 10"):
        data.load(settings, "train")


def test_the_directory_may_come_from_the_environment(directory, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(directory))
    assert len(data.load(config(""), "train")) == 40


def test_a_set_without_test_split_holds_out_its_last_part(directory):
    images, _ = tfds_sets.clothes(20, 2, (12, 20, 3))
    settings = config(directory, "no_split_held_out", size=12, channels=3, data__held_out_fraction=0.25)
    np.testing.assert_array_equal(everything(data.load(settings, "train"))["image"], images[:15, :, 4:16])
    np.testing.assert_array_equal(everything(data.load(settings, "held_out"))["image"], images[15:, :, 4:16])


def test_parts_of_splits_by_name(directory):
    settings = config(directory, data__train_split="train[:7]", data__held_out_split="train[30:]")
    images, _ = tfds_sets.clothes(40, 0)
    np.testing.assert_array_equal(everything(data.load(settings, "train"))["image"], images[:7])
    np.testing.assert_array_equal(everything(data.load(settings, "held_out"))["image"], images[30:])


MISTAKES = [
    ({"name": "mnist"}, ["not prepared in", "python -m wgan_jax.prepare --name=mnist --dir="]),
    ({"name": "fashion_mnits"}, ["fashion_mnits", "TFDS knows no such data set"]),
    ({"name": "fashion_mnist:9.9.9"}, ["9.9.9", "3.0.1"]),
    ({"name": "as_tfrecord"}, ["tfrecord", "no random access", "python -m wgan_jax.prepare --name=as_tfrecord"]),
    ({"name": "without_images"}, ["no feature `image`", "label, picture"]),
    ({"name": "of_16_bits"}, ["no feature `image` of bytes"]),
    ({"data__train_split": "valid"}, ["config.data.train_split = 'valid'", "no such split, but train, test"]),
    ({"data__train_split": "train[:0]"}, ["config.data.train_split = 'train[:0]'"]),
    ({"data__held_out_split": "valid"}, ["config.data.held_out_split = 'valid'", "no such split, but train, test"]),
    (
        {"name": "no_split_held_out", "data__train_split": "train[:5]"},
        ["config.data.train_split = 'train[:5]'", "config.data.held_out_split, such as train[90%:]"],
    ),
]


@pytest.mark.parametrize(("changes", "words"), MISTAKES, ids=lambda value: "-".join(value)[:40])
def test_a_set_that_cannot_be_read(directory, changes, words):
    split = "held_out" if "data__held_out_split" in changes else "train"
    with pytest.raises(UserError) as error:
        data.load(config(directory, **changes), split)
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


MLPS = ["--config.generator.network=mlp", "--config.critic.network=mlp"]


def train_command(directory, workdir, name="fashion_mnist", *args):
    changes = [f"--config.data.name=tfds:{name}", f"--config.data.dir={directory}"]
    tiny = [arg for arg in TINY if "depth" not in arg]  # a DCGAN has none
    return command(
        "train", f"--config={ROOT}/configs/fashion_mnist.py:paper", f"--workdir={workdir}", *tiny, *changes, *args
    )


@pytest.mark.parametrize(
    ("name", "args", "words"),
    [
        ("mnist", [], ["not prepared in", "prepare --name=mnist"]),
        ("as_tfrecord", [], ["no random access", "prepare --name=as_tfrecord"]),
        ("fashion_mnist", ["--config.data.train_split=valid"], ["no such split, but train, test"]),
    ],
)
def test_a_users_mistake_is_one_line_and_code_2(directory, tmp_path, name, args, words):
    assert_one_line(run_here(train_command(directory, tmp_path / "w", name, *args)), *words)
    assert not (tmp_path / "w").exists()


def with_modules(folder, **modules):
    """An environment in which these modules have other contents."""
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)
    return environment() | {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}


def process(args, env):
    return subprocess.run(args, env=env, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def test_training_does_not_import_tensorflow(directory, tmp_path):
    mark = tmp_path / "imported"
    env = with_modules(tmp_path, tensorflow=f"open({str(mark)!r}, 'w').close()")
    env["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # compiles faster
    done = process(train_command(directory, tmp_path / "run", "fashion_mnist", "--config.steps=4", *MLPS), env)
    assert done.returncode == 0, done.stderr
    assert "waiting for data" in done.stderr
    assert not mark.exists()
    assert {"training_estimate", "held_out_estimate"} < set(records.read(tmp_path / "run")[-1])


def test_without_the_library(directory, tmp_path):
    env = with_modules(
        tmp_path,
        tensorflow_datasets="raise ImportError('not installed')",
    )
    assert_one_line(process(train_command(directory, tmp_path / "w"), env), "pip install tensorflow-datasets")
    assert_one_line(process(command("prepare", "--name=mnist"), env), "pip install tensorflow-datasets")


def test_digits_need_no_library_of_tfds():
    code = "import sys, wgan_jax.train; sys.exit('tensorflow_datasets' in sys.modules)"
    assert process([sys.executable, "-c", code], environment()).returncode == 0


def test_preparing_needs_tensorflow(tmp_path):
    env = with_modules(tmp_path, tensorflow="raise ImportError('not installed')")
    done = process(command("prepare", "--name=mnist", f"--dir={tmp_path}"), env)
    assert_one_line(done, "pip install", "[prepare]")


def test_prepare_says_what_is_there(directory):
    words = tfds.prepare("fashion_mnist", str(directory))
    assert "train 40, test 10" in words
    assert "--config.data.name=tfds:fashion_mnist" in words


def test_prepare_leaves_another_format_alone(directory):
    with pytest.raises(UserError, match="another --dir"):
        tfds.prepare("as_tfrecord", str(directory))


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["prepare", "--name=nonesuch"], ["nonesuch", "TFDS knows no such data set"]),
        (["prepare"], ["--name"]),
    ],
)
def test_mistakes_in_preparing(args, words):
    assert_one_line(run_here(command(*args)), *words)


def test_benchmark(directory):
    args = [
        f"--config={ROOT}/configs/fashion_mnist.py:paper",
        f"--config.data.dir={directory}",
        "--config.steps=7",
        *MLPS,
    ]
    done = run_here(command("benchmark", "--data", "--seconds=0.01", *args))
    assert done.returncode == 0, done.stderr
    assert "images/s" in done.stdout


def test_splits():
    assert tfds.splits(["train", "validation"], "train", "", 0.1)["held_out"] == "validation"
    assert tfds.splits(["train", "validation", "test"], "train", "", 0.1)["held_out"] == "test"
    assert tfds.splits(["train", "test"], "test", "", 0.001) == {"train": "test[:99%]", "held_out": "test[99%:]"}


def unlabelled(num, seed):
    """As TFDS has the test splits of challenges."""
    return tfds_sets.clothes(num, seed)[0], np.full(num, -1)


@pytest.fixture(scope="module")
def challenges(tmp_path_factory):
    place = tmp_path_factory.mktemp("challenges")
    train, validation = tfds_sets.clothes(400, 0), tfds_sets.clothes(10, 1)
    tfds_sets.write(place, "both", {"train": train, "validation": validation, "test": unlabelled(12, 2)})
    tfds_sets.write(place, "test_only", {"train": train, "test": unlabelled(12, 2)})
    one_wrong = train[1].copy()
    one_wrong[250] = 10
    tfds_sets.write(place, "one_wrong", {"train": (train[0], one_wrong), "test": validation})
    tfds_sets.write(place, "all_wrong", {"train": unlabelled(40, 3), "test": validation})
    return place


def conditional(directory, name, **changes):
    return config(directory, name, conditional__kind="auxiliary", **changes)


def flags(message):
    """What the settings' flags in a message change."""
    found = re.findall(r"--config\.([a-z_.]+)=('[^']*'|\S+)", message)
    return {key.replace(".", "__"): value.strip("'") for key, value in found}


def test_a_test_split_without_labels_gives_way_to_validation(challenges):
    held_out = data.load(conditional(challenges, "both"), "held_out")
    np.testing.assert_array_equal(everything(held_out)["label"], tfds_sets.clothes(10, 1)[1])
    assert len(data.load(conditional(challenges, "both"), "train")) == 400


def test_labels_do_not_matter_without_classes(challenges):
    for name in ("both", "test_only", "all_wrong"):
        settings = config(challenges, name)
        assert len(data.load(settings, "train", cache="always")) > 0
        assert len(data.load(settings, "held_out")) == (10 if name == "all_wrong" else 12)


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        (
            "both",
            {"data__held_out_split": "test"},
            r"both/1.0.0, split 'test', .* label -1, .*held_out_split=validation$",
        ),
        ("test_only", {}, r"test_only/1.0.0, split 'test', .* label -1, .*held_out_split='train\[90%:\]'$"),
        ("all_wrong", {}, r"all_wrong/1.0.0, split 'train', .* label -1, .*--config.conditional.kind=none$"),
    ],
)
def test_labels_that_are_no_classes_are_found_at_the_start(challenges, name, changes, words):
    split = "train" if name == "all_wrong" else "held_out"
    with pytest.raises(UserError, match=words) as error:
        data.load(conditional(challenges, name, **changes), split)
    remedy = flags(str(error.value))
    assert remedy
    settings = conditional(challenges, name, **changes)
    settings.update_from_flattened_dict({key.replace("__", "."): value for key, value in remedy.items()})
    for side in ("train", "held_out"):
        labels = everything(data.load(settings, side))["label"]
        assert name == "all_wrong" or set(labels) <= set(range(10))


def test_a_single_label_that_is_no_class_is_found_when_it_is_read(challenges):
    settings = conditional(challenges, "one_wrong")
    source = data.load(settings, "train")
    source.read(np.arange(250))
    with pytest.raises(UserError, match="split 'train', has images of label 10, which is none of its 10 classes"):
        source.read(np.arange(240, 260))
    with pytest.raises(UserError, match="of label 10"):
        data.load(settings, "train", cache="always")


def test_a_sets_fingerprint(challenges, directory, tmp_path):
    def fingerprint(place, name, cache="never", **changes):
        settings = config(place, name, **changes)
        return data.fingerprint(*(data.load(settings, split, cache=cache) for split in ("train", "held_out")))

    known = fingerprint(challenges, "both")
    assert (known["train"]["examples"], known["held_out"]["examples"]) == (400, 12)
    assert fingerprint(challenges, "both", cache="always") == known
    tfds_sets.write(
        tmp_path / "elsewhere",
        "both",
        {"train": tfds_sets.clothes(400, 0), "validation": tfds_sets.clothes(10, 1), "test": unlabelled(12, 2)},
    )
    assert fingerprint(tmp_path / "elsewhere", "both") == known
    assert fingerprint(challenges, "both", data__train_split="train[:399]")["train"] != known["train"]
    assert fingerprint(challenges, "both", data__held_out_split="validation")["held_out"] != known["held_out"]
    tfds_sets.write(tmp_path / "pixels", "both", {"train": tfds_sets.clothes(400, 9), "test": unlabelled(12, 2)})
    assert fingerprint(tmp_path / "pixels", "both")["train"] != known["train"]
    assert fingerprint(tmp_path / "pixels", "both")["held_out"] == known["held_out"]
    tfds_sets.write(
        tmp_path / "version",
        "both",
        {"train": tfds_sets.clothes(400, 0), "test": unlabelled(12, 2)},
        version="1.0.1",
    )
    assert fingerprint(tmp_path / "version", "both")["train"] != known["train"]
