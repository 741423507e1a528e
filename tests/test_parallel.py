"""The same sums on one device, on eight by jit and by pmap, and on two hosts; and what several hosts survive."""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import wgan_jax
from wgan_jax import UserError
from wgan_jax.devices import hosts, mesh
from wgan_jax.method import constraints
from wgan_jax.method.batch import batch_shapes
from wgan_jax.method.placement import mean_of, take
from wgan_jax.method.state import named_arrays
from wgan_jax.report import records
from wgan_jax.run import checkpoint, identity

from .commands import ROOT, environment, run, train_command
from .conftest import tiny_config
from .test_commands import assert_one_line
from .trajectories import small


def devices_environment(count, **more):
    quick = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}  # compiles faster, computes the same
    return environment() | quick | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={count}"} | more


def free_port():
    with socket.socket() as s:
        s.bind(("localhost", 0))
        return s.getsockname()[1]


def walk(out, variants, modes, devices, *hosts):
    args = [sys.executable, "-m", "tests.trajectories", str(out), ",".join(variants), ",".join(modes), *hosts]
    return subprocess.Popen(args, cwd=ROOT, env=devices_environment(devices), stderr=subprocess.PIPE, text=True)


def end(*processes, timeout=900):
    for process in processes:
        _, err = process.communicate(timeout=timeout)
        assert process.returncode == 0, err


def assert_same_walk(results, variant, mode, rtol=1e-4, reference="jit:1"):
    names = [name.split("|")[2] for name in results.files if name.startswith(f"{variant}|{reference}|")]
    names = [name for name in names if name != "exchanged"]
    assert len(names) > 10
    assert "metric wasserstein_estimate" in names
    for name in names:
        got, want = results[f"{variant}|{mode}|{name}"], results[f"{variant}|{reference}|{name}"]
        # What a batch norm takes away again, the bias before it, is moved by rounding alone: some 1e-6, or in bfloat16
        # as far as Adam goes.
        if variant == "bfloat16" and name.startswith(("generator", "ema")) and name.endswith("Dense_0/bias"):
            continue
        atol = max(rtol * np.abs(want).max(), 1e-5) if rtol else 0
        np.testing.assert_allclose(got, want, rtol=rtol, atol=atol, err_msg=f"{variant} {mode} {name}")


def test_eight_devices_walk_as_one(tmp_path):
    """With a penalty, generator batch norm, a generator batch of twice the size, noise on bytes and flips."""
    end(walk(tmp_path / "walks.npz", ["penalty"], ["jit:1", "jit:8", "pmap:8"], 8))
    results = np.load(tmp_path / "walks.npz")
    for mode in ("jit:8", "pmap:8"):
        assert_same_walk(results, "penalty", mode)
    assert_same_walk(results, "penalty", "pmap:8", rtol=0, reference="jit:8")
    assert_only_sums_are_exchanged(results)


@pytest.mark.slow
def test_eight_devices_draw_and_leave_out_the_same_in_their_constraints(tmp_path):
    end(walk(tmp_path / "walks.npz", ["constraints"], ["jit:1", "jit:8", "pmap:8"], 8))
    results = np.load(tmp_path / "walks.npz")
    for mode in ("jit:8", "pmap:8"):
        assert_same_walk(results, "constraints", mode)
    assert_same_walk(results, "constraints", "pmap:8", rtol=0, reference="jit:8")
    assert set(json.loads(str(results["constraints|jit:8|exchanged"]))) == {"all-reduce"}
    computed = results["constraints|jit:1|metric r1_penalty"] > 0
    assert computed.tolist() == [False, False, True, False, False]  # the last updates are 2, 4, 6, 8, 10


def assert_only_sums_are_exchanged(results):
    """The critic's gradient at each of 2 updates, the generator's once, moments of 6 normalised features, metrics."""
    exchanged = json.loads(str(results["penalty|jit:8|exchanged"]))
    assert set(exchanged) == {"all-reduce"}
    state = jax.eval_shape(lambda key: wgan_jax.init_state(small(), key), jax.random.key(0))
    generator, critic = (
        sum(4 * x.size for x in jax.tree.leaves(player.params)) for player in (state.generator, state.critic)
    )
    # Mean and mean square: in the generator's update also backwards, and as running statistics.
    sums, metrics = 2 * critic + generator + 4 * 2 * 6 * (2 + 3), 4 * (2 * 4 + 1)
    assert sums <= exchanged["all-reduce"]["bytes"] <= sums + metrics


