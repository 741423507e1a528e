"""What a run needs to repeat itself to the last bit, beyond its config, its seed and its draws.

The same config and seed give the same bits on one kind of machine with the same versions, the same number of cores and
devices, and the same precision: on a CPU, XLA cuts a sum into as many parts as there are cores. On a GPU one thing more
is needed. There XLA times several kernels at each compilation and keeps the fastest, which may be another one in the
next process, and some kernels add numbers in no fixed order (https://openxla.org/xla/determinism). `require` rules out
both. No GPU was at hand to try it.
"""

import os
import re
from importlib import metadata
from typing import Any

import jax

FLAG = "--xla_gpu_deterministic_ops=true"
"""Excludes kernels without a fixed order of sums, and turns autotuning off."""
NO_SUMS_IN_THE_SWITCH = "^NVLS"
"""NCCL's algorithms but the one that has the NVLink switch add, in no fixed order (NVIDIA/nccl#1497)."""
CHOSEN = re.compile(r"--xla_gpu_(deterministic_ops|exclude_nondeterministic_ops)\b")


def require() -> None:
    """Has GPUs compute the same bits in every process; must be called before JAX's first computation.

    Adds `FLAG` to `XLA_FLAGS` and sets `NCCL_ALGO`, where a backend for GPUs is installed. What the environment says
    already is left alone: `XLA_FLAGS=--xla_gpu_deterministic_ops=false` has XLA choose the fastest kernels again.
    """
    if not _gpus_possible():
        return  # another build of XLA may not know the flag, and would abort
    flags = os.environ.get("XLA_FLAGS", "").strip()
    names_a_file = flags and not flags.startswith("-")
    if not names_a_file and not CHOSEN.search(flags):
        os.environ["XLA_FLAGS"] = f"{flags} {FLAG}".strip()
        os.environ.setdefault("NCCL_ALGO", NO_SUMS_IN_THE_SWITCH)


def record() -> dict[str, Any]:
    """Returns what this process's bits depend on beside versions and devices, as JSON can hold it.

    `cores` are those that the process may use; `jax_default_matmul_precision` is None unless something set it.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    return {
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
        "jax_default_matmul_precision": jax.config.jax_default_matmul_precision,  # type: ignore[attr-defined]
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "nccl_algo": os.environ.get("NCCL_ALGO", ""),
    }


def _gpus_possible() -> bool:
    plugins = metadata.entry_points(group="jax_plugins")
    return any(re.search("cuda|rocm", plugin.name) for plugin in plugins)
