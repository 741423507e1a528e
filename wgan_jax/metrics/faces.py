"""AFD, the anime face detection rate: the share of images in which a cascade of OpenCV finds a face.

The rate depends on the cascade and on the settings of the search, so it is published with the name of the cascade. The
usual one for anime is nagadomi's `lbpcascade_animeface.xml` (MIT, https://github.com/nagadomi/lbpcascade_animeface);
the search below is that of its README. OpenCV itself brings cascades for photographs, in `cv2.data.haarcascades`.
"""

from typing import TYPE_CHECKING

import numpy as np

from wgan_jax.errors import UserError, one_line

if TYPE_CHECKING:
    import cv2

SMALLEST = 24
"""Side in pixels of the smallest face that is looked for."""
SCALE = 1.1
"""Ratio of the sides of one face that is looked for and the next smaller one."""
NEIGHBOURS = 5
"""Number of overlapping finds that a find needs beside itself to count as a face."""


def load_cascade(path: str) -> "cv2.CascadeClassifier":
    """Reads the XML file of a cascade.

    Raises:
      UserError: if OpenCV 4 is not installed, or the file does not exist or is not a cascade.
    """
    try:
        import cv2
    except ImportError as error:
        raise UserError(
            f'looking for faces needs OpenCV ({one_line(error)}); install it: pip install -e ".[faces]"'
        ) from None
    if not hasattr(cv2, "CascadeClassifier"):
        raise UserError(
            f"looking for faces needs OpenCV 4: version {cv2.__version__}, which is installed, has no cascades; "
            'uninstall its packages, such as opencv-python, and then: pip install -e ".[faces]"'
        )
    cascade = cv2.CascadeClassifier()
    try:
        open(path, "rb").close()  # OpenCV would print lines of its own about a missing file
        whole = cascade.load(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; give the XML file of a cascade") from None
    except cv2.error:  # names a line of OpenCV's source, and no reason
        whole = False
    if not whole:
        raise UserError(
            f"{path}: not a whole cascade of OpenCV; give an XML file such as lbpcascade_animeface.xml of "
            "github.com/nagadomi/lbpcascade_animeface"
        )
    return cascade


def has_face(images: np.ndarray, cascade: "cv2.CascadeClassifier") -> np.ndarray:
    """Tells for each image whether a face is found in it: bool `[N]`.

    The image is made grey, its histogram is equalised, and windows of 24 pixels and more, each 1.1 times as large as
    the one before, pass over it. A face counts if more than 5 overlapping windows show it. In an image of little more
    than 24 pixels there is no room for so many: of one photograph of a face, OpenCV finds the face at 64 pixels in
    nearly every cut, and below 32 pixels in none.

    Args:
      images: uint8 `[N, H, W, C]`, grey or RGB.
      cascade: from `load_cascade`.

    Raises:
      UserError: if the images are smaller than the smallest face.
      ValueError: if they are not bytes of 1 or 3 channels.
    """
    import cv2

    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(f"images {images.dtype} {images.shape}: must be uint8 [N, H, W, C], with C = 1 or 3")
    height, width = images.shape[1:3]
    least = [max(SMALLEST, side) for side in cascade.getOriginalWindowSize()]
    if width < least[0] or height < least[1]:
        raise UserError(
            f"images of {width}×{height} pixels are too small to look for faces in: a face takes {least[0]}×{least[1]} "
            "at least; leave --cascade out"
        )

    def found(image: np.ndarray) -> bool:
        grey = image[..., 0] if image.shape[-1] == 1 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        even = cv2.equalizeHist(np.ascontiguousarray(grey))
        faces = cascade.detectMultiScale(even, scaleFactor=SCALE, minNeighbors=NEIGHBOURS, minSize=(SMALLEST, SMALLEST))
        return len(faces) > 0

    return np.array([found(image) for image in images], bool)


def face_rate(images: np.ndarray, cascade: "cv2.CascadeClassifier") -> float:
    """Returns the share of images in which a face is found, from 0 to 1: see `has_face`.

    Raises:
      UserError: if the images are smaller than the smallest face.
      ValueError: if there are none, or they are not bytes of 1 or 3 channels.
    """
    if not len(images):
        raise ValueError("no images to look for faces in")
    return float(np.mean(has_face(images, cascade)))
