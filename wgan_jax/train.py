"""Trains a GAN, and goes on with a run that was interrupted.

    python -m wgan_jax.train --config=configs/digits.py --workdir=runs/digits [--config.steps=5000 …]

A run's folder holds `config.json`, `metrics.jsonl` (a line per generator iteration), `tensorboard/`,
`checkpoints/`, `samples/` (from the same latents through training) and `plots/`.
"""

import math
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict, config_flags

from wgan_jax import command, data
from wgan_jax import config as configs
from wgan_jax.checkpoint import Checkpointer, read_config
from wgan_jax.data import batches
from wgan_jax.errors import UserError
from wgan_jax.estimate import fixed_set, make_estimate
from wgan_jax.gan import Gan, build
from wgan_jax.loop import Segment, segments
from wgan_jax.report.events import Events
from wgan_jax.report.gallery import draw_plots, draw_samples
from wgan_jax.report.progress import Progress
from wgan_jax.report.records import Record, Records
from wgan_jax.state import TrainState, init_state
from wgan_jax.step import Metrics, make_train_step, repeat


def train(config: ConfigDict, workdir: Path) -> TrainState:
    """Trains until `config.steps` iterations are done, from the newest checkpoint in `workdir` if there is one.

    Raises:
      UserError: for every mistake that the user can mend.
    """
    gan = build(config)
    held_out = data.load(config, "held_out")
    sources = {"train": data.load(config, "train", cache=config.data.cache), "held_out": held_out}
    claim(workdir, config)
    left = f"pictures in {workdir / 'samples'} and {workdir / 'plots'}, all else in {workdir}"

    with Checkpointer(workdir, keep=config.report.checkpoints) as checkpointer:
        start = checkpointer.latest or 0
        if start == config.steps:
            state = checkpointer.load(start, gan)
            print(f"finished already: all {start:,} iterations are done; {left}")
            return state
        if start:
            print(f"resuming {workdir} after iteration {start:,}", flush=True)
            state = checkpointer.load(start, gan)
        else:
            state = init_state(gan, jax.random.key(config.seed))
        state = _loop(config, workdir, gan, sources, checkpointer, state, start)
    print(f"done: {config.steps:,} iterations; {left}", flush=True)
    return state


def claim(workdir: Path, config: ConfigDict) -> None:
    """Makes `workdir` the folder of a run with these settings, or checks that it is.

    Raises:
      UserError: if it holds a run with other settings, naming them.
    """
    path = workdir / "config.json"
    if path.exists():
        different = configs.differences(read_config(workdir), config)
        if different:
            raise UserError(
                f"{workdir} holds a run with other settings: {'; '.join(different)}; use those, or another workdir"
            )
        return
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(configs.to_json(config))
        partial.replace(path)
    except OSError as error:
        raise UserError(f"--workdir={workdir}: cannot be written: {error.strerror}") from None


def _loop(
    config: ConfigDict,
    workdir: Path,
    gan: Gan,
    sources: dict[str, data.Source],
    checkpointer: Checkpointer,
    state: TrainState,
    start: int,
) -> TrainState:
    report, length = config.report, config.steps_per_dispatch
    intervals = (report.every, report.samples_every, report.checkpoint_every)
    plan = list(segments(start, config.steps, length, gan.schedule, intervals))
    stream = batches.prefetch(
        batches.stack(
            batches.dataset(
                sources["train"],
                gan.schedule,
                seed=config.seed,
                batch_size=config.batch_size,
                steps=config.steps,
            ),
            plan,
            length,
        ),
        jax.device_put,  # the next batches are on the device before a step ends
    )
    dispatch = make_dispatch(gan, length)
    estimate = jax.jit(make_estimate(gan))
    fixed = {"training_estimate": sources["train"], "held_out_estimate": sources["held_out"]}
    fixed_images = {name: fixed_set(source) for name, source in fixed.items()}
    sample_key = jax.random.key(config.seed)

    with (
        Records(workdir, start) as log,
        closing(Events(workdir, start)) as events,
        Progress(start, config.steps) as progress,
    ):

        def write(segment: Segment, metrics: Metrics, estimates: Metrics) -> None:
            values = {name: np.asarray(value) for name, value in metrics.items()}
            record: Record = {}
            for i, step in enumerate(range(segment.start + 1, segment.stop + 1)):
                record = {"step": step} | {name: float(value[i]) for name, value in values.items()}
                if step == segment.stop:
                    record |= {name: float(value) for name, value in estimates.items()}
                check_finite(record, checkpointer.latest)
                log.write(record)
            if segment.stop % report.every == 0:
                events.write(record)
            progress.update(
                segment.stop,
                config.batch_size
                * (gan.schedule.updates_before(segment.stop) - gan.schedule.updates_before(segment.start)),
                gan.game.estimate_name,
                record[gan.game.estimate_name],
            )

        if start == 0:
            draw_samples(workdir, gan, state, sample_key, 0, sources["held_out"])
        previous: tuple[Segment, Metrics, Metrics] | None = None
        for segment, batch in zip(plan, progress.waiting(stream), strict=True):
            state, metrics = dispatch(state, batch, segment)
            step = segment.stop
            estimates = {}
            if step % report.every == 0:
                estimates = {name: estimate(state, images) for name, images in fixed_images.items()}
            # Only now, with the next iterations under way, wait for the numbers of the last ones.
            if previous:
                write(*previous)
            previous = (segment, metrics, estimates)
            if step % report.samples_every == 0:
                draw_samples(workdir, gan, state, sample_key, step, sources["held_out"])
            if step % report.checkpoint_every == 0 or step == config.steps:
                write(*previous)
                previous = None
                log.flush()
                checkpointer.save(step, state)
    draw_plots(workdir, gan.game.estimate_name)
    return state


def make_dispatch(gan: Gan, length: int) -> Callable[[TrainState, data.Examples, Segment], tuple[TrainState, Metrics]]:
    """Up to `length` generator iterations in one compiled call; metrics have shape `[length]`.

    The state that goes in is given away.
    """
    train_steps = jax.jit(repeat(make_train_step(gan)), donate_argnums=0)

    def dispatch(state: TrainState, batch: data.Examples, segment: Segment) -> tuple[TrainState, Metrics]:
        return train_steps(state, batch, segment.stop - segment.start)

    return dispatch


def check_finite(record: Record, kept: int | None) -> None:
    """Raises `UserError` if a number of a record is not finite."""
    for name, value in record.items():
        if not math.isfinite(value):
            remedy = "lower the learning rates, or raise config.constraint.weight or lower config.constraint.bound"
            kept_words = f"the checkpoint after iteration {kept} is kept" if kept else "nothing was saved yet"
            raise UserError(
                f"{name} = {value} at iteration {record['step']}: the run has diverged; {kept_words}; {remedy}"
            )


def main() -> None:
    train(flags.FLAGS.config, Path(flags.FLAGS.workdir))


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", None, "A file with get_config().")
    flags.DEFINE_string("workdir", None, "The run's folder.")
    flags.mark_flags_as_required(["config", "workdir"])
    command.use_compilation_cache()
    command.run(main)
