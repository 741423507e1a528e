"""Walks shipped configs on several devices and, as the yardstick, on one in other orders of sums: for `test_parallel.py`.

python -m tests.yardstick OUT.json NAME,NAME,… WALK,WALK,… STEP,STEP,…

Results are relative distances from the walk on one device: ‖a − b‖₂ / ‖b‖₂ over all parameters of both players.
"""

import importlib.util
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

import wgan_jax
from wgan_jax import data
from wgan_jax.config import image_shape
from wgan_jax.data import batches
from wgan_jax.data.source import ArraySource
from wgan_jax.parallel import Parallel
from wgan_jax.state import named_arrays
from wgan_jax.step import Placement, make_train_step

from .commands import ROOT


def shipped(name: str) -> ConfigDict:
    """A config as it is shipped, `file` or `file:argument`; what the tests' machines are too slow for is narrower."""
    file, _, argument = name.partition(":")
    spec = importlib.util.spec_from_file_location(file, ROOT / "configs" / f"{file}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if file == "digits_conditional":
        config = module.get_config()
        config.conditional.kind = argument
        return config
    config = module.get_config(argument) if argument else module.get_config()
    if file not in ("digits", "digits_clip", "toy"):
        config.generator.width = config.critic.width = 8
        config.batch_size = 32
    return config


def source(config: ConfigDict) -> data.Source:
    """The config's data, or bytes of their shape where those are not at hand."""
    if not config.data.name.startswith("tfds:"):
        return data.load(config, "train")
    rng = np.random.default_rng(0)
    return ArraySource(rng.integers(0, 256, (1_000, *image_shape(config))).astype(np.uint8), rng.integers(0, 10, 1_000))


def walk(config: ConfigDict, kind: str, steps: list[int]) -> list[np.ndarray]:
    """All parameters of both players after each of these iterations.

    Kinds are `jit:8` and `pmap:8` (devices), `parts:2` (microbatches on one device), and `order:1` (one device, the
    examples of each batch in another order: the same examples with the same draws, and other orders of sums).
    """
    name, _, number = kind.partition(":")
    n = int(number)
    gan = wgan_jax.build(config)
    many = name in ("jit", "pmap")
    devices = Parallel(tuple(jax.devices()[: n if many else 1]), name if many else "jit")
    if name == "order":

        def numbers(size: int) -> jax.Array:
            return jnp.asarray(np.random.default_rng(n).permutation(size))

        step = make_train_step(gan, placement=Placement(numbers=numbers))
    else:
        step = devices.train_step(gan, microbatches=n if name == "parts" else 1)
    compiled = devices.compile(step, (None, 1), donate=True)
    rows = batches.dataset(
        source(config), gan.schedule, seed=config.seed, batch_size=config.batch_size, steps=steps[-1]
    )
    state = devices.replicate(wgan_jax.init_state(gan, jax.random.key(config.seed)))
    found = []
    for i in range(steps[-1]):
        batch = rows[i]
        if name == "order":
            batch = {key: x[:, np.random.default_rng(n).permutation(x.shape[1])] for key, x in batch.items()}
        state, _ = compiled(state, devices.place(batch, axis=1))
        if i + 1 in steps:
            arrays = named_arrays(state)
            found.append(np.concatenate([np.ravel(x) for key, x in arrays.items() if "/variables/params/" in key]))
    return found


def main(out: str, names: str, walks: str, steps: str) -> None:
    results = {}
    for name in names.split(","):
        name = name.replace("+", ",")
        at = [int(step) for step in steps.split(",")]
        config = shipped(name)
        one = walk(config, "jit:1", at)
        for kind in walks.split(","):
            if kind.startswith("parts") and "batch" in (config.generator.norm, config.critic.norm): continue
            import time; t=time.time()
            other = walk(config, kind, at)
            d = [float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in zip(other, one, strict=True)]
            results[f"{name}|{kind}"] = d
            print(name, kind, " ".join(f"{x:.2e}" for x in d), f"{time.time()-t:.0f}s", flush=True)
    with open(out, "w") as file:
        json.dump(results, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
