"""Packages that compute the same numbers, for live comparisons: `pip install -e ".[compare]"`."""

import importlib.util


def need(*packages: str) -> None:
    """Skips a test if one of the packages is not installed."""
    import pytest  # which the recording scripts do without

    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f'{package} is not installed: pip install -e ".[compare]"')


def import_torchvision() -> None:
    """Imports torchvision, which other packages import, on the CPU too.

    Its wheel is built for CUDA, and looks for operators that a build of torch for the CPU lacks.
    """
    import torch

    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float threshold) -> Tensor")
