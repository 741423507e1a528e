"""With which settings, data and devices a run goes on, and how another begins with its networks."""

import json
import os
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

import wgan_jax
from wgan_jax import UserError, data
from wgan_jax.config import default
from wgan_jax.config.settings import flatten, to_json
from wgan_jax.files import PARTIAL, disk_errors
from wgan_jax.method.state import named_arrays
from wgan_jax.run import checkpoint, differences, identity
from wgan_jax.run.checkpointer import Checkpointer
from wgan_jax.run.resume import Options, Run
from wgan_jax.run.training import train
from wgan_jax.run.workdir import claimed, read_config, update

from . import kill
from .conftest import tiny_config
from .runs import DIGITS, begin, go_on

pytestmark = pytest.mark.usefixtures("quick_compilation")

LINEAR = {"critic__optimizer__schedule": "linear", "critic__optimizer__learning_rate": 0.5}


def files(workdir):
    """The contents of a run's two files about itself."""
    return [(workdir / name).read_bytes() for name in ("config.json", "run.json")]


# --- more iterations ---


def test_a_longer_run_equals_one_that_was_as_long_from_the_start(tmp_path):
    """Finished or not, and with other intervals, data in memory or not, and iterations in one compiled call."""
    pictures(tmp_path / "pictures", 40)
    same = {"data__name": f"folder:{tmp_path / 'pictures'}", "steps_per_dispatch": 4}
    train(tiny_config(steps=12, **same), tmp_path / "whole")
    train(tiny_config(steps=8, **same), tmp_path / "finished")
    shutil.copytree(tmp_path / "finished", tmp_path / "unfinished")
    train(tiny_config(steps=12, **same), tmp_path / "finished")
    assert kill.differences(tmp_path / "whole", tmp_path / "finished") == []
    assert files(tmp_path / "whole")[0] == files(tmp_path / "finished")[0]
    starts = identity.read(tmp_path / "finished").starts
    assert [(start["step"], start["steps"]) for start in starts] == [(0, 8), (8, 12)]

    shutil.rmtree(tmp_path / "unfinished" / "checkpoints" / "8")
    elsewhere = {"report__every": 3, "report__checkpoint_every": 5, "data__cache": "never", "steps_per_dispatch": 3}
    state = train(tiny_config(steps=12, **(same | elsewhere)), tmp_path / "unfinished")
    whole = named_arrays(wgan_jax.restore(tmp_path / "whole")[1])
    for name, array in named_arrays(state).items():
        if name != "key":
            np.testing.assert_array_equal(array, whole[name], err_msg=name)


def test_fewer_iterations_than_are_done_are_refused_and_as_many_are_the_end(tmp_path):
    begin(tmp_path, 4, 8)
    with pytest.raises(UserError, match=r"config.steps = 7: 8 iterations are done already; use at least 8"):
        go_on(tmp_path, steps=7)
    assert read_config(tmp_path).steps == 12
    assert go_on(tmp_path, steps=8).step == 8
    assert read_config(tmp_path).steps == 8


def test_a_jump_of_a_learning_rate_is_told_and_needs_its_flag(tmp_path):
    begin(tmp_path, 4, 8, **LINEAR)
    before = files(tmp_path)
    # 0.5 · (1 − 8/12) and 0.5 · (1 − 8/16)
    words = "critic.optimizer's from 0.167 to 0.25; add --reschedule to go on so, or use --config.steps=12"
    with pytest.raises(UserError, match=words) as refused:
        go_on(tmp_path, steps=16, **LINEAR)
    assert "generator.optimizer" not in str(refused.value)
    assert files(tmp_path) == before
    assert go_on(tmp_path, Options(reschedule=True), steps=16, **LINEAR).step == 8
    assert read_config(tmp_path).steps == 16
    assert go_on(tmp_path, steps=16, **LINEAR).step == 8  # the flag was for the change alone


def test_a_run_that_has_done_nothing_may_get_another_number_of_iterations(tmp_path):
    begin(tmp_path, **LINEAR)
    assert go_on(tmp_path, steps=3, **LINEAR).step == 0


