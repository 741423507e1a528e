"""Compiles a run's training step for a TPU slice, on a machine without one, and says what it will do there.

    python -m wgan_jax.aot --config=configs/cifar10_resnet.py --topology=v5e:16x16 [--global-batch=16384] [--json]

Needs `pip install -e ".[aot]"`: libtpu holds the compiler. For each device of the slice: arithmetic, memory traffic,
the memory that the step needs against what the chip has, what the devices exchange, and an estimate of the time.
The step is one generator iteration of the run, as `wgan_jax.train` compiles it for the same devices.

The estimate is made of the chip's published numbers, and is no bound: no program reaches them all, and too many bytes
are counted where an operation reads a part of an array. Its two ends are the times of arithmetic, memory and exchange
if the longest hides the others, and if they follow one another.
"""

import json

import jax
from absl import flags

from wgan_jax import cli
from wgan_jax.config import check
from wgan_jax.cost.slices import report, table


def main() -> None:
    f = flags.FLAGS
    jax.config.update("jax_platforms", "cpu")  # with libtpu installed, JAX would look for a TPU of this machine's
    check(f.config)
    result = report(f.config, f.topology, f["global-batch"].value)
    print(json.dumps(result) if f.json else table(result))


if __name__ == "__main__":
    cli.define_config()
    flags.DEFINE_string("topology", None, "Topology of the slice, such as v5e:16x16.")
    flags.DEFINE_integer(
        "global-batch", None, "Real examples per critic update, if not config.batch_size.", 1, 2**24 - 1
    )
    flags.DEFINE_bool("json", False, "Print one JSON object instead of a table.")
    flags.mark_flags_as_required(["config", "topology"])
    cli.use_compilation_cache()
    cli.run(main)
