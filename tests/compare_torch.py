"""Times a generator iteration of wgan_jax against the same one in PyTorch, on the CPU.

    python tests/compare_torch.py [--torch-python=PYTHON] [--rounds=7] [--case=dcgan_penalty …] [--json]

Two processes, one of each library with two threads, hold the same networks, batch and optimizer ready and take turns,
one iteration each, for as many rounds as asked: what else the machine does falls on both. The table has the median
of each, and the median over the rounds of PyTorch's time divided by ours. PyTorch (`pip install torch==2.13.0`) may
be in an environment of its own, without jax: `--torch-python` names its interpreter.
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
    # name: network, image shape, width, latent size, batch, constraint, precision of ours
    "dcgan_penalty": ("dcgan", (32, 32, 1), 64, 128, 64, "gradient_penalty", "float32"),
    "dcgan_clipping": ("dcgan", (32, 32, 1), 64, 128, 64, "clip", "float32"),
    "resnet_penalty": ("resnet", (32, 32, 3), 128, 128, 16, "gradient_penalty", "float32"),
    "mlp_penalty": ("mlp", (2,), 512, 2, 256, "gradient_penalty", "float32"),
    "dcgan_penalty_bfloat16": ("dcgan", (32, 32, 1), 64, 128, 64, "gradient_penalty", "bfloat16"),
}
N_CRITIC = 5


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


def torch_iteration(case):
    import torch
    import torch_reference

    network, shape, width, latent_dim, batch_size, constraint, _ = CASES[case]
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    norm = "none" if network == "mlp" else "batch"
    gan = torch_reference.build(
        network, shape, width=width, latent_dim=latent_dim, generator_norm=norm, constraint=constraint
    )
    real = 2 * torch.rand(N_CRITIC, batch_size, shape[-1], *shape[:-1]) - 1
    return lambda: torch_reference.train_step(gan, real, *torch_reference.draw(gan, N_CRITIC, batch_size))


def serve(library, case):
    """Two iterations unasked, for compilation and caches; then one for each line of input, its seconds printed."""
    iteration = {"jax": jax_iteration, "torch": torch_iteration}[library](case)
    iteration()
    iteration()
    print("ready", flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        iteration()
        print(time.perf_counter() - began, flush=True)


def compare(case, rounds, torch_python):
    """Seconds of each round: ours and PyTorch's."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": str(THREADS)}
    if hasattr(os, "sched_getaffinity"):
        cores = sorted(os.sched_getaffinity(0))[:THREADS]
        os.sched_setaffinity(0, cores)  # XLA takes a thread for each core it is allowed
    workers = [
        subprocess.Popen(
            [python, __file__, "--serve", library, "--case", case],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for library, python in (("jax", sys.executable), ("torch", torch_python))
    ]
    try:
        for worker in workers:
            if worker.stdout.readline() != "ready\n":
                raise SystemExit(f"{case}: {' '.join(worker.args)} did not start; its error stands above.")
        times = []
        for _ in range(rounds):
            row = []
            for worker in workers:
                print(file=worker.stdin, flush=True)
                row.append(float(worker.stdout.readline()))
            times.append(row)
        return times
    finally:
        for worker in workers:
            worker.stdin.close()
            worker.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", choices=CASES, help="may be repeated; all of them by default")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--torch-python", default=sys.executable)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", choices=("jax", "torch"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.case[0])
        return
    if not arguments.json:
        print(f"{'case':26}{'ours, ms':>12}{'PyTorch, ms':>14}{'ratio':>8}   ratio, quartiles")
    for case in arguments.case or CASES:
        times = compare(case, arguments.rounds, arguments.torch_python)
        ours, theirs = (1e3 * statistics.median(column) for column in zip(*times, strict=True))
        ratios = [theirs / ours for ours, theirs in times]
        low, ratio, high = statistics.quantiles(ratios, n=4)
        if arguments.json:
            print(json.dumps({"case": case, "ours_ms": ours, "torch_ms": theirs, "ratio": ratio, "rounds": times}))
        else:
            print(f"{case:26}{ours:12,.0f}{theirs:14,.0f}{ratio:8.2f}   {low:.2f} to {high:.2f}", flush=True)


if __name__ == "__main__":
    main()
