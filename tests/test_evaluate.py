"""Measures of a run on a folder of pictures, which are stored class by class."""

from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from wgan_jax import UserError, build, data
from wgan_jax.data import images
from wgan_jax.metrics import evaluation, evaluators
from wgan_jax.metrics.estimate import fixed_set

from .conftest import tiny_config


@pytest.fixture(scope="module")
def digit_folders(tmp_path_factory):
    """Scikit-learn's digits as pictures of 8×8 pixels in ten folders, one a class."""
    folder = tmp_path_factory.mktemp("digits")
    digits = load_digits()
    for i, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        (folder / str(label)).mkdir(exist_ok=True)
        Image.fromarray((image * 255 / 16).astype(np.uint8)).save(folder / str(label) / f"{i:04d}.png")
    return folder


class State(NamedTuple):
    step: int = 0


def measure(monkeypatch, config):
    """What `evaluate` finds for a run of these settings, whose samples are noise."""
    gan = build(config)
    noise = np.random.default_rng(0).uniform(-1, 1, (evaluators.SAMPLES, *gan.image_shape)).astype(np.float32)
    monkeypatch.setattr(evaluators, "make_estimate", lambda gan: lambda state, batch: batch["image"].mean())
    monkeypatch.setattr(evaluators, "sample", lambda *_, **__: noise)
    return evaluation.evaluate(config, gan, State())


def digits(**changes):
    return tiny_config(conditional__kind="auxiliary", conditional__classes=10, **changes)


def test_folders_measure_as_the_same_pictures_in_memory(digit_folders, monkeypatch):
    """Of 2 · 500 neighbours a share of one half has σ 0.016; in order, the first 500 of each split gave 0.86."""
    built_in = measure(monkeypatch, digits())
    settings = digits(data__name=f"folder:{digit_folders}", data__held_out_fraction=500 / 1797)
    in_folders = measure(monkeypatch, settings)
    for result in (built_in, in_folders):
        assert abs(result["real_nearest_neighbour_accuracy"] - 0.5) < 0.06
        assert result["real_class_agreement"] > 0.9
    for split, num in (("train", 1297), ("held_out", 500)):
        source = data.load(settings, split)
        assert len(source) == num
        share = np.bincount(fixed_set(source)["label"].ravel(), minlength=10) / (num // 128 * 128 if num < 512 else 512)
        assert (np.abs(share - 0.1) < 0.055).all()  # 4 σ of 384


def two_classes(folder, num, size=8):
    rng = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (folder / name).mkdir()
        for i in range(num):
            noise = rng.integers(100, size=(size, size), dtype=np.uint8) + 100 * (name == "dogs")
            Image.fromarray(noise.astype(np.uint8)).save(folder / name / f"{i:04d}.png")
    return tiny_config(data__name=f"folder:{folder}", conditional__kind="auxiliary", conditional__classes=2)


def test_a_class_larger_than_what_is_looked_at(tmp_path, monkeypatch):
    """The classifier needs both classes, and 5,000 pictures of the first would be all that it sees."""
    settings = two_classes(tmp_path, 60)
    monkeypatch.setattr(evaluators, "EXAMPLES", 50)
    assert measure(monkeypatch, settings)["real_class_agreement"] == 1


def test_only_the_pictures_that_are_used_are_opened(tmp_path, monkeypatch):
    settings = two_classes(tmp_path, 60)
    opened, decode = set(), images.decode

    def watched(path, form):
        opened.add(path)
        return decode(path, form)

    monkeypatch.setattr(images, "decode", watched)
    monkeypatch.setattr(evaluators, "EXAMPLES", 20)
    measure(monkeypatch, settings)
    assert len(opened) == 20 + 12


@pytest.mark.parametrize("number", range(3))
def test_a_damaged_picture_is_passed_over_as_in_training(tmp_path, monkeypatch, number, capfd):
    settings = two_classes(tmp_path, 60)
    settings.data.unreadable_fraction = 0.03
    whole = data.load(settings, "train")
    first = whole.name(data.fixed_subset(whole, 3)[number])
    (tmp_path / first).write_text("no picture")
    in_training = data.load(settings, "train")
    assert f"{first} (not an image)" in capfd.readouterr().err
    in_part = data.load(settings, "train", most=100)
    assert (len(in_training), len(in_part)) == (107, 99)
    seen, expected = (source.read(data.fixed_subset(source, 50)) for source in (in_part, in_training))
    np.testing.assert_array_equal(seen["image"], expected["image"])
    monkeypatch.setattr(evaluators, "EXAMPLES", 100)
    assert measure(monkeypatch, settings)["real_class_agreement"] == 1


def test_pictures_that_have_all_gone_bad_are_one_clear_error(tmp_path, monkeypatch):
    settings = two_classes(tmp_path, 4)
    for path in tmp_path.rglob("*.png"):
        path.write_text("no picture")
    with pytest.raises(UserError, match=r"4 of 4 images cannot be read.*; fix them"):
        data.load(settings, "train", most=4)
