"""Compares the time of a generator iteration in wgan_jax with the same iteration in PyTorch, on the CPU.

    python tests/compare_torch.py [--torch-python=PYTHON] [--rounds=7] [--case=dcgan_penalty …] [--json]

One process runs wgan_jax, and one process runs each way to use PyTorch. Each has two threads, and the same networks,
batch and optimizer. The processes take turns, one iteration at a time, for the given number of rounds. So other work on
the machine slows all of them equally. The ways are eager PyTorch as it is, with `channels_last` in memory, with
`torch.autocast` in bfloat16, and with both. `torch.compile` is not among them, because it does not support the gradient
of a gradient, which the penalty needs.

wgan_jax is compared with the fastest way whose precision is the same or higher: with any way if wgan_jax computes in
bfloat16, and with the ways in float32 if it computes in float32. The table shows the median times and the ratio,
PyTorch's time divided by ours, as a median over the rounds. The line below each case shows the time of each way and how
many times as fast as eager PyTorch it is. PyTorch (`pip install torch==2.13.0`) may be installed in another
environment, without jax: `--torch-python` names its interpreter.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

THREADS = 2
CASES = {
    # name: network, image shape, width, latent size, batch size, constraint, precision of wgan_jax
    "dcgan_penalty": ("dcgan", (32, 32, 1), 64, 128, 64, "gradient_penalty", "float32"),
    "dcgan_clipping": ("dcgan", (32, 32, 1), 64, 128, 64, "clip", "float32"),
    "resnet_penalty": ("resnet", (32, 32, 3), 128, 128, 16, "gradient_penalty", "float32"),
    "mlp_penalty": ("mlp", (2,), 512, 2, 256, "gradient_penalty", "float32"),
    "dcgan_penalty_bfloat16": ("dcgan", (32, 32, 1), 64, 128, 64, "gradient_penalty", "bfloat16"),
}
N_CRITIC = 5
WAYS = {
    # name: the options of PyTorch that it turns on
    "eager": (),
    "channels_last": ("channels_last",),
    "bfloat16": ("autocast",),
    "bfloat16 channels_last": ("autocast", "channels_last"),
}


def ways(case):
    """Returns the ways to use PyTorch that a case allows."""
    images = CASES[case][0] != "mlp"
    return [way for way in WAYS if images or "channels_last" not in way]


def comparable(way, case):
    """Tells whether a way of PyTorch has at least the precision of wgan_jax in a case."""
    return CASES[case][-1] == "bfloat16" or "autocast" not in WAYS[way]


def jax_iteration(case):
    import jax

    import wgan_jax
    from wgan_jax.config import default

    network, shape, width, latent_dim, batch_size, constraint, precision = CASES[case]
    config = default()
    config.batch_size, config.n_critic, config.latent_dim = batch_size, N_CRITIC, latent_dim
    config.precision, config.constraint.kind = precision, constraint
    if network == "mlp":
        config.data.name, config.data.size, config.data.channels = "toy:swissroll", 0, shape[-1]
    else:
        config.data.name, config.data.size, config.data.channels = "tfds:any", shape[0], shape[-1]
    for player in (config.generator, config.critic):
        player.network, player.width = network, width
        player.activation = "leaky_relu" if network == "dcgan" and player is config.critic else "relu"
        player.optimizer.name, player.optimizer.learning_rate = (
            ("rmsprop", 5e-5) if constraint == "clip" else ("adam", 1e-4)
        )
    config.generator.norm = "none" if network == "mlp" else "batch"
    gan = wgan_jax.build(config)
    state = wgan_jax.init_state(gan, jax.random.key(0))
    batch = {"image": jax.random.uniform(jax.random.key(1), (N_CRITIC, batch_size, *shape), minval=-1, maxval=1)}
    step = jax.jit(wgan_jax.make_train_step(gan), donate_argnums=0)

    def iteration():
        nonlocal state
        state, _ = jax.block_until_ready(step(state, batch))

    return iteration


def torch_iteration(case, way="eager"):
    import torch
    import torch_reference

    network, shape, width, latent_dim, batch_size, constraint, _ = CASES[case]
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    memory = torch.channels_last if "channels_last" in WAYS[way] else torch.contiguous_format
    gan = torch_reference.build(
        network,
        shape,
        width=width,
        latent_dim=latent_dim,
        generator_norm="none" if network == "mlp" else "batch",
        constraint=constraint,
        memory_format=memory,
        autocast="autocast" in WAYS[way],
    )
    real = 2 * torch.rand(N_CRITIC, batch_size, shape[-1], *shape[:-1]) - 1
    if network != "mlp":
        real = real.flatten(0, 1).contiguous(memory_format=memory).unflatten(0, real.shape[:2])
    return lambda: torch_reference.train_step(gan, real, *torch_reference.draw(gan, N_CRITIC, batch_size))


def serve(library, case, way):
    """Runs two iterations for compilation and caches. Then runs one for each line of input and prints its seconds."""
    iteration = jax_iteration(case) if library == "jax" else torch_iteration(case, way)
    iteration()
    iteration()
    print("ready", flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        iteration()
        print(time.perf_counter() - began, flush=True)


def compare(case, rounds, torch_python):
    """Times a case. Returns the seconds of each round, for wgan_jax ("ours") and for each way of PyTorch."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": str(THREADS)}
    if hasattr(os, "sched_getaffinity"):
        cores = sorted(os.sched_getaffinity(0))[:THREADS]
        os.sched_setaffinity(0, cores)  # XLA starts a thread for each core that it may use
    serve = [__file__, "--case", case, "--serve"]
    commands = {"ours": [sys.executable, *serve, "jax"]}
    commands |= {way: [torch_python, *serve, "torch", "--way", way] for way in ways(case)}
    workers = {
        name: subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        for name, command in commands.items()
    }
    try:
        for worker in workers.values():
            if worker.stdout.readline() != "ready\n":
                raise SystemExit(f"{case}: {' '.join(worker.args)} did not start; see its error above.")
        times = {name: [] for name in workers}
        for _ in range(rounds):
            for name, worker in workers.items():
                print(file=worker.stdin, flush=True)
                times[name].append(float(worker.stdout.readline()))
        return times
    finally:
        for worker in workers.values():
            worker.stdin.close()
            worker.wait()