@pytest.mark.slow
def test_every_variant_walks_as_one(tmp_path):
    """Eight devices by jit and pmap, and two hosts with two devices each, against one device."""
    variants = [
        "penalty",
        "clipping",
        "microbatches",
        "bfloat16",
        "convolutions",
        "auxiliary",
        "projection",
        "constraints",
    ]
    end(walk(tmp_path / "walks.npz", variants, ["jit:1", "jit:8", "pmap:8"], 8), timeout=900)
    address = f"localhost:{free_port()}"
    end(
        *(walk(tmp_path / "hosts.npz", variants, ["jit:4", "pmap:4"], 2, address, "2", str(i)) for i in range(2)),
        timeout=900,
    )
    results = np.load(tmp_path / "walks.npz")
    hosts = np.load(tmp_path / "hosts.npz")
    both = type(
        "Both", (), {"files": results.files, "__getitem__": lambda _, n: (hosts if n in hosts else results)[n]}
    )()
    for variant in variants:
        # bfloat16 has 8 bits: a sum in another order moves an activation by 2⁻⁸, its gradient's square by more.
        rtol = 1e-1 if variant == "bfloat16" else 1e-4
        for mode in ("jit:8", "pmap:8", "jit:4", "pmap:4"):
            assert_same_walk(both, variant, mode, rtol)
    assert_same_walk(results, "microbatches", "whole")


# --- shipped configs, with their own optimizers, against their yardstick ---

PARTS = ("parts:2", "parts:4", "order:1")
"""One device with other orders of sums."""
ORDERS = ("order:1", "order:2", "order:3")
"""The same where batch normalization needs the whole batch."""
ROUNDING = {1: 1e-4, 3: 1e-3, 30: 0.0}
"""Relative distances that are rounding alone, whatever the yardstick: where a gradient is zero but for rounding, Adam
makes a full step of it in one walk and none in another. On six configs they were at most 2.3e-5 and 3e-4."""


def distances(tmp_path, names, kinds, timeout=900):
    out = tmp_path / "distances.json"
    args = [sys.executable, "-m", "tests.yardstick", str(out), "|".join(names), ",".join(kinds)]
    end(
        subprocess.Popen(args, cwd=ROOT, env=devices_environment(8), stderr=subprocess.PIPE, text=True), timeout=timeout
    )
    return json.loads(out.read_text())


def assert_as_near_as_one_device_to_itself(found, kinds):
    """At most three times as far from one device as the farthest of one device's own."""
    for i, (step, rounding) in enumerate(ROUNDING.items()):
        yardstick = max(found[kind][i] for kind in kinds)
        assert yardstick > 0
        assert found["jit:8"][i] <= max(3 * yardstick, rounding), f"iteration {step}: {found}"


def test_eight_devices_come_as_far_from_one_as_that_from_itself(tmp_path):
    found = distances(tmp_path, ["digits"], ("jit:8", "order:1"))["digits"]
    assert_as_near_as_one_device_to_itself(found, ["order:1"])


@pytest.mark.slow
def test_every_kind_of_shipped_config_keeps_to_its_yardstick(tmp_path):
    names = ["digits", "digits:clip", "digits:auxiliary", "digits:projection", "fashion_mnist:paper"]
    names += ["toy:8gaussians,penalty", "toy:swissroll,clip"]
    found = distances(tmp_path, names, ("jit:8", "pmap:8", *PARTS, "wrong:1"), timeout=3_600)
    for name in names:
        assert_as_near_as_one_device_to_itself(found[name], PARTS)
        assert found[name]["pmap:8"] == found[name]["jit:8"], name
    # Draws that belong to other examples of the batch are no rounding.
    assert found["digits"]["wrong:1"][0] > 10 * ROUNDING[1]
    for found in distances(tmp_path, ["cifar10"], ("jit:8", *ORDERS), timeout=1_200).values():
        assert_as_near_as_one_device_to_itself(found, ORDERS)


# --- on one device: parts of a batch, and what cannot be shared ---


