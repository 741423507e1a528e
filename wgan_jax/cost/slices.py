"""The cost of a training step on a slice of TPUs, estimated from its compiled program without any TPU."""

import collections
import math
import os
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from wgan_jax.config import stages
from wgan_jax.cost import flops, hlo
from wgan_jax.devices.mesh import AXIS, Parallel, check_shares
from wgan_jax.errors import UserError
from wgan_jax.method.batch import batch_shapes
from wgan_jax.method.gan import Gan
from wgan_jax.method.state import init_state


class Chip(NamedTuple):
    """Published numbers of one TPU chip: https://cloud.google.com/tpu/docs/v5e, …/v4, …/v5p, …/v6e."""

    peak: float
    """Multiplications and additions per second in bfloat16. A product of float32 takes one to six bfloat16 passes."""
    memory: float
    """Bytes of HBM."""
    bandwidth: float
    """Bandwidth of the HBM in bytes per second."""
    interconnect: float
    """Bytes per second that a chip sends to its neighbours. This is half of the bidirectional number."""
    topologies: tuple[str, ...]
    """Shapes of the slices, in chips along each axis."""


HOP = 1e-6
"""Seconds until the first byte reaches a neighbouring chip. This is an assumption: no latency is published."""

FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
CUBES = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8")
CHIPS = {
    "v4": Chip(275e12, 32e9, 1200e9, 268e9, CUBES),  # the pod's all-reduce bandwidth, 1.1 PB/s, over its 4,096 chips
    "v5e": Chip(197e12, 16e9, 819e9, 200e9, FLAT),
    "v5p": Chip(459e12, 95e9, 2765e9, 600e9, CUBES),
    "v6e": Chip(918e12, 32e9, 1638e9, 400e9, FLAT),
}


def slice_devices(topology: str) -> tuple[Chip, list[jax.Device]]:
    """Returns the chip of a slice such as `v5e:4x4`, and the slice's devices.

    The devices are descriptions: programs can be compiled for them, but not run.

    Raises:
      UserError: if the slice is unknown, or the compiler (libtpu) is missing.
    """
    kind, _, shape = topology.partition(":")
    chip = CHIPS.get(kind)
    if chip is None or shape not in chip.topologies:
        known = "; ".join(f"{name}: {', '.join(chip.topologies)}" for name, chip in CHIPS.items())
        raise UserError(f"--topology={topology}: no such slice, which is given as KIND:SHAPE; known are {known}")
    # libtpu would ask the metadata server of a Cloud TPU for these, and would lock a TPU that is not used here.
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-8")
    from jax.experimental import topologies

    one = {"chips_per_host_bounds": (1, 1, 1)} if shape == "1x1" else {}
    try:
        found = topologies.get_topology_desc(topology, "tpu", **one)
    except (RuntimeError, NotImplementedError) as error:
        raise UserError(
            f'--topology={topology}: libtpu says {error}; is it installed (pip install -e ".[aot]")?'
        ) from None
    return chip, list(found.devices)


def lower(
    gan: Gan, devices: Parallel, n_critic: int, batch_size: int, *, microbatches: int = 1, encoded: bool = False
) -> jax.stages.Lowered:
    """Returns a training step for the given devices, lowered and ready to be compiled.

    It places nothing on the devices.

    Args:
      gan: networks, losses and optimizers of the step.
      devices: devices that share each batch by `jit`.
      n_critic: number of critic updates.
      batch_size: number of real examples per critic update, over all devices.
      microbatches: number of parts of each batch, as in `make_train_step`.
      encoded: whether images come as bytes (uint8) instead of float32.
    """
    replicated = NamedSharding(devices.mesh, PartitionSpec())
    state = jax.eval_shape(lambda key: init_state(gan, key), jax.random.key(0))
    state = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated), state)
    batch = dict(batch_shapes(gan, n_critic, batch_size))
    if encoded:
        batch["image"] = batch["image"].update(dtype=jnp.uint8)
    rows = NamedSharding(devices.mesh, PartitionSpec(None, AXIS))
    batch = {name: x.update(sharding=rows) for name, x in batch.items()}
    step = devices.train_step(gan, microbatches=microbatches)
    return devices.compile(step, (None, 1), donate=True).lower(state, batch)


