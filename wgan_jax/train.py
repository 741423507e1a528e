"""Trains a GAN, and goes on with a run that was interrupted.

    python -m wgan_jax.train --config=configs/digits.py --workdir=runs/digits [--config.steps=5000 …]

A run's folder holds `config.json`, `run.json` (its data, versions and devices), `metrics.jsonl` (a line per generator
iteration), `tensorboard/`, `checkpoints/`, `samples/` (from the same latents through training) and `plots/`. SIGTERM
and Ctrl-C end the iteration under way, save, and exit with code 143 or 130, which a finished run never does; the same
command goes on from there.

With a larger `--config.steps` a run goes on to more iterations, and settings that do not change what is computed
(`report`, `debug`, `parallel`, `microbatches`, `steps_per_dispatch`, where the data lie) may be others at each start.
For anything else, a new run begins with the networks of another:

    python -m wgan_jax.train --config=… --workdir=runs/new --init_from=runs/digits [--step=N|best|latest]

All devices share each batch. On several hosts the same command runs on each: on Cloud TPU and under Slurm they find
each other; elsewhere add `--coordinator_address=HOST:PORT --num_processes=N --process_id=I`.
"""

import shlex
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
from absl import flags
from ml_collections import ConfigDict

from wgan_jax import checkpoint, command, data, loop, parallel
from wgan_jax.checkpointer import Checkpointer
from wgan_jax.errors import UserError
from wgan_jax.gan import Gan, build
from wgan_jax.interrupt import Interrupt
from wgan_jax.parallel import Parallel
from wgan_jax.report.gallery import draw_plots
from wgan_jax.report.records import Records
from wgan_jax.resume import Options, Run
from wgan_jax.state import TrainState, init_state
from wgan_jax.workdir import claimed, disk_errors


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
    with _clear_errors(workdir), parallel.lost_hosts(), jax.debug_nans(find), jax.debug_infs(find):
        devices = parallel.of(config)
        interrupt = interrupt or Interrupt(shared=parallel.hosts() > 1)
        if parallel.first_host():
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
    train_data = data.load(config, "train", cache=config.data.cache, processes=parallel.hosts())
    with claimed(workdir), disk_errors(workdir):
        run = Run(workdir, config, data.fingerprint(train_data, held_out), options)
        first = run.state(gan)
        start = int(first.step)
        state = parallel.from_first_host(config, first)
        run.record(start)
        checkpoint.set_aside(workdir, beyond=start)
        checkpoint.refuse_obstacles(workdir, start, config.steps, config.report.checkpoint_every)
        checkpoint.seal_what_is_whole(workdir, gan)
        with Checkpointer(workdir, config.report.checkpoints, config.report.best) as checkpointer:
            if 0 < start < config.steps:
                print(f"resuming {workdir} after iteration {start:,}", flush=True)
            # With this checkpoint the run needs the other one no more; several hosts need it until their first one.
            if run.new_origin and parallel.hosts() == 1:
                checkpointer.save(start, first)
            if start < config.steps:
                state = loop.run(config, workdir, gan, devices, state, train_data, held_out, checkpointer, interrupt)
            else:
                Records(workdir, start).close()  # says what of them is damaged
        parallel.wait_for_all("saved")
        draw_plots(workdir, gan.game.estimate_name)  # of a finished run too: it may have been killed before they were
    return start, state


def _assist(
    config: ConfigDict, workdir: Path, gan: Gan, devices: Parallel, interrupt: Interrupt
) -> tuple[int, TrainState]:
    """The part of the other hosts; returns what `_lead` returns."""
    train_data = data.load(config, "train", cache=config.data.cache, processes=parallel.hosts())
    state = parallel.from_first_host(config, init_state(gan, jax.random.key(config.seed)))
    start = int(state.step)
    with Checkpointer(workdir) as checkpointer:
        if start < config.steps:
            state = loop.assist(config, gan, devices, state, train_data, checkpointer, interrupt)
    parallel.wait_for_all("saved")
    return start, state


@contextmanager
def _clear_errors(workdir: Path) -> Iterator[None]:
    """Turns what a run may end with, through the user's settings or machine, into one clear `UserError`."""
    remedy = "raise config.microbatches, or, in another workdir, lower config.batch_size or the networks' widths"
    try:
        with command.clear_errors(remedy):
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


def main() -> None:
    f = flags.FLAGS
    options = Options(
        init_from=f.init_from,
        step=f.step,
        init_optimizer=f.init_optimizer,
        reschedule=f.reschedule,
        allow_other_data=f.allow_other_data,
    )
    build(f.config)  # a mistake in the settings is told before the other hosts are looked for
    parallel.initialize(f.coordinator_address, f.num_processes, f.process_id)
    with Interrupt(shared=parallel.hosts() > 1) as interrupt, parallel.leaving_no_host_behind():
        state = train(f.config, f.workdir, interrupt, options)
    if int(state.step) < f.config.steps:
        sys.exit(interrupt.exit_code)


if __name__ == "__main__":
    command.define_config()
    command.define_path("workdir", None, "The run's folder, which all hosts must see.")
    command.define_path("init_from", None, "The folder of a run whose networks a new run begins with.")
    flags.DEFINE_string("step", "latest", "With --init_from: the checkpoint, by its number, or best, or latest.")
    flags.DEFINE_bool("init_optimizer", False, "With --init_from: take the state of that run's optimizers too.")
    flags.DEFINE_bool(
        "reschedule", False, "Go on to another config.steps although linear schedules make the learning rates jump."
    )
    flags.DEFINE_bool("allow_other_data", False, "Go on although the data are not those of the run so far.")
    flags.DEFINE_string("coordinator_address", None, "host:port of the first of several processes.")
    flags.DEFINE_integer("num_processes", None, "How many processes share the run.", lower_bound=1)
    flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.", lower_bound=0)
    flags.mark_flags_as_required(["config", "workdir"])
    command.use_compilation_cache()
    command.run(main)
