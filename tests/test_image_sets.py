"""Folders of pictures and files of arrays that are measured without a run."""

import io
import os
import struct
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from wgan_jax import UserError
from wgan_jax.data import image_sets, memory
from wgan_jax.data.images import Form, decode
from wgan_jax.method.batch import to_uint8

from .test_folders import WHITE, damaged, everything


def pixels(rng, *shape):
    return rng.integers(256, size=shape, dtype=np.uint8)


def write(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, **options)


def refused(path, *words):
    """The one line in which a set is refused."""
    with pytest.raises(UserError) as error:
        everything(image_sets.load(path))
    message = str(error.value)
    assert "\n" not in message
    for word in (str(path), *words):
        assert word in message, message
    return message


# --- folders ---


def test_pictures_keep_their_size_and_their_pixels(tmp_path, rng):
    images = pixels(rng, 5, 12, 20, 3)
    for name, image in zip(("b/1.png", "a.png", "b/0.png", "c/d/e.PNG", "b.png"), images, strict=True):
        write(tmp_path / name, image)
    (tmp_path / "notes.txt").write_text("no picture")
    source = image_sets.load(tmp_path)
    assert (len(source), source.image_shape, source.num_classes) == (5, (12, 20, 3), 0)
    examples = source.read(np.arange(5))
    assert list(examples) == ["image"]
    np.testing.assert_array_equal(examples["image"], images[[1, 4, 2, 0, 3]])  # a.png b.png b/0.png b/1.png c/d/e.PNG
    np.testing.assert_array_equal(source.read(np.array([3, 0, 3]))["image"], images[[0, 1, 0]])
    assert examples["image"].dtype == np.uint8


def test_more_pictures_than_the_threads_take_at_once(tmp_path, rng, monkeypatch):
    monkeypatch.setattr(memory, "CHUNK", 3)
    images = pixels(rng, 10, 4, 6)
    for i, image in enumerate(images):
        write(tmp_path / f"{i}.png", image)
    np.testing.assert_array_equal(everything(image_sets.load(tmp_path))[..., 0], images)


def test_grey_stays_grey_only_if_all_are(tmp_path, rng):
    grey = pixels(rng, 2, 8, 8)
    write(tmp_path / "0.png", grey[0])
    Image.fromarray(grey[1]).convert("LA").save(tmp_path / "1.png")
    source = image_sets.load(tmp_path)
    assert source.image_shape == (8, 8, 1)
    np.testing.assert_array_equal(everything(source)[..., 0], grey)
    write(tmp_path / "2.png", pixels(rng, 8, 8, 3))
    source = image_sets.load(tmp_path)
    assert source.image_shape == (8, 8, 3)
    np.testing.assert_array_equal(everything(source)[:2], grey[..., None].repeat(3, -1))


def test_other_modes_are_read_as_in_training(tmp_path, rng):
    transparent = pixels(rng, 8, 8, 4)
    transparent[:4, :, 3], transparent[4:, :, 3] = 0, 255
    write(tmp_path / "0.png", transparent)
    write(tmp_path / "1.png", np.full((8, 8), 200 * 256 + 77, np.uint16))
    Image.fromarray(pixels(rng, 8, 8, 3)).convert("P").save(tmp_path / "2.png")
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "3.jpg")
    images = everything(image_sets.load(tmp_path))
    assert (images[0, :4] == WHITE).all()
    np.testing.assert_array_equal(images[0, 4:], transparent[4:, :, :3])
    assert (images[1] == 200).all()
    for i, name in enumerate(("0.png", "1.png", "2.png", "3.jpg")):  # of the same size, so that nothing is resized
        np.testing.assert_array_equal(images[i], decode(tmp_path / name, Form(8, 3)))


@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "webp"])
def test_pictures_are_turned_upright(tmp_path, rng, ending):
    """A turned picture has the size of the upright ones, though its file has height and width exchanged."""
    exif = Image.Exif()
    exif[0x0112] = 6
    image = pixels(rng, 8, 16, 3)
    write(tmp_path / "a.png", image)
    write(tmp_path / f"b.{ending}", np.rot90(image), exif=exif)
    source = image_sets.load(tmp_path)
    assert source.image_shape == (8, 16, 3)
    turned = everything(source)[1]
    assert turned.shape == (8, 16, 3)
    if ending in ("png", "tif"):  # without loss
        np.testing.assert_array_equal(turned, image)


def test_a_size_that_differs_is_one_line(tmp_path, rng):
    for name, shape in {"0.png": (8, 8), "1/0.png": (8, 8), "1/a.png": (8, 16), "2.png": (9, 9)}.items():
        write(tmp_path / name, pixels(rng, *shape, 3))
    refused(tmp_path, "1/a.png: has 16×8 pixels, and 0.png has 8×8; bring all images to one size")


def test_pictures_are_decoded_when_they_are_read(tmp_path, rng):
    for i in range(4):
        write(tmp_path / f"{i}.png", pixels(rng, 64, 64, 3))
    damaged(tmp_path / "2.png", tmp_path / "2.png")
    source = image_sets.load(tmp_path)
    source.read(np.array([0, 1, 3]))
    with pytest.raises(UserError, match=r"2\.png: cannot be read \(.+\); fix or remove it") as error:
        source.read(np.arange(4))
    assert str(tmp_path) in str(error.value)