# --- settings ---


@pytest.mark.parametrize(
    "changes",
    [
        {"steps_per_dispatch": 3},
        {"microbatches": 2},
        {"parallel__mode": "pmap"},
        {"report__every": 1, "report__samples_every": 7, "report__best": "held_out_estimate"},
        {"debug__nans": True},
        # of other names, but the fingerprint is the same
        {"data__name": "tfds:x", "data__cache": "always", "data__dir": "/elsewhere", "data__unreadable_fraction": 0.5},
        {"data__name": "folder:/elsewhere", "data__held_out_fraction": 0.2},
    ],
    ids=str,
)
def test_what_does_not_change_the_result_may_be_another_at_every_start(changes, tmp_path, capsys):
    begin(tmp_path, 4)
    assert go_on(tmp_path, **changes).step == 4
    assert to_json(read_config(tmp_path)) == to_json(tiny_config(**changes))
    assert "going on with other settings: config." in capsys.readouterr().out
    go_on(tmp_path, **changes)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("key", sorted(dict(flatten(default()))))
def test_every_other_setting_is_refused_and_nothing_is_written(key, tmp_path):
    if differences.within(key, (*differences.FREE, *differences.DATA, "steps")):
        return
    config = tiny_config()
    (tmp_path / "config.json").write_text(to_json(config))
    value = dict(flatten(config))[key]
    other = not value if isinstance(value, bool) else f"{value}x" if isinstance(value, str) else value + 1
    config.update_from_flattened_dict({key: other})
    remedy = f"use those, or another workdir, where --init_from={tmp_path} begins with this run's networks"
    with pytest.raises(UserError, match=remedy) as refused:
        Run(tmp_path, config, DIGITS, Options(reschedule=True, allow_other_data=True))
    assert f"holds a run with other settings: config.{key}: {value!r} there, {other!r} here" in str(refused.value)
    assert sorted(os.listdir(tmp_path)) == ["config.json"]


def test_a_setting_that_is_newer_than_the_run_gets_its_default(tmp_path, capsys):
    begin(tmp_path, 4)
    values = json.loads((tmp_path / "config.json").read_text())
    del values["debug"], values["critic"]["optimizer"]["eps"], values["ema_decay"]
    (tmp_path / "config.json").write_text(json.dumps(values))
    words = "config.critic.optimizer.eps = 1e-08, config.debug.nans = False, config.ema_decay = 0.999"
    assert wgan_jax.restore(tmp_path)[1].step == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(
        f"config.json is of an older version of wgan_jax; what it does not set has its default: {words}"
    )
    go_on(tmp_path)
    assert words in capsys.readouterr().err
    assert to_json(read_config(tmp_path)) == to_json(tiny_config())
    assert capsys.readouterr().err == ""


def test_a_setting_that_was_newer_and_is_not_the_default_is_another_one(tmp_path):
    values = tiny_config().to_dict()
    del values["ema_decay"]
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match=r"config.ema_decay: 0.999 there, 0.5 here"):
        go_on(tmp_path, ema_decay=0.5)


@pytest.mark.parametrize(("section", "key"), [(None, "zzz"), ("critic", "critic.zzz")])
def test_a_setting_that_this_version_does_not_know_is_named(section, key, tmp_path):
    values = tiny_config().to_dict()
    (values[section] if section else values)["zzz"] = 3
    (tmp_path / "config.json").write_text(json.dumps(values))
    for start in (wgan_jax.restore, go_on):
        with pytest.raises(UserError, match=f"config.{key} is unknown to wgan_jax {wgan_jax.__version__}"):
            start(tmp_path)


# --- data ---


