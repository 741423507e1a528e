"""A step compiled for TPU slices, on a machine without one. Each compilation takes a minute."""

import importlib.util
import json

import pytest

from wgan_jax import UserError
from wgan_jax.config import build
from wgan_jax.cost import flops, hlo, slices
from wgan_jax.devices.mesh import Parallel

from .commands import ROOT, command, run, run_anew
from .conftest import tiny_config
from .test_commands import assert_one_line

needs_libtpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="the compiler is in libtpu")


def images(network, **changes):
    """A convolutional GAN; compilation takes the longer, the more layers there are, and as long for few channels."""
    both = {f"{player}__network": network for player in ("generator", "critic")}
    return tiny_config(data__name="tfds:fashion_mnist", latent_dim=16, **both, **changes)


@pytest.mark.parametrize("topology", ["v5e:3x3", "v9:1x1", "v5e", "4x4", ""])
def test_an_unknown_slice_is_an_error_that_lists_the_known(topology):
    with pytest.raises(UserError, match=r"no such slice.*v4: 2x2x1, .*v5e: 1x1, 2x2, .*16x16; v5p: .*v6e: "):
        slices.slice_devices(topology)


def test_a_batch_that_a_slice_cannot_share_is_an_error_before_anything_is_compiled():
    done = run(command("aot", f"--config={ROOT / 'configs' / 'digits.py'}", "--topology=v5e:16x16"))
    if importlib.util.find_spec("libtpu"):
        assert_one_line(done, "config.batch_size = 64: must be divisible by 256 devices", "256")
    else:
        assert_one_line(done, "pip install", "[aot]")


EXCHANGE = """\
ENTRY %main (a: f32[1000,250]) -> f32[1000,250] {
  %a = f32[1000,250]{1,0} parameter(0)
  ROOT %sum = f32[1000,250]{1,0} all-reduce(%a), channel_id=1, to_apply=%add
}
"""


def test_the_time_of_an_exchange():
    """A megabyte over 16 chips: 15/16 of it leaves each chip twice, over 2 · (3 + 3) hops of an assumed microsecond."""
    chip = slices.CHIPS["v5e"]
    times = slices.milliseconds(chip, "v5e:4x4", hlo.Program(EXCHANGE))
    assert times["exchange"] == pytest.approx(1e3 * (2e6 * 15 / 16 / 200e9 + 12e-6))
    assert times["memory"] == pytest.approx(1e3 * 2e6 / 819e9)
    assert times["arithmetic"] == 0
    assert slices.milliseconds(chip, "v5e:1x1", hlo.Program("ENTRY %main () -> f32[] {\n}\n"))["exchange"] == 0


def test_a_table_says_that_the_time_is_an_estimate():
    report = {
        "topology": "v5e:2x2",
        "devices": 4,
        "batch_size": 256,
        "examples_per_device": 64,
        "flops": 10**12,
        "bfloat16_flops": 6 * 10**12,
        "flops_needed": 10**12,
        "bytes": 10**9,
        "temporary_bytes": 10**6,
        "peak_bytes": 10**7,
        "chip_bytes": 16 * 10**9,
        "fits": True,
        "collectives": {"all-reduce": {"count": 6, "bytes": 10**6}},
        "estimated_milliseconds": {"arithmetic": 30.46, "memory": 1.22, "exchange": 0.03},
        "step_milliseconds": {"overlapping": 30.46, "in_turn": 31.71},
        "compile_seconds": 9.0,
    }
    rows = dict(line.split(maxsplit=1) for line in slices.table(report).splitlines())
    assert rows["arithmetic"] == "1,000.0 GFLOP; needed by hand count 1,000.0; 6.0 passes of bfloat16"
    assert rows["estimate"] == "arithmetic 30.46 ms, memory 1.22 ms, exchange 0.03 ms"
    assert rows["one"] == "iteration    about 30.46 ms if these overlap, 31.71 ms in turn"


def reports(config):
    """Of one device and of sixteen, with 64 examples on each."""
    for topology, devices in (("v5e:1x1", 1), ("v5e:4x4", 16)):
        size = f"--global-batch={64 * devices}"
        done = run_anew(command("aot", f"--config={config}", f"--topology={topology}", size, "--json"), timeout=1_200)
        assert done.returncode == 0, done.stderr
        yield json.loads(done.stdout)


@needs_libtpu
@pytest.mark.slow
def test_nothing_grows_with_the_slice():
    """The run of a config: the same work and memory, and only sums of gradients, moments and metrics are exchanged."""
    one, many = reports(ROOT / "configs" / "cifar10_resnet.py")
    assert one["flops"] == many["flops"] <= 1.05 * one["flops_needed"]
    assert one["bfloat16_flops"] == one["flops"]  # float32 in one pass, as TPUs have it by default
    for report in (one, many):
        estimates, step = report["estimated_milliseconds"].values(), report["step_milliseconds"]
        assert (step["overlapping"], step["in_turn"]) == (max(estimates), sum(estimates))
    assert abs(many["temporary_bytes"] - one["temporary_bytes"]) <= 0.02 * one["temporary_bytes"]
    assert abs(many["peak_bytes"] - one["peak_bytes"]) <= 0.02 * one["peak_bytes"]
    # WGAN-GP's ResNets for 32×32: 1,053,825 parameters of the critic, 1,204,483 of the generator.
    gradients = 4 * (5 * 1_053_825 + 1_204_483)
    assert set(many["collectives"]) == {"all-reduce"}
    assert gradients <= many["collectives"]["all-reduce"]["bytes"] <= 1.005 * gradients


@needs_libtpu
@pytest.mark.slow
def test_what_is_exchanged_to_the_byte(tmp_path):
    config = tmp_path / "config.py"
    config.write_text(
        "from tests.test_aot import images\n"
        "def get_config():\n"
        "    return images('dcgan', data__size=16, generator__norm='batch', n_critic=3)\n"
    )
    one, many = reports(config)
    assert (one["devices"], many["devices"]) == (1, 16)
    assert one["collectives"] == {}
    assert many["flops"] == one["flops"]
    assert set(many["collectives"]) == {"all-reduce"}
    # Of the paper's networks at 16×16: 5×5 kernels and biases, widths 8 and 16, a generator's scales and offsets.
    critic = 25 * 8 + 8 + 25 * 8 * 16 + 16 + 4 * 4 * 16 + 1
    generator = 16 * 4 * 4 * 16 + 4 * 4 * 16 + 25 * 16 * 8 + 8 + 25 * 8 + 1 + 2 * (16 + 8)
    gradients = 4 * (3 * critic + generator)
    # Two moments of 16 and of 8 features: in each critic update, and the generator's, there also backwards and as
    # running statistics. And metrics: four of each critic update, one of the generator's.
    sums = gradients + 4 * 2 * (16 + 8) * (3 + 3)
    assert sums <= many["collectives"]["all-reduce"]["bytes"] <= sums + 4 * (3 * 4 + 1)


@needs_libtpu
@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        tiny_config(
            batch_size=256,
            **{f"{p}__{k}": v for p in ("critic", "generator") for k, v in (("width", 512), ("depth", 3))},
        ),
        images("dcgan", data__size=16, batch_size=64, generator__width=64, critic__width=64),
    ],
    ids=["mlp", "dcgan"],
)
def test_a_tpu_computes_little_more_than_is_needed(config):
    gan = build(config)
    _, devices = slices.slice_devices("v5e:1x1")
    costs = slices.lower(gan, Parallel(tuple(devices)), 1, config.batch_size).compile().cost_analysis()
    assert costs["flops"] <= 1.05 * flops.of_step(gan, config.batch_size, 1)
