"""Where the arrays of a run live: on one device, on all devices of a host, or on the devices of many hosts.

The step only knows which examples are here (`method.placement.Placement`). Every device has its own rows of each batch
and makes the draws for those rows alone. All devices hold the same state. They exchange only sums, each of them once:
sums of gradients, of metrics, and of the moments of a batch normalization. So one device, eight devices or two hosts
compute the same sums in other orders, if they multiply in the same precision (`config.matmul_precision`). `jit` and
`pmap` on the same devices give the same bits. Another order rounds differently, and in the training of a GAN such
differences grow, on a single device too: eight devices differ from one by as much as one device differs from itself
when its batch is cut into microbatches. A network of your own that mixes examples must do so over its attribute
`axis_name`, as `networks.layers.Norm` does.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from wgan_jax.devices import hosts
from wgan_jax.devices.hosts import is_key, plain, with_keys
from wgan_jax.errors import UserError, multiples
from wgan_jax.method.batch import Batch
from wgan_jax.method.gan import Gan
from wgan_jax.method.placement import WHOLE_BATCH, Placement
from wgan_jax.method.state import TrainState
from wgan_jax.method.step import TrainStep, make_train_step

AXIS = "data"
"""Name of the one axis of the mesh and of `pmap`, along which examples lie."""

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Parallel:
    """The devices that share a run.

    The i-th of D devices has the i-th part of each batch. The devices of one host are neighbours, so a host needs only
    its own rows.
    """

    devices: tuple[jax.Device, ...]
    mode: str = "jit"
    """`jit` or `pmap`."""

    @property
    def mesh(self) -> Mesh:
        """Mesh of all devices. Sums go over all of them, so their order in the machine does not matter."""
        return Mesh(np.array(self.devices), (AXIS,))

    @property
    def _one(self) -> bool:
        return len(self.devices) == 1 and self.mode == "jit"

    @property
    def placement(self) -> Placement:
        """The part of a batch that a device has, in a function that is compiled with `compile`."""
        if self._one:
            return WHOLE_BATCH
        return Placement(
            example_index=lambda n: jax.lax.axis_index(AXIS) * n + jnp.arange(n),
            mean=lambda tree: jax.lax.pmean(tree, AXIS),
        )

    @classmethod
    def from_devices(cls, *batch_sizes: int, microbatches: int = 1, mode: str = "jit") -> "Parallel":
        """Returns all devices of all hosts, to share batches of these sizes.

        Raises:
          UserError: if they cannot share every batch evenly.
        """
        devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
        for batch_size in batch_sizes:
            check_shares(batch_size, microbatches, len(devices))
        return cls(tuple(devices), mode)

    def train_step(self, gan: Gan, *, microbatches: int = 1, unroll: bool = False) -> TrainStep:
        """Returns the pure step, to be compiled with `compile`."""
        if not self._one:
            gan = dataclasses.replace(gan, generator=_named(gan.generator), critic=_named(gan.critic))
        return make_train_step(gan, placement=self.placement, microbatches=microbatches, unroll=unroll)

    def compile(self, function: Callable[..., Any], examples: Sequence[int | None], donate: bool = False) -> Any:
        """Compiles a function for all devices; its results are on each of them.

        Args:
          function: function of a state, a batch, and perhaps more, made of a step from `train_step`, or of your own
            that averages by `placement`.
          examples: axis of the examples in each argument, or None for an argument that is the same on all devices.
          donate: whether the memory of the first argument is reused, so that the argument is lost.
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

    def compile_rows(self, function: Callable[..., Any], examples: Sequence[int | None]) -> Any:
        """Compiles a function whose result has a row for each example. Each device computes those of its examples.

        All devices run the same program on as many examples, so a row has the same bits on one device as on many.

        Args:
          function: returns a tree of arrays `[B, ...]`.
          examples: axis of the examples in each argument, or None for an argument that is the same on all devices.
        """
        specs = tuple(map(_rows, examples))
        mapped = jax.shard_map(function, mesh=self.mesh, in_specs=specs, out_specs=_rows(0), check_vma=False)
        return jax.jit(mapped)

    def place(self, rows: Mapping[str, np.ndarray], axis: int) -> Batch:
        """Puts this host's rows of a batch, with examples along `axis`, on its devices, as part of the global batch."""
        spec = _rows(axis)
        if self.mode == "jit":
            sharding = NamedSharding(self.mesh, spec)
            return {name: jax.make_array_from_process_local_data(sharding, x) for name, x in rows.items()}
        local = self.mesh.local_mesh
        apart = {name: x.reshape(*x.shape[:axis], local.size, -1, *x.shape[axis + 1 :]) for name, x in rows.items()}
        return jax.device_put(apart, NamedSharding(local, spec))

    def spread(self, examples: Mapping[str, np.ndarray], axis: int = 0) -> Batch:
        """Makes a global batch of examples that every host has: each device gets its own along `axis`."""
        own = {name: np.split(x, hosts.count(), axis)[jax.process_index()] for name, x in examples.items()}
        return self.place(own, axis)

    def replicate(self, state: T) -> T:
        """Copies a state, or any tree of arrays, to every device. All hosts must have the same one."""
        if self.mode == "pmap" or hosts.count() == 1:
            return jax.device_put(state, NamedSharding(self.mesh.local_mesh, PartitionSpec()))
        whole = NamedSharding(self.mesh, PartitionSpec())
        return with_keys(jax.tree.map(lambda x: jax.make_array_from_process_local_data(whole, x), plain(state)), state)

    def shares(self, state: TrainState) -> TrainState:
        """Returns the state in the form that a checkpointer takes. With several hosts, each writes its share of it."""
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


def own_rows(x: jax.Array) -> np.ndarray:
    """Returns the rows of an array, spread over devices along its first axis, that are on this host, in their order."""
    shards = sorted(x.addressable_shards, key=lambda shard: shard.index[0].start or 0)
    return np.concatenate([np.asarray(shard.data) for shard in shards])


def local(tree: T) -> T:
    """Returns arrays that are the same on all devices as they are on this host's first one. Nothing is copied."""
    return jax.tree.map(lambda x: x.addressable_data(0), tree)


def _rows(axis: int | None) -> PartitionSpec:
    """Returns how an argument is spread: each device has its own examples along an axis, or all have the same."""
    return PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, AXIS)


def _named(network: nn.Module) -> nn.Module:
    """Returns the network with batch normalizations that share their moments, if it has an `axis_name`."""
    return network.clone(axis_name=AXIS) if hasattr(network, "axis_name") else network