def test_other_data_are_refused_naming_the_difference_unless_allowed(tmp_path, capsys):
    begin(tmp_path, 4)
    before = files(tmp_path)
    fewer = DIGITS | {"train": {"examples": 1000, "digest": "c"}}
    words = "holds a run on other data: train: 1,297 examples there, 1,000 here; use those, or add --allow_other_data"
    with pytest.raises(UserError, match=words):
        go_on(tmp_path, fingerprint=fewer)
    with pytest.raises(UserError, match="held_out: 500 examples, but not the same ones"):
        go_on(tmp_path, fingerprint=DIGITS | {"held_out": {"examples": 500, "digest": "c"}})
    assert files(tmp_path) == before
    assert go_on(tmp_path, Options(allow_other_data=True), fingerprint=fewer).step == 4
    assert "going on with other data: train: 1,297 examples there, 1,000 here" in capsys.readouterr().err
    go_on(tmp_path, fingerprint=fewer)
    assert capsys.readouterr().err == ""


def pictures(folder, count):
    for i in range(count):
        (folder / str(i % 2)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), 3 * i, np.uint8)).save(folder / str(i % 2) / f"{i}.png")


def test_a_folder_may_lie_elsewhere_but_not_lose_pictures(tmp_path):
    pictures(tmp_path / "here", 40)
    settings = {"data__name": f"folder:{tmp_path / 'here'}", "steps": 3}

    def start(options=Options(), **changes):  # noqa: B008
        config = tiny_config(**(settings | changes))
        splits = [data.load(config, split, cache=config.data.cache) for split in ("train", "held_out")]
        return go_on(tmp_path / "run", options, data.fingerprint(*splits), **(settings | changes))

    start()
    (tmp_path / "here").rename(tmp_path / "there")
    start(data__name=f"folder:{tmp_path / 'there'}", data__cache="never")
    shutil.rmtree(tmp_path / "there" / "1")
    with pytest.raises(UserError, match="train: 36 examples there, 18 here; held_out: 4 examples there, 2 here"):
        start(data__name=f"folder:{tmp_path / 'there'}")


def test_a_run_without_a_record_of_its_data_compares_their_names(tmp_path, capsys):
    begin(tmp_path, 4)
    identity.path(tmp_path).unlink()
    with pytest.raises(UserError, match=r"config.data.name: 'digits' there, 'folder:/x' here.*--allow_other_data"):
        go_on(tmp_path, data__name="folder:/x")
    assert not identity.path(tmp_path).exists()
    go_on(tmp_path)
    assert "not recorded so far; now they are" in capsys.readouterr().err
    assert identity.read(tmp_path).data == DIGITS


# --- versions and devices ---


def test_other_versions_and_devices_are_told_and_the_same_ones_are_not(tmp_path, capsys):
    begin(tmp_path, 4)
    go_on(tmp_path)
    assert capsys.readouterr().err == ""
    run = identity.read(tmp_path)
    assert len(run.starts) == 2
    here = run.starts[-1]
    assert here["jax"] == jax.__version__
    assert (here["backend"], here["devices"], here["hosts"], here["precision"]) == ("cpu", 1, 1, "float32")
    other = here | {"jax": "0.1.0", "devices": 8, "microbatches": 2}
    identity.write(tmp_path, run.started(other))
    go_on(tmp_path)
    (line,) = capsys.readouterr().err.splitlines()
    for words in (f"jax: 0.1.0 there, {jax.__version__} here", "devices: 8 there, 1 here", "microbatches: 2 there"):
        assert words in line
    go_on(tmp_path)
    assert capsys.readouterr().err == ""
    assert len(identity.read(tmp_path).starts) == 4  # the last start repeats the one before, and is not counted


def test_the_hosts_own_cores_matter_where_it_computes_itself():
    there = {"backend": "gpu", "cores": 8, "cpu": "a", "jax": "1", "step": 3}
    assert differences.of_environments(there, there | {"cores": 4, "cpu": "b", "step": 5}) == []
    there = there | {"backend": "cpu"}
    assert differences.of_environments(there, there | {"cores": 4}) == ["cores: 8 there, 4 here"]


def test_a_record_that_cannot_be_read_can_be_deleted(tmp_path):
    begin(tmp_path, 4)
    for text in ("", "[]", '{"data": 3, "origin": null, "starts": []}', "[" * 200_000):
        identity.path(tmp_path).write_text(text)
        with pytest.raises(UserError, match=r"run.json is damaged .*or delete it"):
            go_on(tmp_path)
    identity.path(tmp_path).unlink()
    assert go_on(tmp_path).step == 4


