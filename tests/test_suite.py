"""The suite of measurements: its table and numbers, on tiny configs and from numbers by hand."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from wgan_jax.cost import suite, suite_table

from .commands import ROOT, command, environment, run

CONFIG = """
from wgan_jax.config import default

def get_config():
    c = default()
    c.batch_size, c.n_critic, c.latent_dim = 4, 2, 4
    for player in (c.generator, c.critic):
        player.width, player.depth = 4, 1
    return c
"""


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A folder with one shipped config, `digits`, and nothing else to measure."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "digits.py").write_text(CONFIG)
    monkeypatch.setattr(suite, "CONFIGS", {"digits": ("digits", {})})
    monkeypatch.setattr(suite, "FOLLOWED", ("digits",))
    monkeypatch.setattr(suite, "FOLLOWED_STEPS", (1, 2))
    monkeypatch.setattr(suite, "ROUNDS", 2)
    monkeypatch.setattr(suite, "STEPS_A_CALL", 2)
    return tmp_path / "configs"


FOREVER = float("inf")


def test_speed_and_bits_of_a_tiny_config(tiny):
    rows = list(suite.speed(tiny, FOREVER, []))
    assert [row["precision"] for row in rows] == ["float32", "bfloat16"]
    for row in rows:
        assert row["same_bits"]
        assert row["batch_size"] == 4
        assert row["images_per_second"] == pytest.approx(2 * 4 / (row["milliseconds"] / 1e3))
        assert row["milliseconds_min"] <= row["milliseconds"] <= row["milliseconds_max"]
        assert row["fraction_of_matmul"] == pytest.approx(row["tflop_per_second"] / row["matmul_tflop_per_second"])
    assert len({row["digest"] for row in rows}) == 2
    again = list(suite.bits(tiny, FOREVER, rows))
    assert [row["same_bits"] for row in again] == [True, True]
    other = list(suite.bits(tiny, FOREVER, [rows[0] | {"digest": rows[1]["digest"]}]))
    assert not other[0]["same_bits"]


def test_without_time_every_case_is_skipped_by_name(tiny):
    rows = list(suite.speed(tiny, -FOREVER, []))
    assert [row["precision"] for row in rows] == ["float32", "bfloat16"]
    assert all("0 s left" in row["skipped"] for row in rows)


def test_the_trajectory_on_the_cpu_is_its_own_and_rounding_has_a_size(tiny):
    rows = list(suite.trajectory(tiny, FOREVER, []))
    found = {(row["on"], row["precision"]): row["distances"] for row in rows}
    kind = jax.devices()[0].device_kind
    assert found[kind, "float32"] == [0, 0]
    assert all(0 < x < 1e-3 for x in found["CPU, another order", "float32"])
    assert all(0 < x < 0.5 for x in found[kind, "bfloat16"])


def test_another_order_of_the_examples_keeps_their_draws(tiny):
    config = suite.followed(tiny, "digits", "float32")
    device, usual = jax.devices("cpu")[0], np.arange(4)
    one, other = (suite.walk(config, device, order) for order in (usual, usual[::-1].copy()))
    np.testing.assert_allclose(one[0], other[0], atol=1e-5)


RESULTS = {
    "date": "2026-01-02",
    "machine": {"device": "a card", "cores": 8, "versions": {"jax": "1.2"}, "xla_flags": "--flag"},
    "speed": [
        {
            "config": "digits",
            "precision": "float32",
            "batch_size": 64,
            "milliseconds": 12.345,
            "milliseconds_a_call_each": 13.0,
            "steps_a_call": 10,
            "images_per_second": 25_921.4,
            "tflop_per_second": 0.25,
            "fraction_of_matmul": 0.5,
            "megabytes": 1_234.5,
            "compile_seconds": 6.78,
            "same_bits": True,
        },
        {"config": "cifar10", "precision": "bfloat16", "batch_size": 512, "skipped": "would take about 9 s"},
    ],
    "bits": [{"config": suite.REPEATED, "precision": "float32", "same_bits": False}],
    "trajectory": [
        {"config": "digits", "steps": [1, 3], "precision": "float32", "on": "a card", "distances": [1.5e-6, 0.5]}
    ],
    "torch": [
        {"compile": "RuntimeError: no"},
        {
            "case": "cifar10",
            "precision": "bfloat16",
            "best": "eager",
            "ratio": 1.5,
            "milliseconds": {"ours": 2.0, "ours autotuned": 1.0, "eager": 3.0},
        },
    ],
    "skipped": ["trajectory: no time left"],
}


def test_the_table():
    text = suite_table.table(RESULTS)
    assert "a card, 8 CPU cores, 2026-01-02, jax 1.2" in text
    assert "| digits | 64 | float32 | 12.3 | 13.0 | 25,921 | 0.250 | 50 % | 1,234 | 6.8 | yes |" in text
    assert f"another process ({suite.REPEATED}): float32 no." in text
    assert "| digits | a card | float32 | 1.5e-06 | 5.0e-01 |" in text
    assert "| cifar10 | bfloat16 | 2.00 | 3.00 | 1.50 | ours autotuned 1.00; eager 3.00 |" in text
    assert "`torch.compile`, on a penalty: RuntimeError: no" in text
    assert "- cifar10, bfloat16, batch 512: would take about 9 s\n- trajectory: no time left" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in tables if "digits | 64" in line or "images/s" in line} == {12}


def test_a_process_that_prints_fails_or_takes_too_long():
    def rows(code, seconds=60.0):
        return list(suite.json_lines([sys.executable, "-c", code], seconds))

    assert rows("print('{\"a\": 1}'); print('words')") == [{"a": 1}]
    assert rows("print('{\"a\": 1}'); raise ValueError('so it is')")[-1] == {"ended": "failed: ValueError: so it is"}
    child = f"import subprocess; subprocess.run([{sys.executable!r}, '-c', 'import time; time.sleep(60)'])"
    assert rows(child, 0.5) == [{"ended": "no more after 0 s"}]


def test_elsewhere_than_in_the_repository(tmp_path):
    done = subprocess.run(
        command("benchmark", "--suite"), cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "configs/" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_the_command(tmp_path):
    """In two minutes little is measured, but all that is not has its name."""
    done = run(command("benchmark", "--suite", f"--out={tmp_path}", "--minutes=2"), cwd=ROOT, timeout=400)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "suite.json").read_text())
    text = (tmp_path / "suite.md").read_text()
    assert text in done.stdout
    named = {(row["config"], row["precision"]) for row in results["speed"]}
    assert len(named) + sum("no time left" in words for words in results["skipped"]) >= len(suite.cases("cpu"))
    assert results["seconds"] < 200
