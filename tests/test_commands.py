"""Every command, run as a process on a tiny config."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

import wgan_jax
from wgan_jax import transport
from wgan_jax.data import toy
from wgan_jax.report import records

from .commands import ROOT, command, run, train_command
from .tensorboard_records import scalars


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "digits"
    done = run(train_command(workdir))
    assert done.returncode == 0, done.stderr
    return workdir, done


def test_a_run_leaves_its_files(digits_run):
    workdir, done = digits_run
    assert json.loads((workdir / "config.json").read_text())["steps"] == 12
    history = records.read(workdir)
    assert [record["step"] for record in history] == list(range(1, 13))
    assert [record["step"] for record in history if "held_out_estimate" in record] == [4, 8, 12]
    assert set(history[0]) == {
        "step",
        "critic_loss",
        "generator_loss",
        "wasserstein_estimate",
        "gradient_penalty",
        "gradient_norm",
        "critic_grad_norm",
        "generator_grad_norm",
    }
    assert sorted(p.name for p in (workdir / "checkpoints").iterdir()) == ["12", "4", "8"]
    for name in ("0000000", "0000006", "0000012"):
        assert pixels(workdir / "samples" / f"{name}.png").shape[1] > 400
    for name in ("estimate", "losses"):
        assert pixels(workdir / "plots" / f"{name}.png").shape[1] > 400
    last_line = done.stdout.strip().splitlines()[-1]
    for place in (workdir / "samples", workdir / "plots", workdir):
        assert str(place) in last_line


def test_progress_is_readable_where_the_output_is_no_terminal(digits_run):
    _, done = digits_run
    line = done.stderr.strip().splitlines()[-1]
    for words in ("iteration 12 of 12 (100 %)", "wasserstein_estimate", "images/s", "left"):
        assert words in line
    assert "\r" not in done.stderr


def test_tensorboard_events_hold_the_reported_metrics(digits_run):
    workdir, _ = digits_run
    written = scalars(workdir / "tensorboard")
    for record in records.read(workdir):
        if record["step"] % 4 == 0:
            for name in record.keys() - {"step"}:
                np.testing.assert_allclose(written[name, record["step"]], record[name], rtol=1e-6)


def test_a_finished_run_says_so(digits_run):
    workdir, _ = digits_run
    before = (workdir / "metrics.jsonl").read_bytes()
    done = run(train_command(workdir))
    assert done.returncode == 0
    assert "finished already: all 12 iterations are done" in done.stdout
    assert (workdir / "metrics.jsonl").read_bytes() == before


def test_another_config_on_the_same_workdir_is_refused(digits_run):
    workdir, _ = digits_run
    done = run(train_command(workdir, "--config.batch_size=16", "--config.critic.width=9"))
    assert_one_line(done, "config.batch_size: 8 there, 16 here", "config.critic.width: 8 there, 9 here")


def test_sample_writes_pictures_arrays_and_walks(digits_run, tmp_path):
    workdir, _ = digits_run
    for args in (
        ["--num=9", "--out=a.png"],
        ["--num=5", "--out=deep/b.npz"],
        ["--interpolate", "--num=2", "--out=c.npz"],
    ):
        done = run(command("sample", f"--workdir={workdir}", *args), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    picture = pixels(tmp_path / "a.png")
    assert picture.shape[0] == picture.shape[1]
    gan, state = wgan_jax.restore(workdir)
    images = np.load(tmp_path / "deep" / "b.npz")["image"]
    assert images.shape == (5, 8, 8, 1)
    np.testing.assert_array_equal(images, wgan_jax.sample(gan, state, jax.random.key(0), 5))
    walk = np.load(tmp_path / "c.npz")["image"].reshape(2, 10, 8, 8, 1)
    np.testing.assert_allclose(walk[:, [0, -1]].reshape(4, 8, 8, 1), images[:4], atol=1e-5)
    steps = np.abs(np.diff(walk, axis=1)).max(axis=(2, 3, 4))
    assert steps.max() < np.abs(walk[:, 0] - walk[:, -1]).max()


def test_evaluate_measures(digits_run):
    workdir, _ = digits_run
    done = run(command("evaluate", f"--workdir={workdir}", "--json"))
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["step"] == 12
    assert sum(result["class_counts"]) == 1_000
    assert result["nearest_neighbour_accuracy"] > 0.9
    assert 0.4 < result["real_nearest_neighbour_accuracy"] < 0.6


@pytest.mark.parametrize("choice", ["swissroll,penalty", "25gaussians,clip"])
def test_toy_runs_draw_the_critics_landscape(choice, tmp_path):
    done = run(train_command(tmp_path / "run", config=f"toy.py:{choice}"))
    assert done.returncode == 0, done.stderr
    picture = pixels(tmp_path / "run" / "samples" / "0000012.png")
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 100
    assert "clipped_fraction" in records.read(tmp_path / "run")[-1] or "penalty" in choice


def test_toy_runs_log_the_exact_distance_beside_the_estimate(tmp_path):
    """Of the held-out estimate's own points: so the estimate is at most that times the critic's Lipschitz constant."""
    done = run(train_command(tmp_path / "run", config="toy.py:8gaussians,clip"))
    assert done.returncode == 0, done.stderr
    history = records.read(tmp_path / "run")
    assert [record["step"] for record in history if "wasserstein_exact" in record] == [4, 8, 12]
    gan, state = wgan_jax.restore(tmp_path / "run")
    z = wgan_jax.draws.held_out_latents(state.key, 12, np.arange(512), gan.latent_dim)
    fake = np.asarray(gan.generator.apply(state.generator.variables, z))
    points = toy.load("8gaussians", "held_out").examples["image"][:512]
    exact = history[-1]["wasserstein_exact"]
    assert exact == pytest.approx(transport.wasserstein(points, fake), rel=1e-5)
    layers = state.critic.params["hidden"] | {"output": state.critic.params["output"]}
    lipschitz = np.prod([np.linalg.norm(layer["kernel"], 2) for layer in layers.values()])
    assert abs(history[-1]["held_out_estimate"]) <= lipschitz * exact


def test_warm_up_and_clipping_through_the_command(tmp_path):
    args = ["--config.warmup.n_critic=6", "--config.warmup.steps=2", "--config.warmup.every=5", "--config.steps=6"]
    done = run(train_command(tmp_path / "run", *args, config="digits_clip.py"))
    assert done.returncode == 0, done.stderr
    assert [record["step"] for record in records.read(tmp_path / "run")] == [1, 2, 3, 4, 5, 6]


def assert_one_line(done, *words):
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.strip().splitlines() if not line.startswith("iteration ")]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0]


CONFIG = f"--config={ROOT / 'configs' / 'digits.py'}"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--workdir=w"], ["--config"]),
        ([CONFIG], ["--workdir"]),
        (["--config=none.py", "--workdir=w"], ["none.py", "no such file"]),
        ([CONFIG, "--workdir=w", "--config.stpes=3"], ["stpes", 'Did you mean "steps"']),
        ([CONFIG, "--workdir=w", "--config.critic.zzz=3"], ["zzz"]),
        ([CONFIG, "--workdir=w", "--config.steps=many"], ["config.steps", "many"]),
        ([CONFIG, "--workdir=w", "--config.steps=0"], ["config.steps = 0", "at least 1"]),
        ([CONFIG, "--workdir=w", "--config.critic.norm=batch"], ["config.critic.norm", "each example by itself"]),
        ([CONFIG, "--workdir=w", "--config.data.name=digitz"], ["digitz", "did you mean digits?"]),
        ([CONFIG, "--workdir=w", "--config.data.size=9"], ["config.data.size = 9", "digits needs 8"]),
        ([CONFIG, "--workdir=/proc/w"], ["/proc/w", "cannot be written"]),
        ([CONFIG, "--workdir=w", "--nonsense=1"], ["nonsense"]),
        ([CONFIG, "--workdir=w", "nonsense"], ["nonsense"]),
        ([f"--config={ROOT / 'configs' / 'toy.py'}:roll,penalty", "--workdir=w"], ["roll,penalty", "swissroll"]),
    ],
    ids=lambda value: " ".join(value)[-40:],
)
def test_a_users_mistake_is_one_line_and_code_2(args, words, tmp_path):
    assert_one_line(run(command("train", *args), cwd=tmp_path), *words)
    assert not (tmp_path / "w" / "config.json").exists()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["sample", "--workdir=nowhere"], ["nowhere", "holds no run"]),
        (["evaluate", "--workdir=nowhere"], ["nowhere", "holds no run"]),
        (["sample", "--workdir=nowhere", "--num=0"], ["num"]),
    ],
)
def test_commands_without_a_run(args, words, tmp_path):
    assert_one_line(run(command(*args), cwd=tmp_path), *words)


def test_an_impossible_output_of_sample(digits_run, tmp_path):
    workdir, _ = digits_run
    done = run(command("sample", f"--workdir={workdir}", "--out=a.jpeg"), cwd=tmp_path)
    assert_one_line(done, "a.jpeg", ".png or .npz")
