"""The training loop: batches in, states through, records and pictures out."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from wgan_jax import data
from wgan_jax.config.settings import digest
from wgan_jax.data import batches
from wgan_jax.devices import hosts, mesh
from wgan_jax.devices.mesh import Parallel
from wgan_jax.errors import UserError
from wgan_jax.method.batch import Batch
from wgan_jax.method.games import Metrics
from wgan_jax.method.gan import Gan
from wgan_jax.method.schedule import Segment, longest, segments
from wgan_jax.method.stages import Stage, Stages, examples_before, grow
from wgan_jax.method.state import TrainState, finite
from wgan_jax.method.step import repeat
from wgan_jax.metrics.evaluators import Context, Evaluator, Result, due, intervals, measure, numbers
from wgan_jax.report.records import Record
from wgan_jax.report.reports import Reports
from wgan_jax.run.checkpointer import Checkpointer
from wgan_jax.run.interrupt import Interrupt

Dispatch = Callable[[TrainState, Batch, Segment], tuple[TrainState, Metrics]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """All parts that a run works with."""

    config: ConfigDict
    stages: Stages
    devices: Parallel
    train_data: data.Source
    held_out: data.Source
    evaluators: Sequence[Evaluator]
    reports: Reports
    checkpointer: Checkpointer
    interrupt: Interrupt


def run(job: Job, state: TrainState) -> TrainState:
    """Trains from `state` on until the last stage is done or the run is interrupted, and saves the end.

    All hosts of a run do the same, each with its own reports, checkpoints and measures.

    Raises:
      DivergedError: if the run diverges; the checkpoints before that are kept.
    """
    start, counter = int(state.step), itertools.count()
    with job.reports:
        if start == 0:
            job.reports.picture(job.stages[0].gan, state, 0)
        for stage in job.stages:
            if stage.stop > start:
                state, ends = _train(job, stage, _entering(job, stage, state), counter)
                if ends:
                    break
    return state


def _entering(job: Job, stage: Stage, state: TrainState) -> TrainState:
    """Returns the state with the arrays of a stage, whose first iteration may be the next one."""
    if stage.start == 0 or int(state.step) > stage.start:
        return state
    return hosts.from_first(grow(state, stage.gan), digest(job.config))


def _train(job: Job, stage: Stage, state: TrainState, counter: Iterator[int]) -> tuple[TrainState, bool]:
    """Does the iterations of a stage from `state` on; `counter` numbers the run's segments.

    Returns the state after them, on this host's first device, and whether the run ends there.
    """
    report, reports = job.config.report, job.reports
    plan, stream, dispatch = prepare(job, stage, int(state.step))
    measures = due(
        job.evaluators,
        Context(config=job.config, gan=stage.gan, train=job.train_data, held_out=job.held_out, devices=job.devices),
    )
    state = job.devices.replicate(state)
    previous: Measured | None = None
    for segment, batch in zip(plan, reports.waiting(stream), strict=True):
        state, metrics = dispatch(state, batch, segment)
        here, step = mesh.local(state), segment.stop
        ends = step == job.stages[-1].stop or job.interrupt.stops(next(counter))
        reported, saved = step % report.every == 0, ends or step % report.checkpoint_every == 0
        all_finite = finite(here) if reported or saved else {}
        measured = Measured(segment, metrics, measure(measures, step, state), all_finite)
        # Only now, with the next iterations under way, wait for the numbers of the last ones.
        if previous:
            _write(job, stage, previous)
        previous = measured
        if step % report.samples_every == 0:
            reports.picture(stage.gan, here, step)
        if saved:
            record = _write(job, stage, previous)
            previous = None
            reports.flush()
            job.checkpointer.save(step, job.devices.shares(state), record)
        if ends:
            break
    if previous:
        _write(job, stage, previous)
    return here, ends


def _write(job: Job, stage: Stage, measured: "Measured") -> Record:
    """Reports a segment's iterations; returns the last one's record."""
    start, stop = measured.segment
    for record in measured.records():
        job.reports.write(record)
    if measured.results or stop % job.config.report.every == 0:
        job.reports.highlight(record)
    images = examples_before(job.stages, stop) - examples_before(job.stages, start)
    name = stage.gan.game.estimate_name
    job.reports.progress(stop, images, name, record[name])
    return record


def prepare(job: Job, stage: Stage, start: int) -> tuple[list[Segment], Iterator[Batch], Dispatch]:
    """Returns the segments of a stage from iteration `start` on, the batch of each, and what to do with it.

    The batches are on their way to the devices.
    """
    config, schedule, report = job.config, stage.gan.schedule, job.config.report
    ends = (report.every, report.samples_every, report.checkpoint_every, *intervals(job.evaluators, config))
    length = longest(stage.stop, config.steps_per_dispatch, schedule, ends, stage.start)
    plan = list(segments(start, stage.stop, length, schedule, ends))
    per_step = batches.dataset(
        job.train_data,
        schedule,
        seed=config.seed,
        batch_size=stage.batch_size,
        steps=stage.stop,
        start=stage.start,
        position=examples_before(job.stages, stage.start),
        host=jax.process_index(),
        hosts=hosts.count(),
    )
    # [K, n_critic, B, …]
    stream = batches.prefetch(batches.stack(per_step, plan, length), lambda rows: job.devices.place(rows, axis=2))
    make = make_careful_dispatch if config.debug.nans else make_dispatch
    return plan, stream, make(stage.gan, job.devices, config.microbatches)


def make_dispatch(gan: Gan, devices: Parallel, microbatches: int) -> Dispatch:
    """Returns a function that does all iterations of a segment in one compiled call.

    Its metrics have shape `[K]`, with K the batch's first axis. The memory of the state that goes in is reused.
    """
    train_step = devices.train_step(gan, microbatches=microbatches)
    train_steps = devices.compile(repeat(train_step), (None, 2, None), donate=True)

    def dispatch(state: TrainState, batch: Batch, segment: Segment) -> tuple[TrainState, Metrics]:
        return train_steps(state, batch, segment.stop - segment.start)

    return dispatch


def make_careful_dispatch(gan: Gan, devices: Parallel, microbatches: int) -> Dispatch:
    """Returns a function that does each iteration in one call, without loops, and keeps the state that goes in.

    So JAX can run it again, operation by operation, and name the one that makes a NaN.
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
    """Error of a run with a number that is not finite."""