def test_a_turn_that_shows_only_after_the_pixels_is_refused_at_the_read(tmp_path, rng):
    """A PNG may say behind its pixels that it is turned."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("0.png", "1.png"):
        write(tmp_path / name, pixels(rng, 8, 16, 3))
    content = exif.tobytes()[6:]
    chunk = b"eXIf" + content
    chunk = struct.pack(">I", len(content)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    whole, end = (tmp_path / "1.png").read_bytes(), 12  # bytes of the chunk that ends a file
    (tmp_path / "1.png").write_bytes(whole[:-end] + chunk + whole[-end:])
    refused(tmp_path, "1.png: cannot be read (has 8×16 pixels, and the first image has 16×8)")


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_named(tmp_path, rng, content):
    for i in range(3):
        write(tmp_path / f"{i}.png", pixels(rng, 8, 8, 3))
    (tmp_path / "1.png").write_bytes(content)
    refused(tmp_path, "1.png: cannot be read (not an image); fix or remove it")


def test_a_broken_link_a_pipe_and_a_bomb_are_named(tmp_path, rng, monkeypatch):
    for i in range(2):
        write(tmp_path / f"{i}.png", pixels(rng, 8, 8, 3))
    (tmp_path / "2.png").symlink_to("nowhere")
    refused(tmp_path, "2.png", "a link to nowhere, which does not exist")
    (tmp_path / "2.png").unlink()
    os.mkfifo(tmp_path / "2.png")
    refused(tmp_path, "2.png", "a named pipe")
    (tmp_path / "2.png").unlink()
    write(tmp_path / "2.png", pixels(rng, 8, 16, 3))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    refused(tmp_path, "2.png", "decompression bombs")


@pytest.mark.parametrize("number", [0, 1])
def test_too_few_pictures(tmp_path, rng, number):
    for i in range(number):
        write(tmp_path / f"{i}.png", pixels(rng, 8, 8, 3))
    refused(tmp_path, f"{number} images there, and two are needed at least", ".png, .jpg")


def test_the_identity_of_a_folder(tmp_path, rng):
    """It is that of the pictures wherever they lie, and another if one is renamed, or all are drawn anew."""

    def fill(folder):
        for i in range(4):
            write(folder / f"{i}.bmp", pixels(rng, 8, 8, 3))  # all of one size in bytes

    fill(tmp_path / "a")
    digest = image_sets.load(tmp_path / "a").digest
    (tmp_path / "a").rename(tmp_path / "b")
    assert image_sets.load(tmp_path / "b").digest == digest
    (tmp_path / "b" / "3.bmp").rename(tmp_path / "b" / "4.bmp")
    renamed = image_sets.load(tmp_path / "b").digest
    (tmp_path / "b" / "4.bmp").rename(tmp_path / "b" / "3.bmp")
    assert image_sets.load(tmp_path / "b").digest == digest
    fill(tmp_path / "b")
    assert len({digest, renamed, image_sets.load(tmp_path / "b").digest}) == 3


# --- arrays ---


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("shape", [(3, 8, 12, 3), (3, 8, 12, 1), (3, 8, 12)])
def test_arrays_are_read_as_they_are(tmp_path, rng, save, shape):
    images = pixels(rng, *shape)
    save(tmp_path / "a.npz", whatever=images)
    source = image_sets.load(tmp_path / "a.npz")
    assert (len(source), source.image_shape, source.num_classes) == (3, (*shape[1:3], (*shape, 1)[3]), 0)
    np.testing.assert_array_equal(everything(source).reshape(shape), images)
    save(tmp_path / "b.npz", another=np.asfortranarray(images))
    assert image_sets.load(tmp_path / "b.npz").digest == source.digest
    images[0, 0, 0] ^= 1
    save(tmp_path / "b.npz", whatever=images)
    assert image_sets.load(tmp_path / "b.npz").digest != source.digest


@pytest.mark.parametrize("name", image_sets.ARRAYS)
def test_of_several_arrays_the_name_decides(tmp_path, rng, name):
    images = pixels(rng, 3, 8, 8, 3)
    np.savez(tmp_path / "a.npz", **{"label": np.arange(3), name: images, "others": pixels(rng, 4, 8, 8, 3)})
    np.testing.assert_array_equal(everything(image_sets.load(tmp_path / "a.npz")), images)


def test_several_arrays_without_such_a_name(tmp_path, rng):
    np.savez(tmp_path / "a.npz", left=pixels(rng, 3, 8, 8, 3), right=pixels(rng, 3, 8, 8, 3))
    message = refused(tmp_path / "a.npz", "has 2 arrays (left, right)")
    for name in image_sets.ARRAYS:
        assert name in message
    np.savez(tmp_path / "a.npz")
    refused(tmp_path / "a.npz", "has 0 arrays")


def test_floats_are_refused_and_the_remedy_makes_bytes_of_them(tmp_path):
    x = np.linspace(-1.1, 1.1, 2 * 8 * 8 * 3, dtype=np.float32).reshape(2, 8, 8, 3)
    np.savez(tmp_path / "a.npz", x)
    message = refused(tmp_path / "a.npz", "its images are float32, and must be uint8")
    remedy = eval(message.partition("values from −1 to 1 by ")[2], {"np": np, "x": x})
    np.testing.assert_array_equal(remedy, to_uint8(x))
    np.savez(tmp_path / "a.npz", remedy)
    np.testing.assert_array_equal(everything(image_sets.load(tmp_path / "a.npz")), to_uint8(x))


@pytest.mark.parametrize("dtype", [np.int8, np.int64, bool, object, "U3", [("r", np.uint8), ("g", np.uint8)]])
def test_other_types_are_refused_and_nothing_is_unpickled(tmp_path, dtype):
    np.savez(tmp_path / "a.npz", np.zeros((2, 8, 8, 3), dtype))
    refused(tmp_path / "a.npz", "must be uint8")


@pytest.mark.parametrize(
    "shape", [(), (8,), (8, 8), (8, 8, 3), (8, 8, 4), (2, 3, 8, 8), (2, 8, 8, 4), (2, 8, 0, 3), (2, 2, 8, 8, 3)]
)
def test_other_shapes_are_refused(tmp_path, shape):
    np.savez(tmp_path / "a.npz", np.zeros(shape, np.uint8))
    refused(tmp_path / "a.npz", f"its images are {shape}, and must be [N, H, W], [N, H, W, 1] or [N, H, W, 3]")


@pytest.mark.parametrize("number", [0, 1])
def test_too_few_arrays(tmp_path, number):
    np.savez(tmp_path / "a.npz", np.zeros((number, 8, 8, 3), np.uint8))
    refused(tmp_path / "a.npz", f"{number} images there, and two are needed at least")


def test_files_that_are_cut_off_or_no_archives(tmp_path, rng):
    np.savez_compressed(tmp_path / "whole.npz", pixels(rng, 4, 8, 8, 3))
    whole = (tmp_path / "whole.npz").read_bytes()
    for content in (
        b"",
        b"no archive",
        whole[: len(whole) // 2],
        whole[:-30],
        whole.replace(b"PK\x01\x02", b"PK\x01\x07"),
    ):
        (tmp_path / "a.npz").write_bytes(content)
        refused(tmp_path / "a.npz", "cannot be read as an .npz file (", "write it anew")
    for place in range(100, len(whole) - 150, 60):  # within what is compressed
        wrong = bytearray(whole)
        wrong[place] ^= 255
        (tmp_path / "a.npz").write_bytes(wrong)
        refused(tmp_path / "a.npz", "")


def archive(path, head, content, name="a.npy"):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(name, b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + content)


def head(shape, descr="'|u1'"):
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n"


def test_a_head_that_lies_takes_no_memory(tmp_path):
    path = tmp_path / "a.npz"
    archive(path, head("(4, 8, 8, 3)"), bytes(4 * 8 * 8 * 3))
    assert len(image_sets.load(path)) == 4
    for shape in ("(4000000000000, 8, 8, 3)", "(5, 8, 8, 3)", "(3, 8, 8, 3)", "(-4, 8, 8, 3)", "(4, -8, -8, 3)"):
        archive(path, head(shape), bytes(4 * 8 * 8 * 3))
        refused(path, "cannot be read as an .npz file (")
    for wrong in ("", "{}\n", "(" * 9_000, head("(4, 8, 8, 3)", "'no type'"), head("'4'"), "9" * 20_000):
        archive(path, wrong, bytes(768))
        refused(path, "cannot be read as an .npz file (")
    archive(path, "", b"", name="a.png")
    refused(path, "has 0 arrays")


def test_arrays_larger_than_the_memory_are_refused(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "a.npz", np.zeros((1000, 32, 32, 3), np.uint8))
    size = 3_072_000
    monkeypatch.setattr(memory, "available", lambda: size)
    refused(tmp_path / "a.npz", "0.0 GB of memory", "a folder of pictures")
    monkeypatch.setattr(memory, "available", lambda: size + 1_000)
    assert len(image_sets.load(tmp_path / "a.npz")) == 1000


def test_an_encrypted_archive(tmp_path):
    archive(tmp_path / "a.npz", head("(4, 8, 8, 3)"), bytes(768))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    for sign, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(sign) + place] |= 1
    (tmp_path / "a.npz").write_bytes(content)
    refused(tmp_path / "a.npz", "encrypted")


# --- neither ---


def test_what_is_neither(tmp_path, rng):
    refused(tmp_path / "none", "does not exist", "give a folder of images, or an .npz file")
    refused(tmp_path / "none.npz", "does not exist")
    buffer = io.BytesIO()
    np.save(buffer, pixels(rng, 4, 8, 8, 3))
    (tmp_path / "a.npy").write_bytes(buffer.getvalue())
    refused(tmp_path / "a.npy", "is neither")
    os.mkfifo(tmp_path / "a.npz")
    refused(tmp_path / "a.npz", "is neither")
