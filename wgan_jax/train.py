"""Trains a GAN, and goes on with a run that was interrupted.

    python -m wgan_jax.train --config=configs/digits.py --workdir=runs/digits [--config.steps=5000 …]

A run's folder holds `config.json`, `metrics.jsonl` (a line per generator iteration), `tensorboard/`,
`checkpoints/`, `samples/` (from the same latents through training) and `plots/`. SIGTERM and Ctrl-C end the iteration
under way, save, and exit with code 0 or 130; the same command goes on from there.
"""

import sys
import traceback
from pathlib import Path

import jax
from absl import flags
from ml_collections import ConfigDict, config_flags

from wgan_jax import checkpoint, command, data, loop
from wgan_jax.checkpoint import Checkpointer
from wgan_jax.errors import UserError
from wgan_jax.gan import build
from wgan_jax.interrupt import Interrupt
from wgan_jax.report.gallery import draw_plots
from wgan_jax.state import TrainState, init_state
from wgan_jax.workdir import claimed, disk_errors


def train(config: ConfigDict, workdir: Path, interrupt: Interrupt | None = None) -> TrainState:
    """Trains until `config.steps` iterations are done, from the newest whole checkpoint if there is one.

    Raises:
      UserError: for every mistake that the user can mend.
    """
    gan = build(config)
    held_out = data.load(config, "held_out")
    train_data = data.load(config, "train", cache=config.data.cache)
    interrupt = interrupt or Interrupt()
    pictures = f"pictures in {workdir / 'samples'} and {workdir / 'plots'}, all else in {workdir}"
    with claimed(workdir, config), disk_errors(workdir):
        found = checkpoint.newest(workdir, gan, warn=lambda line: print(line, file=sys.stderr))
        start, state = found or (0, init_state(gan, jax.random.key(config.seed)))
        checkpoint.set_aside(workdir, beyond=start)
        if start == config.steps:
            print(f"finished already: all {start:,} iterations are done; {pictures}")
            return state
        if start:
            print(f"resuming {workdir} after iteration {start:,}", flush=True)
        with Checkpointer(workdir, keep=config.report.checkpoints, best=config.report.best) as checkpointer:
            try:
                state = loop.run(config, workdir, gan, state, train_data, held_out, checkpointer, interrupt)
            except FloatingPointError as error:
                raise UserError(f"config.debug.nans: {str(error).splitlines()[0]}, {_place(error)}") from error
            except (MemoryError, jax.errors.JaxRuntimeError) as error:
                if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
                    raise UserError("not enough memory; lower config.batch_size or the networks' widths") from error
                raise
        draw_plots(workdir, gan.game.estimate_name)
    step = int(state.step)
    if step < config.steps:
        print(f"stopped and saved after iteration {step:,} of {config.steps:,}; the same command resumes; {pictures}")
    else:
        print(f"done: {step:,} iterations; {pictures}", flush=True)
    return state


def _place(error: BaseException) -> str:
    """The innermost line of this package, or of the user's networks, that an error came from."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "site-packages" not in frame.filename]
    return f"in {ours[-1].filename}, line {ours[-1].lineno}: {ours[-1].line}"


def main() -> None:
    config = flags.FLAGS.config
    jax.config.update("jax_debug_nans", bool(config.get("debug", {}).get("nans", False)))
    with Interrupt() as interrupt:
        train(config, Path(flags.FLAGS.workdir), interrupt)
    sys.exit(interrupt.exit_code)


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", None, "A file with get_config().")
    flags.DEFINE_string("workdir", None, "The run's folder.")
    flags.mark_flags_as_required(["config", "workdir"])
    command.use_compilation_cache()
    command.run(main)
