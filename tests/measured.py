"""Metrics that devices and hosts share, in the features of a tiny network. For `test_measuring.py`.

python -m tests.measured OUT.json                        # on one device and on all of them
python -m tests.measured OUT.json ADDRESS COUNT INDEX    # this host's part of several
"""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import wgan_jax
from wgan_jax.data import ArraySource
from wgan_jax.devices import hosts
from wgan_jax.devices.mesh import Parallel
from wgan_jax.metrics import sets
from wgan_jax.metrics.features import FeatureNetwork
from wgan_jax.metrics.measuring import Measurer, score
from wgan_jax.metrics.scores import METRICS

from .conftest import tiny_config

NUM, UNSEEN = 70, 40
"""Numbers of samples and of unseen images: neither fills whole batches."""
ROWS = {
    name: METRICS[name]._replace(network=network)
    for name, network in (
        ("fid", "tiny"),
        ("inception_score", "tiny"),
        ("precision_recall", "tiny"),
        ("kid", "tiny"),
        ("nearest_neighbour_accuracy", "pixels"),
        ("ms_ssim", "pixels"),
    )
}


def tiny(dim: int = 6) -> tuple[FeatureNetwork, dict[str, jax.Array]]:
    """A network of one product and a tanh, with as many classes as features."""

    def apply(variables, images):
        x = images.reshape(len(images), -1).astype(jnp.float32) / 255
        pool = jnp.tanh(jnp.dot(x, variables["w"], precision="highest"))
        return {"pool": pool, "probabilities": jax.nn.softmax(5 * pool)}

    w = np.random.default_rng(0).normal(size=(64, dim)).astype(np.float32) / 4
    return FeatureNetwork("tiny", dim, 8, "as it is", apply), {"w": jnp.asarray(w)}


def images(num: int, seed: int, shape: tuple[int, ...] = (8, 8, 1)) -> np.ndarray:
    """Random bytes, darker towards one corner."""
    rng = np.random.default_rng(seed)
    shade = np.linspace(60, 255, shape[0])[:, None, None]
    return (rng.uniform(size=(num, *shape)) * shade).astype(np.uint8)


def on(devices: Parallel, statistics=None) -> dict:
    """The numbers of a fresh generator's samples on some devices."""
    config = tiny_config()
    gan = wgan_jax.build(config)
    state = wgan_jax.init_state(gan, jax.random.key(3))
    reference, unseen = ArraySource(images(NUM, 1)), ArraySource(images(UNSEEN, 2))
    measurer = Measurer(ROWS, {"tiny": tiny()}, devices, statistics=statistics)
    return score(
        measurer,
        sets.real(reference, np.arange(NUM), devices),
        sets.samples(gan, NUM, devices)(state),
        sets.real(unseen, np.arange(UNSEEN), devices),
    )


def main(out: str, *others: str) -> None:
    if others:
        hosts.initialize(others[0], int(others[1]), int(others[2]))
        found = {"hosts": on(Parallel(tuple(jax.devices())))}
    else:
        found = {str(count): on(Parallel(tuple(jax.devices()[:count]))) for count in (1, len(jax.devices()))}
    if hosts.is_first():
        Path(out).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
