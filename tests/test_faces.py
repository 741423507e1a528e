"""The face rate, with a cascade and a photograph that packages bring: OpenCV's faces, and Matplotlib's Grace Hopper."""

import builtins
import sys
from types import ModuleType

import cv2
import matplotlib.cbook
import numpy as np
import pytest
from PIL import Image

from wgan_jax import UserError
from wgan_jax.metrics import faces

PATH = f"{cv2.data.haarcascades}haarcascade_frontalface_default.xml"
HEAD = (126, 77, 403, 354)
"""The place of the face in the photograph, with a margin."""


@pytest.fixture(scope="module")
def cascade():
    return faces.load_cascade(PATH)


def photograph(box, size):
    with Image.open(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)) as image:
        return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC, box=box))


@pytest.fixture(scope="module")
def mixed():
    """Eight images of 64 pixels: a face, no face, a face, and five more without one."""
    rng = np.random.default_rng(0)
    noise = rng.integers(256, size=(64, 64, 3), dtype=np.uint8)
    grey = np.full_like(noise, 127)
    uniform = photograph((150, 400, 350, 600), 64)  # the jacket below the face
    face = photograph(HEAD, 64)
    upside_down = face[::-1]
    return np.stack([face, noise, face[:, ::-1], grey, uniform, upside_down, 0 * grey, noise[::-1]])


def test_faces_are_found_where_they_are(mixed, cascade):
    assert faces.has_face(mixed, cascade).tolist() == [True, False, True, False, False, False, False, False]
    assert faces.face_rate(mixed, cascade) == 0.25
    assert faces.face_rate(mixed[:1], cascade) == 1
    assert faces.face_rate(mixed[1:2], cascade) == 0


def test_grey_images_and_dim_ones_show_the_same_faces(mixed, cascade):
    grey = np.stack([np.asarray(Image.fromarray(image).convert("L"))[..., None] for image in mixed])
    np.testing.assert_array_equal(faces.has_face(grey, cascade), faces.has_face(mixed, cascade))
    np.testing.assert_array_equal(faces.has_face(grey // 4, cascade), faces.has_face(mixed, cascade))


def test_the_face_may_be_anywhere(cascade):
    canvas = np.full((3, 100, 120, 3), 127, np.uint8)
    for image, (top, left) in zip(canvas, ((0, 0), (36, 0), (20, 56)), strict=True):
        image[top : top + 64, left : left + 64] = photograph(HEAD, 64)
    assert faces.face_rate(canvas, cascade) == 1


def test_what_the_cascade_sees():
    """Grey images from RGB, stretched over all levels, and the settings that go with the published rates."""
    seen = []

    class Camera:
        def getOriginalWindowSize(self):  # noqa: N802
            return 24, 24

        def detectMultiScale(self, image, scaleFactor, minNeighbors, minSize):  # noqa: N802
            seen.append(image)
            assert (scaleFactor, minNeighbors, minSize) == (1.1, 5, (24, 24))
            return ()

    image = np.zeros((1, 24, 24, 3), np.uint8)
    image[:, :12] = (255, 0, 0)
    image[:, 12:] = (0, 0, 255)
    assert faces.face_rate(image, Camera()) == 0
    assert (seen[0][:12] == 255).all()  # red weighs 0.299 and blue 0.114
    assert (seen[0][12:] == 0).all()


@pytest.mark.parametrize("shape", [(2, 23, 64, 3), (2, 64, 23, 1), (1_000, 8, 8, 1)])
def test_images_without_room_for_a_face_are_refused(shape, cascade):
    with pytest.raises(UserError, match="too small to look for faces in: a face takes 24×24 at least") as error:
        faces.face_rate(np.zeros(shape, np.uint8), cascade)
    assert f"{shape[2]}×{shape[1]} pixels" in str(error.value)


@pytest.mark.parametrize(
    "images",
    [np.zeros((1, 64, 64, 3), np.float32), np.zeros((64, 64, 3), np.uint8), np.zeros((1, 64, 64, 4), np.uint8)],
)
def test_other_arrays_are_refused(images, cascade):
    with pytest.raises(ValueError, match="must be uint8"):
        faces.face_rate(images, cascade)


def test_no_images_have_no_rate(cascade):
    with pytest.raises(ValueError, match="no images"):
        faces.face_rate(np.zeros((0, 64, 64, 3), np.uint8), cascade)


def whole():
    with open(PATH, "rb") as file:
        return file.read()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello\n",
        b"<html><body>404</body></html>",
        b'<?xml version="1.0"?>\n<opencv_storage><a>1</a></opencv_storage>',
        b'<?xml version="1.0"?>\n<opencv_storage><cascade><stageType>BOOST</stageType></cascade></opencv_storage>',
        b'{"a": 1}',
        bytes(range(256)),
        pytest.param(whole()[: len(whole()) // 2], id="half"),
    ],
)
def test_a_file_that_is_no_cascade_is_one_line(content, tmp_path, capfd):
    path = tmp_path / "a.xml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.xml: not a whole cascade") as error:
        faces.load_cascade(str(path))
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_a_missing_file_and_a_folder_are_one_line(tmp_path, capfd):
    with pytest.raises(UserError, match=r"none\.xml: No such file"):
        faces.load_cascade(str(tmp_path / "none.xml"))
    with pytest.raises(UserError, match="Is a directory"):
        faces.load_cascade(str(tmp_path))
    assert capfd.readouterr() == ("", "")


def test_a_machine_without_opencv_is_given_the_command(monkeypatch):
    found = builtins.__import__

    def without(name, *args, **more):
        if name == "cv2":
            raise ImportError("No module named 'cv2'")
        return found(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"No module named 'cv2'.*pip install -e \"\.\[faces\]\""):
        faces.load_cascade(PATH)


def test_opencv_5_is_refused(monkeypatch):
    newer = ModuleType("cv2")
    newer.__version__ = "5.0.0"
    monkeypatch.setitem(sys.modules, "cv2", newer)
    with pytest.raises(UserError, match=r"version 5\.0\.0, which is installed.*pip install -e \"\.\[faces\]\""):
        faces.load_cascade(PATH)
