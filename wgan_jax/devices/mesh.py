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
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from wgan_jax.data import Examples
from wgan_jax.devices import hosts
from wgan_jax.devices.hosts import is_key, plain, with_keys
from wgan_jax.errors import UserError, multiples
from wgan_jax.method.batch import Batch
from wgan_jax.method.gan import Gan
from wgan_jax.method.placement import IN_HAND, Placement
from wgan_jax.method.state import TrainState
from wgan_jax.method.step import TrainStep, make_train_step

AXIS = "data"
"""The mesh's one axis, and that of `pmap`: examples."""

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

    @classmethod
    def from_devices(cls, batch_size: int, *, microbatches: int = 1, mode: str = "jit") -> "Parallel":
        """Returns how all devices share batches of a size.

        Raises:
          UserError: if they cannot share them evenly.
        """
        devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
        check_shares(batch_size, microbatches, len(devices))
        return cls(tuple(devices), mode)

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
        if self.mode == "pmap" or hosts.count() == 1:
            return jax.device_put(state, NamedSharding(self.mesh.local_mesh, PartitionSpec()))
        whole = NamedSharding(self.mesh, PartitionSpec())
        return with_keys(jax.tree.map(lambda x: jax.make_array_from_process_local_data(whole, x), plain(state)), state)

    def shares(self, state: TrainState) -> TrainState:
        """The state as a checkpointer takes it: of several hosts, each writes its share of one state."""
        if hosts.count() == 1:
            return local(state)
        if self.mode == "jit":
            return state
        whole = NamedSharding(self.mesh, PartitionSpec())

        def join(x: jax.Array) -> jax.Array:
            pieces = [shard.data for shard in x.addressable_shards]
            return jax.make_array_from_single_device_arrays(x.shape, whole, pieces)

        return with_keys(jax.tree.map(lambda x: join(jax.random.key_data(x) if is_key(x) else x), state), state)


def check_shares(batch_size: int, microbatches: int, devices: int) -> None:
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
        f"{multiples(batch_size, unit)}{others}"
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
