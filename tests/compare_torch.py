"""Compares the time of a generator iteration in wgan_jax with the same iteration in PyTorch, on the CPU or a GPU.

    python tests/compare_torch.py [--torch-python=PYTHON] [--rounds=7] [--case=dcgan_penalty …] [--json]
    python tests/compare_torch.py --device=cuda [--case=cifar10 …] …

One process runs wgan_jax, and one process runs each way to use PyTorch. On the CPU each has two threads. All have the
same networks, batch and optimizer. The processes take turns, one iteration at a time, for the given number of rounds.
So other work on the machine slows all of them equally. The ways are eager PyTorch as it is, with `channels_last` in
memory, with `torch.autocast` in bfloat16, and with both. `torch.compile` is not among them, because it does not support
the gradient of a gradient, which the penalty needs: `--try-compile` shows what it says.

On a GPU a turn is ten iterations, which are sent off one after another, so that neither library waits for the host more
than it must. There is a process of wgan_jax for each precision, with the deterministic operations that every command
uses, and one in bfloat16 with those that XLA finds fastest. PyTorch uses `cudnn.benchmark` in every way, and further
ways are TensorFloat-32 and the whole iteration recorded as one CUDA graph.

wgan_jax is compared with the fastest way whose precision is the same or higher: with any way if wgan_jax computes in
bfloat16, and with the ways in float32 if it computes in float32. The table shows the median times and the ratio,
PyTorch's time divided by ours, as a median over the rounds. The line below each case shows the time of each way and how
many times as fast as eager PyTorch it is. PyTorch (`pip install torch==2.13.0`) may be installed in another
environment, without jax: `--torch-python` names its interpreter.
"""

import argparse
import contextlib
import fcntl
import json
import os
import statistics
import subprocess
import sys
import time
from typing import NamedTuple

THREADS = 2
N_CRITIC = 5
BITS = {"float32": 24, "tensorfloat32": 11, "bfloat16": 8}
"""Bits of the operands of a product, by precision."""
AUTOTUNED = "bfloat16 autotuned"
"""Name of wgan_jax with the operations that XLA finds fastest."""
FASTEST = "--xla_gpu_deterministic_ops=false"


class Case(NamedTuple):
    network: str
    shape: tuple[int, ...]
    width: int
    latent_dim: int
    batch_size: int
    constraint: str = "gradient_penalty"
    precision: str = "float32"
    """The precision of wgan_jax on the CPU. On a GPU all are measured."""
    critic_norm: str = "none"
    generator_batch_multiple: int = 1


CASES = {
    "dcgan_penalty": Case("dcgan", (32, 32, 1), 64, 128, 64),
    "dcgan_clipping": Case("dcgan", (32, 32, 1), 64, 128, 64, "clip"),
    "resnet_penalty": Case("resnet", (32, 32, 3), 128, 128, 16),
    "mlp_penalty": Case("mlp", (2,), 512, 2, 256),
    "dcgan_penalty_bfloat16": Case("dcgan", (32, 32, 1), 64, 128, 64, precision="bfloat16"),
}
SHIPPED = {
    # Networks and batch sizes of configs/, for a GPU.
    "cifar10": Case("dcgan", (32, 32, 3), 128, 128, 64),
    "celeb_a": Case("dcgan", (64, 64, 3), 64, 128, 64, critic_norm="layer"),
    "cifar10_resnet": Case("resnet", (32, 32, 3), 128, 128, 64, generator_batch_multiple=2),
}


class Way(NamedTuple):
    """Options of PyTorch."""

    precision: str = "float32"
    channels_last: bool = False
    graph: bool = False


CPU_WAYS = {
    "eager": Way(),
    "channels_last": Way(channels_last=True),
    "bfloat16": Way("bfloat16"),
    "bfloat16 channels_last": Way("bfloat16", channels_last=True),
}
GPU_WAYS = CPU_WAYS | {
    "tensorfloat32 channels_last": Way("tensorfloat32", channels_last=True),
    "tensorfloat32 channels_last graph": Way("tensorfloat32", channels_last=True, graph=True),
    "bfloat16 channels_last graph": Way("bfloat16", channels_last=True, graph=True),
}


def ways(case, device):
    """Returns the ways to use PyTorch that a case allows, by name."""
    images = case.network != "mlp"
    found = CPU_WAYS if device == "cpu" else GPU_WAYS
    return {name: way for name, way in found.items() if images or not way.channels_last}