def check_numbers(record: Record) -> None:
    """Raises `DivergedError` if a number of a record is not finite."""
    for name, value in record.items():
        if not math.isfinite(value):
            raise DivergedError(f"{name} = {value} at iteration {record['step']}: the run has diverged")


class Measured(NamedTuple):
    """Results of a segment's iterations, perhaps before the devices are done with them."""

    segment: Segment
    metrics: Metrics
    """Metrics `[K]`, of which the first belong to the segment's iterations."""
    results: dict[str, Result]
    """Measurements of the state after them: see `evaluators.measure`."""
    finite: dict[str, jax.Array]
    """Whether that state's arrays are finite, if it is reported or saved: see `state.finite`."""

    def records(self) -> Iterator[Record]:
        """Yields the metrics of one iteration after another; the last with the measurements after it.

        Raises:
          DivergedError: at the first number that is not finite, and at the end if an array of the state is not: such
            a state is never saved.
        """
        values = {name: np.asarray(value) for name, value in self.metrics.items()}
        for i, step in enumerate(range(self.segment.start + 1, self.segment.stop + 1)):
            record: Record = {"step": step} | {name: float(value[i]) for name, value in values.items()}
            check_numbers(record)
            if step == self.segment.stop:
                for name, result in self.results.items():
                    record |= numbers(name, result)
                    check_numbers(record)
            yield record
        for name, good in jax.device_get(self.finite).items():
            if not good:
                raise DivergedError(f"{name} is not finite at iteration {self.segment.stop}: the run has diverged")
