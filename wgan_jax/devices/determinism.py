"""Settings that make a run repeat to the last bit, beyond its config and seed.

The same config and seed give the same bits on the same kind of machine, with the same versions, the same numbers of
cores and devices, and the same precision. The number of cores matters because on a CPU XLA splits a sum into as many
parts as there are cores.

A GPU needs more. There XLA times several kernels at each compilation and keeps the fastest, which may be a different
one in the next process. Some kernels also add numbers in no fixed order (https://openxla.org/xla/determinism).
`require` rules out both. On an H200 the bits were the same in several processes, and in a run that was
resumed in a second one (`docs/accelerators.md`).
"""

import os
import re
from importlib import metadata
from typing import Any

import jax

FLAG = "--xla_gpu_deterministic_ops=true"
"""The XLA flag that excludes kernels without a fixed order of sums, and turns autotuning off."""
NO_SUMS_IN_THE_SWITCH = "^NVLS"
"""The value of `NCCL_ALGO` that excludes NVLS.

That algorithm adds in the NVLink switch, in no fixed order (NVIDIA/nccl#1497).
"""
CHOSEN = re.compile(r"--xla_gpu_(deterministic_ops|exclude_nondeterministic_ops)\b")


def require() -> None:
    """Makes GPUs compute the same bits in every process. Call it before the first computation of JAX.

    If a GPU backend is installed, this adds `FLAG` to `XLA_FLAGS` and sets `NCCL_ALGO`. Values that the environment
    sets already are kept: with `XLA_FLAGS=--xla_gpu_deterministic_ops=false`, XLA chooses the fastest kernels.
    """
    if not _gpus_possible():
        return  # a build of XLA without GPUs may not know the flag, and would abort
    flags = os.environ.get("XLA_FLAGS", "").strip()
    names_a_file = flags and not flags.startswith("-")
    if not names_a_file and not CHOSEN.search(flags):
        os.environ["XLA_FLAGS"] = f"{flags} {FLAG}".strip()
        os.environ.setdefault("NCCL_ALGO", NO_SUMS_IN_THE_SWITCH)


def record() -> dict[str, Any]:
    """Returns what the results of this process depend on besides versions and devices, ready for JSON.

    `cores` is the number of CPU cores that the process may use. `jax_default_matmul_precision` is None unless it has
    been set.
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