def jax_iteration(case, precision):
    from wgan_jax.devices import determinism

    determinism.require()  # as every command does
    import jax

    import wgan_jax
    from wgan_jax.config import default

    config = default()
    config.batch_size, config.n_critic, config.latent_dim = case.batch_size, N_CRITIC, case.latent_dim
    config.constraint.kind = case.constraint
    config.precision = "bfloat16" if precision == "bfloat16" else "float32"
    config.matmul_precision = "default" if precision == "bfloat16" else precision
    config.generator.batch_multiple = case.generator_batch_multiple
    if case.network == "mlp":
        config.data.name, config.data.size, config.data.channels = "toy:swissroll", 0, case.shape[-1]
    else:
        config.data.name, config.data.size, config.data.channels = "tfds:any", case.shape[0], case.shape[-1]
    for player in (config.generator, config.critic):
        player.network, player.width = case.network, case.width
        player.activation = "leaky_relu" if case.network == "dcgan" and player is config.critic else "relu"
        player.optimizer.name, player.optimizer.learning_rate = (
            ("rmsprop", 5e-5) if case.constraint == "clip" else ("adam", 1e-4)
        )
    config.generator.norm = "none" if case.network == "mlp" else "batch"
    config.critic.norm = case.critic_norm
    gan = wgan_jax.build(config)
    state = wgan_jax.init_state(gan, jax.random.key(0))
    shape = (N_CRITIC, case.batch_size, *case.shape)
    batch = {"image": jax.random.uniform(jax.random.key(1), shape, minval=-1, maxval=1)}
    step = jax.jit(wgan_jax.make_train_step(gan), donate_argnums=0)

    def iterations(count):
        nonlocal state
        for _ in range(count):
            state, _ = step(state, batch)
        jax.block_until_ready(state)

    return iterations


def torch_iteration(case, way, device):
    import torch
    import torch_reference

    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = way.precision != "float32"
    memory = torch.channels_last if way.channels_last else torch.contiguous_format
    gan = torch_reference.build(
        case.network,
        case.shape,
        width=case.width,
        latent_dim=case.latent_dim,
        generator_norm="none" if case.network == "mlp" else "batch",
        critic_norm=case.critic_norm,
        constraint=case.constraint,
        memory_format=memory,
        autocast=way.precision == "bfloat16",
        device=device,
        capturable=way.graph,
    )
    real = 2 * torch.rand(N_CRITIC, case.batch_size, case.shape[-1], *case.shape[:-1], device=device) - 1
    if case.network != "mlp":
        real = real.flatten(0, 1).contiguous(memory_format=memory).unflatten(0, real.shape[:2])

    def iteration():
        drawn = torch_reference.draw(gan, N_CRITIC, case.batch_size, case.generator_batch_multiple)
        torch_reference.train_step(gan, real, *drawn)

    if way.graph:
        iteration = recorded(iteration)

    def iterations(count):
        for _ in range(count):
            iteration()
        if device != "cpu":
            torch.cuda.synchronize()

    return iterations


def recorded(iteration):
    """Records an iteration as one CUDA graph, after a warm-up on its own stream. Only its times are of use.

    Running variances, which are new tensors each time, stand still in it, and so does the decay of the average.
    """
    import torch

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            iteration()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        iteration()
    return graph.replay


def try_compile(device):
    """Returns the error of PyTorch for a small penalty whose critic is compiled, or "" if there is none."""
    import torch

    critic = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).to(device)
    # The backend that compiles nothing: what is refused, the tracing before it refuses.
    score = torch.compile(critic, backend="aot_eager")
    x = torch.randn(8, 2, device=device, requires_grad=True)
    try:
        (gradient,) = torch.autograd.grad(score(x).sum(), x, create_graph=True)
        (gradient.norm(dim=1) - 1).square().mean().backward()
    except RuntimeError as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:160]} (PyTorch {torch.__version__})"
    return ""


@contextlib.contextmanager
def alone(needed):
    """Keeps other processes from choosing their kernels by timing them while this one does."""
    with open(__file__) as file:
        if needed:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def serve(case, ours, way, device, count):
    """Runs some iterations for compilation and caches. Then runs `count` for each line of input.

    It prints the seconds per iteration.
    """
    if ours:
        iterations = jax_iteration(case, ours)
        chooses = device != "cpu" and FASTEST in os.environ.get("XLA_FLAGS", "")
    else:
        import torch  # noqa: F401  it takes seconds, in which others may choose

        chooses = device != "cpu"
    with alone(chooses):
        if not ours:
            iterations = torch_iteration(case, ways(case, device)[way], device)
        iterations(1)
        iterations(count)
    print("ready", flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        iterations(count)
        print((time.perf_counter() - began) / count, flush=True)


def compare(name, rounds, torch_python, device):
    """Times a case. Returns the seconds of each round by `("ours", precision)` and `("torch", way)`."""
    case = (CASES | SHIPPED)[name]
    environment = dict(os.environ)
    count, precisions = 10, tuple(BITS)
    if device == "cpu":
        count, precisions = 1, (case.precision,)
        environment |= {"JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": str(THREADS)}
        if hasattr(os, "sched_getaffinity"):
            cores = sorted(os.sched_getaffinity(0))[:THREADS]
            os.sched_setaffinity(0, cores)  # XLA starts a thread for each core that it may use
    else:
        environment |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # all share the device's memory
    serve = [__file__, f"--device={device}", f"--count={count}", "--case", name, "--serve"]
    commands = {("ours", p): [sys.executable, *serve, "jax", "--precision", p] for p in precisions}
    commands |= {("torch", way): [torch_python, *serve, "torch", "--way", way] for way in ways(case, device)}
    environments = dict.fromkeys(commands, environment)
    if device != "cpu":
        commands["ours", AUTOTUNED] = commands["ours", "bfloat16"]
        others = [flag for flag in environment.get("XLA_FLAGS", "").split() if "deterministic_ops" not in flag]
        environments["ours", AUTOTUNED] = environment | {"XLA_FLAGS": " ".join([*others, FASTEST])}
    workers = {
        key: subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environments[key])
        for key, command in commands.items()
    }
    try:
        for key, worker in list(workers.items()):
            if worker.stdout.readline() != "ready\n":
                if key[0] == "ours" or not ways(case, device)[key[1]].graph:
                    raise SystemExit(f"{name}: {' '.join(worker.args)} did not start; see its error above.")
                del workers[key]  # not everything can be recorded
        times = {key: [] for key in workers}
        for _ in range(rounds):
            for key, worker in workers.items():
                print(file=worker.stdin, flush=True)
                times[key].append(float(worker.stdout.readline()))
        return times
    finally:
        for worker in workers.values():
            worker.stdin.close()
            worker.wait()


