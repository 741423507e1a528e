"""Prepares TFDS data sets, and measures how fast a run's batches come.

python -m wgan_jax.data prepare --name=fashion_mnist [--dir=…]
python -m wgan_jax.data benchmark --config=configs/fashion_mnist.py [--config.data.dir=… …]
"""

import math
import sys

from absl import flags

from wgan_jax import command


def prepare() -> None:
    from wgan_jax.data.prepare import prepare

    print(prepare(flags.FLAGS.name, flags.FLAGS.dir))


def benchmark() -> None:
    from wgan_jax.data.benchmark import REPEATS, measure

    config = flags.FLAGS.config
    speed = measure(config, flags.FLAGS.seconds)
    print(
        f"{config.data.name}, batches of {config.batch_size}, medians of {REPEATS}: "
        f"{speed.one_thread:,.0f} images/s in one thread, {speed.on_device:,.0f} images/s read ahead and on the device"
    )


def main() -> None:
    chosen = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    if chosen == "prepare":
        flags.DEFINE_string("name", None, "The data set as TFDS has it, such as fashion_mnist.")
        flags.DEFINE_string("dir", "", "Where to; TFDS_DATA_DIR, or else ~/tensorflow_datasets, if not given.")
        flags.mark_flag_as_required("name")
        command.run(prepare)
    elif chosen == "benchmark":
        command.define_config()
        flags.DEFINE_float("seconds", 1.0, "Of one measurement.", lower_bound=0.01, upper_bound=3600)
        flags.register_validator("seconds", math.isfinite, "must be a number")
        flags.mark_flag_as_required("config")
        command.run(benchmark)
    elif chosen in ("--help", "-h"):
        print(__doc__)
    else:
        command.fail(f"{chosen!r}: not a command; give prepare or benchmark, as in: {(__doc__ or '').splitlines()[2]}")


if __name__ == "__main__":
    main()
