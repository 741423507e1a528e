"""Measures the shipped configs on this machine within minutes, for `python -m wgan_jax.benchmark --suite`.

- Speed: time of a generator iteration, with several of them in one call and with a call for each; images and operations
  a second, and their share of what a matrix product reaches here; memory; compile time.
- Bits: whether two runs from fresh states are equal to the last bit, in one process and in two.
- Trajectory: how far small runs come from the same runs in float32 on this machine's CPU, at each precision. Beside it
  stands how far the CPU comes from itself with the examples of each batch in another order: that is rounding alone.
- PyTorch, where it is installed: the same iterations by `tests/compare_torch.py`, in turn with ours.

Each part is a process of its own, which prints one JSON object a line. What it has no time for is named as skipped.
"""

import concurrent.futures
import datetime
import functools
import hashlib
import importlib.metadata
import importlib.util
import itertools
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from wgan_jax.config import build
from wgan_jax.cost import flops, suite_table
from wgan_jax.cost.speed import matrix_product, random_batch, seconds_of
from wgan_jax.devices import determinism
from wgan_jax.errors import UserError
from wgan_jax.method.gan import Gan
from wgan_jax.method.placement import Placement
from wgan_jax.method.state import TrainState, init_state, named_arrays
from wgan_jax.method.step import make_train_step, repeat

Row = dict[str, Any]

RESNET = {f"{player}.{key}": value for player in ("generator", "critic") for key, value in
          (("network", "resnet"), ("activation", "relu"), ("kernel_init", "he_uniform"))}  # fmt: skip
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    # name: file and what is changed, in the order of their arithmetic
    "digits": ("digits", {}),
    "fashion_mnist": ("fashion_mnist", {}),
    "cifar10": ("cifar10", {}),
    "celeb_a, lsun_bedroom": ("lsun_bedroom", {}),  # they have the same networks
    "cifar10_resnet": ("cifar10_resnet", {}),
    "lsun_bedroom, ResNet": ("lsun_bedroom", RESNET),
}
PRECISIONS = {
    # name: config.precision, config.matmul_precision
    "float32": ("float32", "float32"),
    "tensorfloat32": ("float32", "tensorfloat32"),
    "bfloat16": ("bfloat16", "default"),
}
LARGE_BATCH = 512
"""Examples that fill an accelerator where the papers' 64 do not."""
ROUNDS = 5
STEPS_A_CALL, SECONDS_A_CALL = 10, 0.3
"""Most iterations in one call, and about the most seconds, but at least one iteration."""
REPEATED = "fashion_mnist"
"""The config whose runs are repeated in another process."""
FOLLOWED = ("digits", "cifar10", "celeb_a, lsun_bedroom")
FOLLOWED_STEPS = (1, 3, 30)
COMPARED = {"cpu": ("dcgan_penalty",), "gpu": ("cifar10", "cifar10_resnet", "celeb_a")}
"""Cases of `tests/compare_torch.py` by platform."""


class Case(NamedTuple):
    """A config to be measured."""

    config: str
    precision: str
    batch_size: int = 0
    """0 for the config's own."""

    @property
    def name(self) -> str:
        """The name under which it is skipped."""
        batch = f", batch of {self.batch_size}" if self.batch_size else ""
        return f"{self.config}, {self.precision}{batch}"


def cases(backend: str) -> list[Case]:
    """Returns what is measured on a platform, the most important first."""
    precisions = [name for name in PRECISIONS if name != "tensorfloat32" or backend != "cpu"]
    found = [Case(config, precision) for config in CONFIGS for precision in precisions]
    if backend != "cpu":
        found += [Case(c, p, LARGE_BATCH) for p in reversed(precisions) for c in CONFIGS if c != "digits"]
    return found


