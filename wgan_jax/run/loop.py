"""The training loop: batches in, states through, records and pictures out."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from wgan_jax import data
from wgan_jax.data import batches
from wgan_jax.devices import hosts, mesh
from wgan_jax.devices.mesh import Parallel
from wgan_jax.errors import UserError
from wgan_jax.method.batch import Batch
from wgan_jax.method.constraints import Metrics
from wgan_jax.method.gan import Gan
from wgan_jax.method.schedule import Segment, longest, segments
from wgan_jax.method.state import TrainState, finite
from wgan_jax.method.step import repeat
from wgan_jax.metrics import transport
from wgan_jax.metrics.estimate import FIXED_IMAGES, fixed_set, make_estimate, make_fakes
from wgan_jax.report.events import Events
from wgan_jax.report.gallery import draw_samples
from wgan_jax.report.progress import Progress
from wgan_jax.report.records import Record, Records
from wgan_jax.run.checkpointer import Checkpointer
from wgan_jax.run.interrupt import Interrupt

Dispatch = Callable[[TrainState, Batch, Segment], tuple[TrainState, Metrics]]


def run(
    config: ConfigDict,
    workdir: Path,
    gan: Gan,
    devices: Parallel,
    state: TrainState,
    train_data: data.Source,
    held_out: data.Source,
    checkpointer: Checkpointer,
    interrupt: Interrupt,
) -> TrainState:
    """Trains from `state` on until `config.steps` iterations are done, or until it is interrupted; saves the end.

    Raises:
      DivergedError: if the run diverges; the checkpoints before that are kept.
    """
    start, report = int(state.step), config.report
    plan, stream, dispatch = prepare(config, gan, devices, start, train_data)
    estimate = jax.jit(make_estimate(gan))
    fixed = {"training_estimate": fixed_set(train_data), "held_out_estimate": fixed_set(held_out)}
    points = held_out.read(data.fixed_subset(held_out, FIXED_IMAGES if report.wasserstein_exact else 0))["image"]
    fakes = jax.jit(make_fakes(gan, len(points)))
    sample_key = jax.random.key(config.seed)

    with (
        Records(workdir, start) as log,
        Events(workdir, start) as events,
        Progress(start, config.steps) as progress,
    ):

        def write(measured: Measured, estimates: Metrics, fake: jax.Array | None) -> Record:
            segment, record = measured.segment, Record()
            for record in measured.records():
                if record["step"] == segment.stop:
                    record |= {name: float(value) for name, value in estimates.items()}
                    if fake is not None:
                        record["wasserstein_exact"] = transport.wasserstein(np.asarray(fake), points)
                    check_numbers(record)
                log.write(record)
            if estimates:
                events.write(record)
                events.flush()
            updates = gan.schedule.updates_before(segment.stop) - gan.schedule.updates_before(segment.start)
            name = gan.game.estimate_name
            progress.update(segment.stop, config.batch_size * updates, name, record[name])
            return record

        if start == 0:
            draw_samples(workdir, gan, state, sample_key, 0, held_out)
        state = devices.replicate(state)
        previous: tuple[Measured, Metrics, jax.Array | None] | None = None
        for number, (segment, batch) in enumerate(zip(plan, progress.waiting(stream), strict=True)):
            state, metrics = dispatch(state, batch, segment)
            here, step = mesh.local(state), segment.stop
            last = step == config.steps or interrupt.stops(number)
            reported, saved = step % report.every == 0, last or step % report.checkpoint_every == 0
            estimates = {name: estimate(here, examples) for name, examples in fixed.items()} if reported else {}
            fake = fakes(here) if reported and report.wasserstein_exact else None
            measured = Measured(segment, metrics, finite(here) if reported or saved else {})
            # Only now, with the next iterations under way, wait for the numbers of the last ones.
            if previous:
                write(*previous)
            previous = (measured, estimates, fake)
            if step % report.samples_every == 0:
                draw_samples(workdir, gan, here, sample_key, step, held_out)
            if saved:
                record = write(*previous)
                previous = None
                log.flush()
                checkpointer.save(step, devices.shares(state), record)
            if last:
                break
    return here


def assist(
    config: ConfigDict,
    gan: Gan,
    devices: Parallel,
    state: TrainState,
    train_data: data.Source,
    checkpointer: Checkpointer,
    interrupt: Interrupt,
) -> TrainState:
    """Does what `run` is to the other hosts: they compute, and save their share of each checkpoint.

    Raises:
      DivergedError: if the run diverges.
    """
    plan, stream, dispatch = prepare(config, gan, devices, int(state.step), train_data)
    state, report = devices.replicate(state), config.report
    previous: Measured | None = None
    for number, (segment, batch) in enumerate(zip(plan, stream, strict=True)):
        state, metrics = dispatch(state, batch, segment)
        step = segment.stop
        last = step == config.steps or interrupt.stops(number)
        reported, saved = step % report.every == 0, last or step % report.checkpoint_every == 0
        if previous:
            previous.check()
        previous = Measured(segment, metrics, finite(mesh.local(state)) if reported or saved else {})
        if saved:
            previous.check()
            previous = None
            checkpointer.save(step, devices.shares(state))
        if last:
            break
    return mesh.local(state)


def prepare(
    config: ConfigDict, gan: Gan, devices: Parallel, start: int, train_data: data.Source
) -> tuple[list[Segment], Iterator[Batch], Dispatch]:
    """The segments of a run from `start` on, the batch of each on its way to the devices, and what to do with it."""
    report = config.report
    intervals = (report.every, report.samples_every, report.checkpoint_every)
    length = longest(config.steps, config.steps_per_dispatch, gan.schedule, intervals)
    plan = list(segments(start, config.steps, length, gan.schedule, intervals))
    per_step = batches.dataset(
        train_data,
        gan.schedule,
        seed=config.seed,
        batch_size=config.batch_size,
        steps=config.steps,
        host=jax.process_index(),
        hosts=hosts.count(),
    )
    # [K, n_critic, B, …]
    stream = batches.prefetch(batches.stack(per_step, plan, length), lambda rows: devices.place(rows, axis=2))
    dispatch = make_careful_dispatch if config.debug.nans else make_dispatch
    return plan, stream, dispatch(gan, devices, config.microbatches)


def make_dispatch(gan: Gan, devices: Parallel, microbatches: int) -> Dispatch:
    """All iterations of a segment in one compiled call; metrics have shape `[K]`, with K the batch's first axis.

    The state that goes in is given away.
    """
    train_step = devices.train_step(gan, microbatches=microbatches)
    train_steps = devices.compile(repeat(train_step), (None, 2, None), donate=True)

    def dispatch(state: TrainState, batch: Batch, segment: Segment) -> tuple[TrainState, Metrics]:
        return train_steps(state, batch, segment.stop - segment.start)

    return dispatch


def make_careful_dispatch(gan: Gan, devices: Parallel, microbatches: int) -> Dispatch:
    """One call an iteration, without loops and with no state given away: JAX runs it again, operation by operation.

    So it can name the one that makes a NaN.
    """
    train_step = devices.compile(devices.train_step(gan, microbatches=microbatches, unroll=True), (None, 1))

    def dispatch(state: TrainState, batch: Batch, segment: Segment) -> tuple[TrainState, Metrics]:
        rows = []
        for i in range(segment.stop - segment.start):
            state, metrics = train_step(state, {name: values[i] for name, values in batch.items()})
            rows.append(metrics)
        return state, jax.tree.map(lambda *values: np.stack(values), *rows)

    return dispatch


class DivergedError(UserError):
    """A number of a run that is not finite."""


def check_numbers(record: Record) -> None:
    """Raises `DivergedError` if a number of a record is not finite."""
    for name, value in record.items():
        if not math.isfinite(value):
            raise DivergedError(f"{name} = {value} at iteration {record['step']}: the run has diverged")


class Measured(NamedTuple):
    """What a segment's iterations gave, perhaps before the devices are done with them."""

    segment: Segment
    metrics: Metrics
    """Each `[K]`, of which the segment's iterations are the first."""
    finite: dict[str, jax.Array]
    """Of the state after them, where it is reported or saved: see `state.finite`."""

    def records(self) -> Iterator[Record]:
        """The metrics of one iteration after another.

        Raises:
          DivergedError: at the first number that is not finite, and at the end if one of the state's is not: such a
            state is never saved.
        """
        values = {name: np.asarray(value) for name, value in self.metrics.items()}
        for i, step in enumerate(range(self.segment.start + 1, self.segment.stop + 1)):
            record: Record = {"step": step} | {name: float(value[i]) for name, value in values.items()}
            check_numbers(record)
            yield record
        for name, good in jax.device_get(self.finite).items():
            if not good:
                raise DivergedError(f"{name} is not finite at iteration {self.segment.stop}: the run has diverged")

    def check(self) -> None:
        """Raises as `records` does."""
        for _ in self.records():
            pass