def test_microbatches_are_every_mth_example_and_their_mean_is_the_whole():
    batch = {"image": jnp.arange(12.0).reshape(6, 2), "label": jnp.arange(6)}
    np.testing.assert_array_equal(take(batch, 1, 3)["label"], [1, 4])
    for unroll in (False, True):
        means = mean_of(lambda part: jnp.mean(take(batch, part, 3)["image"]), 3, unroll)
        np.testing.assert_allclose(means, 5.5)


@pytest.mark.usefixtures("quick_compilation")
def test_microbatches_change_nothing_but_the_order_of_a_sum():
    gan = wgan_jax.build(tiny_config(generator__batch_multiple=2))
    state = wgan_jax.init_state(gan, jax.random.key(0))
    shape = batch_shapes(gan, 2, 8)["image"].shape
    batch = {"image": np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)}
    whole, metrics = jax.jit(wgan_jax.make_train_step(gan))(state, batch)
    parts, metrics_of_parts = jax.jit(wgan_jax.make_train_step(gan, microbatches=4))(state, batch)
    assert metrics.keys() == metrics_of_parts.keys()
    a, b = named_arrays(whole) | metrics, named_arrays(parts) | metrics_of_parts
    for name in a.keys() - {"key"}:
        np.testing.assert_allclose(b[name], a[name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_microbatches_that_cannot_be():
    normed = small(constraint=constraints.Constraint())
    state = wgan_jax.init_state(normed, jax.random.key(0))
    batch = {"image": np.zeros((1, 8, 2, 2, 1), np.float32)}
    with pytest.raises(ValueError, match="batch normalization needs the whole batch"):
        jax.eval_shape(wgan_jax.make_train_step(normed, microbatches=2), state, batch)
    with pytest.raises(ValueError, match="a batch of 8 cannot be cut into 3 microbatches"):
        jax.eval_shape(wgan_jax.make_train_step(normed, microbatches=3), state, batch)


@pytest.mark.parametrize(
    ("batch_size", "microbatches", "devices", "words"),
    [
        (50, 1, 8, r"batch_size = 50: must be divisible by 8 devices; 48 and 56 are .* on 5 or 10 devices"),
        (64, 4, 6, r"64: must be divisible by 6 devices × config.microbatches = 4; 48 and 72 .* 4 or 8 devices"),
        (64, 1, 256, r"64: must be divisible by 256 devices; the nearest that works is 256; .* on 64 devices"),
    ],
)
def test_a_batch_that_devices_cannot_share_names_the_nearest(batch_size, microbatches, devices, words):
    with pytest.raises(UserError, match=words):
        mesh.check_shares(batch_size, microbatches, devices)
    for fitting in re.findall(r"(\d+) and (\d+) are", words):
        for size in map(int, fitting):
            mesh.check_shares(size, microbatches, devices)


@pytest.mark.parametrize("given", [("a:1", None, None), (None, 2, 0), ("a:1", 2, None), ("a:1", 2, 2)])
def test_half_of_what_names_the_hosts_is_an_error(given):
    with pytest.raises(UserError, match=r"--process_id"):
        hosts.initialize(*given)


def test_a_run_on_devices_that_cannot_share_its_batch_ends_before_it_begins(tmp_path):
    args = train_command(tmp_path / "run", "--config.batch_size=12")
    done = subprocess.run(args, env=devices_environment(8), capture_output=True, text=True, check=False)
    assert_one_line(done, "config.batch_size = 12", "8 devices", "8 and 16")
    assert not (tmp_path / "run").exists()


# --- several hosts, as processes on this machine ---


def start_hosts(workdir, *args, devices=2, slurm=False, own=lambda i: []):
    port, processes = free_port(), []
    for i in range(2):
        hosts = [f"--coordinator_address=localhost:{port}", "--num_processes=2", f"--process_id={i}"]
        more = {}
        if slurm:
            names = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")
            more = dict(zip(names, (str(port), "localhost", "2", str(i), "0"), strict=True))
            hosts = []
        processes.append(
            subprocess.Popen(
                train_command(workdir, *hosts, *args, *own(i)),
                env=devices_environment(devices, **more),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return processes


@pytest.mark.slow
def test_hosts_with_other_settings_all_say_so_and_nothing_is_written(tmp_path):
    processes = start_hosts(tmp_path / "run", own=lambda i: [f"--config.seed={i}"])
    for process in processes:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 2, err
        assert "error: host 1 has other settings than the first: start all with the same flags" in err
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["wgan_jax.lock"]


@pytest.mark.slow
def test_hosts_begin_with_another_runs_networks(tmp_path):
    assert run(train_command(tmp_path / "old", "--config.steps=4")).returncode == 0
    states = []
    for flags in ([f"--init_from={tmp_path / 'old'}", "--step=4"], []):  # and again, without the flags
        processes = start_hosts(tmp_path / "new", "--config.seed=3", "--config.steps=4", *flags)
        for process in processes:
            _, err = process.communicate(timeout=300)
            assert process.returncode == 0, err
        assert checkpoint.steps(tmp_path / "new") == [4]
        states.append(wgan_jax.restore(tmp_path / "new")[1])
        shutil.rmtree(tmp_path / "new" / "checkpoints" / "4")
    jax.tree.map(np.testing.assert_array_equal, states[0].ema, states[1].ema)
    assert identity.read(tmp_path / "new").origin.step == 4


@pytest.mark.slow
def test_a_run_goes_on_with_other_devices(tmp_path):
    """Two hosts, found as under Slurm, which resume, then one device, then eight by pmap: as one that did it all."""
    # A large ε keeps rounding small, so that a wrong draw, batch or state would show.
    optimizer = [f"--config.{player}.optimizer." for player in ("critic", "generator")]
    args = [f"{key}{setting}" for key in optimizer for setting in ("schedule=constant", "eps=1e-4")]
    moving, still = tmp_path / "moving", tmp_path / "still"
    for steps in (4, 8):
        for process in start_hosts(moving, *args, f"--config.steps={steps}", slurm=True):
            out, err = process.communicate(timeout=300)
            assert process.returncode == 0, err
            assert f"done: {steps} iterations" in out
    for steps, devices, mode in ((12, 1, "jit"), (16, 8, "pmap")):
        more = [*args, f"--config.steps={steps}", f"--config.parallel.mode={mode}"]
        done = subprocess.run(
            train_command(moving, *more), env=devices_environment(devices), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert f"resuming {moving} after iteration {steps - 4}" in done.stdout
    done = run(train_command(still, *args, "--config.steps=16"))
    assert done.returncode == 0, done.stderr
    a, b = (named_arrays(wgan_jax.restore(workdir)[1]) for workdir in (moving, still))
    for name in a.keys() - {"key"}:
        np.testing.assert_allclose(a[name], b[name], rtol=1e-4, atol=1e-6, err_msg=name)
    for here, there in zip(*(records.read(workdir) for workdir in (moving, still)), strict=True):
        assert here.keys() == there.keys()
        for name, value in here.items():
            np.testing.assert_allclose(value, there[name], rtol=1e-4, atol=1e-6, err_msg=name)


ENDLESS = ["--config.steps=1000000", "--config.report.checkpoint_every=20", "--config.report.samples_every=1000000"]


def wait_for_a_checkpoint(workdir, processes):
    while not checkpoint.steps(workdir):
        assert all(process.poll() is None for process in processes), [p.communicate() for p in processes]
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_one_host_asked_to_stop_stops_all(number, tmp_path):
    processes = start_hosts(tmp_path, *ENDLESS)
    wait_for_a_checkpoint(tmp_path, processes)
    processes[1].send_signal(number)
    ends = []
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == (130 if number == signal.SIGINT and process is processes[1] else 143), err
        assert "the same command resumes" in out
        ends.append(int(re.search(r"stopped and saved after iteration ([\d,]+)", out)[1].replace(",", "")))
    assert ends == [checkpoint.steps(tmp_path)[0]] * 2


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_host_that_dies_ends_the_others_within_a_minute(victim, tmp_path):
    processes = start_hosts(tmp_path, *ENDLESS)
    wait_for_a_checkpoint(tmp_path, processes)
    processes[victim].send_signal(signal.SIGKILL)
    began = time.monotonic()
    _, err = processes[1 - victim].communicate(timeout=120)
    processes[victim].communicate()
    assert time.monotonic() - began < 60
    assert processes[1 - victim].returncode != 0
    assert "another host has ended" in err or "another task died" in err
