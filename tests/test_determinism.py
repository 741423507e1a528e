"""What the environment asks of XLA for GPUs, given what it said before; no GPU is needed."""

import json
import os
import subprocess
import sys

import jax
import pytest

from wgan_jax.devices import determinism

from .commands import environment

FLAG = "--xla_gpu_deterministic_ops=true"


@pytest.fixture(params=["xla_cuda12", "xla_cuda13", "xla_rocm7"])
def backend_for_gpus(request, tmp_path, monkeypatch):
    """An environment in which JAX's package for GPUs is installed, and which says nothing yet."""
    package = tmp_path / "jax_gpu_pjrt-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: jax-gpu-pjrt\nVersion: 1\n")
    (package / "entry_points.txt").write_text(f"[jax_plugins]\n{request.param} = jax_plugins.{request.param}\n")
    monkeypatch.syspath_prepend(tmp_path)
    start(monkeypatch)


def start(monkeypatch, **environment):
    for name in ("XLA_FLAGS", "NCCL_ALGO"):
        monkeypatch.setenv(name, "")  # so that it is restored
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("backend_for_gpus")
def test_gpus_are_asked_for_the_same_bits():
    determinism.require()
    assert os.environ["XLA_FLAGS"] == FLAG
    assert os.environ["NCCL_ALGO"] == "^NVLS"
    determinism.require()
    assert os.environ["XLA_FLAGS"] == FLAG


@pytest.mark.usefixtures("backend_for_gpus")
def test_other_flags_stay(monkeypatch):
    start(monkeypatch, XLA_FLAGS=" --xla_dump_to=/tmp/x  --xla_gpu_autotune_level=1", NCCL_ALGO="Ring")
    determinism.require()
    assert os.environ["XLA_FLAGS"] == f"--xla_dump_to=/tmp/x  --xla_gpu_autotune_level=1 {FLAG}"
    assert os.environ["NCCL_ALGO"] == "Ring"


@pytest.mark.usefixtures("backend_for_gpus")
@pytest.mark.parametrize(
    "chosen",
    [
        "--xla_gpu_deterministic_ops=false",
        "--xla_gpu_deterministic_ops",
        "--xla_gpu_exclude_nondeterministic_ops=true --xla_gpu_load_autotune_results_from=tuned.pb",
        "/etc/xla_flags",  # a file that holds them
    ],
)
def test_what_the_user_chose_is_left_alone(chosen, monkeypatch):
    start(monkeypatch, XLA_FLAGS=chosen)
    determinism.require()
    assert os.environ["XLA_FLAGS"] == chosen
    assert "NCCL_ALGO" not in os.environ


def test_without_a_backend_for_gpus_nothing_is_set(monkeypatch):
    start(monkeypatch)
    monkeypatch.setattr(determinism.metadata, "entry_points", lambda group: ())
    determinism.require()
    assert "XLA_FLAGS" not in os.environ
    assert "NCCL_ALGO" not in os.environ


def test_the_flag_is_known_to_xla_and_read_after_jax_is_imported():
    """A flag that XLA does not know ends the process at its first computation, so one that it ends at is read."""
    program = "import os, jax; os.environ['XLA_FLAGS'] = {flag!r}; print(jax.numpy.add(1, 1))"
    flags = FLAG, "--xla_gpu_deterministic_oops=true"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program.format(flag=flag)],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for flag in flags
    ]
    (out, err), (_, unknown) = (process.communicate(timeout=120) for process in started)
    assert out.strip() == "2", err
    assert "Unknown flag in XLA_FLAGS" in unknown


def test_the_record_is_json_and_says_what_the_bits_depend_on(monkeypatch):
    start(monkeypatch, XLA_FLAGS="--xla_force_host_platform_device_count=8", NCCL_ALGO="Tree")
    with jax.default_matmul_precision("float32"):
        record = determinism.record()
    assert json.loads(json.dumps(record)) == {
        "cores": len(os.sched_getaffinity(0)),
        "jax_default_matmul_precision": "float32",
        "xla_flags": "--xla_force_host_platform_device_count=8",
        "nccl_algo": "Tree",
    }
