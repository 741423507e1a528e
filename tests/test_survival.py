"""What a run survives, shown with real processes."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

import wgan_jax
from wgan_jax.report import records
from wgan_jax.run import checkpoint

from .commands import ROOT, command, run, run_anew, run_here, start, train_command
from .kill import differences, kill_again_and_again
from .test_commands import assert_one_line
from .test_death import die

LONG = ["--config.steps=100000", "--config.report.checkpoint_every=20"]


def wait_for_a_checkpoint(workdir, process):
    while not checkpoint.steps(workdir):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


@pytest.mark.slow
def test_ten_kills_at_random_moments(tmp_path):
    assert kill_again_and_again(tmp_path, kills=10, seed=time.time_ns()) == []


EVERY_1000 = [f"--config.report.{name}=1000" for name in ("every", "samples_every", "checkpoint_every")]
THOUSANDS = ["--config.steps=3000", *EVERY_1000]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    done = run(train_command(workdir, *THOUSANDS))
    assert done.returncode == 0, done.stderr
    return workdir


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_asked_to_stop_a_run_saves_and_resumes(number, code, whole, tmp_path):
    args = train_command(tmp_path / "stopped", *THOUSANDS)
    process = start(args)
    while not (tmp_path / "stopped" / "samples").is_dir():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(number)
    out, err = process.communicate()
    assert process.returncode == code, err
    assert "stopped and saved after iteration" in out.strip().splitlines()[-1]
    assert "the same command resumes" in out
    stopped = checkpoint.steps(tmp_path / "stopped")[0]
    assert 0 < stopped < 3000
    done = run(args)
    assert done.returncode == 0, done.stderr
    assert differences(whole, tmp_path / "stopped") == []


def test_a_second_ctrl_c_ends_at_once(tmp_path):
    # Iterations so slow that the first Ctrl-C cannot have ended the run yet.
    args = ["--config.critic.width=1024", "--config.critic.depth=4", "--config.batch_size=1000"]
    process = start(train_command(tmp_path, *LONG, "--config.report.checkpoint_every=1", *args, "--config.n_critic=8"))
    wait_for_a_checkpoint(tmp_path, process)
    process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate()
    assert process.returncode in (-signal.SIGINT, 130)
    assert "stopped and saved" not in out
    gan = wgan_jax.build(checkpoint.read_config(tmp_path))
    assert checkpoint.newest(tmp_path, gan) is not None


def test_a_damaged_checkpoint_falls_back_and_the_run_ends_the_same(tmp_path):
    whole, damaged = tmp_path / "whole", tmp_path / "damaged"
    assert run(train_command(whole)).returncode == 0
    shutil.copytree(whole, damaged)
    newest = damaged / "checkpoints" / "12"
    next((newest / "state" / "d").iterdir()).write_bytes(b"")
    done = run(train_command(damaged))
    assert done.returncode == 0, done.stderr
    assert "checkpoints/12 is damaged (its file state/d/" in done.stderr
    assert "resuming" in done.stdout
    assert differences(whole, damaged) == []
    assert (damaged / "damaged" / "12").is_dir()


def test_two_runs_one_workdir(tmp_path):
    first = start(train_command(tmp_path, *LONG))
    wait_for_a_checkpoint(tmp_path, first)
    second = run(train_command(tmp_path, *LONG))
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert_one_line(second, f"in use by process {first.pid} on {os.uname().nodename}")


def test_a_file_size_limit_is_one_line_and_the_last_checkpoint_loads(tmp_path):
    die(tmp_path, "checkpoint", "after", 1, "--config.critic.width=64")
    args = train_command(tmp_path, "--config.critic.width=64")
    limited = run_anew(["bash", "-c", 'ulimit -f 20; exec "$@"', "_", *args])
    assert_one_line(limited, "start again to go on")
    done = run(args)
    assert done.returncode == 0, done.stderr
    assert "resuming" in done.stdout


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="mounting a small file system needs root")
def test_a_full_disk_is_one_line_and_the_last_checkpoint_loads(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=True)
    try:
        process = start(train_command(disk / "run", *LONG, "--config.report.checkpoints=100"))
        _, err = process.communicate()
        assert process.returncode == 2, err
        lines = [line for line in err.strip().splitlines() if not line.startswith("iteration")]
        assert len(lines) == 1, err
        assert "free the disk" in lines[0]
        gan = wgan_jax.build(checkpoint.read_config(disk / "run"))
        assert checkpoint.newest(disk / "run", gan) is not None
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="mounting a file system needs root")
def test_a_read_only_folder_is_one_line_and_the_run_in_it_can_be_sampled(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", disk], check=True)
    try:
        assert run(train_command(disk / "run")).returncode == 0
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        for workdir in (disk / "run", disk / "other"):
            assert_one_line(run(train_command(workdir)), str(workdir), "Read-only file system")
        done = run(command("sample", f"--workdir={disk / 'run'}", f"--out={tmp_path / 'a.png'}"))
        assert done.returncode == 0, done.stderr
    finally:
        subprocess.run(["umount", disk], check=True)


def test_divergence_ends_the_run_and_keeps_what_was_finite(tmp_path):
    args = ["--config.critic.optimizer.learning_rate=1e12", "--config.report.checkpoint_every=1"]
    done = run(train_command(tmp_path, *args, "--config.steps=400"))
    line = [line for line in done.stderr.strip().splitlines() if not line.startswith("iteration")]
    assert done.returncode == 2
    assert len(line) == 1
    assert "at iteration" in line[0]
    assert "lower learning rates" in line[0]
    last = records.read(tmp_path)[-1]["step"] if (tmp_path / "metrics.jsonl").stat().st_size else 0
    assert all(step <= last for step in checkpoint.steps(tmp_path))


@pytest.mark.usefixtures("quick_compilation")
def test_debug_nans_names_the_operation(tmp_path):
    args = ["--config.critic.optimizer.learning_rate=1e30", "--config.debug.nans=True", "--config.steps=40"]
    assert_one_line(run_here(train_command(tmp_path, *args)), "debug.nans", "nan")


OFFLINE = """
import runpy, socket, sys
def refuse(*args, **kwargs):
    raise OSError("the network is off")
socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = refuse
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def test_no_network_is_needed(tmp_path):
    train = train_command(tmp_path / "run")[2:]
    sample = command("sample", f"--workdir={tmp_path / 'run'}", f"--out={tmp_path / 'a.png'}")[2:]
    for args in (train, sample):
        done = run_anew([sys.executable, "-c", OFFLINE, *args])
        assert done.returncode == 0, done.stderr


MEMORY = """
import resource, sys
from pathlib import Path
import jax
from wgan_jax.report import progress
from wgan_jax.run.training import train
import importlib.util
counted, memory = [], {}
jax.monitoring.register_event_duration_secs_listener(
    lambda name, seconds, **kw: counted.append(name) if name.endswith("backend_compile_duration") else None
)
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
update = progress.Progress.update
def watched(self, step, *args):
    if step in (2_000, 20_000):
        memory[step] = resident(), len(counted)
    return update(self, step, *args)
progress.Progress.update = watched
spec = importlib.util.spec_from_file_location("toy", sys.argv[2])
toy = importlib.util.module_from_spec(spec)
spec.loader.exec_module(toy)
c = toy.get_config("8gaussians,penalty")
c.steps, c.batch_size, c.n_critic = 20_000, 8, 1
for player in (c.generator, c.critic):
    player.width, player.depth = 8, 1
train(c, Path(sys.argv[1]))
print(*memory[2_000], *memory[20_000])
"""


@pytest.mark.slow
def test_a_long_run_grows_in_nothing(tmp_path):
    done = run_anew([sys.executable, "-c", MEMORY, str(tmp_path / "run"), str(ROOT / "configs" / "toy.py")])
    assert done.returncode == 0, done.stderr
    early, compiled_early, late, compiled_late = map(int, done.stdout.splitlines()[-1].split())
    assert late <= 1.05 * early
    assert compiled_late == compiled_early
    assert len(checkpoint.steps(tmp_path / "run")) == 3
