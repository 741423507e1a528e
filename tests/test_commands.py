"""Every command on a tiny config: trained and read by processes as a user has them, else within this one."""

import errno
import json
import subprocess
from unittest import mock

import jax
import numpy as np
import pytest
from PIL import Image

import wgan_jax
from wgan_jax import UserError
from wgan_jax.data import fixed_subset, toy
from wgan_jax.metrics import transport
from wgan_jax.report import records
from wgan_jax.run.training import train
from wgan_jax.run.workdir import LOCK

from .commands import ROOT, command, environment, run_anew, run_here, train_command
from .conftest import tiny_config
from .tensorboard_records import scalars


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "digits"
    done = run_anew(train_command(workdir))
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
    done = run_here(train_command(workdir))
    assert done.returncode == 0
    assert "finished already: all 12 iterations are done" in done.stdout
    assert (workdir / "metrics.jsonl").read_bytes() == before


def test_another_config_on_the_same_workdir_is_refused(digits_run):
    workdir, _ = digits_run
    done = run_here(train_command(workdir, "--config.batch_size=16", "--config.critic.width=9"))
    assert_one_line(done, "config.batch_size: 8 there, 16 here", "config.critic.width: 8 there, 9 here")


def test_sample_writes_pictures_arrays_and_walks(digits_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    workdir, _ = digits_run
    for args in (
        ["--num=9", "--out=a.png"],
        ["--num=5", "--out=deep/b.npz"],
        ["--interpolate", "--num=2", "--out=c.npz"],
    ):
        done = run_here(command("sample", f"--workdir={workdir}", *args))
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
    done = run_here(command("evaluate", f"--workdir={workdir}", "--json"))
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["step"] == 12
    assert sum(result["class_counts"]) == 1_000
    assert result["nearest_neighbour_accuracy"] > 0.9
    assert 0.4 < result["real_nearest_neighbour_accuracy"] < 0.6


def test_evaluate_prints_metrics_with_their_floors(digits_run, tmp_path, monkeypatch):
    """Of a run, as JSON and as a table, and of two files without a run; statistics go to the cache of the user."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    workdir, _ = digits_run
    args = [f"--workdir={workdir}", "--metrics=nearest_neighbour_accuracy,ms_ssim", "--num=64"]
    done = run_here(command("evaluate", *args, "--json"))
    assert done.returncode == 0, done.stderr
    entry = json.loads(done.stdout)["metrics"]["nearest_neighbour_accuracy"]
    assert entry["value"] > 0.9
    assert 0.3 < entry["floor"] < 0.7
    assert (entry["num"], entry["reference_num"], entry["features"], entry["better"]) == (64, 64, "pixels", "0.5")
    lines = run_here(command("evaluate", *args)).stdout.splitlines()
    header = next(line for line in lines if line.startswith("metric "))
    assert header.split() == ["metric", "value", "floor", "best", "images", "reference", "features"]
    assert any(line.split()[:2] == ["nearest_neighbour_accuracy", f"{entry['value']:.4f}"] for line in lines)
    monkeypatch.setattr("wgan_jax.metrics.evaluation.evaluate", lambda *args, **kwargs: pytest.fail("too late"))
    done = run_here(command("evaluate", *args[:1], "--metrics=msssim"))
    assert (done.returncode, done.stderr) == (
        2,
        "error: --metrics: there is no metric 'msssim'; did you mean ms_ssim?\n",
    )

    monkeypatch.setattr("wgan_jax.metrics.weights.download", lambda: tmp_path / "w.pth")
    rng = np.random.default_rng(0)
    for name, num in (("a", 20), ("b", 40)):
        np.savez(tmp_path / f"{name}.npz", image=rng.integers(256, size=(num, 16, 16, 3), dtype=np.uint8))
    files = [f"--images={tmp_path / 'a.npz'}", f"--reference={tmp_path / 'b.npz'}"]
    done = run_here(command("evaluate", *files, "--metrics=ms_ssim,sliced_wasserstein", "--json", "--download"))
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(f"{tmp_path / 'w.pth'}: the weights of the Inception network")
    found = json.loads(done.stdout)["metrics"]
    assert found.keys() == {"ms_ssim", "sliced_wasserstein"}
    assert found["sliced_wasserstein"]["value"] == pytest.approx(found["sliced_wasserstein"]["floor"], rel=0.5)


@pytest.fixture(scope="module")
def toy_run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "toy"
    done = run_here(train_command(workdir, config="toy.py:8gaussians,clip"))
    assert done.returncode == 0, done.stderr
    return workdir


def test_toy_runs_draw_the_critics_landscape(toy_run):
    picture = pixels(toy_run / "samples" / "0000012.png")
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 100
    assert "clipped_fraction" in records.read(toy_run)[-1]


@pytest.mark.slow
@pytest.mark.parametrize("choice", ["swissroll,penalty", "25gaussians,clip"])
def test_every_toy_draws_the_critics_landscape(choice, tmp_path):
    done = run_here(train_command(tmp_path / "run", config=f"toy.py:{choice}"))
    assert done.returncode == 0, done.stderr
    picture = pixels(tmp_path / "run" / "samples" / "0000012.png")
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 100


def test_toy_runs_log_the_exact_distance_beside_the_estimate(toy_run):
    """Of the held-out estimate's own points: so the estimate is at most that times the critic's Lipschitz constant."""
    history = records.read(toy_run)
    assert [record["step"] for record in history if "wasserstein_exact" in record] == [4, 8, 12]
    gan, state = wgan_jax.restore(toy_run)
    z = wgan_jax.draws.held_out_latents(state.key, 12, np.arange(512), gan.latent_dim)
    fake = np.asarray(gan.generator.apply(state.generator.variables, z))
    held_out = toy.load("8gaussians", "held_out")
    points = held_out.read(fixed_subset(held_out, 512))["image"]
    exact = history[-1]["wasserstein_exact"]
    assert exact == pytest.approx(transport.wasserstein(points, fake), rel=1e-5)
    layers = state.critic.params["hidden"] | {"output": state.critic.params["output"]}
    lipschitz = np.prod([np.linalg.norm(layer["kernel"], 2) for layer in layers.values()])
    assert abs(history[-1]["held_out_estimate"]) <= lipschitz * exact


def test_warm_up_and_clipping_through_the_command(tmp_path):
    args = ["--config.warmup.n_critic=6", "--config.warmup.steps=2", "--config.warmup.every=5", "--config.steps=6"]
    done = run_here(train_command(tmp_path / "run", *args, config="digits.py:clip"))
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
TRAIN = ["train", CONFIG, "--workdir=w"]
NO_LOCAL_PATH = "is not a path of this machine"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["train", "--workdir=w"], ["--config"]),
        (["train", CONFIG], ["--workdir"]),
        (["train", "--config=none.py", "--workdir=w"], ["none.py", "no such file"]),
        (["train", "--config=/", "--workdir=w"], ["--config=/: no such file"]),
        (["train", f"--config={300 * 'x'}", "--workdir=w"], ["xxx: no such file"]),
        (["train", f"--config={ROOT / 'LICENSE'}", "--workdir=w"], ["--config: IndentationError"]),
        (
            ["train", f"--config={ROOT / 'configs' / 'digits.py'}:vae", "--workdir=w"],
            ["digits.py:vae: 'vae': must be one of penalty, clip, auxiliary, projection"],
        ),
        (
            ["train", f"--config={ROOT / 'configs' / 'mnist.py'}:vae", "--workdir=w"],
            ["mnist.py:vae: TypeError: get_config() takes 0 positional arguments but 1 was given"],
        ),
        ([*TRAIN, "--config.stpes=3"], ["stpes", 'Did you mean "steps"']),
        ([*TRAIN, "--config.critic.zzz=3"], ["zzz"]),
        ([*TRAIN, "--config.steps=many"], ["config.steps", "many"]),
        ([*TRAIN, "--config.steps=1e3"], ["config.steps", "1e3"]),
        ([*TRAIN, "--config.steps=0"], ["config.steps = 0", "at least 1"]),
        ([*TRAIN, "--config.critic.optimizer.learning_rate=nan"], ["learning_rate = nan: must be finite"]),
        ([*TRAIN, "--config.constraint.weight=1e400"], ["constraint.weight = inf: must be finite"]),
        ([*TRAIN, "--config.critic.norm=batch"], ["config.critic.norm", "leave it at 'none'"]),
        ([*TRAIN, "--config.data.name=digitz"], ["digitz", "did you mean digits?"]),
        ([*TRAIN, "--config.data.size=9"], ["config.data.size = 9", "digits needs 8"]),
        ([*TRAIN, "--nonsense=1"], ["nonsense"]),
        ([*TRAIN, "nonsense"], ["nonsense"]),
        ([*TRAIN, "--flagfile=none"], ["none", "No such file"]),
        ([*TRAIN, "--verbosity=loud"], ["--verbosity=loud"]),
        ([*TRAIN, "--num_processes=0"], ["--num_processes=0"]),
        (["train", CONFIG, "--workdir=/proc/w"], ["/proc/w", "cannot be written"]),
        (["train", CONFIG, f"--workdir={300 * 'x'}"], ["xxx", "File name too long"]),
        (["train", CONFIG, f"--workdir={ROOT / 'LICENSE'}"], ["LICENSE", "File exists"]),
        (["train", CONFIG, "--workdir="], ["--workdir=", "is empty"]),
        (["train", CONFIG, "--workdir=gs://bucket/run"], ["--workdir=gs://bucket/run", NO_LOCAL_PATH, "gcsfuse"]),
        (["train", CONFIG, "--workdir=~nobody.at.all/run"], ["--workdir=~nobody.at.all/run", "home"]),
        (["train", f"--config={ROOT / 'configs' / 'toy.py'}:roll,penalty", "--workdir=w"], ["roll,pen", "swissroll"]),
        (["sample", "--workdir=nowhere"], ["nowhere", "holds no run"]),
        (["sample", f"--workdir={ROOT / 'LICENSE'}"], ["LICENSE", "holds no run"]),
        (["sample", f"--workdir={300 * 'x'}"], ["xxx", "File name too long"]),
        (["sample", "--workdir=nowhere", "--num=0"], ["num"]),
        (["sample", "--workdir=nowhere", "--num=1e9"], ["--num=1e9"]),
        (["sample", "--workdir=nowhere", "--seed=-1"], ["--seed=-1"]),
        (["sample", "--workdir=nowhere", "--seed=4294967296"], ["--seed=4294967296", "[0, 4294967295]"]),
        (["sample", "--workdir=nowhere", "--out=s3://bucket/a.png"], ["--out=s3://bucket/a.png", NO_LOCAL_PATH]),
        (["sample", "--workdir=hdfs://there/run"], ["--workdir=hdfs://there/run", NO_LOCAL_PATH]),
        (["evaluate", "--workdir=nowhere"], ["nowhere", "holds no run"]),
        (["evaluate", "--workdir=s3://bucket/run"], ["--workdir=s3://bucket/run", NO_LOCAL_PATH]),
        (["evaluate", "--workdir=nowhere", "--seed=9223372036854775808"], ["--seed=9223372036854775808"]),
        (["evaluate"], ["--workdir=FOLDER", "--images=PATH"]),
        (["evaluate", "--images=nowhere", "--reference=nowhere"], ["nowhere", "does not exist"]),
        (["evaluate", "--workdir=w", "--reference_num=some"], ["reference_num", "a number of images, or all"]),
        (["aot", CONFIG, "--topology="], ["--topology=", "v5e: 1x1"]),
        (["aot", CONFIG, "--topology=v5e:2x2", "--global-batch=1000000000000001"], ["--global-batch=1000000000000001"]),
        (["benchmark"], ["--config"]),
        (["benchmark", CONFIG, "--rounds=0"], ["--rounds=0"]),
        (["prepare", "--name="], ["--name="]),
        (["benchmark", "--data", CONFIG, "--seconds=nan"], ["--seconds=nan"]),
        (["experiments.weights", "--workdir=gs://bucket/run"], ["--workdir=gs://bucket/run", NO_LOCAL_PATH]),
        (["experiments.robustness", "--workdir=w", "--seed=4294967296"], ["--seed=4294967296", "below 4,294,967,296"]),
    ],
    ids=lambda value: " ".join(value)[-40:],
)
def test_a_users_mistake_is_one_line_and_code_2(args, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert_one_line(run_here(command(*args)), *words)
    assert not list(tmp_path.rglob("config.json"))


def test_a_users_mistake_in_a_process_of_its_own(tmp_path):
    done = run_anew(command("train", CONFIG, "--workdir=w", "--config.steps=0"), cwd=tmp_path)
    assert_one_line(done, "config.steps = 0")


@pytest.mark.parametrize("name", ["train", "aot", "benchmark"])
def test_help_says_that_a_config_is_executed(name):
    words = run_here(command(name, "--help")).stdout.split()
    assert "It is executed: give only one that you trust." in " ".join(words)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--out=a.jpeg"], ["--out=a.jpeg", ".png or .npz"]),
        (["--out=folder.png"], ["--out=folder.png", "is a folder"]),
        (["--out=file/a.png"], ["--out=file/a.png", "cannot be written"]),
        (["--out=full.npz"], ["--out=full.npz", "No space left"]),
        (["--out="], ["--out=", "is empty"]),
        (["--num=100000000000000"], ["--num=100000000000000", "GB of memory"]),
        (["--num=10000000000000", "--interpolate"], ["--num=10000000000000", "100,000,000,000,000 examples"]),
        (["--label=99999999999999999999"], ["without classes"]),
        (["--by_class"], ["--by_class", "needs a run with classes"]),
    ],
    ids=lambda value: " ".join(value)[-40:],
)
def test_what_sample_cannot_give(args, words, digits_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "full.npz").symlink_to("/dev/full")
    workdir, _ = digits_run
    assert_one_line(run_here(command("sample", f"--workdir={workdir}", *args)), *words)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.png", "full.npz"]


def test_a_path_in_the_home_folder(digits_run, tmp_path, monkeypatch):
    workdir, _ = digits_run
    monkeypatch.setenv("HOME", str(tmp_path))
    done = run_here(command("sample", f"--workdir={workdir}", "--num=1", "--out=~/ä \udcff.png"))
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["ä \udcff.png"]


@pytest.mark.parametrize("place", ["samples", "plots", "tensorboard", "checkpoints", "metrics.jsonl", LOCK])
def test_another_thing_in_the_place_of_a_runs_file(place, tmp_path):
    if "." in place:
        (tmp_path / place).mkdir()
    else:
        (tmp_path / place).touch()
    with pytest.raises(UserError) as error:
        train(tiny_config(steps=4), tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


REFUSALS = [
    (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 3600000000 bytes."), "raise config"),
    (MemoryError(), "not enough memory"),
    (PermissionError(errno.EACCES, "Permission denied", "/pictures/a"), "/pictures/a: Permission denied; "),
    (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
    (RuntimeError("Unable to initialize backend 'cuda': none\nhere"), "backend 'cuda': none; here; JAX_PLATFORMS"),
]
PLACES = [
    "data.load",
    "run.resume.init_state",
    "run.loop.run",
    "devices.mesh.Parallel.from_devices",
    "run.training.draw_plots",
]


@pytest.mark.parametrize(
    ("place", "error", "words"),
    [
        # Every refusal in one place, and one in every place; all in all takes a minute.
        pytest.param(place, *refusal, marks=[] if place == PLACES[0] or refusal == REFUSALS[0] else pytest.mark.slow)
        for place in PLACES
        for refusal in REFUSALS
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_a_machine_refuses_is_one_line_wherever_training_is(place, error, words, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise error

    monkeypatch.setattr(f"wgan_jax.{place}", refuse)
    if place == "run.training.draw_plots":
        monkeypatch.setattr("wgan_jax.run.training.loop.run", lambda job, state: state)
    with pytest.raises(UserError) as told:
        train(tiny_config(), tmp_path)
    assert "\n" not in str(told.value)
    if not isinstance(error, OSError):
        assert words in str(told.value)
    else:
        assert error.strerror in str(told.value)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "not enough memory; ask for less"),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 9 bytes"), "not enough memory; ask for less"),
        (OSError(errno.EIO, "Input/output error", "there"), "there: Input/output error"),
    ],
    ids=lambda value: str(value)[:30],
)
@pytest.mark.parametrize("name", ["sample", "evaluate"])
def test_what_a_machine_refuses_a_command_is_one_line(name, error, words, digits_run, monkeypatch):
    monkeypatch.setattr("wgan_jax.method.sampling.generate", mock.Mock(side_effect=error))
    assert_one_line(run_here(command(name, f"--workdir={digits_run[0]}")), words)


@pytest.mark.parametrize("error", [jax.errors.JaxRuntimeError("INTERNAL"), KeyError("ours"), OSError("no number")])
def test_a_defect_keeps_its_traceback(error, digits_run, monkeypatch):
    monkeypatch.setattr("wgan_jax.method.sampling.generate", mock.Mock(side_effect=error))
    with pytest.raises(type(error)):
        run_here(command("sample", f"--workdir={digits_run[0]}"))


def test_ctrl_c_ends_a_command_quietly(digits_run, monkeypatch):
    monkeypatch.setattr("wgan_jax.method.sampling.generate", mock.Mock(side_effect=KeyboardInterrupt()))
    done = run_here(command("sample", f"--workdir={digits_run[0]}"))
    assert (done.returncode, done.stderr) == (130, "")


def test_a_reader_that_goes_away_is_no_error(digits_run, tmp_path):
    workdir, _ = digits_run
    args = command("sample", f"--workdir={workdir}", "--num=1", f"--out={tmp_path / 'a.png'}")
    with subprocess.Popen(args, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as sample:
        sample.stdout.close()
        assert sample.stderr.read() == ""
    assert sample.returncode == 141