# --- another run's networks ---


def test_a_new_run_begins_with_another_ones_networks(tmp_path):
    """Their parameters and the generator's average; the step, the key and the optimizers are its own."""
    theirs = begin(tmp_path / "old", 4, 8)
    options = Options(init_from=tmp_path / "old")
    changes = {"seed": 3, "critic__optimizer__learning_rate": 0.1, "generator__optimizer__name": "rmsprop"}
    state = go_on(tmp_path / "new", options, DIGITS | {"train": {"examples": 7, "digest": "z"}}, **changes)
    own = wgan_jax.init_state(wgan_jax.build(tiny_config(**changes)), jax.random.key(3))
    there, new, here = (named_arrays(s) for s in (theirs, state, own))
    for name, array in new.items():
        if name == "key":
            array, here[name] = (jax.random.key_data(x) for x in (array, here[name]))
        networks = name.startswith(("generator/variables", "critic/variables", "ema"))
        np.testing.assert_array_equal(array, there[name] if networks else here[name], err_msg=name)
    began = identity.read(tmp_path / "new").origin
    assert (began.workdir, began.step, began.optimizer) == (str((tmp_path / "old").resolve()), 8, False)


def test_the_optimizers_state_comes_if_asked_for(tmp_path):
    theirs = begin(tmp_path / "old", 4)
    options = Options(init_from=tmp_path / "old", init_optimizer=True)
    state = go_on(tmp_path / "new", options, critic__optimizer__learning_rate=0.1)
    for name, array in named_arrays(theirs).items():
        if "opt_state" in name:
            np.testing.assert_array_equal(named_arrays(state)[name], array, err_msg=name)
    with pytest.raises(
        UserError, match=r"critic/opt_state/0/count: int32\[\] there, absent.*leave --init_optimizer out"
    ):
        go_on(tmp_path / "other", options, critic__optimizer__name="rmsprop")


@pytest.mark.parametrize(("step", "found"), [("4", 4), ("latest", 12), ("best", 8)])
def test_the_checkpoint_can_be_chosen(step, found, tmp_path):
    begin(tmp_path / "old", 4, 8, 12, report__best="held_out_estimate")
    go_on(tmp_path / "new", Options(init_from=tmp_path / "old", step=step))
    assert identity.read(tmp_path / "new").origin.step == found


@pytest.mark.parametrize(
    ("step", "words"), [("5", "no such checkpoint; use latest, or one of 8, 4"), ("best", "without")]
)
def test_a_checkpoint_that_is_not_there_is_refused(step, words, tmp_path):
    begin(tmp_path / "old", 4, 8)
    with pytest.raises(UserError, match=f"--step={step}: .*{words}"):
        go_on(tmp_path / "new", Options(init_from=tmp_path / "old", step=step))
    assert not (tmp_path / "new" / "config.json").exists()


def test_networks_of_other_shapes_are_refused_naming_the_arrays(tmp_path):
    begin(tmp_path / "old", 4)
    words = r"critic/variables/params/hidden/dense_0/bias: float32\[8\] there, float32\[9\] here; critic"
    with pytest.raises(UserError, match=words):
        go_on(tmp_path / "new", Options(init_from=tmp_path / "old"), critic__width=9)


def test_a_run_without_a_checkpoint_has_no_networks_to_give(tmp_path):
    begin(tmp_path / "old")
    with pytest.raises(UserError, match=r"--init_from=.*/old: no checkpoint is there yet"):
        go_on(tmp_path / "new", Options(init_from=tmp_path / "old"))


