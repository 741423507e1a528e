"""Kills a run at random moments, again and again, and compares its results bit for bit with an undisturbed run.

python -m tests.kill --kills=50 [--seed=0]
"""

import argparse
import random
import signal
import subprocess
import tempfile
from pathlib import Path

import jax
import numpy as np

from wgan_jax import restore
from wgan_jax.report import records

from .commands import environment, run_anew, train_command

LONG = ["--config.steps=2000", "--config.report.checkpoint_every=40", "--config.report.samples_every=200"]


def differences(whole: Path, killed: Path) -> list[str]:
    """Returns the names of the results in which two finished runs differ, by even one bit."""
    found = []
    for name in ("metrics.jsonl", "samples", "plots"):
        files = [whole / name] if (whole / name).is_file() else sorted((whole / name).iterdir())
        for file in files:
            other = killed / file.relative_to(whole)
            if not other.exists() or other.read_bytes() != file.read_bytes():
                found.append(str(file.relative_to(whole)))
    steps = [record["step"] for record in records.read(killed)]
    if steps != list(range(1, len(steps) + 1)):
        found.append("order of metrics.jsonl")
    for a, b in zip(*(jax.tree.leaves(restore(workdir)[1]) for workdir in (whole, killed)), strict=True):
        if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        if not np.array_equal(np.asarray(a), np.asarray(b)):
            found.append("an array of the final state")
    return found


def kill_again_and_again(folder: Path, kills: int, seed: int) -> list[str]:
    """Kills a run `kills` times and then lets it finish. Returns its differences from an undisturbed run."""
    chance = random.Random(seed)
    done = run_anew(train_command(folder / "whole", *LONG))
    assert done.returncode == 0, done.stderr
    args = train_command(folder / "killed", *LONG)
    # Most of these moments are during the start or the first checkpoints. Some are near the end of the run.
    for _ in range(kills):
        process = subprocess.Popen(
            args, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        try:
            _, errors = process.communicate(timeout=chance.uniform(0.5, 14.0))
            assert process.returncode == 0, errors
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
    done = run_anew(args)
    assert done.returncode == 0, done.stderr
    return differences(folder / "whole", folder / "killed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = kill_again_and_again(Path(folder), args.kills, args.seed)
    print(f"{args.kills} kills: " + ("the same, bit for bit" if not found else f"different: {', '.join(found)}"))
    raise SystemExit(bool(found))


if __name__ == "__main__":
    main()
