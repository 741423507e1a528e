"""Processes that need not import the package: copies of one that has done so.

Each is otherwise a process like those that a shell starts: it has its own number, streams, folder, environment and end.
"""

import atexit
import multiprocessing
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

COMMANDS = ["wgan_jax.train", "wgan_jax.sample", "wgan_jax.evaluate"]
STREAMS = tempfile.mkdtemp(prefix="wgan_jax-streams-")
atexit.register(shutil.rmtree, STREAMS, ignore_errors=True)
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.forks", *COMMANDS, "sklearn.datasets"])


class Fork:
    """`python -m MODULE ARGUMENTS…`, with the methods of `subprocess.Popen`."""

    def __init__(self, module: str, *args: str, cwd: Path, env: dict[str, str]):
        folder = Path(tempfile.mkdtemp(dir=STREAMS))
        self._streams = [folder / name for name in ("out", "err")]
        for path in self._streams:
            path.touch()
        arguments = (module, args, cwd, env, self._streams)
        self._process = CONTEXT.Process(target=_become, args=arguments, daemon=True)
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    poll = returncode.fget

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self.wait(timeout)
        out, err = (path.read_text() for path in self._streams)
        return out, err


def _become(module: str, args: tuple[str, ...], cwd: Path, env: dict[str, str], streams: list[Path]) -> None:
    for number, path in enumerate(streams, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), number)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.argv = [module, *args]
    warnings.filterwarnings("ignore", message=".* found in sys.modules", category=RuntimeWarning)
    runpy.run_module(module, run_name="__main__", alter_sys=True)
