"""Folders of pictures of many kinds, made by the tests."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from wgan_jax import UserError, data
from wgan_jax.data import folders, memory
from wgan_jax.data.images import Form, UnreadableError, decode
from wgan_jax.report import records

from .commands import ROOT, TINY, command, run_here
from .conftest import tiny_config
from .test_commands import assert_one_line

RED, GREEN, BLUE, WHITE = (254, 0, 0), (0, 128, 0), (0, 0, 254), (255, 255, 255)


def halves(left, right, size=(16, 16)):
    """A picture of two colours, side by side."""
    image = Image.new("RGB", size, left)
    image.paste(right, (size[0] // 2, 0, *size))
    return image


def see(path, channels=3, size=8, crop=0):
    return decode(path, Form(size, channels, crop)).astype(int)


@pytest.mark.parametrize(("ending", "options"), [("png", {}), ("jpg", {"quality": 95}), ("webp", {"lossless": True})])
def test_formats(tmp_path, ending, options):
    path = tmp_path / f"a.{ending}"
    halves(RED, BLUE).save(path, **options)
    pixels = see(path)
    assert pixels.shape == (8, 8, 3)
    np.testing.assert_allclose(pixels[:, :3] - RED, 0, atol=8)
    np.testing.assert_allclose(pixels[:, 5:] - BLUE, 0, atol=8)
    assert decode(path.read_bytes(), Form(8, 3)).tolist() == pixels.tolist()


def save_palette(path):
    halves(RED, BLUE).convert("P", palette=Image.Palette.ADAPTIVE).save(path)


def save_palette_with_transparency(path):
    image = Image.new("P", (8, 8), 1)
    image.putpalette([*RED, *BLUE])
    image.paste(0, (0, 0, 4, 8))
    image.save(path, transparency=0)


def save_alpha(path):
    image = halves(RED, BLUE).convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 8, 16))
    image.save(path)


def save_grey_with_alpha(path):
    image = Image.new("LA", (8, 8), (10, 255))
    image.paste((10, 0), (0, 0, 4, 8))
    image.save(path)


def save_sixteen_bits(path):
    image = np.full((8, 8), 200 * 256 + 77, np.uint16)
    image[:, :4] = 256
    Image.fromarray(image).save(path)


def save_bits(path):
    Image.fromarray(np.arange(8)[None].repeat(8, 0) >= 4).save(path)


@pytest.mark.parametrize(
    ("save", "left", "right"),
    [
        (save_palette, RED, BLUE),
        (save_palette_with_transparency, WHITE, BLUE),
        (save_alpha, WHITE, BLUE),
        (save_grey_with_alpha, WHITE, (10, 10, 10)),
        (save_sixteen_bits, (1, 1, 1), (200, 200, 200)),
        (save_bits, (0, 0, 0), WHITE),
    ],
)
def test_modes(tmp_path, save, left, right):
    save(tmp_path / "a.png")
    pixels = see(tmp_path / "a.png")
    np.testing.assert_allclose(pixels[:, 0] - left, 0, atol=2)
    np.testing.assert_allclose(pixels[:, -1] - right, 0, atol=2)
    # grey is the usual weighted sum: ITU-R 601-2
    grey = see(tmp_path / "a.png", channels=1)
    assert grey.shape == (8, 8, 1)
    np.testing.assert_allclose(grey[:, -1, 0], np.dot([0.299, 0.587, 0.114], right), atol=2)


def test_cmyk(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg")
    np.testing.assert_allclose(see(tmp_path / "a.jpg")[4, 4], (255, 0, 0), atol=8)


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [(1, lambda x: x), (2, np.fliplr), (3, lambda x: np.rot90(x, 2)), (6, lambda x: np.rot90(x, -1)), (8, np.rot90)],
)
def test_exif_rotation(tmp_path, orientation, turned, rng):
    original = rng.integers(256, size=(8, 8, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(original).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(see(tmp_path / "a.png"), turned(original))


def test_resizing_does_not_alias(tmp_path):
    """A chessboard of single pixels is grey from afar; nearest or bilinear sampling would show it black or white."""
    chessboard = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    Image.fromarray(chessboard).save(tmp_path / "a.png")
    np.testing.assert_allclose(see(tmp_path / "a.png", channels=1)[1:-1, 1:-1], 127.5, atol=6)


def test_the_centre_is_cut_out_before_resizing(tmp_path):
    image = Image.new("RGB", (40, 24), RED)
    image.paste(GREEN, (8, 0, 32, 24))
    image.paste(BLUE, (16, 8, 24, 16))
    image.save(tmp_path / "a.png")
    assert (see(tmp_path / "a.png", crop=8) == BLUE).all()
    shorter_side = see(tmp_path / "a.png", size=24)
    assert (shorter_side[0] == GREEN).all()
    assert (shorter_side[8:16, 8:16] == BLUE).all()
    assert not (shorter_side == RED).all(axis=-1).any()


def test_large_jpegs(tmp_path):
    halves(RED, BLUE, (1000, 700)).save(tmp_path / "a.jpg", quality=95)
    np.testing.assert_allclose(see(tmp_path / "a.jpg")[:, :3] - RED, 0, atol=8)


def damaged(path, source):
    whole = source.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


@pytest.fixture
def odd_folder(tmp_path, rng):
    """40 images in several places, and what is no image."""
    folder = tmp_path / "pictures"
    (folder / "deep" / "deeper").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    for i in range(40):
        place = [folder, folder / "deep", folder / "deep" / "deeper"][i % 3]
        size = (9 + i, 30 - i // 2)
        Image.fromarray(rng.integers(256, size=(*size, 3), dtype=np.uint8)).save(place / f"{i:02d}.PNG")
    (folder / "notes.txt").write_text("not an image, and not named like one")
    (folder / ".hidden" / "a.png").write_text("hidden")
    (folder / "._b.png").write_text("hidden")
    return folder


def settings(folder, **changes):
    return tiny_config(**({"data__name": f"folder:{folder}", "data__size": 8, "data__channels": 3} | changes))


def both(config, cache="never"):
    return [data.load(config, split, cache=cache) for split in ("train", "held_out")]


def everything(source):
    return source.read(np.arange(len(source)))["image"]


def test_a_folder_is_split_once_for_all(odd_folder):
    config = settings(odd_folder, data__held_out_fraction=0.25)
    train, held_out = both(config)
    assert (len(train), len(held_out)) == (30, 10)
    whole = np.concatenate([everything(train), everything(held_out)])
    expected = [see(path) for path in odd_folder.rglob("[0-9]*.PNG")]
    assert sorted(map(bytes, whole)) == sorted(bytes(image.astype(np.uint8)) for image in expected)
    np.testing.assert_array_equal(everything(both(config)[1]), everything(held_out))


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_memory_and_files_give_the_same(odd_folder, split, capfd):
    damaged(odd_folder / "15.PNG", odd_folder / "15.PNG")
    (odd_folder / "deep" / "16.PNG").write_text("no picture")
    config = settings(odd_folder, data__unreadable_fraction=0.2, data__held_out_fraction=0.3)
    from_files = data.load(config, split)
    in_memory = data.load(config, split, cache="always")
    assert isinstance(in_memory, data.ArraySource)
    assert not isinstance(from_files, data.ArraySource)
    np.testing.assert_array_equal(everything(in_memory), everything(from_files))
    index = np.array([3, 1, 3])
    np.testing.assert_array_equal(from_files.read(index)["image"], everything(in_memory)[index])


@pytest.mark.parametrize("cache", ["always", "never"])
def test_sub_folders_are_classes(tmp_path, cache):
    colours = {"amber": RED, "beech": GREEN, "cedar": BLUE}
    for name, colour in colours.items():
        (tmp_path / name / "deep").mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (8, 8), colour).save(tmp_path / name / ("deep" if i % 2 else ".") / f"{i}.png")
    (tmp_path / "amber" / "broken.png").write_text("no image")
    settings = tiny_config(
        data__name=f"folder:{tmp_path}",
        data__channels=3,
        data__unreadable_fraction=0.5,
        conditional__kind="projection",
        conditional__classes=3,
    )
    for split in ("train", "held_out"):
        source = data.load(settings, split, cache=cache)
        assert source.num_classes == 3
        examples = source.read(np.arange(len(source))[::-1])
        colour = np.array(list(colours.values()))[examples["label"]]
        np.testing.assert_array_equal(examples["image"], np.broadcast_to(colour[:, None, None], (len(colour), 8, 8, 3)))


def test_a_folder_without_classes_is_refused_where_they_are_needed(odd_folder):
    settings = tiny_config(data__name=f"folder:{odd_folder}", conditional__kind="projection")
    assert data.load(tiny_config(data__name=f"folder:{odd_folder}"), "train").num_classes == 0
    with pytest.raises(UserError, match="has no labels; sort its images into one sub-folder per class, or 'none'"):
        data.load(settings, "train")


def test_unreadable_files_are_named_and_left_out(odd_folder, capfd):
    damaged(odd_folder / "15.PNG", odd_folder / "15.PNG")
    (odd_folder / "deep" / "16.PNG").write_text("no picture")
    train, held_out = both(settings(odd_folder, data__unreadable_fraction=0.5))
    assert len(train) + len(held_out) == 38
    said = capfd.readouterr().err
    assert "15.PNG" in said
    assert "deep/16.PNG (not an image)" in said


def test_a_file_that_vanishes_later_is_named(odd_folder):
    train, _ = both(settings(odd_folder))
    (odd_folder / train.name(3)).unlink()
    with pytest.raises(UserError, match=train.name(3)):
        train.read(np.arange(5))


def test_bombs_are_refused(tmp_path, monkeypatch):
    Image.new("L", (40, 40)).save(tmp_path / "a.png")
    for limit in (1_599, 700):  # where Pillow warns, and where it raises
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(UnreadableError, match="decompression bomb"):
            decode(tmp_path / "a.png", Form(8, 1))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_600)
    decode(tmp_path / "a.png", Form(8, 1))


@given(st.lists(st.text("abc/", min_size=1, max_size=6), min_size=2, max_size=40, unique=True), st.floats(0.001, 0.999))
def test_some_are_held_out_and_some_are_not(names, fraction):
    held_out = folders.held_out_names(names, fraction)
    assert held_out == folders.held_out_names(names[::-1], fraction)
    assert abs(len(held_out) - fraction * len(names)) <= 1
    assert 1 <= len(held_out) < len(names)


@pytest.mark.parametrize(("free", "kept"), [(2 * 30 * 8 * 8 * 3, True), (2 * 30 * 8 * 8 * 3 - 1, False)])
def test_images_are_kept_if_half_of_the_memory_holds_them(odd_folder, monkeypatch, free, kept):
    monkeypatch.setattr(memory, "available", lambda: free)
    train = data.load(settings(odd_folder, data__held_out_fraction=0.25), "train", cache="auto")
    assert isinstance(train, data.ArraySource) == kept


def test_a_long_preparation_says_how_far_it_is(monkeypatch, capfd):
    now = iter([0.0, *range(6, 66, 6)])
    monkeypatch.setattr(memory.time, "monotonic", lambda: float(next(now)))
    with memory.Counter("decoding images", 4_000) as counter:
        for _ in range(4):
            counter.add(1_000)
    lines = capfd.readouterr().err.splitlines()
    assert lines == ["decoding images: 2,000 of 4,000 (50 %)", "decoding images: 4,000 of 4,000 (100 %)"]


def train_command(folder, workdir, *args):
    config = f"--config={ROOT}/configs/folder.py:{folder}"
    small = ["--config.data.size=8", "--config.data.flip=True", "--config.critic.norm=none"]
    small += ["--config.generator.network=mlp", "--config.critic.network=mlp", "--config.generator.norm=none"]
    small += ["--config.generator.kernel_init=he_uniform", "--config.critic.kernel_init=he_uniform"]
    return command("train", config, f"--workdir={workdir}", *TINY, *small, *args)


@pytest.mark.usefixtures("quick_compilation")
def test_a_run_on_a_folder(odd_folder, tmp_path):
    damaged(odd_folder / "15.PNG", odd_folder / "15.PNG")
    args = ["--config.steps=4", "--config.data.unreadable_fraction=0.2", "--config.data.cache=never"]
    done = run_here(train_command(odd_folder, tmp_path / "run", *args))
    assert done.returncode == 0, done.stderr
    assert "15.PNG" in done.stderr
    assert {"training_estimate", "held_out_estimate"} < set(records.read(tmp_path / "run")[-1])


def make_damaged(folder):
    for name in ("15.PNG", "18.PNG", "21.PNG"):
        damaged(folder / name, folder / name)


def make_empty(folder):
    for path in folder.rglob("*.PNG"):
        path.unlink()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (make_damaged, ["15.PNG", "config.data.unreadable_fraction = 0.01"]),
        (make_empty, ["0 images there", ".png, .jpg"]),
        (lambda folder: folder.rename(folder.parent / "moved"), ["pictures", "no such folder"]),
    ],
)
def test_a_folder_that_cannot_be_is_one_line_and_code_2(odd_folder, tmp_path, change, words):
    change(odd_folder)
    assert_one_line(run_here(train_command(odd_folder, tmp_path / "w")), *words)
    assert not (tmp_path / "w").exists()
