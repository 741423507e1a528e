"""Pictures of more than 8 bits, and what lies in a folder of pictures beside plain files."""

import os
import struct

import numpy as np
import pytest
from PIL import Image

from wgan_jax import UserError, data
from wgan_jax.data.images import Form, UnreadableError, decode

from .conftest import tiny_config

RAMP = np.arange(64).reshape(8, 8)


def save(path, values):
    Image.fromarray(values).save(path)
    return path


def save_twelve_bits(path, values):
    """An uncompressed TIFF of 12 bits a pixel, two pixels in three bytes, written by hand."""
    pairs = values.reshape(-1, 2)
    pixels = b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in pairs.tolist())
    height, width = values.shape
    # width, length, bits, compression, black is zero, strip, samples, rows in the strip, its bytes
    tags = {256: width, 257: height, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: len(pixels)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels
    path.write_bytes(head + struct.pack("<H", len(tags)) + entries + bytes(4))
    return path


def see(path):
    return decode(path, Form(8, 1))[..., 0]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (RAMP.astype(np.int32) * 4, RAMP * 4),
        ((RAMP * 4 / 255).astype(np.float32), RAMP * 4),
        (np.ones((8, 8), np.float32), np.full((8, 8), 255)),
        (RAMP.astype(np.uint16) * 1024 + 1023, RAMP * 4 + 3),
        (np.full((8, 8), 100, np.uint16), np.zeros((8, 8))),
        (np.zeros((8, 8), np.float32), np.zeros((8, 8))),
    ],
    ids=["int32", "float32", "white", "uint16", "even and dark", "black"],
)
def test_grey_values_keep_their_brightness(tmp_path, values, expected):
    np.testing.assert_array_equal(see(save(tmp_path / "a.tif", values)), expected)


def test_twelve_bits_in_a_tiff(tmp_path):
    values = (RAMP * 64 + 63).astype(np.uint16)
    assert values.max() == 4095
    np.testing.assert_array_equal(see(save_twelve_bits(tmp_path / "a.tif", values)), RAMP * 4 + 3)


@pytest.mark.parametrize(
    ("ending", "values", "words"),
    [
        (
            "tif",
            RAMP.astype(np.int32) * 1_000,
            "from 0 to 63000, but integers of 32 bits or with a sign must be from 0 to 255",
        ),
        ("tif", RAMP.astype(np.int32) - 1, "from -1 to 62"),
        ("tif", RAMP.astype(np.float32), "from 0 to 63, but floats must be from 0 to 1"),
        ("tif", np.where(RAMP == 9, np.nan, 0.5).astype(np.float32), "from nan to nan"),
        ("tif", RAMP.astype(np.float32) / 63_000, "would be black"),
        ("png", RAMP.astype(np.uint16), "would be black: has values from 0 to 63, but integers of 16 bits"),
    ],
)
def test_grey_values_that_have_no_scale_are_never_black(tmp_path, ending, values, words):
    path = save(tmp_path / f"a.{ending}", values)
    with pytest.raises(UnreadableError, match=words):
        see(path)


def test_pictures_that_are_too_large_are_named(tmp_path):
    for i in range(5):
        save(tmp_path / f"{i}.png", RAMP.astype(np.uint8))
    Image.new("1", (30_000, 3_000)).save(tmp_path / "huge.png")
    settings = config(tmp_path, data__unreadable_fraction=0.0, data__held_out_fraction=0.2)
    with pytest.raises(UserError, match=r"huge\.png \(more than 89,478,485 pixels, .*; make it smaller\)"):
        [data.load(settings, split) for split in ("train", "held_out")]


def config(folder, **changes):
    return tiny_config(data__name=f"folder:{folder}", **changes)


