"""Measures how far runs on eight devices differ from runs on one device, and how far rounding explains this.

python -m tests.yardstick OUT.json NAME|NAME|… KIND,KIND,…

`test_parallel.py` uses it. A NAME is a file of `configs/`, optionally with its argument, such as
`toy:swissroll,penalty`. The runs are compared with `jit:1`, one device. A KIND is one of these:
- `jit:8` or `pmap:8`: that number of devices.
- `parts:2`: one device, with that number of microbatches.
- `order:1`: one device, with the examples of each batch in a random order; the number is the seed of the order. Every
  example keeps its own random draws. Only the order of sums changes, so the difference is rounding.
- `wrong:1`: the same, but the random draws stay in place while the examples move. This is a mistake, and it must not
  look like rounding.

The distance after each of `STEPS` iterations is ‖a − b‖₂ / ‖b‖₂ over all parameters of both players, where b belongs to
`jit:1`.
"""

import functools
import importlib.util
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

import wgan_jax
from wgan_jax import data
from wgan_jax.data import batches
from wgan_jax.data.arrays import ArraySource
from wgan_jax.data.kinds import image_shape
from wgan_jax.devices.mesh import Parallel
from wgan_jax.method.placement import Placement
from wgan_jax.method.state import named_arrays
from wgan_jax.method.step import make_train_step

from .commands import ROOT

STEPS = (1, 3, 30)


def shipped(name: str) -> ConfigDict:
    """Returns a shipped config, but with narrower convolutional networks that learn from batches of 32."""
    file, _, argument = name.partition(":")
    spec = importlib.util.spec_from_file_location(file, ROOT / "configs" / f"{file}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config(*filter(None, [argument]))
    if config.critic.network != "mlp":
        config.generator.width = config.critic.width = 8
        config.batch_size = 32
    return config


def source(config: ConfigDict) -> data.Source:
    """Returns the config's data. Random images of the same shape replace data sets that would have to be prepared."""
    if not config.data.name.startswith("tfds:"):
        return data.load(config, "train")
    rng = np.random.default_rng(0)
    return ArraySource(rng.integers(0, 256, (1_000, *image_shape(config))).astype(np.uint8))


def walk(config: ConfigDict, gan: wgan_jax.Gan, state: wgan_jax.TrainState, kind: str) -> list[np.ndarray]:
    """Trains a run of one kind. Returns all parameters of both players as one vector, after each of `STEPS`."""
    name, _, number = kind.partition(":")
    many = name in ("jit", "pmap")
    devices = Parallel(tuple(jax.devices()[: int(number) if many else 1]), name if many else "jit")
    step = devices.train_step(gan, microbatches=int(number) if name == "parts" else 1)

    def order(size: int) -> np.ndarray:
        return np.random.default_rng(int(number)).permutation(size)

    if name == "order":
        step = make_train_step(gan, placement=Placement(example_index=lambda size: jnp.asarray(order(size))))
    compiled = devices.compile(step, (None, 1))
    steps = max(STEPS)
    rows = batches.dataset(source(config), gan.schedule, seed=config.seed, batch_size=config.batch_size, steps=steps)
    state = devices.replicate(state)
    found = []
    for i in range(steps):
        batch = rows[i]
        if name in ("order", "wrong"):
            batch = {key: values[:, order(values.shape[1])] for key, values in batch.items()}
        state, _ = compiled(state, devices.place(batch, axis=1))
        if i + 1 in STEPS:
            arrays = named_arrays(state).items()
            found.append(np.concatenate([np.ravel(x) for key, x in arrays if "/variables/params/" in key]))
    return found


def main(out: str, names: str, kinds: str) -> None:
    results: dict[str, dict[str, list[float]]] = {}
    for name in names.split("|"):
        config = shipped(name)
        gan = wgan_jax.build(config)
        state = jax.jit(functools.partial(wgan_jax.init_state, gan))(jax.random.key(config.seed))
        one, *others = (walk(config, gan, state, kind) for kind in ("jit:1", *kinds.split(",")))
        results[name] = {
            kind: [float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in zip(found, one, strict=True)]
            for kind, found in zip(kinds.split(","), others, strict=True)
        }
        print(name, {kind: [f"{x:.2g}" for x in row] for kind, row in results[name].items()}, flush=True)
    with open(out, "w") as file:
        json.dump(results, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