def ratio(theirs, ours):
    """Returns the quartiles, over the rounds, of `theirs` divided by `ours`."""
    return statistics.quantiles([b / a for a, b in zip(ours, theirs, strict=True)], n=4)


def summary(name, precision, times, device):
    """Compares wgan_jax at one precision with the fastest way of PyTorch at that precision or a higher one."""
    case = (CASES | SHIPPED)[name]
    columns = {"ours": times["ours", precision]} | {way: x for (whose, way), x in times.items() if whose == "torch"}
    if precision == "bfloat16" and ("ours", AUTOTUNED) in times:
        columns["ours autotuned"] = times["ours", AUTOTUNED]
    medians = {way: 1e3 * statistics.median(column) for way, column in columns.items()}
    known = ways(case, device)
    theirs = [way for whose, way in times if whose == "torch"]
    fit = [way for way in theirs if BITS[known[way].precision] >= BITS[precision]]
    best = min(fit, key=medians.get)
    return {
        "case": name,
        "precision": precision,
        "best": best,
        "ratio": ratio(columns[best], columns["ours"])[1],
        "quartiles": ratio(columns[best], columns["ours"])[::2],
        "milliseconds": medians,
        "gains": {way: ratio(columns["eager"], columns[way])[1] for way in theirs},
        "rounds": columns,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--case", action="append", choices=CASES | SHIPPED, help="may be repeated; all of the device's by default"
    )
    parser.add_argument("--rounds", type=int, default=7, help="at least 2")
    parser.add_argument("--torch-python", default=sys.executable)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--try-compile", action="store_true", help="show what torch.compile says of a penalty")
    parser.add_argument("--serve", choices=("jax", "torch"), help=argparse.SUPPRESS)
    parser.add_argument("--way", choices=GPU_WAYS, default="eager", help=argparse.SUPPRESS)
    parser.add_argument("--precision", choices=BITS, help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, default=1, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rounds < 2:
        parser.error("--rounds: at least 2, for quartiles")
    if arguments.try_compile:
        said = try_compile(arguments.device) or "compiled, with its gradients"
        print(json.dumps({"compile": said}) if arguments.json else said)
        return
    if arguments.serve:
        case = (CASES | SHIPPED)[arguments.case[0]]
        serve(case, arguments.precision, arguments.way, arguments.device, arguments.count)
        return
    if not arguments.json:
        print(f"{'case':26}{'ours, ms':>10}{'PyTorch, ms':>13}{'ratio':>7}   quartiles      PyTorch's way")
    for case in arguments.case or (CASES if arguments.device == "cpu" else SHIPPED):
        times = compare(case, arguments.rounds, arguments.torch_python, arguments.device)
        for precision in (precision for whose, precision in times if whose == "ours" and precision in BITS):
            found = summary(case, precision, times, arguments.device)
            if arguments.json:
                print(json.dumps(found), flush=True)
                continue
            medians, gains, (low, high) = found["milliseconds"], found["gains"], found["quartiles"]
            label = case if arguments.device == "cpu" else f"{case} {precision}"
            print(
                f"{label:26}{medians['ours']:10,.1f}{medians[found['best']]:13,.1f}{found['ratio']:7.2f}   "
                f"{low:.2f} to {high:.2f}   {found['best']}"
            )
        if not arguments.json:
            print("  " + "; ".join(f"{way} {medians[way]:,.1f} ms ({gains[way]:.2f}×)" for way in gains), flush=True)


if __name__ == "__main__":
    main()
