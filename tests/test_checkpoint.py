"""Damage of every kind to every file of a checkpoint, and checkpoints that belong to something else."""

import errno
import gc
import json
import pathlib
import shutil
import tarfile

import jax
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp

import wgan_jax
from wgan_jax import UserError
from wgan_jax.config.settings import to_json
from wgan_jax.run import checkpoint, seal
from wgan_jax.run.checkpointer import Checkpointer

from .conftest import tiny_config
from .test_step import assert_same_bits

pytestmark = [
    pytest.mark.usefixtures("quick_compilation"),
    # Orbax leaves coroutines behind where it meets damage.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def nothing_is_left_behind():
    yield
    gc.collect()


@pytest.fixture(scope="module")
def gan():
    return wgan_jax.build(tiny_config())


@pytest.fixture(scope="module")
def states(gan):
    return {step: wgan_jax.init_state(gan, jax.random.key(step)) for step in (4, 8, 12)}


@pytest.fixture(scope="module")
def whole(gan, states, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    (workdir / "config.json").write_text(to_json(tiny_config()))
    with Checkpointer(workdir, keep=2) as checkpointer:
        for step, state in states.items():
            checkpointer.save(step, state)
    return workdir


@pytest.fixture
def workdir(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "copy")


def test_the_best_by_a_metric_is_kept_too(gan, states, tmp_path):
    """Also by a process that goes on with the run: 0.1 stays the lowest of 0.5, 0.1, 0.4, 0.3, 0.2."""
    values = {4: 0.5, 8: 0.1, 12: 0.4, 16: 0.3, 20: 0.2}
    for steps in ((4, 8, 12), (16, 20)):
        with Checkpointer(tmp_path, keep=1, best="held_out_estimate") as checkpointer:
            for step in steps:
                checkpointer.save(step, states[4], {"held_out_estimate": values[step], "critic_loss": -1.0})
    assert checkpoint.steps(tmp_path) == [20, 8]
    for step in (20, 8):
        assert_same_bits(checkpoint.load(tmp_path, step, gan), states[4])


DAMAGE = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "emptied": lambda path: path.write_bytes(b""),
    "noise": lambda path: path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size)),
    "deleted": lambda path: path.unlink(),
}


def files(workdir, step):
    return sorted(path for path in (workdir / "checkpoints" / str(step)).rglob("*") if path.is_file())


def test_the_newest_are_kept_and_come_back(whole, gan, states):
    assert checkpoint.steps(whole) == [12, 8]
    step, state = checkpoint.newest(whole, gan)
    assert step == 12
    assert_same_bits(state, states[12])
    assert_same_bits(wgan_jax.restore(whole)[1], states[12])


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_to_any_file_is_found_and_the_one_before_used(kind, workdir, gan, states):
    for path in files(workdir, 12):
        if path.stat().st_size == 0:
            continue
        before = path.read_bytes()
        DAMAGE[kind](path)
        said = []
        step, state = checkpoint.newest(workdir, gan, warn=said.append)
        if path.name == seal.SEAL and kind == "deleted":
            assert step == 12  # unsealed, as after a kill, but whole
            assert_same_bits(state, states[12])
        else:
            assert step == 8, path
            assert_same_bits(state, states[8])
            assert "checkpoints/12 is damaged (its f" in said[0]
            assert said[0].endswith("using that of step 8")
        path.write_bytes(before)


# tensorstore drops the coroutines of a read that has failed.
@pytest.mark.parametrize("kind", DAMAGE)
def test_without_a_seal_the_digests_of_the_arrays_find_damage(kind, workdir, gan, states):
    (workdir / "checkpoints" / "12" / seal.SEAL).unlink()
    for path in files(workdir, 12):
        before = path.read_bytes()
        DAMAGE[kind](path)
        step, state = checkpoint.newest(workdir, gan, warn=lambda line: None)
        assert_same_bits(state, states[step])
        path.write_bytes(before)


