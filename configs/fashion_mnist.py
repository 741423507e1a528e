"""WGAN-GP on Fashion-MNIST: 60,000 pictures of clothing, 28×28: `--config=configs/fashion_mnist.py:VARIANT`.

VARIANT is
    classes     pictures of each class on demand, the default,
    unlabelled  the same without the labels,
    paper       the optimizer of WGAN-GP's MNIST script, to compare with it.

Command:  pip install -e ".[prepare]"  # once, with the next line; training itself needs no TensorFlow
          python -m wgan_jax.prepare --name=fashion_mnist  # once, with a network
          python -m wgan_jax.train --config=configs/fashion_mnist.py --workdir=runs/fashion_mnist
Machine:  2 CPU cores, or 1 GPU
Time:     about 16 minutes on 2 quiet CPU cores; the first 2,000 iterations take 5 minutes
Expect:   clothing of all classes after 5 minutes, and sharp after 15; `python -m wgan_jax.sample --by_class` draws a
          row of each class. The estimate falls to about 0.6, on training and on held-out images alike

The papers have no such run. Penalty and β₂ are those of WGAN-GP (arXiv 1704.00028), and its networks at half their
width, with WGAN's kernels of 4×4 (arXiv 1701.07875). One critic update in each iteration, batch norm in the generator,
a rate of 1e-3 without momentum, and classes by projection (arXiv 1802.05637) were found by a search:
`docs/constraints.md` has its numbers. `paper` has the optimizer and the five critic updates of WGAN-GP's
`gan_mnist.py`, but twice its rate.
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
