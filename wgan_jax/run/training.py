"""A whole run: from settings and a folder to a trained state, on one host or several."""

import shlex
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from wgan_jax import data
from wgan_jax.config import check
from wgan_jax.config import stages as stages_of
from wgan_jax.config.settings import digest
from wgan_jax.devices import hosts
from wgan_jax.devices.mesh import Parallel
from wgan_jax.errors import UserError, clear_errors
from wgan_jax.files import disk_errors
from wgan_jax.method.stages import Stages, check_stages, stage_after
from wgan_jax.method.state import TrainState, init_state
from wgan_jax.metrics.evaluators import EVALUATORS, Evaluator, check_rows
from wgan_jax.report.gallery import draw_plots
from wgan_jax.report.records import Records
from wgan_jax.report.reports import Files, Reports
from wgan_jax.run import checkpoint, loop
from wgan_jax.run.best import check_best
from wgan_jax.run.checkpointer import Checkpointer
from wgan_jax.run.interrupt import Interrupt
from wgan_jax.run.resume import Options, Run
from wgan_jax.run.workdir import claimed


def train(
    config: ConfigDict,
    workdir: Path,
    interrupt: Interrupt | None = None,
    options: Options | None = None,
    *,
    stages: Stages | None = None,
    evaluators: Sequence[Evaluator] = EVALUATORS,
) -> TrainState:
    """Trains until `config.steps` iterations are done, from the newest whole checkpoint if there is one.

    Args:
      config: the settings.
      workdir: the run's folder.
      interrupt: object that asks the run to stop; None for one of its own.
      options: further wishes of a command.
      stages: what each iteration trains, from 0 to `config.steps`; None for the config's.
      evaluators: table of what is measured while the run goes on.

    Raises:
      UserError: for every mistake that the user can fix.
    """
    check(config)
    stages = stages_of(config) if stages is None else stages
    check_stages(stages, config.steps)
    check_rows(evaluators, config)
    check_best(config, evaluators)
    find = config.debug.nans
    with _clear_errors(workdir), hosts.lost_hosts(), jax.debug_nans(find), jax.debug_infs(find):
        interrupt = interrupt or Interrupt(shared=hosts.count() > 1)
        start, state = _go(config, workdir, stages, evaluators, interrupt, options or Options())
    pictures = f"pictures in {workdir / 'samples'} and {workdir / 'plots'}, all else in {workdir}"
    step = int(state.step)
    if start == config.steps:
        print(f"finished already: all {start:,} iterations are done; {pictures}")
    elif step < config.steps:
        print(f"stopped and saved after iteration {step:,} of {config.steps:,}; the same command resumes; {pictures}")
    else:
        print(f"done: {step:,} iterations; {pictures}", flush=True)
    return state


def _go(
    config: ConfigDict,
    workdir: Path,
    stages: Stages,
    evaluators: Sequence[Evaluator],
    interrupt: Interrupt,
    options: Options,
) -> tuple[int, TrainState]:
    """Does this host's part of a run: the first host has the folder, and the others write their shares of checkpoints.

    Returns the iteration that the run began after, and the state at its end.
    """
    first, report = hosts.is_first(), config.report
    sizes = {stage.batch_size for stage in stages}
    devices = Parallel.from_devices(*sizes, microbatches=config.microbatches, mode=config.parallel.mode)
    held_out = data.load(config, "held_out")
    train_data = data.load(config, "train", cache=config.data.cache, processes=hosts.count())
    with _owned(workdir) if first else nullcontext():
        run = Run(workdir, config, data.fingerprint(train_data, held_out), options) if first else None
        state = _shared(run.state(stages) if run else None, config, stages)
        start = int(state.step)
        if run:
            _prepare_folder(run, stages, start)
        with Checkpointer(workdir, report.checkpoints, report.best) as checkpointer:
            # With this checkpoint the run needs the other one no more; several hosts need it until their first one.
            if run and run.new_origin and hosts.count() == 1:
                checkpointer.save(start, state)
            key = jax.random.key(config.seed)
            reports = Files(workdir, start, config.steps, key=key, real=held_out) if first else Reports()
            if start < config.steps:
                job = loop.Job(
                    config=config,
                    stages=stages,
                    devices=devices,
                    train_data=train_data,
                    held_out=held_out,
                    evaluators=evaluators,
                    reports=reports,
                    checkpointer=checkpointer,
                    interrupt=interrupt,
                )
                state = loop.run(job, state)
        hosts.wait_for_all("saved")
        if first:  # of a finished run too: it may have been killed before they were
            draw_plots(workdir, stages[-1].gan.game.estimate_name)
    return start, state


@contextmanager
def _owned(workdir: Path) -> Iterator[None]:
    """Makes the folder this process's own, and disk errors in it clear ones."""
    with claimed(workdir), disk_errors(workdir):
        yield


def _prepare_folder(run: Run, stages: Stages, start: int) -> None:
    """Makes a run's folder ready for the iterations after `start`, now that all is checked."""
    workdir, config = run.workdir, run.config
    run.record(start)
    checkpoint.set_aside(workdir, beyond=start)
    checkpoint.refuse_obstacles(workdir, start, config.steps, config.report.checkpoint_every)
    checkpoint.seal_what_is_whole(workdir, stages)
    if start == config.steps:
        Records(workdir, start).close()  # says what of them is damaged
    elif start:
        print(f"resuming {workdir} after iteration {start:,}", flush=True)


def _shared(state: TrainState | None, config: ConfigDict, stages: Stages) -> TrainState:
    """Returns the first host's state on every host; the other hosts give None."""
    settings = digest(config)
    step = int(hosts.from_first(np.int32(0 if state is None else state.step), settings))
    if state is None:
        state = init_state(stage_after(stages, step).gan, jax.random.key(config.seed))
    return hosts.from_first(state, settings)


@contextmanager
def _clear_errors(workdir: Path) -> Iterator[None]:
    """Turns errors that come from the user's settings or machine into one clear `UserError`."""
    remedy = "raise config.microbatches, or, in another workdir, lower config.batch_size or the networks' widths"
    try:
        with clear_errors(remedy):
            yield
    except loop.DivergedError as error:
        there = checkpoint.steps(workdir)
        kept = "the checkpoints before that are kept; " if there else ""
        origin = (
            f", where --init_from={shlex.quote(str(workdir))} --step={there[-1]} begins with the oldest of them"
            if there
            else ""
        )
        raise UserError(
            f"{error}; {kept}the same command with --config.debug.nans=True looks for the operation; lower learning "
            "rates, a larger config.constraint.weight or a smaller config.constraint.bound need another workdir"
            f"{origin}"
        ) from error
    except FloatingPointError as error:
        raise UserError(f"config.debug.nans: {str(error).splitlines()[0]}, {_place(error)}") from error


def _place(error: BaseException) -> str:
    """Returns the innermost line of this package, or of the user's networks, that an error came from."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "site-packages" not in frame.filename]
    return f"in {ours[-1].filename}, line {ours[-1].lineno}: {ours[-1].line}"
