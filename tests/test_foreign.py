"""What is not of a run is never deleted, moved, overwritten or written through."""

import os
import shutil
from contextlib import nullcontext

import jax
import pytest

import wgan_jax
from wgan_jax import UserError
from wgan_jax.files import PARTIAL, write_atomically
from wgan_jax.run import checkpoint, seal
from wgan_jax.run.checkpointer import Checkpointer
from wgan_jax.run.workdir import FILES, FOLDERS, claimed

from .commands import run, train_command
from .conftest import tiny_config
from .test_death import die

pytestmark = pytest.mark.usefixtures("quick_compilation")


def plant(workdir, outside):
    """Puts files, folders and links of somebody else's in every place of a run."""
    outside.mkdir(exist_ok=True)
    (outside / "photo.jpg").write_text("a photo")
    planted = [outside / "photo.jpg"]

    def put(name, text="not ours"):
        path = workdir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        planted.extend([path, path.parent])

    def link(name, to):
        if not (workdir / name).is_symlink():
            (workdir / name).symlink_to(to)
        planted.append(workdir / name)

    for name in ("notes.txt", "lock", "config.partial", "config.json.bak", "resnet50_mine/weights.bin"):
        put(name)
    for place in ("samples", "plots", "tensorboard", "damaged"):
        for name in ("mine.png", "0000006.partial", "estimate.partial", "12/weights.bin", ".hidden"):
            put(f"{place}/{name}")
        link(f"{place}/photos", outside)
        link(f"{place}/photo.png", outside / "photo.jpg")
    link("photos", outside)
    if (workdir / "checkpoints").is_dir():
        for name in ("resnet50_mine/weights.bin", "3000.bak/weights.bin", "007/weights.bin", "notes.txt", "5"):
            put(f"checkpoints/{name}")
        for name in ("7/weights.bin", "9.deleted/weights.bin", "mine.orbax-checkpoint-tmp-1/x", "last.ckpt"):
            put(f"checkpoints/{name}")
        for step in checkpoint.steps(workdir):
            put(f"checkpoints/{step}/notes.txt")
        link("checkpoints/11", outside)
        link("checkpoints/best", outside)
        link(f"checkpoints/2{PARTIAL}", outside)
        link("checkpoints/3.deleted", outside)
    return planted


def snapshot(paths):
    """What each path is: its bytes or target, and when it was written; of a folder only that it is there."""
    found = {}
    for path in paths:
        if path.is_symlink():
            found[path] = os.readlink(path), path.lstat().st_mtime_ns
        elif path.is_file():
            found[path] = path.read_bytes(), path.stat().st_mtime_ns
        else:
            found[path] = path.is_dir()
    return found


def test_a_run_touches_nothing_that_is_not_its_own(tmp_path):
    workdir, args = tmp_path / "run", ["--config.report.checkpoints=1"]
    workdir.mkdir()
    before = snapshot(plant(workdir, tmp_path / "outside"))
    done = run(train_command(workdir, *args, "--config.steps=12"))
    assert done.returncode == 0, done.stderr
    assert snapshot(before) == before
    shutil.rmtree(workdir / "checkpoints")  # as if it had been killed at its start
    die(workdir, "checkpoint", "after", 1)
    before = snapshot(plant(workdir, tmp_path / "outside"))
    die(workdir, "delete", "after", 1)
    assert snapshot(before) == before
    done = run(train_command(workdir, *args))
    assert done.returncode == 0, done.stderr
    assert snapshot(before) == before
    assert checkpoint.steps(workdir) == [12, 4]  # 4 has a note of somebody's in it, so it stays


def test_a_folder_that_no_run_has_claimed_is_refused_if_it_has_what_a_run_would_take_for_its_own(tmp_path):
    for name in (
        "checkpoints/mine/weights.bin",
        "checkpoints/x",
        "metrics.jsonl",
        "samples/0000006.png",
        "plots/losses.png",
    ):
        workdir = tmp_path / name.replace("/", "_")
        path = workdir / name
        path.parent.mkdir(parents=True)
        path.write_text("precious")
        with (
            pytest.raises(UserError, match=f"holds no run .*{name.split('/')[0]}.*use another workdir"),
            claimed(workdir),
        ):
            pass
        assert path.read_text() == "precious"
        assert not (workdir / "config.json").exists()


@pytest.mark.parametrize("name", [*FILES, *FOLDERS])
def test_a_link_in_the_place_of_a_file_or_folder_is_refused(name, tmp_path):
    workdir, victim = tmp_path / "run", tmp_path / "victim"
    workdir.mkdir()
    if name in FOLDERS:
        victim.mkdir()
    else:
        victim.write_text("precious")
    (workdir / name).symlink_to(victim)
    with pytest.raises(UserError, match=rf"{name} is a link"), claimed(workdir):
        pass
    assert victim.is_dir() or victim.read_text() == "precious"
    assert (workdir / name).is_symlink()


