"""A run that is killed and started again equals, bit for bit, the run that was not."""

import signal
import time

import pytest

from .commands import run, start, train_command
from .kill import differences

LONG = ["--config.steps=240", "--config.report.checkpoint_every=20", "--config.report.samples_every=40"]


def wait_for_checkpoint(workdir, args, beyond: int) -> None:
    """Runs a command until a checkpoint beyond a step is there, and kills it."""
    process = start(args)
    folder = workdir / "checkpoints"
    while process.poll() is None:
        if folder.is_dir() and any(p.name.isdigit() and int(p.name) > beyond for p in folder.iterdir()):
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.005)
    process.wait()


@pytest.mark.parametrize(("config", "kills"), [("digits.py", (0, 60, 140)), ("digits.py:clip", (60,))])
def test_kill_and_resume(config, kills, tmp_path):
    extra = [] if config == "digits.py" else ["--config.warmup.n_critic=9", "--config.warmup.every=50"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = run(train_command(whole, *LONG, *extra, config=config))
    assert done.returncode == 0, done.stderr

    args = train_command(killed, *LONG, *extra, config=config)
    for beyond in kills:
        wait_for_checkpoint(killed, args, beyond)
    done = run(args)
    assert done.returncode == 0, done.stderr

    assert differences(whole, killed) == []
