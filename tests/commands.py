"""Runs the project's commands as processes, as a user does."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

TINY = [
    "--config.steps=12",
    "--config.steps_per_dispatch=3",
    "--config.batch_size=8",
    "--config.n_critic=2",
    "--config.latent_dim=4",
    "--config.generator.width=8",
    "--config.generator.depth=1",
    "--config.critic.width=8",
    "--config.critic.depth=1",
    "--config.report.every=4",
    "--config.report.samples_every=6",
    "--config.report.checkpoint_every=4",
]


def environment() -> dict[str, str]:
    return os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}


def command(name: str, *args: str) -> list[str]:
    return [sys.executable, "-m", f"wgan_jax.{name}", *args]


def train_command(workdir: Path, *args: str, config: str = "digits.py") -> list[str]:
    return command("train", f"--config={ROOT / 'configs' / config}", f"--workdir={workdir}", *TINY, *args)


def run(command: list[str], cwd: Path = ROOT, timeout: int = 300) -> subprocess.CompletedProcess:
    env = environment()
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout, check=False)
