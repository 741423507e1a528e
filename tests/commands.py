"""Runs the project's commands: anew as a user does, as forks without the import, or here without a process."""

import contextlib
import io
import os
import runpy
import subprocess
import sys
import warnings
from pathlib import Path
from unittest import mock

from absl import app, flags

import wgan_jax.run.loop  # noqa: F401  libraries that it imports define flags, which must stay

from .forks import Fork

app.define_help_flags()  # --help, which absl defines but once in a process

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


def start(command: list[str], cwd: Path = ROOT) -> Fork:
    """Starts `python -m …` as a fork."""
    return Fork(*command[2:], cwd=cwd, env=environment())


def run(command: list[str], cwd: Path = ROOT, timeout: int = 300) -> subprocess.CompletedProcess:
    """Runs `python -m …` as a fork, to its end."""
    process = start(command, cwd)
    out, err = process.communicate(timeout)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def run_anew(command: list[str], cwd: Path = ROOT, timeout: int = 300) -> subprocess.CompletedProcess:
    """Runs any command as a new process, to its end."""
    env = environment()
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout, check=False)


def run_here(command: list[str]) -> subprocess.CompletedProcess:
    """Runs a command in this process: its exit code and output. An error that it does not catch is raised."""
    module, *args = command[2:]
    known, code = set(flags.FLAGS), 0
    with (
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as err,
        contextlib.ExitStack() as stack,
    ):
        stack.enter_context(mock.patch.object(sys, "argv", [module, *args]))
        # What a process does to itself: it may name its hosts, and keep what it compiles.
        stack.enter_context(mock.patch("wgan_jax.devices.hosts.initialize"))
        stack.enter_context(mock.patch("wgan_jax.cli.use_compilation_cache"))
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", message=".* found in sys.modules", category=RuntimeWarning)
        warnings.simplefilter("ignore", DeprecationWarning)  # of ml_collections, as it loads a config
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            code = end.code or 0
        finally:
            for name in set(flags.FLAGS) - known:
                delattr(flags.FLAGS, name)
    return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())
