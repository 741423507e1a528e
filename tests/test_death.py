"""A run that dies at any step of what it does on the disk ends as the run that did not, pictures included."""

import shutil
import signal
import sys

import pytest

from wgan_jax.run import checkpoint

from .commands import run, train_command
from .kill import differences

ARGS = ["--config.report.checkpoints=1"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    done = run(train_command(workdir, *ARGS))
    assert done.returncode == 0, done.stderr
    return workdir


def die(workdir, point, when, count, *args):
    args = train_command(workdir, *ARGS, *args)[3:]
    done = run([sys.executable, "-m", "tests.die", point, when, str(count), *args])
    assert done.returncode == -signal.SIGKILL, (point, when, count, done.returncode, done.stderr)


# Each list is one run, which dies at one point after another. Checkpoints are due at 4, 8 and 12, samples at 0, 6, 12.
FAST = [("begin", "after", 2), ("delete", "before", 1), ("plots", "before", 1)]
ALL = [
    ("claim", "before", 1),
    ("claim", "after", 1),
    ("sample", "before", 1),
    ("sample", "after", 1),
    ("records", "before", 1),
    ("records", "after", 1),
    ("begin", "before", 1),
    ("begin", "after", 1),
    ("seal", "before", 1),
    ("seal", "after", 1),
    ("checkpoint", "after", 1),
    ("sample", "after", 1),
    ("name", "before", 1),
    ("prune", "before", 2),
    ("delete", "after", 1),
    ("sample", "before", 1),
    ("checkpoint", "before", 1),
    ("seal", "after", 1),
    ("name", "after", 1),
    ("leave", "before", 1),
    ("leave", "after", 1),
    ("plots", "before", 1),
    ("sample", "before", 1),
    ("sample", "after", 1),
    ("sample", "after", 2),
    ("plots", "after", 1),
]


@pytest.mark.parametrize("deaths", [FAST, pytest.param(ALL, marks=pytest.mark.slow)], ids=["some", "all"])
def test_death_at_named_points(deaths, whole, tmp_path):
    workdir = tmp_path / "dying"
    for death in deaths:
        die(workdir, *death)
    done = run(train_command(workdir, *ARGS))
    assert done.returncode == 0, done.stderr
    assert "damaged" not in done.stderr
    assert differences(whole, workdir) == []
    here, there = (sorted(p.relative_to(w).as_posix() for p in w.glob("[!t]*/*")) for w in (workdir, whole))
    assert here == there
    assert checkpoint.steps(workdir) == [12]


def test_a_finished_run_without_its_plots_gets_them(whole, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(whole, workdir)
    shutil.rmtree(workdir / "plots")
    assert "finished already" in run(train_command(workdir, *ARGS)).stdout
    assert differences(whole, workdir) == []
