"""Measures of one's own while a run goes on, on one device and on all."""

import json
import subprocess
import sys

import jax
import pytest

import wgan_jax
from wgan_jax.devices.mesh import Parallel
from wgan_jax.metrics import evaluation
from wgan_jax.metrics.evaluators import EVALUATORS, Evaluator
from wgan_jax.report import records
from wgan_jax.run import loop
from wgan_jax.run.training import train

from .commands import ROOT
from .conftest import tiny_config
from .pixels import PIXELS, on
from .test_parallel import devices_environment, end, free_port


def pixels(*args, devices):
    command = [sys.executable, "-m", "tests.pixels", *map(str, args)]
    return subprocess.Popen(command, cwd=ROOT, env=devices_environment(devices), stderr=subprocess.PIPE, text=True)


def test_a_measure_that_eight_devices_share_is_that_of_one(tmp_path):
    end(pixels(tmp_path / "found.json", devices=8))
    found = json.loads((tmp_path / "found.json").read_text())
    assert found.keys() == {"jit:1", "jit:8", "pmap:1", "pmap:8", "by hand"}
    assert found["by hand"] != 0
    for name, value in found.items():
        assert value == pytest.approx(found["by hand"], rel=1e-5), name


@pytest.mark.slow
def test_two_hosts_share_a_measure_while_their_run_goes_on(tmp_path):
    address = f"localhost:{free_port()}"
    end(*(pixels(tmp_path, address, 2, i, devices=2) for i in range(2)))
    found = {record["step"]: record["mean_pixel"] for record in records.read(tmp_path) if "mean_pixel" in record}
    assert list(found) == [3, 6, 9, 12]
    gan, state = wgan_jax.restore(tmp_path)
    here = on(Parallel(tuple(jax.devices()[:1])), tiny_config(), gan, state)
    assert found[12] == pytest.approx(here, rel=1e-4)
    assert {"training_estimate", "held_out_estimate"} <= records.read(tmp_path)[-1].keys()


def test_numbers_are_asked_for_when_the_next_iterations_are_under_way(tmp_path, monkeypatch):
    """A measure may come at iterations of its own and give several numbers; other records have none of them."""
    events = []
    make_dispatch = loop.make_dispatch

    def watched(*args):
        dispatch = make_dispatch(*args)

        def call(state, batch, segment):
            events.append(f"begin {segment.stop}")
            return dispatch(state, batch, segment)

        return call

    def measure(context):
        def begin(state):
            step = int(state.step)
            events.append(f"measure {step}")

            def numbers():
                events.append(f"number {step}")
                return {"twice": 2 * step, "half": step / 2}

            return numbers

        return begin

    monkeypatch.setattr(loop, "make_dispatch", watched)
    mine = Evaluator("mine", every=lambda config: 2, collective=False, measure=measure)
    nothing = Evaluator("nothing", every=lambda config: 2, collective=False, measure=lambda context: None)
    config = tiny_config(
        steps=6, steps_per_dispatch=2, report__every=6, report__samples_every=6, report__checkpoint_every=6
    )
    train(config, tmp_path, evaluators=(mine, nothing))
    assert [e for e in events if e[-1] in "246"] == [
        *("begin 2", "measure 2", "begin 4", "measure 4", "number 2"),
        *("begin 6", "measure 6", "number 4", "number 6"),
    ]
    found = {record["step"]: record for record in records.read(tmp_path)}
    assert {step: record["half"] for step, record in found.items() if "half" in record} == {2: 1, 4: 2, 6: 3}
    assert found[6]["twice"] == 12
    assert not {"nothing", "mine", "training_estimate"} & found[6].keys()


def test_a_measure_that_is_not_finite_ends_the_run(tmp_path):
    bad = Evaluator("bad", every=lambda config: 4, collective=False, measure=lambda context: lambda state: float("nan"))
    with pytest.raises(wgan_jax.UserError, match="bad = nan at iteration 4: the run has diverged"):
        train(tiny_config(), tmp_path, evaluators=(bad,))


def test_evaluate_reads_the_rows_of_the_loop(tmp_path):
    """The last record's numbers, and those of a row of one's own, of a state that has been saved."""
    config = tiny_config(
        data__name="toy:8gaussians", data__size=0, data__channels=2, steps=4, report__wasserstein_exact=True
    )
    rows = (*EVALUATORS, PIXELS._replace(every=lambda config: 4))
    train(config, tmp_path, evaluators=rows)
    last = records.read(tmp_path)[-1]
    result = evaluation.evaluate(config, *wgan_jax.restore(tmp_path), rows=rows)
    for name in ("training_estimate", "held_out_estimate", "wasserstein_exact", "mean_pixel"):
        assert result[name] == pytest.approx(last[name], rel=1e-5), name
    assert 0 <= result["nearest_neighbour_accuracy"] <= 1


@pytest.mark.parametrize(
    ("name", "every", "message"),
    [
        ("a", -1, "every = -1"),
        ("a", 2.0, "every = 2.0"),
        ("b", 1, "'b': another number"),
        ("step", 1, "'step': another"),
    ],
)
def test_a_row_that_cannot_be_measured_is_refused_before_the_run(name, every, message, tmp_path):
    rows = (Evaluator("b", lambda config: 1, False, lambda context: None),)
    rows += (Evaluator(name, lambda config: every, False, lambda context: None),)
    with pytest.raises(ValueError, match=message):
        train(tiny_config(), tmp_path, evaluators=rows)
    assert not list(tmp_path.iterdir())


def test_a_run_logs_the_metrics_that_its_config_names(tmp_path):
    """At iterations of their own, as `evaluate` finds them, through a stop; and it keeps the checkpoint best by one."""
    config = tiny_config(
        report__metrics=("ms_ssim", "nearest_neighbour_accuracy"),
        report__metrics_every=4,
        report__metrics_num=32,
        report__checkpoints=1,
        report__best="ms_ssim",
        steps=8,
    )
    train(config, tmp_path / "run")
    config.steps = 12
    train(config, tmp_path / "run")
    train(config, tmp_path / "straight")
    found, straight = (records.read(tmp_path / name) for name in ("run", "straight"))
    assert found == straight
    values = {record["step"]: record["ms_ssim"] for record in found if "ms_ssim" in record}
    assert list(values) == [4, 8, 12]
    best = min(values, key=values.get)
    assert {int(path.name) for path in (tmp_path / "run" / "checkpoints").iterdir()} == {best, 12}
    restored = wgan_jax.restore(tmp_path / "run")
    plain = evaluation.evaluate(tiny_config(), *restored)
    assert evaluation.evaluate(config, *restored) == plain  # other images, other counts: not under the same name
    wishes = evaluation.Wishes(metrics=("ms_ssim", "nearest_neighbour_accuracy"), num=32)
    measured = evaluation.evaluate_samples(config, *restored, wishes)
    for name in wishes.metrics:
        assert measured[name]["value"] == pytest.approx(found[-1][name], rel=1e-6), name
