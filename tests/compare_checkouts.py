"""Shows that two checkouts of wgan_jax compute the same bits, for all configs, constraints, games and batch splits.

    python -m tests.compare_checkouts OLD NEW [--only=TEXT]

Each case trains small networks for three iterations with the command of each checkout, on the same pictures. The
digests of all arrays in the checkpoints, all metrics and all sample pictures must be equal, and the new checkout must
load the old one's checkpoint. Both checkouts share a cache of compiled programs, so a program that is the same in both
is compiled once.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

SHORT = [
    "--config.steps=3",
    "--config.n_critic=2",
    "--config.steps_per_dispatch=2",
    "--config.report.every=3",
    "--config.report.samples_every=3",
    "--config.report.checkpoint_every=3",
]
SMALL = ["--config.batch_size=8", "--config.generator.width=8", "--config.critic.width=8"]
WARM_UP = ["--config.warmup.n_critic=3", "--config.warmup.steps=1", "--config.warmup.every=2"]
PICTURES = "--config.data.name=folder:{pictures}"
RESNET = [
    *(f"--config.{player}.network=resnet" for player in ("generator", "critic")),
    *(f"--config.{player}.kernel_init=he_uniform" for player in ("generator", "critic")),
    "--config.critic.activation=relu",
]

CASES: dict[str, tuple[list[str], list[str]]] = {
    # name: names of the config, today's and earlier ones, and further flags
    "digits": (["digits.py"], []),
    "digits, clipping": (["digits.py:clip", "digits_clip.py"], WARM_UP),
    "digits, clipping before": (["digits.py:clip", "digits_clip.py"], [*WARM_UP, "--config.constraint.order=before"]),
    "digits, auxiliary": (["digits.py:auxiliary", "digits_conditional.py"], []),
    "digits, projection": (
        ["digits.py:projection", "digits_conditional.py"],
        ["--config.conditional.kind=projection"],
    ),
    "toy, 8 Gaussians, penalty": (["toy.py:8gaussians,penalty"], []),
    "toy, 25 Gaussians, clipping": (["toy.py:25gaussians,clip"], []),
    "toy, Swiss roll, penalty": (["toy.py:swissroll,penalty"], []),
    "mnist": (["mnist.py"], [PICTURES]),
    "fashion_mnist": (["fashion_mnist.py"], [PICTURES]),
    "cifar10": (["cifar10.py"], [PICTURES]),
    "cifar10_resnet": (["cifar10_resnet.py"], [PICTURES]),
    "cifar10_resnet, auxiliary": (["cifar10_resnet.py:auxiliary", "cifar10_resnet_conditional.py"], [PICTURES]),
    "celeb_a": (["celeb_a.py"], [PICTURES, "--config.data.crop=48"]),
    "lsun_bedroom": (["lsun_bedroom.py"], [PICTURES]),
    "lsun_bedroom, ResNet": (["lsun_bedroom.py"], [PICTURES, *RESNET]),
    "folder": (["folder.py:{pictures}"], ["--config.data.flip=True"]),
    **{f"wgan_clip, {n}": ([f"wgan_clip.py:{n}"], [PICTURES, *WARM_UP]) for n in ("dcgan", "poor", "mlp")},
    **{
        f"game {game}": (["digits.py"], [f"--config.game={game}"])
        for game in ("minimax", "non_saturating", "least_squares")
    },
    "no constraint": (["digits.py"], ["--config.constraint.kind=none"]),
    "one-sided penalty": (["digits.py"], ["--config.constraint.one_sided=True", "--config.constraint.target=0.5"]),
    "microbatches": (["digits.py"], ["--config.microbatches=2"]),
    "microbatches, auxiliary": (["digits.py:auxiliary", "digits_conditional.py"], ["--config.microbatches=4"]),
    "bfloat16": (["fashion_mnist.py"], [PICTURES, "--config.precision=bfloat16"]),
    "two devices": (["cifar10.py"], [PICTURES, "--devices=2"]),
    "two devices, pmap": (["digits.py"], ["--config.parallel.mode=pmap", "--devices=2"]),
}


def make_pictures(folder: Path) -> None:
    """Writes six random colour pictures for each of ten classes."""
    rng = np.random.default_rng(0)
    for label in range(10):
        (folder / str(label)).mkdir(parents=True)
        for i in range(6):
            Image.fromarray(rng.integers(256, size=(72, 64, 3), dtype=np.uint8)).save(folder / f"{label}/{i}.png")


def train(checkout: Path, case: str, workdir: Path, pictures: Path, cache: Path) -> dict[str, object]:
    """Trains a case with the command of a checkout. Returns the digests of its arrays, its metrics and pictures."""
    names, flags = CASES[case]
    paths = [name.format(pictures=pictures) for name in names]
    path = next(path for path in paths if _there(checkout, path))
    devices = next((flag.partition("=")[2] for flag in flags if flag.startswith("--devices=")), "1")
    command = [sys.executable, "-m", "wgan_jax.train", f"--config={checkout / 'configs' / path}"]
    command += [f"--workdir={workdir}", *SHORT, *SMALL]
    command += [flag.format(pictures=pictures) for flag in flags if not flag.startswith("--devices=")]
    run(checkout, command, cache, devices)
    record = json.loads((workdir / "checkpoints" / "3" / "record.json").read_text())
    samples = {path.name: path.read_bytes() for path in sorted((workdir / "samples").iterdir())}
    return record["digests"] | samples | {"metrics": (workdir / "metrics.jsonl").read_text()}


def run(checkout: Path, command: list[str], cache: Path, devices: str = "1") -> None:
    """Runs a Python command on one checkout's package."""
    env = os.environ | {
        "PYTHONPATH": str(checkout),
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    done = subprocess.run(command, cwd=checkout, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} in {checkout}: {done.stderr}")


def _there(checkout: Path, path: str) -> bool:
    """Tells whether a checkout contains a config and the config accepts the argument of its path."""
    name, _, argument = path.partition(":")
    file = checkout / "configs" / name
    return file.exists() and (not argument or "def get_config()" not in file.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--only", default="", help="a text that the names of the cases contain")
    args = parser.parse_args()
    different = 0
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        make_pictures(place / "pictures")
        for case in (case for case in CASES if args.only in case):
            old, new = (
                train(checkout.absolute(), case, place / side / case, place / "pictures", place / "cache")
                for side, checkout in (("old", args.old), ("new", args.new))
            )
            restore = f"import wgan_jax; wgan_jax.restore({str(place / 'old' / case)!r})"
            run(args.new.absolute(), [sys.executable, "-c", restore], place / "cache")
            wrong = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
            different += bool(wrong)
            print(f"{case}: " + (f"DIFFERENT: {', '.join(wrong[:3])}" if wrong else f"{len(new)} equal"), flush=True)
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
