"""Memory of the processes of one machine."""

import hashlib
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wgan_jax import UserError, data
from wgan_jax.data import images, memory, shared
from wgan_jax.devices import hosts
from wgan_jax.run import training
from wgan_jax.run.interrupt import Interrupt

from .commands import environment
from .conftest import tiny_config

# Without the package, whose import takes seconds.
PROGRAM = f"""
import importlib.util, os, sys, time
spec = importlib.util.spec_from_file_location("shared", {shared.__file__!r})
shared = importlib.util.module_from_spec(spec)
spec.loader.exec_module(shared)

def fill(memory):
    with open(sys.argv[1], "a") as log:
        log.write("fill\\n")
    time.sleep(float(sys.argv[2]))
    memory[:] = range(10)

memory = shared.once("key", 10, fill, lambda: True)
print(*memory, flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """The folder of the lock files, of the tests alone."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


@pytest.fixture
def start(tmp_path, temporary):
    """Starts a process that takes the memory and keeps it until its input ends."""
    started = []

    def start(seconds="0", program=PROGRAM):
        args = [sys.executable, "-c", program, str(tmp_path / "log"), seconds]
        env = environment() | {"TMPDIR": str(temporary)}
        process = subprocess.Popen(args, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def fills(tmp_path):
    return len((tmp_path / "log").read_text().splitlines())


CONTENT = "0 1 2 3 4 5 6 7 8 9\n"


def test_one_process_fills_and_the_others_read(start, tmp_path):
    processes = [start("0.5") for _ in range(3)]
    assert [process.stdout.readline() for process in processes] == 3 * [CONTENT]
    assert fills(tmp_path) == 1
    maps = [Path(f"/proc/{process.pid}/maps").read_text() for process in processes]
    inodes = {line.split()[4] for text in maps for line in text.splitlines() if "/memfd:key" in line}
    assert len(inodes) == 1


def test_a_process_that_is_killed_leaves_nothing_that_another_trusts(start, tmp_path, temporary):
    first = start("60")
    while not (tmp_path / "log").exists():
        assert first.poll() is None
    waiting = start()
    first.send_signal(signal.SIGKILL)
    assert waiting.stdout.readline() == CONTENT
    assert fills(tmp_path) == 2
    waiting.send_signal(signal.SIGKILL)
    waiting.wait()
    assert start().stdout.readline() == CONTENT
    assert fills(tmp_path) == 3
    (lock,) = temporary.iterdir()
    for words in (
        "",
        "nonsense",
        '{"process": 1}',
        f'{{"process": {os.getpid()}, "file": 0}}',
        "[]",
        '{"process": -1, "file": "x"}',
    ):
        lock.write_text(words)
        assert start().stdout.readline() == CONTENT


def test_the_lock_file_may_be_no_link(temporary):
    victim = temporary / "victim"
    victim.write_text("precious")
    (temporary / f"wgan_jax-{os.getuid()}-key.lock").symlink_to(victim)
    with pytest.raises(shared.NotSharedError):
        shared.once("key", 10, lambda memory: None, lambda: True)
    assert victim.read_text() == "precious"


def test_a_folder_for_temporary_files_that_cannot_be_written(temporary):
    temporary.rmdir()
    with pytest.raises(shared.NotSharedError):
        shared.once("key", 10, lambda memory: None, lambda: True)
    temporary.mkdir()


def test_without_room_nothing_is_taken():
    def fill(memory):
        raise AssertionError

    assert shared.once("key", 10, fill, lambda: False) is None


def test_what_fails_once_is_tried_again():
    def fail(memory):
        raise UserError("damaged")

    with pytest.raises(UserError):
        shared.once("key", 3, fail, lambda: True)
    found = shared.once("key", 3, lambda memory: memory.fill(7), lambda: True)
    assert found.tolist() == [7, 7, 7]


@pytest.fixture
def folder(tmp_path, rng):
    for name in ("cats", "dogs"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(20):
            image = rng.integers(256, size=(8, 8), dtype=np.uint8)
            Image.fromarray(image).save(tmp_path / "pictures" / name / f"{i}.png")
    (tmp_path / "pictures" / "dogs" / "bad.png").write_text("no picture")
    return tmp_path / "pictures"


def load(folder, **options):
    settings = tiny_config(data__name=f"folder:{folder}", data__unreadable_fraction=0.2)
    return data.load(settings, "train", **options)


def read(source):
    examples = source.read(np.arange(len(source)))
    return {"image": examples["image"].tolist(), "label": examples["label"].tolist()}


@pytest.mark.parametrize("cache", ["always", "never"])
def test_what_is_shared_is_what_one_process_reads(folder, cache, monkeypatch):
    alone = load(folder, cache=cache)
    first = load(folder, cache=cache, processes=2)
    if cache == "always":
        monkeypatch.setattr(memory, "available", lambda: 0)
        monkeypatch.setattr(images, "decode", None)
    second = load(folder, cache=cache, processes=2)
    for source in (first, second):
        assert read(source) == read(alone)
        assert source.digest == alone.digest
        np.testing.assert_array_equal(source.rank, alone.rank)
    if cache == "always":
        with pytest.raises(ValueError, match="read-only"):
            second.examples["image"][:] = 0


def test_pictures_are_checked_once_by_all_processes(folder, monkeypatch):
    load(folder, processes=2)
    monkeypatch.setattr(images, "decode", None)
    assert len(load(folder, processes=2)) == len(load(folder, processes=2))


def test_another_form_or_folder_has_memory_of_its_own(folder):
    first = load(folder, cache="always", processes=2)
    settings = tiny_config(data__name=f"folder:{folder}", data__unreadable_fraction=0.2, data__size=4)
    assert data.load(settings, "train", cache="always", processes=2).image_shape == (4, 4, 1)
    (folder / "cats" / "0.png").unlink()
    (folder / "dogs" / "0.png").unlink()
    assert len(load(folder, cache="always", processes=2)) < len(first)


def test_where_memory_cannot_be_shared_each_process_has_its_own(folder, monkeypatch, capfd):
    """And of the memory that is free each may take its part only."""
    size = 37 * 64
    monkeypatch.delattr(os, "memfd_create")  # as on a system that has none
    monkeypatch.setattr(memory, "available", lambda: 4 * size)
    assert isinstance(load(folder, cache="auto", processes=2), data.ArraySource)
    assert "every process decodes the images for itself" in capfd.readouterr().err
    monkeypatch.setattr(memory, "available", lambda: 4 * size - 1)
    assert not isinstance(load(folder, cache="auto", processes=2), data.ArraySource)
    assert isinstance(load(folder, cache="auto"), data.ArraySource)


LOADS = """
import hashlib, sys
from wgan_jax import data
from wgan_jax.data import images
from tests.test_shared import load

decoded, decode = [], images.decode
images.decode = lambda *args: (decoded.append(1), decode(*args))[1]
source = load(sys.argv[1], cache="always", processes=2)
print(len(decoded), hashlib.sha256(source.examples["image"]).hexdigest(), flush=True)
sys.stdin.read()
"""


def test_two_processes_decode_once(folder, start, tmp_path):
    source = load(folder, cache="always", processes=2)
    (tmp_path / "log").symlink_to(folder)
    decoded, content = start(program=LOADS).stdout.readline().split()
    assert decoded == "0"
    assert content == hashlib.sha256(source.examples["image"]).hexdigest()


def groups(tmp_path, monkeypatch, own, **files):
    (tmp_path / "own").write_text(own)
    monkeypatch.setattr(memory, "OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    for name, number in files.items():
        path = tmp_path / name.replace("__", "/").replace("-", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{number}\n")


@pytest.mark.parametrize(
    ("own", "files", "left"),
    [
        ("0::/\n", {"memory-max": 5_000, "memory-current": 2_000}, 3_000),
        (
            "0::/slurm/job\n",
            {"slurm__job__memory-max": "max", "slurm__job__memory-current": 9}
            | {"slurm__memory-max": 700, "slurm__memory-current": 200},
            500,
        ),
        (
            "4:memory:/slurm/job\n0::/\n",
            {"memory__slurm__job__memory-limit_in_bytes": 800, "memory__slurm__job__memory-usage_in_bytes": 100}
            | {"memory__memory-limit_in_bytes": 2**63 - 4096, "memory__memory-usage_in_bytes": 5},
            700,
        ),
        # A container that sees its own group as the root, by another name.
        (
            "4:cpu,memory:/docker/abc\n",
            {"memory__memory-limit_in_bytes": 900, "memory__memory-usage_in_bytes": 100},
            800,
        ),
    ],
    ids=["version 2", "version 2, nested", "version 1", "version 1, container"],
)
def test_the_limits_of_control_groups_count(tmp_path, monkeypatch, own, files, left):
    groups(tmp_path, monkeypatch, own, **files)
    assert memory.available() == left


@pytest.mark.parametrize("own", ["", "0::/\n", "4:memory:/nowhere\n1:cpu:/\n"])
def test_without_limits_the_machine_counts(tmp_path, monkeypatch, own):
    groups(tmp_path, monkeypatch, own)
    assert memory.available() > 2**20


@pytest.mark.parametrize("first", [True, False])
def test_training_tells_how_many_processes_read(tmp_path, monkeypatch, first):
    asked = {}

    def load(config, split, processes=1, **_):
        asked[split] = processes
        if split == "train":
            raise UserError("enough")

    monkeypatch.setattr(data, "load", load)
    monkeypatch.setattr(hosts, "count", lambda: 4)
    monkeypatch.setattr(hosts, "is_first", lambda: first)
    with pytest.raises(UserError, match="enough"):
        training.train(tiny_config(), tmp_path / "run", Interrupt())
    assert asked == {"held_out": 1, "train": 4}
