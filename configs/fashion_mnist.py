"""WGAN-GP on Fashion-MNIST: 60,000 pictures of clothing, 28×28: `--config=configs/fashion_mnist.py:VARIANT`.

VARIANT is
    classes     pictures of each class on demand, the default,
    unlabelled  the same without the labels,
    paper       the optimizer of WGAN-GP's MNIST script, to compare with it.

Command:  pip install -e ".[prepare]"  # once, with the next line; training itself needs no TensorFlow
          python -m wgan_jax.prepare --name=fashion_mnist  # once, with a network
          python -m wgan_jax.train --config=configs/fashion_mnist.py --workdir=runs/fashion_mnist
Machine:  2 CPU cores, or 1 GPU
Time:     about 20 minutes on 2 quiet CPU cores
"""

from ml_collections import ConfigDict

from wgan_jax.config import default, one_of

VARIANTS = ("classes", "unlabelled", "paper")


def get_config(variant: str = "classes") -> ConfigDict:
    one_of(variant, VARIANTS)
    c = default()
    c.batch_size = 64
    c.data.name = "tfds:fashion_mnist"
    c.data.size = 28
    c.data.channels = 1
    for player in (c.generator, c.critic):
        player.network = "dcgan"
        player.width = 32
        player.optimizer.name = "adam"
    c.report.every = 50
    c.report.samples_every = 500
    c.report.checkpoint_every = 250
    c.report.metrics = ("nearest_neighbour_accuracy",)  # a second of every 1,000 iterations
    c.report.metrics_num = 500
    if variant == "paper":
        c.steps = 2_500
        for player in (c.generator, c.critic):
            player.optimizer.learning_rate = 2e-4
            player.optimizer.b1 = 0.5
            player.optimizer.b2 = 0.9
        return c
    c.steps = 7_000
    c.n_critic = 1
    c.generator.norm = "batch"
    for player in (c.generator, c.critic):
        player.kernel_size = 4
        player.optimizer.learning_rate = 1e-3
        player.optimizer.b1 = 0.0
        player.optimizer.b2 = 0.9
    if variant == "classes":
        c.conditional.kind = "projection"
        c.conditional.classes = 10
    return c
