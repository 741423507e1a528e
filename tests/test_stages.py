"""A run of two stages, whose networks grow and whose batches change their size."""

import json

import jax
import numpy as np
import pytest

import wgan_jax
from wgan_jax import data
from wgan_jax.config import stages as stages_of
from wgan_jax.data import batches
from wgan_jax.devices.mesh import Parallel
from wgan_jax.errors import UserError
from wgan_jax.method.stages import Stage, check_stages, examples_before, grow, stage_after, stage_of
from wgan_jax.method.state import named_arrays
from wgan_jax.report.reports import Reports
from wgan_jax.run import loop
from wgan_jax.run.interrupt import Interrupt
from wgan_jax.run.training import train

from .conftest import tiny_config
from .kill import differences
from .runs import moved
from .test_step import assert_same_bits


def config(depth=2):
    """With warm-up iterations in both stages, and two checkpoints in each."""
    return tiny_config(
        steps_per_dispatch=3,
        generator__depth=depth,
        critic__depth=depth,
        warmup__n_critic=3,
        warmup__steps=1,
        warmup__every=4,
        **dict.fromkeys(("report__every", "report__checkpoint_every"), 3),
        report__samples_every=6,
        report__checkpoints=10,
    )


def stages(boundary=6, steps=12):
    return (
        Stage(wgan_jax.build(config(depth=1)), 8, 0, boundary),
        Stage(wgan_jax.build(config(depth=2)), 12, boundary, steps),
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole")
    train(config(), workdir, stages=stages())
    return workdir


class After(Interrupt):
    """Stops a run after so many compiled calls."""

    def __init__(self, calls):
        super().__init__()
        self.calls = calls

    def stops(self, number):
        return number + 1 == self.calls


def digests(workdir, step):
    return json.loads((workdir / "checkpoints" / str(step) / "record.json").read_text())["digests"]


@pytest.mark.parametrize(
    ("calls", "steps"),
    [([3], [4]), ([5], [6]), ([2, 3, 1], [3, 6, 8])],
    ids=["in the first", "between the two", "in both and between"],
)
def test_a_run_that_is_interrupted_in_any_stage_ends_with_the_same_bits(calls, steps, whole, tmp_path):
    """The compiled calls end at 1, 3, 4, 5, 6, 8, 9 and 12: warm-up iterations are calls of their own."""
    for number, done in zip(calls, steps, strict=True):
        state = train(config(), tmp_path, After(number), stages=stages())
        assert int(state.step) == done
        assert_same_bits(wgan_jax.restore(tmp_path, done, stages())[1], state)
    train(config(), tmp_path, stages=stages())
    assert differences(whole, tmp_path) == []
    for step in (3, 6, 9, 12):
        assert digests(tmp_path, step) == digests(whole, step)


def test_a_checkpoint_between_two_stages_has_the_arrays_of_the_one_that_ended(whole):
    first, second = stages()
    for step, gan in ((3, first.gan), (6, first.gan), (9, second.gan), (12, second.gan)):
        restored, state = wgan_jax.restore(whole, step, (first, second))
        assert restored.critic == gan.critic
        assert named_arrays(state).keys() == named_arrays(wgan_jax.init_state(gan, state.key)).keys()
    with pytest.raises(wgan_jax.UserError, match="checkpoints/6 is a checkpoint of another network"):
        wgan_jax.restore(whole, 6)  # by the settings alone, which describe the second stage


def test_growing_keeps_the_arrays_that_are_there_and_adds_new_ones():
    before, after = (stage.gan for stage in stages())
    old = moved(wgan_jax.init_state(before, jax.random.key(7))).replace(step=jax.numpy.int32(6))
    grown = named_arrays(grow(old, after))
    kept, fresh = named_arrays(old), named_arrays(wgan_jax.init_state(after, jax.random.key(7)))
    assert grown.keys() == fresh.keys() > kept.keys()
    for name, x in grown.items():
        assert_same_bits(x, kept.get(name, fresh[name]))
    added = grown.keys() - kept.keys()
    assert all("dense_1" in name for name in added)
    assert {name.split("/")[1] for name in added if name.startswith("critic")} == {"variables", "opt_state"}
    assert any(name.startswith("ema/") for name in added)


def test_growing_begins_an_array_of_another_shape_anew():
    old = wgan_jax.init_state(wgan_jax.build(tiny_config()), jax.random.key(0))
    wider = wgan_jax.build(tiny_config(critic__width=9))
    grown, fresh = named_arrays(grow(old, wider)), named_arrays(wgan_jax.init_state(wider, jax.random.key(0)))
    for name, x in grown.items():
        assert_same_bits(x, named_arrays(old)[name] if name.startswith("generator") else fresh[name])


def seen(parts, start):
    """The real images of a run from an iteration on, as its own loop gets them: `[N, 8, 8, 1]`."""
    job = loop.Job(
        config=config(),
        stages=parts,
        devices=Parallel(tuple(jax.devices())),
        train_data=data.load(config(), "train"),
        held_out=data.load(config(), "held_out"),
        evaluators=(),
        reports=Reports(),
        checkpointer=None,
        interrupt=None,
    )
    rows = []
    for stage in parts:
        if stage.stop > start:
            plan, stream, _ = loop.prepare(job, stage, max(start, stage.start))
            for segment, batch in zip(plan, stream, strict=True):
                images = np.asarray(batch["image"])[: segment.stop - segment.start]
                assert images.shape[2] == stage.batch_size
                rows.append(images.reshape(-1, *images.shape[3:]))
    return np.concatenate(rows)


@pytest.mark.parametrize("boundary", [6, 5])
def test_no_example_is_skipped_or_repeated(boundary):
    """Critic updates are 3, 2, 2, 2, 3, 2, … by iteration; 12 iterations take more than 200 of the 1,297 digits."""
    parts = stages(boundary)
    updates = [3 if step % 4 == 0 else 2 for step in range(12)]
    sizes = [n * (8 if step < boundary else 12) for step, n in enumerate(updates)]
    images = data.load(config(), "train").read(batches.order(1297, config().seed, 0, sum(sizes)))["image"]
    for start in (0, 3, boundary, 9):
        assert examples_before(parts, start) == sum(sizes[:start])
        np.testing.assert_array_equal(seen(parts, start), images[sum(sizes[:start]) :])


def test_a_stage_goes_on_where_the_one_before_it_ended_on_each_of_several_hosts():
    source, gan = data.load(config(), "train"), stages()[0].gan
    common = {"seed": 1, "batch_size": 12, "steps": 12, "start": 6, "position": 1290}
    wholes = batches.dataset(source, gan.schedule, **common)
    parts = [batches.dataset(source, gan.schedule, **common, host=host, hosts=3) for host in range(3)]
    labels = [wholes[step]["label"].ravel() for step in range(6, 12)]
    order = batches.order(1297, 1, 1290, 1290 + sum(map(len, labels)))
    np.testing.assert_array_equal(np.concatenate(labels), source.read(order)["label"])
    for step in (6, 9):
        joined = np.concatenate([part[step]["image"] for part in parts], axis=1)
        np.testing.assert_array_equal(joined, wholes[step]["image"])


def test_the_stage_of_an_iteration_and_of_a_state():
    first, second = parts = stages()
    assert [stage_of(parts, step) for step in (0, 5, 6, 11, 12, 99)] == [first, first, *[second] * 4]
    assert [stage_after(parts, step) for step in (0, 1, 6, 7, 12, 99)] == [*[first] * 3, *[second] * 3]
    assert examples_before(parts, 99) == examples_before(parts, 12)


def test_a_config_describes_one_stage():
    (only,) = stages_of(tiny_config())
    assert only[1:] == (8, 0, 12)
    check_stages((only,), 12)


@pytest.mark.parametrize("spans", [[], [(0, 6)], [(0, 6), (7, 12)], [(0, 7), (6, 12)], [(1, 12)], [(0, 0), (0, 12)]])
def test_stages_that_leave_a_gap_or_overlap(spans, tmp_path):
    gan = wgan_jax.build(tiny_config())
    with pytest.raises(ValueError, match="must follow one another from 0 to 12"):
        train(tiny_config(), tmp_path, stages=tuple(Stage(gan, 8, *span) for span in spans))


@pytest.mark.parametrize("batch_size", [0, -8, 8.0, None])
def test_a_stage_whose_batches_have_no_size(batch_size):
    with pytest.raises(ValueError, match=f"batch_size = {batch_size!r}: must be an int"):
        check_stages((Stage(wgan_jax.build(config()), batch_size, 0, 12),), 12)


def test_a_run_goes_on_only_with_the_stages_that_it_had(tmp_path):
    small = tiny_config(steps=4)
    same = wgan_jax.build(small)
    stages = (Stage(same, 8, 0, 2), Stage(same, 16, 2, 4))
    train(small, tmp_path, stages=stages)
    small.steps = 6
    for other in (None, (Stage(same, 8, 0, 3), Stage(same, 16, 3, 6)), (Stage(same, 16, 0, 6),)):
        with pytest.raises(UserError, match=r"other stages.*\[\(8, 0, 2\), \(16, 2, 4\)\] there"):
            train(small, tmp_path, stages=other)
    longer = (stages[0], Stage(same, 16, 2, 5), Stage(same, 8, 5, 6))
    assert int(train(small, tmp_path, stages=longer).step) == 6


def test_a_run_of_its_config_records_no_stages(tmp_path):
    small = tiny_config(steps=2)
    train(small, tmp_path)
    assert "stages" not in json.loads((tmp_path / "run.json").read_text())
    small.steps = 4
    with pytest.raises(UserError, match="other stages"):
        train(small, tmp_path, stages=(Stage(wgan_jax.build(small), 16, 0, 4),))
    train(small, tmp_path)
