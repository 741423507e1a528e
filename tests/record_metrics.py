"""Writes down what other packages compute from seeded arrays, for `test_distances.py`.

    pip install -e ".[compare]"
    python -m tests.record_metrics

It needs NumPy and the packages, but not wgan_jax, and replaces `recorded_metrics.json`.
"""

import contextlib
import importlib.metadata
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from .other_packages import import_torchvision

RECORD = Path(__file__).with_name("recorded_metrics.json")
PACKAGES = ("numpy", "scipy", "torch", "pytorch-fid", "torch-fidelity", "prdc")
SUBSETS, SUBSET_SIZE, SPLITS = 20, 50, 7
"""`SPLITS` does not divide the number of rows of `logits`."""


def features(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns a pair of sets of features: `enough` examples for a covariance of full rank, or too `few`."""
    num = {"enough": 400, "few": 30}[name]
    generator = np.random.RandomState(0)  # its numbers are the same in every version of NumPy
    mix = generator.normal(size=(2, 64, 64)) / 8
    x = np.maximum(generator.normal(size=(num, 64)) @ mix[0] + 0.5, 0)
    y = np.maximum(generator.normal(size=(num - 7, 64)) @ (mix[0] + 0.3 * mix[1]) + 0.6, 0)
    return x, y


def logits() -> np.ndarray:
    """Returns logits `[205, 10]`."""
    return 3 * np.random.RandomState(1).normal(size=(205, 10))


def compute() -> dict[str, Any]:
    """Returns the numbers of the other packages by package and measure."""
    import_torchvision()
    import prdc
    import torch
    from pytorch_fid.fid_score import calculate_frechet_distance
    from torch_fidelity import metric_fid, metric_isc, metric_kid, metric_prc

    found: dict[str, Any] = {}
    for name in ("enough", "few"):
        x, y = features(name)
        moments = [(a.mean(axis=0), np.cov(a, rowvar=False)) for a in (x, y)]
        found[f"pytorch-fid, {name}"] = {"fid": float(calculate_frechet_distance(*moments[0], *moments[1]))}
        statistics = [metric_fid.fid_features_to_statistics(torch.tensor(a)) for a in (x, y)]
        found[f"torch-fidelity, {name}"] = metric_fid.fid_statistics_to_metric(*statistics, verbose=False)
    real, fake = features("enough")
    x, y = torch.tensor(real), torch.tensor(fake)
    found["torch-fidelity"] = (
        metric_kid.kid_features_to_metric(x, y, kid_subsets=SUBSETS, kid_subset_size=SUBSET_SIZE, verbose=False)
        | metric_isc.isc_features_to_metric(torch.tensor(logits()), splits=SPLITS, shuffle=False)
        | metric_prc.prc_features_to_metric(y, x, prc_neighborhood=3, save_cpu_ram=False, verbose=False)
    )
    with contextlib.redirect_stdout(io.StringIO()):
        for k in (3, 5):
            found[f"prdc, k = {k}"] = {key: float(value) for key, value in prdc.compute_prdc(real, fake, k).items()}
    return found


if __name__ == "__main__":
    versions = {package: importlib.metadata.version(package) for package in PACKAGES}
    RECORD.write_text(json.dumps({"versions": versions, **compute()}, indent=2) + "\n")
