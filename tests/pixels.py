"""A measure that devices share: the mean of all pixels of some samples, each device its own. For `test_evaluators.py`.

python -m tests.pixels OUT.json                     # at one state, on one device and on all
python -m tests.pixels WORKDIR ADDRESS COUNT INDEX  # while a run of several hosts goes on: this host's part
"""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import wgan_jax
from wgan_jax import data
from wgan_jax.devices import hosts
from wgan_jax.devices.mesh import Parallel
from wgan_jax.method.sampling import latents
from wgan_jax.metrics.evaluators import EVALUATORS, Context, Evaluator, numbers
from wgan_jax.run.training import train

from .conftest import tiny_config


def mean_pixel(context):
    """64 samples of the generator's average, each device its own."""
    gan, devices = context.gan, context.devices
    z = devices.spread({"latents": np.asarray(latents(gan, jax.random.key(0), 64))})

    def mean(state, batch):
        return devices.placement.mean(jnp.mean(gan.generate(state.ema, batch["latents"]).value))

    compiled = devices.compile(mean, (None, 0))
    return lambda state: compiled(state, z)


PIXELS = Evaluator("mean_pixel", every=lambda config: 3, collective=True, measure=mean_pixel)


def on(devices, config, gan, state):
    """The measure of a state on some devices."""
    train_data, held_out = (data.load(config, split) for split in ("train", "held_out"))
    context = Context(config=config, gan=gan, train=train_data, held_out=held_out, devices=devices)
    return numbers("mean_pixel", mean_pixel(context)(devices.replicate(state)))["mean_pixel"]


def main(out, *others):
    config = tiny_config(parallel__mode="jit")
    if others:
        hosts.initialize(others[0], int(others[1]), int(others[2]))
        train(config, Path(out), evaluators=(*EVALUATORS, PIXELS))
        return
    gan = wgan_jax.build(config)
    state = wgan_jax.init_state(gan, jax.random.key(3))
    found = {
        f"{mode}:{count}": on(Parallel(tuple(jax.devices()[:count]), mode), config, gan, state)
        for mode in ("jit", "pmap")
        for count in (1, len(jax.devices()))
    }
    images = wgan_jax.sample(gan, state, jax.random.key(0), 64)
    Path(out).write_text(json.dumps(found | {"by hand": float(jnp.mean(images))}))


if __name__ == "__main__":
    main(*sys.argv[1:])
