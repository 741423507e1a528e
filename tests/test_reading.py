"""A run that is being trained can be read at any moment, at the checkpoint that is asked for."""

import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import pytest

import wgan_jax
from wgan_jax import UserError
from wgan_jax.config.settings import to_json
from wgan_jax.run import checkpoint, seal
from wgan_jax.run.checkpointer import Checkpointer

from .commands import ROOT, environment
from .conftest import tiny_config
from .test_step import assert_same_bits

pytestmark = pytest.mark.usefixtures("quick_compilation")


def claim(workdir, config):
    workdir.mkdir(exist_ok=True)
    (workdir / "config.json").write_text(to_json(config))
    return wgan_jax.build(config)


TRAINER = """
import sys
from pathlib import Path
import jax, wgan_jax
from wgan_jax.run.checkpointer import Checkpointer
from wgan_jax.run.workdir import read_config
workdir = Path(sys.argv[1])
state = wgan_jax.init_state(wgan_jax.build(read_config(workdir)), jax.random.key(0))
with Checkpointer(workdir, keep=1) as checkpointer:
    for step in range(1, 10**9):
        checkpointer.save(step, state)
"""


@pytest.mark.parametrize("reads", [60, pytest.param(2_000, marks=pytest.mark.slow)])
def test_reading_never_takes_pruning_for_damage(reads, tmp_path, capsys):
    """A process saves without a pause and keeps one; each read gets a whole state, and nobody speaks of damage."""
    gan = claim(tmp_path, tiny_config())
    state = wgan_jax.init_state(gan, jax.random.key(0))
    env = environment() | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}  # as here
    trainer = subprocess.Popen([sys.executable, "-c", TRAINER, str(tmp_path)], env=env, cwd=ROOT)
    try:
        while not checkpoint.steps(tmp_path):
            assert trainer.poll() is None
            time.sleep(0.02)
        seen = set()
        for _ in range(reads):
            step, found = checkpoint.newest(tmp_path, gan)
            seen.add(step)
            assert_same_bits(found, state)
        assert trainer.poll() is None
    finally:
        trainer.kill()
        trainer.wait()
    assert len(seen) > 2
    assert capsys.readouterr() == ("", "")
    assert len(checkpoint.steps(tmp_path)) <= 3  # one may have been read when its turn to go came


def test_a_thread_reads_while_another_saves(tmp_path):
    gan = claim(tmp_path, tiny_config())
    state = wgan_jax.init_state(gan, jax.random.key(0))

    def train():
        with Checkpointer(tmp_path, keep=2) as checkpointer:
            for step in range(1, 16):
                checkpointer.save(step, state)

    with ThreadPoolExecutor(1) as threads:
        training = threads.submit(train)
        while not training.done():
            if checkpoint.steps(tmp_path):
                assert_same_bits(wgan_jax.restore(tmp_path)[1], state)
        training.result()
    assert checkpoint.steps(tmp_path)[0] == 15


def test_a_checkpoint_that_goes_while_it_is_asked_for_is_gone_not_damaged(tmp_path, monkeypatch):
    gan = claim(tmp_path, tiny_config())
    with Checkpointer(tmp_path) as checkpointer:
        for step in (4, 8):
            checkpointer.save(step, wgan_jax.init_state(gan, jax.random.key(0)))
    load = checkpoint.load

    def prune_first(workdir, step, gan):
        shutil.rmtree(checkpoint.folder(workdir) / str(step))
        return load(workdir, step, gan)

    monkeypatch.setattr(checkpoint, "load", prune_first)
    with pytest.raises(UserError, match=r"--step=4: .* has no such checkpoint; use latest, or one of 8$"):
        wgan_jax.restore(tmp_path, 4)


def test_a_checkpoint_that_is_read_is_not_pruned(tmp_path):
    gan = claim(tmp_path, tiny_config())
    state = wgan_jax.init_state(gan, jax.random.key(0))
    with Checkpointer(tmp_path, keep=1) as checkpointer:
        checkpointer.save(1, state)
        checkpointer.wait()
        with seal.held(checkpoint.folder(tmp_path) / "1") as held:
            assert held
            checkpointer.save(2, state)
            checkpointer.wait()
            assert checkpoint.steps(tmp_path) == [2, 1]
        checkpointer.save(3, state)
    assert checkpoint.steps(tmp_path) == [3]


@pytest.mark.parametrize(
    ("metric", "values", "best"),
    [
        ("held_out_estimate", {4: 0.5, 8: 0.1, 12: 0.4}, 8),
        ("held_out_estimate", {4: 0.5, 8: -3.0, 12: 0.4}, 12),
        ("critic_class_accuracy", {4: 0.5, 8: 0.1, 12: 0.4}, 4),
        ("generator_loss", {4: 0.5, 8: -3.0, 12: 0.4}, 8),
    ],
)
def test_the_best_is_kept_and_found_by_the_direction_of_its_metric(metric, values, best, tmp_path):
    conditional = "auxiliary" if metric == "critic_class_accuracy" else "none"
    gan = claim(tmp_path, tiny_config(report__best=metric, conditional__kind=conditional))
    states = {step: wgan_jax.init_state(gan, jax.random.key(step)) for step in values}
    with Checkpointer(tmp_path, keep=1, best=metric) as checkpointer:
        for step, value in values.items():
            checkpointer.save(step, states[step], {metric: value, "critic_loss": 1.0})
    assert checkpoint.steps(tmp_path) == sorted({best, 12}, reverse=True)
    assert_same_bits(wgan_jax.restore(tmp_path, "best")[1], states[best])
    assert_same_bits(wgan_jax.restore(tmp_path, 12)[1], states[12])
    assert_same_bits(wgan_jax.restore(tmp_path, "12")[1], states[12])
    assert_same_bits(wgan_jax.restore(tmp_path)[1], states[12])


def test_a_step_that_is_not_there_names_those_that_are(tmp_path):
    gan = claim(tmp_path, tiny_config())
    with Checkpointer(tmp_path) as checkpointer:
        for step in (4, 8):
            checkpointer.save(step, wgan_jax.init_state(gan, jax.random.key(0)))
    for step in (5, "5", "x", "-1"):
        with pytest.raises(UserError, match=rf"--step={step}: .* has no such checkpoint; use latest, or one of 8, 4"):
            wgan_jax.restore(tmp_path, step)
    with pytest.raises(UserError, match=r"without config\.report\.best; use latest, or one of 8, 4"):
        wgan_jax.restore(tmp_path, "best")
    (tmp_path / "checkpoints" / "4" / "record.json").write_text("{")
    with pytest.raises(UserError, match=r"--step=4: that checkpoint of .* is damaged .*; use latest, or one of 8$"):
        wgan_jax.restore(tmp_path, 4)