def ratio(theirs, ours):
    """Returns the quartiles, over the rounds, of `theirs` divided by `ours`."""
    return statistics.quantiles([b / a for a, b in zip(ours, theirs, strict=True)], n=4)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", choices=CASES, help="may be repeated; all of them by default")
    parser.add_argument("--rounds", type=int, default=7, help="at least 2")
    parser.add_argument("--torch-python", default=sys.executable)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", choices=("jax", "torch"), help=argparse.SUPPRESS)
    parser.add_argument("--way", choices=WAYS, default="eager", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rounds < 2:
        parser.error("--rounds: at least 2, for quartiles")
    if arguments.serve:
        serve(arguments.serve, arguments.case[0], arguments.way)
        return
    if not arguments.json:
        print(f"{'case':26}{'ours, ms':>10}{'PyTorch, ms':>13}{'ratio':>7}   quartiles      PyTorch's way")
    for case in arguments.case or CASES:
        times = compare(case, arguments.rounds, arguments.torch_python)
        medians = {name: 1e3 * statistics.median(column) for name, column in times.items()}
        best = min((way for way in ways(case) if comparable(way, case)), key=medians.get)
        low, middle, high = ratio(times[best], times["ours"])
        gains = {way: ratio(times["eager"], times[way])[1] for way in ways(case)}
        if arguments.json:
            found = {"case": case, "best": best, "ratio": middle, "milliseconds": medians, "gains": gains}
            print(json.dumps(found | {"rounds": times}), flush=True)
            continue
        print(
            f"{case:26}{medians['ours']:10,.0f}{medians[best]:13,.0f}{middle:7.2f}   {low:.2f} to {high:.2f}   {best}"
        )
        print("  " + "; ".join(f"{way} {medians[way]:,.0f} ms ({gains[way]:.2f}×)" for way in gains), flush=True)


if __name__ == "__main__":
    main()