def flip(path, rng):
    """Flips one random bit of a file; returns what undoes it."""
    before = path.read_bytes()
    content = bytearray(before)
    bit = rng.integers(8 * len(content))
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    return lambda: path.write_bytes(before)


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("flips", [40, pytest.param(400, marks=pytest.mark.slow)])
def test_a_flipped_bit_is_found(flips, sealed, workdir, gan, states):
    """Never another state than was written, and never an end of the run, since an older checkpoint is whole."""
    rng, found = np.random.default_rng(flips), []
    if not sealed:
        (workdir / "checkpoints" / "12" / seal.SEAL).unlink()
    paths = [path for path in files(workdir, 12) if path.stat().st_size]
    for i in range(flips):
        path = paths[i % len(paths)]
        undo = flip(path, rng)
        step, state = checkpoint.newest(workdir, gan, warn=lambda line: None)
        assert_same_bits(state, states[step])
        found.append(step == 8)
        undo()
    assert all(found) if sealed else any(found)  # without a seal, what no array is read from may have changed
    assert checkpoint.newest(workdir, gan)[0] == 12


def test_a_whole_checkpoint_without_a_seal_is_sealed_and_a_damaged_one_is_not(workdir, gan):
    for step in (8, 12):
        (workdir / "checkpoints" / str(step) / seal.SEAL).unlink()
    largest = max(files(workdir, 12), key=lambda path: path.stat().st_size)
    flip(largest, np.random.default_rng(0))
    checkpoint.seal_what_is_whole(workdir, gan)
    assert seal.sealed(workdir / "checkpoints" / "8")
    assert not seal.sealed(workdir / "checkpoints" / "12")
    assert checkpoint.newest(workdir, gan, warn=lambda line: None)[0] == 8


def test_a_checkpoint_has_its_name_only_when_it_is_sealed(gan, states, tmp_path, monkeypatch):
    def die(path):
        assert path.name == "4.wgan_jax-partial"
        raise KeyboardInterrupt

    monkeypatch.setattr(seal, "write_seal", die)
    place = tmp_path / "checkpoints"
    place.mkdir()
    with pytest.raises(KeyboardInterrupt), Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(4, states[4])
    assert [path.name for path in place.iterdir()] == ["4.wgan_jax-partial"]
    assert checkpoint.steps(tmp_path) == []
    with Checkpointer(tmp_path):
        assert list(place.iterdir()) == []


def test_checkpoints_of_before_the_digests_still_load(workdir, gan, states):
    """Their record has no digests, so without a seal nothing vouches for them."""
    path = workdir / "checkpoints" / "16"
    record = {"format": 1, "arrays": checkpoint.describe(states[4])}
    ocp.save(path, checkpoint.stored(states[4]), checkpointable_name="state", custom_metadata=record)
    seal.write_seal(path)
    step, state = checkpoint.newest(workdir, gan)
    assert step == 16
    assert_same_bits(state, states[4])
    (workdir / "checkpoints" / "16" / seal.SEAL).unlink()
    assert checkpoint.newest(workdir, gan, warn=lambda line: None)[0] == 12


