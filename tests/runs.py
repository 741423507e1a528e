"""Runs in their folders as training leaves them, made without the training."""

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp

from wgan_jax.config import stages
from wgan_jax.run.checkpointer import Checkpointer
from wgan_jax.run.resume import Options, Run

from .conftest import tiny_config

DIGITS = {"train": {"examples": 1297, "digest": "a"}, "held_out": {"examples": 500, "digest": "b"}}
"""What stands for the fingerprint of the data."""


def moved(state):
    """A state of which every array of floats is another one."""
    return jax.tree.map(lambda x: x + 1 / 64 if jnp.issubdtype(x.dtype, jnp.floating) else x, state)


@functools.cache
def made(steps, **changes):
    """The folder and the state of a run as it is after its checkpoints at these steps, without the training."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    config = tiny_config(**changes)
    run = Run(folder, config, DIGITS, Options())
    state = run.state(stages(config))
    run.record(0)
    with Checkpointer(folder, best=config.report.best) as checkpointer:
        for step in steps:
            state = moved(state).replace(step=jnp.asarray(step, jnp.int32))
            checkpointer.save(step, state, {"held_out_estimate": abs(step - 7)})
    return folder, state


def begin(workdir, *steps, **changes):
    """Makes a run that has checkpoints at these steps; returns its newest state."""
    folder, state = made(steps, **changes)
    shutil.copytree(folder, workdir, dirs_exist_ok=True)
    return state


def go_on(workdir, options=Options(), fingerprint=DIGITS, **changes):  # noqa: B008
    """Does all that a start of a run does before it computes; returns the state that it goes on from."""
    workdir.mkdir(exist_ok=True)
    config = tiny_config(**changes)
    run = Run(workdir, config, fingerprint, options)
    state = run.state(stages(config))
    run.record(int(state.step))
    return state