def report(config: ConfigDict, topology: str, batch_size: int | None = None) -> dict[str, Any]:
    """Compiles the training step of a run's last stage for a slice. Returns its cost on each device, by name.

    Args:
      config: settings of the run.
      topology: name of the slice, such as `v5e:16x16`.
      batch_size: number of real examples per critic update; the stage's if None.

    Raises:
      UserError: if the slice is unknown, the compiler is missing, or the devices cannot share the batch.
    """
    stage = stages(config)[-1]
    gan = stage.gan
    chip, found = slice_devices(topology)
    batch_size = stage.batch_size if batch_size is None else batch_size
    check_shares(batch_size, config.microbatches, len(found))
    devices = Parallel(tuple(sorted(found, key=lambda device: (device.process_index, device.id))))

    encoded = config.data.name.startswith(("tfds:", "folder:"))
    lowered = lower(gan, devices, config.n_critic, batch_size, microbatches=config.microbatches, encoded=encoded)
    began = time.perf_counter()
    compiled = lowered.compile()
    compile_seconds = time.perf_counter() - began
    text, memory = compiled.as_text(), compiled.memory_analysis()
    assert text is not None  # libtpu provides both
    assert memory is not None
    program = hlo.Program(text)
    peak = (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
        + memory.generated_code_size_in_bytes
        - memory.alias_size_in_bytes
    )
    times = milliseconds(chip, topology, program)
    return {
        "topology": topology,
        "devices": len(found),
        "batch_size": batch_size,
        "examples_per_device": batch_size // len(found),
        "precision": config.precision,
        "matmul_precision": config.matmul_precision,
        "flops": program.flops,
        "bfloat16_flops": program.bfloat16_flops,
        "flops_needed": flops.of_step(gan, batch_size, config.n_critic) // len(found),
        "bytes": program.bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "peak_bytes": peak,
        "chip_bytes": int(chip.memory),
        "fits": peak <= chip.memory,
        "collectives": collectives(program.collectives),
        "estimated_milliseconds": times,
        "step_milliseconds": {"overlapping": max(times.values()), "in_turn": sum(times.values())},
        "compile_seconds": compile_seconds,
    }


def milliseconds(chip: Chip, topology: str, program: hlo.Program) -> dict[str, float]:
    """Returns estimates of the milliseconds that one device spends on arithmetic, on memory and on exchange.

    Each is the time that this kind of work would take alone. Every exchange is treated as an all-reduce along the axes
    of the slice, one axis after the other. With D devices, a device sends (D − 1) / D of the bytes twice, and the first
    byte travels along each axis and back.
    """
    axes = [int(size) for size in topology.partition(":")[2].split("x")]
    sent = sum(2 * c.bytes * c.times for c in program.collectives) * (1 - 1 / math.prod(axes))
    hops = sum(2 * c.times for c in program.collectives) * sum(size - 1 for size in axes)
    return {
        "arithmetic": 1e3 * program.bfloat16_flops / chip.peak,
        "memory": 1e3 * program.bytes / chip.bandwidth,
        "exchange": 1e3 * (sent / chip.interconnect + hops * HOP),
    }


def collectives(found: Sequence[hlo.Collective]) -> dict[str, dict[str, int]]:
    """Returns for each kind of collective the number of exchanges in one step and their bytes in total."""
    sums: dict[str, dict[str, int]] = collections.defaultdict(lambda: {"count": 0, "bytes": 0})
    for kind, size, times in found:
        sums[kind]["count"] += times
        sums[kind]["bytes"] += size * times
    return dict(sums)


def table(r: dict[str, Any]) -> str:
    """Returns a report as lines of text for people to read."""
    exchanged = [f"{v['count']} {kind}, {v['bytes'] / 1e6:,.2f} MB" for kind, v in r["collectives"].items()] or ["none"]
    times, step = r["estimated_milliseconds"], r["step_milliseconds"]
    passes = r["bfloat16_flops"] / r["flops"] if r["flops"] else 1
    rows = {
        "slice": f"{r['topology']}, {r['devices']} devices",
        "batch": f"{r['batch_size']:,} examples, {r['examples_per_device']:,} on each device",
        "arithmetic": f"{r['flops'] / 1e9:,.1f} GFLOP; needed by hand count {r['flops_needed'] / 1e9:,.1f}; "
        + f"{passes:.1f} passes of bfloat16",
        "memory traffic": f"{r['bytes'] / 1e9:,.2f} GB",
        "memory": f"{r['peak_bytes'] / 1e6:,.0f} MB of {r['chip_bytes'] / 1e6:,.0f} MB: "
        + ("fits" if r["fits"] else "DOES NOT FIT; raise config.microbatches or the number of devices"),
        "of it temporary": f"{r['temporary_bytes'] / 1e6:,.0f} MB",
        "exchanged": "; ".join(exchanged),
        "estimate": ", ".join(f"{name} {value:.2f} ms" for name, value in times.items()),
        "one iteration": f"about {step['overlapping']:.2f} ms if these overlap, {step['in_turn']:.2f} ms in turn",
        "compiled in": f"{r['compile_seconds']:.0f} s",
    }
    return "\n".join(f"{name:16} {value}" for name, value in rows.items())
