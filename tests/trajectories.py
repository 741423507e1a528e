"""Trains small runs on the devices of this process and saves their final states, for `test_parallel.py`.

python -m tests.trajectories OUT.npz VARIANT,VARIANT,… MODE:DEVICES,… [ADDRESS COUNT INDEX]
"""

import dataclasses
import json
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import wgan_jax
from wgan_jax.cost import hlo, slices
from wgan_jax.data import batches
from wgan_jax.data.arrays import ArraySource
from wgan_jax.devices import hosts, mesh
from wgan_jax.method import constraints
from wgan_jax.method.schedule import CriticSchedule
from wgan_jax.method.state import named_arrays
from wgan_jax.method.step import repeat
from wgan_jax.networks import dcgan, mlp
from wgan_jax.networks.layers import Norm

STEPS, N_CRITIC, BATCH, LATENT = 5, 2, 16, 3
SHAPE = (2, 2, 1)


class Generator(nn.Module):
    norm: str = "batch"
    dtype: str = "float32"
    axis_name: str | None = None

    @nn.compact
    def __call__(self, z, label=None, *, train=False):
        h = nn.Dense(6, dtype=self.dtype)(z)
        h = nn.tanh(Norm(self.norm, dtype=self.dtype, axis_name=self.axis_name)(h, train=train))
        return nn.Dense(4, dtype=self.dtype)(h).reshape(-1, *SHAPE).astype(jnp.float32)


class Critic(nn.Module):
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x, label=None, *, train=False):
        h = nn.leaky_relu(nn.Dense(8, dtype=self.dtype)(x.reshape(x.shape[0], -1)))
        return nn.Dense(1, dtype=self.dtype)(h)[:, 0].astype(jnp.float32)


# A large ε. Some gradients are 0 except for rounding, for example the gradient of a bias before a batch norm, or of a
# unit that is active for every example. With a small ε, the optimizers would turn such rounding errors into full steps.
# These runs show that every number reaches its place. `yardstick.py` measures the effect of rounding with the configs'
# own optimizers.
EPS = 1e-4


def adam():
    return optax.adam(1e-3, b1=0.5, b2=0.9, eps=EPS)


def small(**changes):
    gan = wgan_jax.Gan(
        generator=Generator(),
        critic=Critic(),
        image_shape=SHAPE,
        prior=wgan_jax.priors.Normal(LATENT),
        generator_optimizer=adam(),
        critic_optimizer=adam(),
        generator_batch_multiple=2,
        dequantise=True,
        flip=True,
    )
    return dataclasses.replace(gan, **changes)


def images(**changes):
    return small(
        generator=dcgan.Generator((8, 8, 1), width=2), critic=dcgan.Critic(width=2), image_shape=(8, 8, 1), **changes
    )


def rmsprop():
    return optax.rmsprop(1e-3, decay=0.99, eps=EPS, eps_in_sqrt=False)


def conditional(kind):
    return small(
        generator=mlp.Generator(SHAPE, width=6, depth=1, num_classes=4),
        critic=mlp.Critic(width=8, depth=1, conditioning=kind, num_classes=4),
        prior=wgan_jax.priors.Normal(LATENT, 4),
    )


def constrained():
    """Everything that constraints draw, keep and leave out: u, dropout, DRAGAN's points, and a lazy term."""
    return small(
        critic=mlp.Critic(width=8, depth=1, dropout=0.5),
        constraint=constraints.chain(
            constraints.spectral_norm(),
            constraints.lazy(constraints.r1(), 3, N_CRITIC),
            constraints.dragan(),
            constraints.consistency(),
        ),
    )


VARIANTS = {
    "penalty": lambda: (small(), 1),
    "clipping": lambda: (
        small(constraint=constraints.clip(0.1), critic_optimizer=rmsprop(), generator_optimizer=rmsprop()),
        1,
    ),
    "microbatches": lambda: (small(generator=Generator(norm="none")), 2),
    "bfloat16": lambda: (small(generator=Generator(dtype="bfloat16"), critic=Critic(dtype="bfloat16")), 1),
    "convolutions": lambda: (images(), 1),
    "auxiliary": lambda: (conditional("auxiliary"), 1),
    "projection": lambda: (conditional("projection"), 1),
    "constraints": lambda: (constrained(), 1),
}


def walk(name: str, devices: mesh.Parallel, microbatches: int | None = None) -> dict[str, np.ndarray]:
    """Trains a run. Returns every array of its final state, and every metric of each step."""
    gan, parts = VARIANTS[name]()
    rng = np.random.default_rng(0)
    shape = (BATCH * N_CRITIC * STEPS, *gan.image_shape)
    source = ArraySource(rng.integers(0, 256, shape).astype(np.uint8), rng.integers(0, 4, shape[0]))
    per_step = batches.dataset(
        source,
        CriticSchedule(N_CRITIC),
        seed=0,
        batch_size=BATCH,
        steps=STEPS,
        host=jax.process_index(),
        hosts=jax.process_count() if len(devices.devices) > 1 else 1,
    )
    stacked = batches.stack(per_step, [(0, 2), (2, 4), (4, 5)], 2)
    step = devices.train_step(gan, microbatches=parts if microbatches is None else microbatches)
    steps = devices.compile(repeat(step), (None, 2, None), donate=True)
    state = devices.replicate(wgan_jax.init_state(gan, jax.random.key(0)))
    history = []
    for i, count in enumerate((2, 2, 1)):
        state, metrics = steps(state, devices.place(stacked[i], axis=2), count)
        history.append({k: np.asarray(mesh.local(v))[:count] for k, v in metrics.items()})
    arrays = named_arrays(mesh.local(state))
    del arrays["key"]
    end = {k: np.asarray(v) for k, v in arrays.items()}
    return end | {f"metric {k}": np.concatenate([h[k] for h in history]) for k in history[0]}


def exchanged(name: str, devices: mesh.Parallel) -> dict[str, dict[str, int]]:
    """Returns the number and the bytes of the exchanges between devices in one step, by kind."""
    gan, parts = VARIANTS[name]()
    compiled = slices.lower(gan, devices, N_CRITIC, BATCH, microbatches=parts).compile()
    return slices.collectives(hlo.Program(compiled.as_text()).collectives)


def main(out: str, variants: str, modes: str, *address: str) -> None:
    if address:
        hosts.initialize(address[0], int(address[1]), int(address[2]))
    results = {}
    for variant in variants.split(","):
        for mode in modes.split(","):
            kind, _, count = mode.partition(":")
            devices = mesh.Parallel(tuple(jax.devices()[: int(count)]), kind)
            for name, value in walk(variant, devices).items():
                results[f"{variant}|{mode}|{name}"] = value
            if mode == "jit:8":
                results[f"{variant}|{mode}|exchanged"] = np.array(json.dumps(exchanged(variant, devices)))
        if modes.startswith("jit:1") and VARIANTS[variant]()[1] > 1:
            for name, value in walk(variant, mesh.Parallel(tuple(jax.devices()[:1])), microbatches=1).items():
                results[f"{variant}|whole|{name}"] = value
    if hosts.is_first():
        np.savez(out, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
