"""WGAN-GP on Fashion-MNIST: 60,000 pictures of clothing, 28×28.

Command:  pip install -e ".[prepare]"  # once, with the next line; training itself needs ".[tfds]" only
          python -m wgan_jax.data prepare --name=fashion_mnist  # once, with a network
          python -m wgan_jax.train --config=configs/fashion_mnist.py --workdir=runs/fashion_mnist
Machine:  2 CPU cores, or 1 GPU
Time:     not measured
Expect:   not measured; the estimate falls as the samples improve, and where its curves on training and held-out
          images part, the critic has begun to know the training images by heart

The papers have no such run. Networks and optimizer are those of WGAN-GP's MNIST script (arXiv 1704.00028,
`gan_mnist.py`), for images of the same size and number; the batch is 64 as in its other runs, and the iterations are
a tenth of its.
"""

from ml_collections import ConfigDict

from wgan_jax.config import default


def get_config() -> ConfigDict:
    c = default()
    c.steps = 20_000
    c.batch_size = 64
    c.data.name = "tfds:fashion_mnist"
    c.data.size = 28
    c.data.channels = 1
    for player in (c.generator, c.critic):
        player.network = "dcgan"
        player.width = 64
        player.optimizer.name = "adam"
        player.optimizer.learning_rate = 1e-4
        player.optimizer.b1 = 0.5
        player.optimizer.b2 = 0.9
    return c
