"""A whole run: from settings and a folder to a trained state, on one host or several."""

import shlex
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
from ml_collections import ConfigDict

from wgan_jax import data
from wgan_jax.config import build
from wgan_jax.config.settings import digest
from wgan_jax.devices import hosts
from wgan_jax.devices.mesh import Parallel
from wgan_jax.errors import UserError, clear_errors
from wgan_jax.files import disk_errors
from wgan_jax.method.gan import Gan
from wgan_jax.method.state import TrainState, init_state
from wgan_jax.report.gallery import draw_plots
from wgan_jax.report.records import Records
from wgan_jax.run import checkpoint, loop
from wgan_jax.run.checkpointer import Checkpointer
from wgan_jax.run.interrupt import Interrupt
from wgan_jax.run.resume import Options, Run
from wgan_jax.run.workdir import claimed


def train(
    config: ConfigDict,
    workdir: Path,
    interrupt: Interrupt | None = None,
    options: Options | None = None,
) -> TrainState:
    """Trains until `config.steps` iterations are done, from the newest whole checkpoint if there is one.

    Raises:
      UserError: for every mistake that the user can mend.
    """
    gan = build(config)
    find = config.debug.nans
    with _clear_errors(workdir), hosts.lost_hosts(), jax.debug_nans(find), jax.debug_infs(find):
        devices = Parallel.from_devices(config.batch_size, microbatches=config.microbatches, mode=config.parallel.mode)
        interrupt = interrupt or Interrupt(shared=hosts.count() > 1)
        if hosts.is_first():
            start, state = _lead(config, workdir, gan, devices, interrupt, options or Options())
        else:
            start, state = _assist(config, workdir, gan, devices, interrupt)
    pictures = f"pictures in {workdir / 'samples'} and {workdir / 'plots'}, all else in {workdir}"
    step = int(state.step)
    if start == config.steps:
        print(f"finished already: all {start:,} iterations are done; {pictures}")
    elif step < config.steps:
        print(f"stopped and saved after iteration {step:,} of {config.steps:,}; the same command resumes; {pictures}")
    else:
        print(f"done: {step:,} iterations; {pictures}", flush=True)
    return state


def _lead(
    config: ConfigDict, workdir: Path, gan: Gan, devices: Parallel, interrupt: Interrupt, options: Options
) -> tuple[int, TrainState]:
    """Does the whole run, or the first host's part: all files but the others' shares of checkpoints.

    Returns the iteration that it began after, and the state at its end.
    """
    held_out = data.load(config, "held_out")
    train_data = data.load(config, "train", cache=config.data.cache, processes=hosts.count())
    with claimed(workdir), disk_errors(workdir):
        run = Run(workdir, config, data.fingerprint(train_data, held_out), options)
        first = run.state(gan)
        start = int(first.step)
        state = hosts.from_first(first, digest(config))
        run.record(start)
        checkpoint.set_aside(workdir, beyond=start)
        checkpoint.refuse_obstacles(workdir, start, config.steps, config.report.checkpoint_every)
        checkpoint.seal_what_is_whole(workdir, gan)
        with Checkpointer(workdir, config.report.checkpoints, config.report.best) as checkpointer:
            if 0 < start < config.steps:
                print(f"resuming {workdir} after iteration {start:,}", flush=True)
            # With this checkpoint the run needs the other one no more; several hosts need it until their first one.
            if run.new_origin and hosts.count() == 1:
                checkpointer.save(start, first)
            if start < config.steps:
                state = loop.run(config, workdir, gan, devices, state, train_data, held_out, checkpointer, interrupt)
            else:
                Records(workdir, start).close()  # says what of them is damaged
        hosts.wait_for_all("saved")
        draw_plots(workdir, gan.game.estimate_name)  # of a finished run too: it may have been killed before they were
    return start, state


def _assist(
    config: ConfigDict, workdir: Path, gan: Gan, devices: Parallel, interrupt: Interrupt
) -> tuple[int, TrainState]:
    """The part of the other hosts; returns what `_lead` returns."""
    train_data = data.load(config, "train", cache=config.data.cache, processes=hosts.count())
    state = hosts.from_first(init_state(gan, jax.random.key(config.seed)), digest(config))
    start = int(state.step)
    with Checkpointer(workdir) as checkpointer:
        if start < config.steps:
            state = loop.assist(config, gan, devices, state, train_data, checkpointer, interrupt)
    hosts.wait_for_all("saved")
    return start, state


@contextmanager
def _clear_errors(workdir: Path) -> Iterator[None]:
    """Turns what a run may end with, through the user's settings or machine, into one clear `UserError`."""
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
    """The innermost line of this package, or of the user's networks, that an error came from."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "site-packages" not in frame.filename]
    return f"in {ours[-1].filename}, line {ours[-1].lineno}: {ours[-1].line}"