@pytest.fixture
def ten(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(10):
        save(folder / f"{i}.png", np.full((8, 8), 20 * i, np.uint8))
    return folder


def brightness(folder, **changes):
    """The numbers of the pictures that are read, as `save` gave them their brightness."""
    settings = config(folder, data__unreadable_fraction=0.5, **changes)
    sources = [data.load(settings, split) for split in ("train", "held_out")]
    images = np.concatenate([source.read(np.arange(len(source)))["image"] for source in sources])
    return sorted((images[:, 0, 0, 0] // 20).tolist())


def test_what_is_no_file_is_named_and_never_opened(ten, capfd):
    """Opening a named pipe waits for a writer, for ever."""
    os.mkfifo(ten / "pipe.png")
    (ten / "folder.png").mkdir()
    (ten / "nowhere.png").symlink_to("gone/picture.png")
    (ten / "circle.png").symlink_to("circle.png")
    assert brightness(ten) == list(range(10))
    said = capfd.readouterr().err
    assert "pipe.png (a named pipe, a socket or a device, and no file)" in said
    assert "nowhere.png (a link to gone/picture.png, which does not exist)" in said
    assert "circle.png" in said
    assert "folder.png" not in said


def test_links_count_as_what_they_lead_to(ten, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "deep").mkdir(parents=True)
    save(elsewhere / "deep" / "a.png", np.full((8, 8), 200, np.uint8))
    save(elsewhere / "b.png", np.full((8, 8), 220, np.uint8))
    (ten / "linked").symlink_to(elsewhere / "deep")
    (ten / "linked.png").symlink_to(elsewhere / "b.png")
    (ten / "round").mkdir()
    (ten / "round" / "and round").symlink_to(ten)
    (elsewhere / "deep" / "up").symlink_to(".")
    assert brightness(ten) == list(range(12))


def test_a_linked_folder_is_a_class(tmp_path):
    for name in ("real", "elsewhere"):
        (tmp_path / name).mkdir()
    for i, folder in enumerate(("real/cats", "real/dogs", "elsewhere/owls")):
        (tmp_path / folder).mkdir()
        for j in range(4):
            save(tmp_path / folder / f"{j}.png", np.full((8, 8), 20 * i, np.uint8))
    (tmp_path / "real" / "birds").symlink_to(tmp_path / "elsewhere" / "owls")
    source = data.load(config(tmp_path / "real", conditional__kind="projection", conditional__classes=3), "train")
    examples = source.read(np.arange(len(source)))
    # birds, cats, dogs
    np.testing.assert_array_equal(examples["image"][:, 0, 0, 0], np.array([40, 0, 20])[examples["label"]])


def test_a_folder_that_may_not_be_listed(ten, monkeypatch):
    (ten / "closed").mkdir()
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=r"closed: cannot be listed: Permission denied; fix its permissions"):
        data.load(config(ten), "train")


def fingerprint(folder, cache="never"):
    settings = config(folder, data__unreadable_fraction=0.5)
    return data.fingerprint(*(data.load(settings, split, cache=cache) for split in ("train", "held_out")))


def test_a_folders_fingerprint_moves_with_it(ten):
    known = fingerprint(ten)
    assert {split: value["examples"] for split, value in known.items()} == {"train": 9, "held_out": 1}
    assert fingerprint(ten, cache="always") == known
    moved = ten.rename(ten.with_name("moved"))
    os.utime(moved / "3.png", (0, 0))
    assert fingerprint(moved) == known


def damage(folder):
    whole = (folder / "3.png").read_bytes()
    (folder / "3.png").write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "3.png").unlink(),
        lambda folder: (folder / "3.png").rename(folder / "33.png"),
        lambda folder: save(folder / "3.png", RAMP.astype(np.uint8)),
        lambda folder: save(folder / "10.png", RAMP.astype(np.uint8)),
        damage,
    ],
    ids=["removed", "renamed", "other size", "added", "damaged"],
)
@pytest.mark.parametrize("cache", ["always", "never"])
def test_a_folders_fingerprint_tells_other_pictures(ten, cache, change):
    known = fingerprint(ten, cache)
    change(ten)
    assert fingerprint(ten, cache) != known


def test_a_folders_fingerprint_tells_other_classes(tmp_path):
    """The held-out picture keeps its name, but its class gets another number."""
    for name in "bc":
        (tmp_path / name).mkdir()
        for i in range(3):
            save(tmp_path / name / f"{i}.png", RAMP.astype(np.uint8))
    known = fingerprint(tmp_path)
    (tmp_path / "a").mkdir()
    save(tmp_path / "a" / "0.png", RAMP.astype(np.uint8))
    assert fingerprint(tmp_path)["held_out"]["digest"] != known["held_out"]["digest"]
