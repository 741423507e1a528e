"""Measures a config's training step on this machine against what the machine can do, or how fast its batches come.

    python -m wgan_jax.benchmark --config=configs/fashion_mnist.py [--rounds=7] [--json]
    python -m wgan_jax.benchmark --config=configs/fashion_mnist.py --data [--seconds=1]
    python -m wgan_jax.benchmark --suite [--out=runs/suite] [--minutes=10]

Rounds of the compiled step alternate with rounds of a plain matrix product in the config's precisions with float32
results, which is taken as the machine's ceiling: 2048³ on a CPU, 8192³ on an accelerator. The step's data are random,
since it does not care. With `--data`, real batches are read and nothing is trained. With `--suite`, run from the
repository's folder, the shipped configs are measured in every precision (`wgan_jax/cost/suite.py`). The results are
`suite.json` and `suite.md`, a table ready for a README.
"""

import json
import math

from absl import flags

from wgan_jax import cli
from wgan_jax.cost import input, speed, suite


def main() -> None:
    f = flags.FLAGS
    if f.suite:
        suite.run(f.out, f.minutes)
        return
    if f.data:
        rates = input.measure(f.config, f.seconds)
        print(
            f"{f.config.data.name}, batches of {f.config.batch_size}, medians of {input.REPEATS}: "
            f"{rates.one_thread:,.0f} images/s in one thread, "
            f"{rates.on_device:,.0f} images/s read ahead and on the device"
        )
        return
    result = speed.benchmark(f.config, f.rounds)
    if f.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name.replace('_', ' '):26} {f'{value:,.3f}' if isinstance(value, float) else value}")


if __name__ == "__main__":
    cli.define_config()
    flags.DEFINE_integer("rounds", 7, "Steps that are timed.", lower_bound=1)
    flags.DEFINE_bool("json", False, "Print one JSON object instead of a table.")
    flags.DEFINE_bool("data", False, "Measure the batches instead of the step.")
    flags.DEFINE_float(
        "seconds", 1.0, "With --data: how long one measurement takes.", lower_bound=0.01, upper_bound=3600
    )
    flags.register_validator("seconds", math.isfinite, "must be a number")
    flags.DEFINE_bool("suite", False, "Measure the shipped configs, in every precision.")
    cli.define_path("out", "runs/suite", "With --suite: the folder of its table and numbers.")
    flags.DEFINE_float("minutes", 10.0, "With --suite: what it has no time for is named as skipped.", lower_bound=0.1)
    flags.register_multi_flags_validator(
        ["config", "suite"],
        lambda given: given["config"] is not None or given["suite"],
        "give --config=configs/digits.py for one config, or --suite for all that are shipped",
    )
    cli.run(main)