def test_nothing_is_written_through_a_link(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "a").symlink_to(victim)
    (tmp_path / f"b{PARTIAL}").symlink_to(victim)
    for name in ("a", "b"):
        with pytest.raises(OSError, match="link"):
            write_atomically(tmp_path / name, "ours")
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), lambda path: path.touch(), lambda p: p.symlink_to("x")])
def test_what_bears_the_name_of_a_checkpoint_and_is_none_is_told_before_the_run(make, tmp_path):
    place = tmp_path / "checkpoints"
    place.mkdir()
    for step, in_the_way in ((4, False), (5, False), (8, True), (10, True), (12, False)):
        make(place / str(step))
        (place / f"{step}.bak").mkdir()
        with pytest.raises(UserError, match=f"checkpoints/{step} is in the way") if in_the_way else nullcontext():
            checkpoint.refuse_obstacles(tmp_path, start=4, stop=10, every=4)
        shutil.rmtree(place)
        place.mkdir()


@pytest.mark.parametrize("seal_is", ["whole", "damaged", "gone"])
def test_a_damaged_checkpoint_with_a_foreign_file_is_not_moved(seal_is, tmp_path):
    path = ours(tmp_path / "checkpoints" / "12")
    (path / seal.SEAL).write_text("{") if seal_is == "damaged" else None
    (path / seal.SEAL).unlink() if seal_is == "gone" else None
    (path / "notes.txt").write_text("not ours")
    with pytest.raises(UserError, match=r"12 must make way .*holds notes\.txt.*move that elsewhere"):
        checkpoint.set_aside(tmp_path, beyond=8)
    (path / "notes.txt").unlink()
    checkpoint.set_aside(tmp_path, beyond=8)
    assert (tmp_path / "damaged" / "12" / "record.json").read_text() == "{}"


def ours(path):
    path.mkdir(parents=True)
    (path / "record.json").write_text("{}")
    seal.write_seal(path)
    return path


@pytest.mark.parametrize("add", [lambda p: p.write_text("x"), lambda p: p.mkdir(), lambda p: p.symlink_to("y")])
def test_a_foreign_file_pins_a_checkpoint_that_has_lost_its_seal_too(add, tmp_path):
    gan = wgan_jax.build(tiny_config())
    state = wgan_jax.init_state(gan, jax.random.key(0))
    with Checkpointer(tmp_path) as checkpointer:
        for step in (4, 8):
            checkpointer.save(step, state)
    for step in (4, 8):
        (tmp_path / "checkpoints" / str(step) / seal.SEAL).unlink()
    add(tmp_path / "checkpoints" / "4" / "mine")
    checkpoint.seal_what_is_whole(tmp_path, gan)
    with Checkpointer(tmp_path, keep=1) as checkpointer:
        checkpointer.save(12, state)
    assert checkpoint.steps(tmp_path) == [12, 4]
    assert os.path.lexists(tmp_path / "checkpoints" / "4" / "mine")


def test_a_link_in_the_place_of_a_folder_of_a_checkpoint_pins_it(tmp_path):
    path = ours(tmp_path / "checkpoints" / "4")
    shutil.move(path / "record.json", tmp_path / "record.json")
    (path / "record.json").symlink_to(tmp_path / "record.json")
    ours(tmp_path / "checkpoints" / "8")
    with Checkpointer(tmp_path, keep=1):
        assert (path / "record.json").is_symlink()


def test_another_programs_checkpoint_is_none_of_ours(tmp_path):
    path = tmp_path / "checkpoints" / "3000"
    path.mkdir(parents=True)
    (path / "_CHECKPOINT_METADATA").write_text('{"item_handlers": {}}')
    assert checkpoint.steps(tmp_path) == []
    checkpoint.set_aside(tmp_path, beyond=0)
    with Checkpointer(tmp_path, keep=1):
        assert path.is_dir()


def test_a_link_at_the_name_of_a_temporary_is_told_before_the_run(tmp_path):
    place = tmp_path / "checkpoints"
    place.mkdir()
    for ending in (PARTIAL, f"{PARTIAL}.orbax-checkpoint-tmp"):
        link = place / f"8{ending}"
        link.symlink_to(tmp_path)
        with pytest.raises(UserError, match=r"8\.wgan_jax-partial.* is in the way"):
            checkpoint.refuse_obstacles(tmp_path, start=4, stop=10, every=4)
        link.unlink()


def test_a_deletion_that_was_killed_is_finished(tmp_path):
    path = tmp_path / "checkpoints" / "4.deleted"
    path.mkdir(parents=True)
    (path / "weights").write_text("ours")
    seal.write_seal(path)
    (path / "weights").unlink()
    with Checkpointer(tmp_path):
        assert not path.exists()