def settings(folder: Path, case: Case) -> ConfigDict:
    """Returns the config of a case, from the folder of the shipped ones."""
    file, changes = CONFIGS[case.config]
    spec = importlib.util.spec_from_file_location(file, folder / f"{file}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config()
    config.update_from_flattened_dict(changes)
    config.precision, config.matmul_precision = PRECISIONS[case.precision]
    config.batch_size = case.batch_size or config.batch_size
    return config


# Speed and bits.


class Program(NamedTuple):
    """The compiled iterations of a config, as a run has them: several in one call."""

    start: Callable[[], TrainState]
    """Makes a fresh state."""
    call: Callable[[TrainState, int], TrainState]
    """A number of iterations. The state that goes in is given away."""
    compile_seconds: float
    bytes: int
    """Memory for the arrays that go in and for all that is held beside them."""


def compiled(gan: Gan, config: ConfigDict, length: int) -> Program:
    """Compiles up to `length` iterations in one call, on random images."""
    start = functools.partial(jax.jit(functools.partial(init_state, gan)), jax.random.key(config.seed))
    batch = random_batch(gan, config.n_critic, config.batch_size)
    batches = jax.tree.map(lambda x: jnp.broadcast_to(x, (length, *x.shape)), batch)
    began = time.perf_counter()
    program = jax.jit(repeat(make_train_step(gan)), donate_argnums=0).lower(start(), batches, length).compile()
    seconds = time.perf_counter() - began
    memory = program.memory_analysis()
    assert memory is not None  # every backend that compiles steps has it
    return Program(
        start,
        lambda state, count: program(state, batches, count)[0],
        seconds,
        memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
        - memory.alias_size_in_bytes,
    )  # fmt: skip


def digest(state: TrainState) -> str:
    """Returns one number for all bits of a state."""
    found = hashlib.sha256()
    for name, x in named_arrays(state).items():
        found.update(name.encode())
        found.update(np.asarray(jax.random.key_data(x) if name == "key" else x).tobytes())
    return found.hexdigest()


def compile_all(configs: list[ConfigDict], lengths: list[int]) -> Iterator[Program]:
    """Compiles a few configs side by side, where the processor has many cores."""
    workers = max(1, min(len(configs), (os.cpu_count() or 1) // 4))
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        yield from pool.map(lambda config, length: compiled(build(config), config, length), configs, lengths)


class Work(NamedTuple):
    """A case that there is time for."""

    row: Row
    """Its name, precision and batch."""
    config: ConfigDict
    length: int
    """Iterations in one call."""
    needed: int
    """Floating point operations of an iteration."""
    product: Callable[[], jax.Array]
    """A matrix product in the same precision."""
    needed_by_product: int


def measure(work: Work, program: Program) -> Row:
    """Returns the measures of a config's compiled iterations; times are medians over the rounds.

    The rounds take turns: matrix products, several iterations in one call, and as many in a call each, which are sent
    off one after another. What the second way takes longer, the device waits for the host.
    """
    config, length = work.config, work.length
    ends = [jax.block_until_ready(program.call(program.start(), length)) for _ in range(2)]
    digests = [digest(state) for state in ends]
    state = ends.pop()
    del ends
    products = 1 if jax.default_backend() == "cpu" else 8

    def iterations(calls: int, count: int) -> Callable[[], TrainState]:
        def go() -> TrainState:
            nonlocal state
            for _ in range(calls):
                state = program.call(state, count)
            return state

        return go

    together, apart, ceilings = [], [], []
    for _ in range(ROUNDS):
        ceilings.append(seconds_of(lambda: [work.product() for _ in range(products)]) / products)
        together.append(seconds_of(iterations(1, length)) / length)
        if length > 1:
            apart.append(seconds_of(iterations(length, 1)) / length)
    seconds = statistics.median(together)
    rate = work.needed / seconds
    ceiling = work.needed_by_product / statistics.median(ceilings)
    return work.row | {
        "milliseconds": 1e3 * seconds,
        "milliseconds_min": 1e3 * min(together),
        "milliseconds_max": 1e3 * max(together),
        "milliseconds_a_call_each": 1e3 * statistics.median(apart or together),
        "steps_a_call": length,
        "images_per_second": config.n_critic * config.batch_size / seconds,
        "tflop_per_second": rate / 1e12,
        "matmul_tflop_per_second": ceiling / 1e12,
        "fraction_of_matmul": rate / ceiling,
        "megabytes": program.bytes / 1e6,
        "compile_seconds": program.compile_seconds,
        "same_bits": digests[0] == digests[1],
        "digest": digests[0],
    }


def speed(folder: Path, deadline: float, before: list[Row]) -> Iterator[Row]:
    """Measures as many cases as there is time for, those of one config and batch after another."""
    del before
    products: dict[str, tuple[Callable[[], jax.Array], int]] = {}
    compiling = 10.0  # seconds, until it is known
    for _, group in itertools.groupby(cases(jax.default_backend()), lambda case: (case.config, case.batch_size)):
        works: list[Work] = []
        expected, needed = 1.5 * compiling, 0
        for case in group:
            config = settings(folder, case)
            gan = build(config)
            if case.precision not in products:
                products[case.precision] = matrix_product(gan, config.precision)
            product, needed_by_product = products[case.precision]
            rate = needed_by_product / seconds_of(product) / 2  # few cases reach more
            needed = needed or flops.of_step(gan, config.batch_size, config.n_critic)
            length = max(1, min(STEPS_A_CALL, int(SECONDS_A_CALL * rate / needed)))
            steps = 2 * length + ROUNDS * (1 if length == 1 else 2 * length)
            expected += steps * needed / rate
            left = max(deadline - time.monotonic(), 0)
            row = {"config": case.config, "precision": case.precision, "batch_size": config.batch_size}
            if expected > left:
                yield row | {"skipped": f"would take about {expected:.0f} s, with {left:.0f} s left"}
                expected -= steps * needed / rate
            else:
                works.append(Work(row, config, length, needed, product, needed_by_product))
        began = time.monotonic()
        programs = list(compile_all([work.config for work in works], [work.length for work in works]))
        compiling = time.monotonic() - began if works else compiling
        for work, program in zip(works, programs, strict=True):
            try:
                yield measure(work, program)
            except jax.errors.JaxRuntimeError as error:
                yield work.row | {"failed": " ".join(str(error).split())[:300]}


def bits(folder: Path, deadline: float, before: list[Row]) -> Iterator[Row]:
    """Repeats runs of `speed` in this process, and compares their bits."""
    del deadline
    configs = [settings(folder, Case(row["config"], row["precision"])) for row in before]
    programs = compile_all(configs, [row["steps_a_call"] for row in before])
    for row, program in zip(before, programs, strict=True):
        end = digest(program.call(program.start(), row["steps_a_call"]))
        yield {"config": row["config"], "precision": row["precision"], "same_bits": end == row["digest"]}


# Trajectory.


def followed(folder: Path, name: str, precision: str) -> ConfigDict:
    """Returns a config that a CPU can follow: convolutional networks are narrow, and learn from batches of 32."""
    config = settings(folder, Case(name, precision))
    if config.critic.network != "mlp":
        config.generator.width = config.critic.width = 8
        config.batch_size = 32
    return config


def walk(config: ConfigDict, device: jax.Device, order: np.ndarray) -> list[np.ndarray]:
    """Returns all parameters of both players as one vector, after each of `FOLLOWED_STEPS`.

    Args:
      config: the run.
      device: what computes.
      order: of the examples in each batch, which keep their draws.
    """
    gan = build(config)
    placement = Placement(example_index=lambda size: jnp.asarray(order if size == len(order) else np.arange(size)))
    step = jax.jit(make_train_step(gan, placement=placement), donate_argnums=0)
    with jax.default_device(jax.devices("cpu")[0]):
        state = init_state(gan, jax.random.key(config.seed))
    state = jax.device_put(state, device)
    rng, found = np.random.default_rng(0), []
    for i in range(max(FOLLOWED_STEPS)):
        image = rng.uniform(-1, 1, (config.n_critic, config.batch_size, *gan.image_shape)).astype(np.float32)
        state, _ = step(state, jax.device_put({"image": image[:, order]}, device))
        if i + 1 in FOLLOWED_STEPS:
            arrays = named_arrays(state).items()
            found.append(np.concatenate([np.ravel(x) for key, x in arrays if "/variables/params/" in key]))
    return found


def trajectory(folder: Path, deadline: float, before: list[Row]) -> Iterator[Row]:
    """Compares runs on this machine's default device with the CPU's in float32."""
    del before
    cpu, here = jax.devices("cpu")[0], jax.devices()[0]
    for name in FOLLOWED:
        if time.monotonic() > deadline:
            yield {"ended": f"{name}: no time left"}
            continue
        config = followed(folder, name, "float32")
        usual, other = np.arange(config.batch_size), np.random.default_rng(0).permutation(config.batch_size)
        record = walk(config, cpu, usual)

        def distances(found: list[np.ndarray], record: list[np.ndarray] = record) -> list[float]:
            pairs = zip(found, record, strict=True)
            return [float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in pairs]

        row = {"config": name, "steps": FOLLOWED_STEPS}
        yield row | {
            "precision": "float32",
            "on": "CPU, another order",
            "distances": distances(walk(config, cpu, other)),
        }
        for precision in PRECISIONS:
            if precision != "tensorfloat32" or here.platform != "cpu":
                found = walk(followed(folder, name, precision), here, usual)
                yield row | {"precision": precision, "on": here.device_kind, "distances": distances(found)}


# The parts together.

PARTS: dict[str, Callable[[Path, float, list[Row]], Iterator[Row]]] = {
    "speed": speed,
    "bits": bits,
    "trajectory": trajectory,
}
UNTIL = {"speed": 0.45, "bits": 0.5, "torch": 0.85, "trajectory": 1.0}
"""The parts in their order, and the share of the time until which each may go on."""


def machine() -> Row:
    """Returns what computed: the device, the versions, and what was asked of XLA."""
    names = ["wgan_jax", "jax", "jaxlib", "flax", "optax", "jax-cuda13-plugin", "jax-cuda12-plugin"]
    names += ["nvidia-cudnn-cu13", "nvidia-cudnn-cu12", "libtpu", "torch"]
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "device": jax.devices()[0].device_kind,
        "platform": jax.default_backend(),
        "platform_version": " ".join(jax.devices()[0].client.platform_version.split()),
        "devices": jax.device_count(),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "versions": versions,
        **determinism.record(),
    }


def run(out: Path, minutes: float) -> Row:
    """Measures all parts, and writes `suite.json` and `suite.md` after each row.

    Raises:
      UserError: if the shipped configs are not there, or the folder cannot be written.
    """
    folder = Path("configs")
    if not (folder / "digits.py").is_file():
        raise UserError("--suite: there is no folder configs/ here; run it from the folder of the repository")
    out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    results: Row = {"date": date, "minutes": minutes, "machine": {}, "skipped": []}

    def write() -> None:
        results["seconds"] = time.monotonic() - began
        (out / "suite.json").write_text(json.dumps(results, indent=1))
        (out / "suite.md").write_text(suite_table.table(results))

    def lines(part: str, command: list[str]) -> Iterator[Row]:
        left = began + 60 * minutes * UNTIL[part] - time.monotonic()
        return json_lines(command, left) if left > 0 else iter([{"ended": "no time left"}])

    def rows(part: str) -> Iterator[Row]:
        if part == "torch":
            backend = results["machine"].get("platform", "cpu")
            return torch_rows(backend, functools.partial(lines, part))
        repeated = [row for row in results["speed"] if row["config"] == REPEATED and "digest" in row]
        before = json.dumps(repeated[: len(PRECISIONS)])
        seconds = 60 * minutes * UNTIL[part] - (time.monotonic() - began)
        return lines(part, [sys.executable, "-m", "wgan_jax.cost.suite", part, str(folder), str(seconds), before])

    planned: list[Row] = []
    for part in UNTIL:
        results[part] = []
        for row in rows(part):
            if "ended" in row:
                results["skipped"].append(f"{part}: {row['ended']}")
            elif "machine" in row:
                results["machine"] = row["machine"]
                planned += row["planned"]
            else:
                results[part].append(row)
                print(suite_table.line(part, row), flush=True)
            write()
        if part == "speed":
            results["skipped"] += [f"{Case(**case).name}: no time left" for case in planned[len(results[part]) :]]
    write()
    print(f"\n{suite_table.table(results)}\nwritten to {out}/suite.json and {out}/suite.md")
    return results


def json_lines(command: list[str], seconds: float) -> Iterator[Row]:
    """Yields the JSON objects that a process prints; if it fails, or is ended after some seconds, one says so."""
    environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # several processes share a device
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        late = threading.Event()

        def end() -> None:
            late.set()
            os.killpg(process.pid, signal.SIGKILL)  # its own processes too

        errors: list[str] = []
        reader = threading.Thread(target=lambda: errors.extend(process.stderr or []), daemon=True)
        timer = threading.Timer(seconds, end)
        reader.start()
        timer.start()
        try:
            for line in process.stdout:
                if line.startswith("{"):
                    yield json.loads(line)
            process.wait()
        finally:
            timer.cancel()
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    reader.join(timeout=5)
    if late.is_set():
        yield {"ended": f"no more after {seconds:.0f} s"}
    elif process.returncode:
        yield {"ended": "failed: " + (errors[-1].strip() if errors else f"exit code {process.returncode}")}


def torch_rows(backend: str, lines: Callable[[list[str]], Iterator[Row]]) -> Iterator[Row]:
    """Yields what `tests/compare_torch.py` finds, and why it finds no more."""
    script = Path("tests/compare_torch.py")
    if backend not in COMPARED:
        yield {"ended": f"not compared on {backend}"}
    elif not script.is_file():
        yield {"ended": f"{script} is not here"}
    elif importlib.util.find_spec("torch") is None:
        yield {"ended": "PyTorch is not installed"}
    else:
        device = {"gpu": "cuda"}.get(backend, backend)
        command = [sys.executable, str(script), f"--device={device}", "--json", f"--rounds={ROUNDS}"]
        yield from lines([*command, "--try-compile"])
        for case in COMPARED[backend]:
            for row in lines([*command, f"--case={case}"]):
                row.pop("rounds", None)
                yield {"ended": f"{case}: {row['ended']}"} if "ended" in row else row


def serve(part: str, folder: str, seconds: str, before: str) -> None:
    """Prints the rows of a part, one JSON object a line."""
    deadline = time.monotonic() + float(seconds)
    planned = [case._asdict() for case in cases(jax.default_backend())] if part == "speed" else []
    print(json.dumps({"machine": machine(), "planned": planned}), flush=True)
    for row in PARTS[part](Path(folder), deadline, json.loads(before)):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    serve(*sys.argv[1:])
