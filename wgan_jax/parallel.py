"""Where a run's arrays live: one device, all devices of a host, or those of many hosts.

The step knows nothing of it but where its examples are (`step.Placement`): every device has its own rows of each
batch and draws for those rows alone, all of them hold the same state, and what they exchange are sums, each once: of
gradients, of metrics, and of a batch normalization's moments. So one device, eight, or two hosts, if they multiply in
one precision (`config.matmul_precision`), compute the same sums in other orders; `jit` and `pmap` on the same devices
give the same bits. Another order rounds otherwise, and in a GAN's training such differences grow, on one device too:
eight come as far from one as one comes from itself with its batch cut into microbatches. A network of your own that
mixes examples must do so over its attribute `axis_name`, as `networks.layers.Norm` does.
"""

import dataclasses
import hashlib
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from wgan_jax import config as configs
from wgan_jax.data import Examples
from wgan_jax.errors import UserError
from wgan_jax.gan import Gan
from wgan_jax.state import TrainState
from wgan_jax.step import IN_HAND, Batch, Placement, TrainStep, make_train_step

AXIS = "data"
"""The mesh's one axis, and that of `pmap`: examples."""
HEARTBEAT = 30
"""Seconds without a sign of life after which a host counts as dead."""
GRACE = 2
"""Seconds for which the first host outlives its own error."""
LAST_WORDS = 3_600
"""Seconds that hosts, when they are done, wait for one that still writes."""

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Parallel:
    """How devices share a run.

    The i-th of D devices has the i-th part of each batch's examples; those of one host are neighbours, so a host
    needs its own rows alone.
    """

    devices: tuple[jax.Device, ...]
    mode: str = "jit"
    """`jit` or `pmap`."""

    @property
    def mesh(self) -> Mesh:
        """All devices. Sums go over all of them, so their order in the machine does not matter."""
        return Mesh(np.array(self.devices), (AXIS,))

    @property
    def _one(self) -> bool:
        return len(self.devices) == 1 and self.mode == "jit"

    def train_step(self, gan: Gan, *, microbatches: int = 1, unroll: bool = False) -> TrainStep:
        """The pure step, to be compiled with `compile`."""
        placement = IN_HAND
        if not self._one:
            gan = dataclasses.replace(gan, generator=_named(gan.generator), critic=_named(gan.critic))
            placement = Placement(
                numbers=lambda n: jax.lax.axis_index(AXIS) * n + jnp.arange(n),
                mean=lambda tree: jax.lax.pmean(tree, AXIS),
            )
        return make_train_step(gan, placement=placement, microbatches=microbatches, unroll=unroll)

    def compile(self, function: Callable[..., Any], examples: Sequence[int | None], donate: bool = False) -> Any:
        """A function of several arguments, compiled for all devices; its results are on each of them.

        Args:
          function: of a state, a batch, and perhaps more; made of a step of `train_step`.
          examples: of each argument the axis of its examples, or None if it is the same on all devices.
          donate: give the first argument away.
        """
        donated = (0,) if donate else ()
        if self.mode == "pmap":
            return jax.pmap(
                function, AXIS, in_axes=tuple(examples), out_axes=None, devices=self.devices, donate_argnums=donated
            )
        if not self._one:
            # The sums are written out: left to the compiler, a gradient's terms may be exchanged one by one.
            function = jax.shard_map(
                function,
                mesh=self.mesh,
                in_specs=tuple(map(_rows, examples)),
                out_specs=PartitionSpec(),
                check_vma=False,
            )
        return jax.jit(function, donate_argnums=donated)

    def place(self, rows: Examples, axis: int) -> Batch:
        """This host's rows of a batch, with the examples along `axis`, as its part of the global batch."""
        spec = _rows(axis)
        if self.mode == "jit":
            sharding = NamedSharding(self.mesh, spec)
            return {name: jax.make_array_from_process_local_data(sharding, x) for name, x in rows.items()}
        local = self.mesh.local_mesh
        apart = {name: x.reshape(*x.shape[:axis], local.size, -1, *x.shape[axis + 1 :]) for name, x in rows.items()}
        return jax.device_put(apart, NamedSharding(local, spec))

    def replicate(self, state: TrainState) -> TrainState:
        """The state on every device. All hosts must have the same one."""
        if self.mode == "pmap" or hosts() == 1:
            return jax.device_put(state, NamedSharding(self.mesh.local_mesh, PartitionSpec()))
        whole = NamedSharding(self.mesh, PartitionSpec())
        return _with_keys(
            jax.tree.map(lambda x: jax.make_array_from_process_local_data(whole, x), _plain(state)), state
        )

    def shares(self, state: TrainState) -> TrainState:
        """The state as a checkpointer takes it: of several hosts, each writes its share of one state."""
        if hosts() == 1:
            return local(state)
        if self.mode == "jit":
            return state
        whole = NamedSharding(self.mesh, PartitionSpec())

        def join(x: jax.Array) -> jax.Array:
            pieces = [shard.data for shard in x.addressable_shards]
            return jax.make_array_from_single_device_arrays(x.shape, whole, pieces)

        return _with_keys(jax.tree.map(lambda x: join(jax.random.key_data(x) if _is_key(x) else x), state), state)