def test_a_run_from_another_goes_on_with_the_flag_or_without(tmp_path):
    """And without the other run, from its first moment on."""
    begin(tmp_path / "old", 4)
    options, changes = Options(init_from=tmp_path / "old"), {"seed": 3, "steps": 2, "report__samples_every": 2}
    train(tiny_config(**changes), tmp_path / "whole", options=options)
    assert checkpoint.steps(tmp_path / "whole") == [2, 0]
    shutil.copytree(tmp_path / "whole", tmp_path / "killed")
    shutil.rmtree(tmp_path / "killed" / "checkpoints" / "2")
    shutil.rmtree(tmp_path / "old")
    train(tiny_config(**changes), tmp_path / "killed")
    assert kill.differences(tmp_path / "whole", tmp_path / "killed") == []
    assert go_on(tmp_path / "killed", options, identity.read(tmp_path / "killed").data, **changes).step == 2
    assert len(identity.read(tmp_path / "killed").starts) == 1


def test_killed_before_its_first_checkpoint_it_begins_with_them_again(tmp_path):
    begin(tmp_path / "old", 4)
    first = go_on(tmp_path / "new", Options(init_from=tmp_path / "old"))
    begin(tmp_path / "old", 4, 8)
    again = go_on(tmp_path / "new")
    jax.tree.map(np.testing.assert_array_equal, first.ema, again.ema)


@pytest.mark.parametrize(
    ("damage"),
    ['{"data": 3}', '{"dxamples"', "examples", "digest"],
)
def test_a_damaged_identity_is_one_line(damage, tmp_path):
    begin(tmp_path, 4)
    text = identity.path(tmp_path).read_text()
    identity.path(tmp_path).write_text(text.replace(f'"{damage}"', '"xx"') if damage.isalpha() else damage)
    with pytest.raises(UserError, match=r"run\.json is damaged"):
        go_on(tmp_path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"init_from": "other"}, "began from iteration 4 of .*/old already"),
        ({"init_from": "old", "step": "3"}, "began from iteration 4 of .*/old already"),
        ({"init_from": "old", "init_optimizer": True}, "began from iteration 4 of .*/old already"),
    ],
)
def test_another_origin_than_the_runs_is_refused(options, words, tmp_path):
    begin(tmp_path / "old", 4)
    state = go_on(tmp_path / "new", Options(init_from=tmp_path / "old"))
    with Checkpointer(tmp_path / "new") as checkpointer:  # before it has one, it may begin anew
        checkpointer.save(0, state)
    options = options | {"init_from": tmp_path / options["init_from"]}
    with pytest.raises(UserError, match=f"{words}; leave --init_from out"):
        go_on(tmp_path / "new", Options(**options))
    with pytest.raises(UserError, match="began with networks of its own already"):
        go_on(tmp_path / "old", Options(init_from=tmp_path / "old"))


# --- files ---


@pytest.mark.parametrize(("ending", "why"), [("", "it is a link"), (PARTIAL, "symbolic link")])
def test_a_file_is_never_written_through_a_link(ending, why, tmp_path):
    victim, path = tmp_path / "victim", tmp_path / "run.json"
    link = tmp_path / f"run.json{ending}"
    victim.write_text("precious")
    link.symlink_to(victim)
    with pytest.raises(UserError, match=why) as refused, disk_errors(tmp_path):
        update(path, "new")
    assert "\n" not in str(refused.value)
    assert (victim.read_text(), link.is_symlink()) == ("precious", True)
    link.unlink()
    update(path, "new")
    assert (victim.read_text(), path.read_text(), sorted(os.listdir(tmp_path))) == (
        "precious",
        "new",
        ["run.json", "victim"],
    )


@pytest.mark.parametrize("name", ["config.json", "run.json"])
def test_a_start_refuses_a_link_before_it_writes_anything(name, tmp_path):
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(tmp_path / "victim")
    with pytest.raises(UserError, match=f"{name} is a link, .*: remove the link"), claimed(tmp_path / "run"):
        pytest.fail("claimed")
    assert os.listdir(tmp_path / "run") == [name]
    assert (tmp_path / "victim").read_text() == "precious"


def test_a_file_that_holds_the_text_already_is_left_alone(tmp_path):
    update(tmp_path / "a", "text")
    before = (tmp_path / "a").stat()
    update(tmp_path / "a", "text")
    after = (tmp_path / "a").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
