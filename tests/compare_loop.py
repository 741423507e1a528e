"""Compares the time of an iteration in the training loop with the time of the bare compiled step.

    python tests/compare_loop.py --config=configs/digits.py [--rounds=5] [--json]

The run writes reports, samples and checkpoints as its config says. It pauses after each checkpoint interval, when the
device is idle. Then bare steps run on one batch, for half of the time that the interval took. A compiled call of these
contains as many iterations as a call of the run.
"""

import json
import statistics
import tempfile
import time
from pathlib import Path

import jax
from absl import flags
from ml_collections import config_flags

from wgan_jax import cli, data
from wgan_jax.config import stages
from wgan_jax.devices.mesh import Parallel
from wgan_jax.method.state import init_state
from wgan_jax.metrics.evaluators import EVALUATORS
from wgan_jax.report import reports
from wgan_jax.report.progress import Progress
from wgan_jax.report.reports import Reports
from wgan_jax.run import loop
from wgan_jax.run.training import train


class BareStep:
    """Compiled step of a run, which gets the same batch again and again."""

    def __init__(self, config):
        (stage,) = stages(config)
        devices = Parallel.from_devices(config.batch_size, microbatches=config.microbatches, mode=config.parallel.mode)
        job = loop.Job(
            config=config,
            stages=(stage,),
            devices=devices,
            train_data=data.load(config, "train"),
            held_out=data.load(config, "held_out"),
            evaluators=EVALUATORS,
            reports=Reports(),
            checkpointer=None,
            interrupt=None,
        )
        plan, stream, self._dispatch = loop.prepare(job, stage, 0)
        self._segment, self._batch = plan[0], next(stream)
        self._state = devices.replicate(init_state(stage.gan, jax.random.key(config.seed)))
        self.milliseconds(0)

    def milliseconds(self, seconds):
        """Runs the step for `seconds`. Returns the milliseconds per iteration."""
        began, steps = time.perf_counter(), 0
        while steps == 0 or time.perf_counter() - began < seconds:
            self._state, _ = jax.block_until_ready(self._dispatch(self._state, self._batch, self._segment))
            steps += self._segment.stop - self._segment.start
        return 1e3 * (time.perf_counter() - began) / steps


def compare(config, rounds):
    """Returns for each round the milliseconds per iteration of the loop and of the bare step."""
    interval = config.report.checkpoint_every
    config.steps = interval * (rounds + 1)  # the first interval contains the compilation
    bare, times, began = BareStep(config), [], 0.0

    class Pausing(Progress):
        def update(self, step, *args):
            nonlocal began
            super().update(step, *args)
            if step % interval == 0:
                seconds = time.perf_counter() - began
                if began:
                    times.append((1e3 * seconds / interval, bare.milliseconds(seconds / 2)))
                began = time.perf_counter()

    reports.Progress = Pausing
    with tempfile.TemporaryDirectory() as workdir:
        train(config, Path(workdir) / "run")
    return times


def main():
    config, rounds = flags.FLAGS.config, flags.FLAGS.rounds
    times = compare(config, rounds)
    looped, bare = (statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(a / b for a, b in times)
    if flags.FLAGS.json:
        print(json.dumps({"loop_ms": looped, "step_ms": bare, "ratio": ratio, "rounds": times}))
    else:
        print(f"an iteration of the loop {looped:.2f} ms, of the bare step {bare:.2f} ms, ratio {ratio:.3f}")


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", None, "A file with get_config().")
    flags.DEFINE_integer("rounds", 5, "Intervals of checkpoints that are timed.", 1)
    flags.DEFINE_bool("json", False, "Print one JSON object instead of a line.")
    flags.mark_flag_as_required("config")
    cli.run(main)
