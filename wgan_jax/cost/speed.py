"""The speed of a config's training step on this machine, compared with a large matrix product."""

import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from wgan_jax.config import stages
from wgan_jax.cost import flops
from wgan_jax.method.batch import Batch, batch_shapes
from wgan_jax.method.gan import Gan
from wgan_jax.method.state import init_state
from wgan_jax.method.step import make_train_step


def benchmark(config: ConfigDict, rounds: int = 7) -> dict[str, Any]:
    """Times the training step of a config's last stage. Returns the measurements by name.

    `milliseconds` is the median over the rounds; `milliseconds_min` and `milliseconds_max` are the smallest and the
    largest time. `gflop_needed` is counted by `flops.of_step` and `gflop_xla` by `xla_flops`. The rates are computed
    from `gflop_needed`.

    Args:
      config: settings of the run.
      rounds: number of steps that are timed. Each is preceded by a large matrix product, which is timed too.
    """
    gan, batch_size, *_ = stages(config)[-1]
    state = init_state(gan, jax.random.key(config.seed))
    n_critic = config.n_critic
    batch = random_batch(gan, n_critic, batch_size)

    began = time.perf_counter()
    step = jax.jit(make_train_step(gan), donate_argnums=0).lower(state, batch).compile()
    compile_seconds = time.perf_counter() - began
    product, needed_by_product = matrix_product(gan, config.precision)
    state, _ = jax.block_until_ready(step(state, batch))
    times, ceilings = [], []
    for _ in range(rounds):
        ceilings.append(seconds_of(product))
        began = time.perf_counter()
        state, _ = jax.block_until_ready(step(state, batch))
        times.append(time.perf_counter() - began)

    seconds = statistics.median(times)
    needed = flops.of_step(gan, batch_size, n_critic)
    ceiling = needed_by_product / statistics.median(ceilings)
    memory = step.memory_analysis()
    assert memory is not None  # every backend that compiles steps provides it
    return {
        "device": jax.devices()[0].device_kind,
        "precision": config.precision,
        "matmul_precision": config.matmul_precision,
        "batch_size": batch_size,
        "n_critic": n_critic,
        "milliseconds": 1e3 * seconds,
        "milliseconds_min": 1e3 * min(times),
        "milliseconds_max": 1e3 * max(times),
        "images_per_second": n_critic * batch_size / seconds,
        "gflop_needed": needed / 1e9,
        "gflop_xla": xla_flops(config) / 1e9,
        "gflop_per_second": needed / seconds / 1e9,
        "matmul_gflop_per_second": ceiling / 1e9,
        "fraction_of_matmul": needed / seconds / ceiling,
        "compile_seconds": compile_seconds,
        "step_megabytes": (memory.temp_size_in_bytes + memory.argument_size_in_bytes) / 1e6,
        "process_peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }


def random_batch(gan: Gan, n_critic: int, batch_size: int) -> Batch:
    """Returns one iteration's batch of random images, of class 0 where there are classes."""
    batch = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), batch_shapes(gan, n_critic, batch_size))
    batch["image"] = jax.random.uniform(jax.random.key(1), batch["image"].shape, jnp.float32, -1, 1)
    return batch


def matrix_product(gan: Gan, precision: str) -> tuple[Callable[[], jax.Array], int]:
    """Compiles a matrix product that keeps this device busy: 2048³ on a CPU, 8192³ elsewhere.

    Args:
      gan: `matmul_precision` of the product.
      precision: dtype of the operands. The result is float32.

    Returns:
      The product as a function, and its number of operations.
    """
    size = 2048 if jax.default_backend() == "cpu" else 8192
    square = jax.random.normal(jax.random.key(2), (size, size), precision)

    @jax.jit
    @gan.with_precision
    def product(a: jax.Array) -> jax.Array:
        return jax.lax.dot(a, a, preferred_element_type=jnp.float32)

    jax.block_until_ready(product(square))
    return lambda: product(square), 2 * size**3


def seconds_of(call: Callable[[], Any]) -> float:
    """Returns how long a call takes until its results are there."""
    began = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - began


def xla_flops(config: ConfigDict) -> float:
    """Returns the number of operations of one generator iteration as XLA counts them on this backend.

    XLA's cost analysis counts the body of a loop once. So the cost of a critic update is the difference between a step
    with two unrolled updates and a step with one.
    """
    gan, batch_size, *_ = stages(config)[-1]
    state = init_state(gan, jax.random.key(0))

    def count(updates: int) -> float:
        batch = batch_shapes(gan, updates, batch_size)
        compiled = jax.jit(make_train_step(gan, unroll=True)).lower(state, batch).compile()
        costs = compiled.cost_analysis()
        assert costs is not None
        return float(costs["flops"])

    one, two = count(1), count(2)
    return one + (config.n_critic - 1) * (two - one)
