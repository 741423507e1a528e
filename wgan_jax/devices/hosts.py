"""Several hosts: how their processes find each other, agree, and leave.

Each host is one process, or under Slurm one process for each GPU.
"""

import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from wgan_jax.errors import UserError

HEARTBEAT = 30
"""Seconds without a heartbeat after which a host counts as dead."""
GRACE = 2
"""Seconds for which the first host waits after its own error, so that the others can report theirs."""
LAST_WORDS = 3_600
"""Seconds for which hosts that are done wait for one that still writes."""

T = TypeVar("T")


def initialize(address: str | None = None, count: int | None = None, index: int | None = None) -> None:
    """Joins this process with those of the other hosts. It must be called before anything touches a device.

    On Cloud TPU and under Slurm, JAX finds the others by itself. If there are none, nothing happens.

    Args:
      address: `host:port` of the first process, which the others can reach.
      count: number of processes.
      index: number of this process, from 0.

    Raises:
      UserError: if only some of the arguments are given, or the others cannot be reached.
    """
    given = (address, count, index)
    if any(x is not None for x in given) and None in given:
        raise UserError(
            "--coordinator_address, --num_processes and --process_id belong together: give all three, or, on Cloud "
            "TPU and under Slurm, none"
        )
    if count is not None and index is not None and not 0 <= index < count:
        raise UserError(f"--process_id={index}: must be at least 0 and below --num_processes={count}")
    try:
        jax.distributed.initialize(
            address, count, index, heartbeat_timeout_seconds=HEARTBEAT, shutdown_timeout_seconds=LAST_WORDS
        )
    except ValueError as error:
        if address is not None:
            raise UserError(f"--coordinator_address={address}: {error}") from error
    except RuntimeError as error:
        raise UserError(f"the other hosts cannot be reached: {error}") from error


def count() -> int:
    """Returns how many hosts share the run."""
    return jax.process_count()


def is_first() -> bool:
    """Tells whether this host writes the run's files."""
    return jax.process_index() == 0


def from_first(tree: T, digest: bytes) -> T:
    """Returns the first host's arrays on every host.

    Args:
      tree: arrays; on the first host the ones that count, on the others any of the same shapes.
      digest: 32 bytes that must be the same on all hosts, such as a hash of the settings.

    Raises:
      UserError: on every host, if the digest of one is not the first one's.
    """
    if count() == 1:
        return tree
    digests = multihost_utils.process_allgather(np.frombuffer(digest, np.uint8))
    for host, other in enumerate(digests):
        if not np.array_equal(other, digests[0]):
            raise UserError(f"host {host} has other settings than the first: start all with the same flags")
    return with_keys(multihost_utils.broadcast_one_to_all(plain(tree)), tree)


def gather(x: np.ndarray) -> np.ndarray:
    """Returns every host's array, `[hosts, *shape]`, to the last bit. All must have the same shape and type."""
    if count() == 1:
        return x[None]
    # As bytes: JAX would make float64 shorter.
    found = multihost_utils.process_allgather(np.frombuffer(np.ascontiguousarray(x).tobytes(), np.uint8))
    return np.frombuffer(found.tobytes(), x.dtype).reshape(count(), *x.shape)


def total(x: np.ndarray) -> np.ndarray:
    """Returns the sum of every host's array, in its own precision."""
    parts = np.array_split(x.reshape(-1), 1 + x.nbytes * count() // 2**28)  # a part from every host fits the memory
    return np.concatenate([gather(part).sum(axis=0) for part in parts]).reshape(x.shape).astype(x.dtype)


def is_key(x: Any) -> bool:
    """Tells whether an array holds random keys."""
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def plain(tree: T) -> T:
    """Returns a tree as numpy arrays, with keys as the numbers they are made of."""
    return jax.tree.map(lambda x: np.asarray(jax.random.key_data(x) if is_key(x) else x), tree)


def with_keys(tree: T, like: T) -> T:
    """Returns a tree with numbers turned into keys wherever another tree has keys."""
    return jax.tree.map(
        lambda new, old: jax.random.wrap_key_data(new, impl=jax.random.key_impl(old)) if is_key(old) else new,
        tree,
        like,
    )


def wait_for_all(what: str) -> None:
    """Waits until every host has come to the same line."""
    if count() > 1:
        multihost_utils.sync_global_devices(what)


def asked_to_stop(number: int) -> bool:
    """Tells whether all hosts end the run here, because one of them got SIGTERM. They agree on the iteration.

    Every host must call it with 0, 1, 2, …, between iterations.
    """
    return multihost_utils.reached_preemption_sync_point(number)


@contextmanager
def lost_hosts() -> Iterator[None]:
    """Turns the error that JAX raises when another host is gone into a one-line `UserError`."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if count() == 1 or "RESOURCE_EXHAUSTED" in str(error):
            raise
        raise UserError(
            f"another host has ended or cannot be reached ({' '.join(str(error).split())[:160]}); see its own "
            "messages, and start all hosts again to go on from the newest checkpoint"
        ) from error


@contextmanager
def leaving_no_host_behind() -> Iterator[None]:
    """Ends this process at an error without waiting for the other hosts, which then end as well."""
    try:
        yield
    except Exception as error:
        if count() == 1:
            raise
        mistake = isinstance(error, UserError)
        print(f"error: {error}" if mistake else traceback.format_exc(), file=sys.stderr, flush=True)
        if is_first():
            time.sleep(GRACE)  # the others end as soon as this one has, and may have the same to say
        os._exit(2 if mistake else 1)