def test_a_run_of_before_constraints_had_a_state_loads_and_goes_on(tmp_path):
    """`run_before_constraints_had_state.tar.gz` is a run of two iterations, as an earlier version left it."""
    with tarfile.open(pathlib.Path(__file__).parent / "run_before_constraints_had_state.tar.gz") as archive:
        archive.extractall(tmp_path, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    _, state = wgan_jax.restore(tmp_path / "run")
    assert int(state.step) == 2
    record = json.loads((tmp_path / "run" / "checkpoints" / "2" / "record.json").read_text())
    found = {name: seal.array_digest(x) for name, x in wgan_jax.named_arrays(state).items()}
    assert found == record["digests"]


def unreadable(path):
    path.unlink()
    path.mkdir()


def nested(path):
    path.write_text("[" * 200_000)


@pytest.mark.parametrize("damage", [unreadable, nested])
def test_a_file_that_cannot_be_read_is_damage_like_any_other(damage, workdir, gan, states):
    for name in (seal.SEAL, seal.RECORD, "_CHECKPOINT_METADATA", "state/_METADATA", "state/manifest.ocdbt"):
        shutil.rmtree(workdir / "checkpoints" / "12")
        shutil.copytree(workdir / "checkpoints" / "8", workdir / "checkpoints" / "12")
        damage(workdir / "checkpoints" / "12" / name)
        said = []
        step, state = checkpoint.newest(workdir, gan, warn=said.append)
        assert step == 8
        assert_same_bits(state, states[8])
        assert len(said) == 1


def test_a_disk_that_cannot_read_is_damage_like_any_other(workdir, gan, states, monkeypatch):
    bad = next(path for path in files(workdir, 12) if path.parent.name == "d")
    opened = pathlib.Path.open

    def fail(path, *args, **kwargs):
        if path == bad:
            raise OSError(errno.EIO, "Input/output error", str(path))
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(pathlib.Path, "open", fail)
    said = []
    step, state = checkpoint.newest(workdir, gan, warn=said.append)
    assert step == 8
    assert_same_bits(state, states[8])
    assert "Input/output error" in said[0]


def test_a_folder_that_cannot_be_looked_into_is_damage_like_any_other(workdir, gan, states, monkeypatch):
    bad = workdir / "checkpoints" / "12"
    looked = pathlib.Path.lstat

    def fail(path, *args, **kwargs):
        if bad in path.parents:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return looked(path, *args, **kwargs)

    monkeypatch.setattr(pathlib.Path, "lstat", fail)
    assert checkpoint.steps(workdir) == [12, 8]
    (bad / seal.SEAL).write_text("")
    said = []
    step, state = checkpoint.newest(workdir, gan, warn=said.append)
    assert step == 8
    assert_same_bits(state, states[8])
    assert len(said) == 1


def test_what_is_wrong_with_the_machine_is_not_damage(workdir, gan, monkeypatch):
    def fail(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(ocp, "load", fail)
    with pytest.raises(MemoryError):
        checkpoint.newest(workdir, gan)


def test_all_damaged_is_an_error_and_nothing_is_deleted(workdir, gan):
    for step in (8, 12):
        DAMAGE["truncated"](files(workdir, step)[0])
    before = sorted(workdir.rglob("*"))
    with pytest.raises(UserError, match=r"every checkpoint in .* is damaged .*nothing was deleted"):
        checkpoint.newest(workdir, gan)
    assert sorted(workdir.rglob("*")) == before


def test_a_link_out_of_the_workdir_is_not_followed(workdir, gan, states, tmp_path):
    outside = tmp_path / "outside"
    folder = workdir / "checkpoints" / "12" / "state"
    shutil.move(folder, outside)
    folder.symlink_to(outside)
    said = []
    assert checkpoint.newest(workdir, gan, warn=said.append)[0] == 8
    assert "symbolic link" in said[0]


def test_damaged_checkpoints_are_set_aside_not_deleted(workdir):
    for expected in ("12", "12-1"):
        shutil.rmtree(workdir / "checkpoints" / "12", ignore_errors=True)
        shutil.copytree(workdir / "checkpoints" / "8", workdir / "checkpoints" / "12")
        checkpoint.set_aside(workdir, beyond=8)
        assert checkpoint.steps(workdir) == [8]
        assert (workdir / "damaged" / expected).is_dir()


def test_a_checkpoint_of_another_network_is_refused_by_name(workdir):
    other = wgan_jax.build(tiny_config(critic__width=9))
    with pytest.raises(UserError, match=r"another network: critic/opt_state/.*float32.*8.* there, .*9.* here"):
        checkpoint.newest(workdir, other)


def test_a_checkpoint_of_another_format_is_refused(workdir, gan, monkeypatch):
    monkeypatch.setattr(checkpoint, "FORMAT", 2)
    with pytest.raises(UserError, match="has format 1, and this version of wgan_jax reads format 2"):
        checkpoint.newest(workdir, gan)


def test_no_checkpoint_at_all(tmp_path, gan):
    assert checkpoint.newest(tmp_path, gan) is None
    (tmp_path / "config.json").write_text(to_json(tiny_config()))
    with pytest.raises(UserError, match="holds no checkpoint yet"):
        wgan_jax.restore(tmp_path)


def test_a_damaged_config_is_named(tmp_path):
    (tmp_path / "config.json").write_text('{"seed": ')
    with pytest.raises(UserError, match=r"config\.json is damaged"):
        wgan_jax.restore(tmp_path)