def of(config: ConfigDict) -> Parallel:
    """How all devices there are share the run of a config.

    Raises:
      UserError: if they cannot share its batch evenly.
    """
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    check(config.batch_size, config.microbatches, len(devices))
    return Parallel(tuple(devices), config.parallel.mode)


def check(batch_size: int, microbatches: int, devices: int) -> None:
    """Raises `UserError`, with the nearest numbers that work, if devices cannot share a batch evenly."""
    unit = devices * microbatches
    if batch_size % unit == 0:
        return
    counts = [n for n in range(1, batch_size + 1) if batch_size % (n * microbatches) == 0]
    near = [*[n for n in counts if n < devices][-1:], *[n for n in counts if n > devices][:1]]
    parts = f" × config.microbatches = {microbatches}" if microbatches > 1 else ""
    others = f"; so does this one on {' or '.join(map(str, near))} devices" if near else ""
    raise UserError(
        f"config.batch_size = {batch_size}: must be divisible by {devices} devices{parts}; "
        f"{configs.multiples(batch_size, unit)}{others}"
    )


def local(tree: T) -> T:
    """Arrays that are the same on all devices, on this host's first one; nothing is copied."""
    return jax.tree.map(lambda x: x.addressable_data(0), tree)


def _rows(axis: int | None) -> PartitionSpec:
    """Examples along an axis, each device with its own; or the same everywhere."""
    return PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, AXIS)


def _named(network: nn.Module) -> nn.Module:
    """A network whose batch normalizations share their moments; one without an `axis_name` has none."""
    return network.clone(axis_name=AXIS) if hasattr(network, "axis_name") else network


# Several hosts. Each is one process, or on Slurm one process a GPU.


def initialize(address: str | None = None, count: int | None = None, index: int | None = None) -> None:
    """Joins this process with those of the other hosts; to be called before anything touches a device.

    On Cloud TPU and under Slurm, JAX finds the others by itself. Where there are none, nothing happens.

    Args:
      address: `host:port` of the first process, which the others can reach.
      count: of the processes.
      index: of this one, from 0.

    Raises:
      UserError: if only some are given, or the others cannot be reached.
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


def hosts() -> int:
    """How many there are."""
    return jax.process_count()


def first_host() -> bool:
    """Whether this one writes the run's files."""
    return jax.process_index() == 0


def from_first_host(config: ConfigDict, tree: T) -> T:
    """The first host's arrays on every host.

    Args:
      config: this host's settings.
      tree: of arrays; on the first host the one that counts, on the others any of its shapes.

    Raises:
      UserError: on every host, if the settings of one are not the first one's.
    """
    if hosts() == 1:
        return tree
    digest = np.frombuffer(hashlib.sha256(configs.to_json(config).encode()).digest(), np.uint8)
    digests = multihost_utils.process_allgather(digest)
    for host, other in enumerate(digests):
        if not np.array_equal(other, digests[0]):
            raise UserError(f"host {host} has other settings than the first: start all with the same flags")
    return _with_keys(multihost_utils.broadcast_one_to_all(_plain(tree)), tree)


def _is_key(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _plain(tree: T) -> T:
    """Numpy's arrays, with keys as their numbers."""
    return jax.tree.map(lambda x: np.asarray(jax.random.key_data(x) if _is_key(x) else x), tree)


def _with_keys(tree: T, like: T) -> T:
    """Numbers as keys again, where another tree has keys."""
    return jax.tree.map(
        lambda new, old: jax.random.wrap_key_data(new, impl=jax.random.key_impl(old)) if _is_key(old) else new,
        tree,
        like,
    )


def wait_for_all(what: str) -> None:
    """Returns when every host has come to the same line."""
    if hosts() > 1:
        multihost_utils.sync_global_devices(what)


def asked_to_stop(number: int) -> bool:
    """Whether the hosts end the run here, because one of them was asked to by SIGTERM: they agree on the iteration.

    To be called by every host with 0, 1, 2, …, between iterations.
    """
    return multihost_utils.reached_preemption_sync_point(number)


@contextmanager
def lost_hosts() -> Iterator[None]:
    """Turns what the other hosts' silence makes of a computation into one clear `UserError`."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if hosts() == 1 or "RESOURCE_EXHAUSTED" in str(error):
            raise
        raise UserError(
            f"another host has ended or cannot be reached ({' '.join(str(error).split())[:160]}); see its own "
            "messages, and start all hosts again to go on from the newest checkpoint"
        ) from error


@contextmanager
def leaving_no_host_behind() -> Iterator[None]:
    """Ends this process at an error without waiting for the other hosts, which then end too."""
    try:
        yield
    except Exception as error:
        if hosts() == 1:
            raise
        mistake = isinstance(error, UserError)
        print(f"error: {error}" if mistake else traceback.format_exc(), file=sys.stderr, flush=True)
        if first_host():
            time.sleep(GRACE)  # the others end as soon as this one has, and may have the same to say
        os._exit(2 if mistake else 1)
