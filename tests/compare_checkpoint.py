"""Measures how long a run waits for a checkpoint of a large state, and how long the checkpoint takes in the background.

    python -m tests.compare_checkpoint [--width=9216] [--rounds=3]

The state belongs to a GAN with an MLP critic and Adam. It has 2.0 GB at a width of 9,216. The run waits only while the
state is copied. It goes on while the copy is digested, written and sealed.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import jax

import wgan_jax
from wgan_jax.config import default
from wgan_jax.method.state import named_arrays
from wgan_jax.run import seal
from wgan_jax.run.checkpointer import Checkpointer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=9_216)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    config = default()
    config.critic.width = args.width
    state = jax.block_until_ready(wgan_jax.init_state(wgan_jax.build(config), jax.random.key(0)))
    arrays = named_arrays(state).values()
    waits, wholes, digests = [], [], []
    for number in range(1, args.rounds + 1):
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            with Checkpointer(Path(folder)) as checkpointer:
                checkpointer.save(number, state)
                waits.append(time.perf_counter() - began)
            wholes.append(time.perf_counter() - began)
        began = time.perf_counter()
        for x in arrays:
            seal.array_digest(x)
        digests.append(time.perf_counter() - began)
    size = sum(seal.numbers(x).nbytes for x in arrays)
    print(
        f"{size / 1e9:.2f} GB, medians of {args.rounds}: the run waits {statistics.median(waits):.2f} s, the "
        f"checkpoint is sealed after {statistics.median(wholes):.2f} s; the digests of the arrays alone take "
        f"{statistics.median(digests):.2f} s"
    )


if __name__ == "__main__":
    main()
