"""Trains a GAN, or goes on with a run that was interrupted.

    python -m wgan_jax.train --config=configs/digits.py --workdir=runs/digits [--config.steps=5000 …]

A run's folder holds `config.json`, `run.json` (its data, versions and devices), `metrics.jsonl` (a line per generator
iteration), `tensorboard/`, `checkpoints/`, `samples/` (from the same latents throughout) and `plots/`. After SIGTERM or
Ctrl-C a run finishes the current iteration, saves, and exits with code 143 or 130, which a finished run never does. The
same command goes on from there.

With a larger `--config.steps` a run goes on to more iterations. Settings that do not change what is computed (`report`,
`debug`, `parallel`, `microbatches`, `steps_per_dispatch`, the place of the data) may differ at each start. For anything
else, begin a new run with the networks of another:

    python -m wgan_jax.train --config=… --workdir=runs/new --init_from=runs/digits [--step=N|best|latest]

Every device gets an equal part of each batch. On several hosts, run the same command on each. On Cloud TPU and under
Slurm they find each other; elsewhere add `--coordinator_address=HOST:PORT --num_processes=N --process_id=I`.
"""

import sys

from absl import flags

from wgan_jax import cli
from wgan_jax.config import build
from wgan_jax.devices import hosts
from wgan_jax.run.interrupt import Interrupt
from wgan_jax.run.resume import Options
from wgan_jax.run.training import train


def main() -> None:
    f = flags.FLAGS
    options = Options(
        init_from=f.init_from,
        step=f.step,
        init_optimizer=f.init_optimizer,
        reschedule=f.reschedule,
        allow_other_data=f.allow_other_data,
    )
    build(f.config)  # find a mistake in the settings before waiting for other hosts
    hosts.initialize(f.coordinator_address, f.num_processes, f.process_id)
    with Interrupt(shared=hosts.count() > 1) as interrupt, hosts.leaving_no_host_behind():
        state = train(f.config, f.workdir, interrupt, options)
    if int(state.step) < f.config.steps:
        sys.exit(interrupt.exit_code)


if __name__ == "__main__":
    cli.define_config()
    cli.define_path("workdir", None, "The run's folder, which all hosts must see.")
    cli.define_path("init_from", None, "The folder of a run whose networks a new run begins with.")
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
    cli.use_compilation_cache()
    cli.run(main)
