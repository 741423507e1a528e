"""WGAN-GP on Fashion-MNIST: 60,000 pictures of clothing, 28×28.

Command:  pip install -e ".[prepare]"  # once, with the next line; training itself needs no TensorFlow
          python -m wgan_jax.prepare --name=fashion_mnist  # once, with a network
          python -m wgan_jax.train --config=configs/fashion_mnist.py --workdir=runs/fashion_mnist
Machine:  2 CPU cores, or 1 GPU
Time:     about half an hour on 2 quiet CPU cores (1.6 iterations a second)
Expect:   shirts, trousers, shoes, boots and bags; the estimate falls from 7.5 at iteration 250 to about 4, on training
          and on held-out images alike

The papers have no such run. The optimizer is that of WGAN-GP's MNIST script (arXiv 1704.00028, `gan_mnist.py`); half
its width and twice its learning rate show clothing within half an hour. More iterations and width 64 sharpen it.
"""

from ml_collections import ConfigDict

from wgan_jax.config import default


def get_config() -> ConfigDict:
    c = default()
    c.steps = 2_500
    c.batch_size = 64
    c.data.name = "tfds:fashion_mnist"
    c.data.size = 28
    c.data.channels = 1
    for player in (c.generator, c.critic):
        player.network = "dcgan"
        player.width = 32
        player.optimizer.name = "adam"
        player.optimizer.learning_rate = 2e-4
        player.optimizer.b1 = 0.5
        player.optimizer.b2 = 0.9
    c.report.every = 50
    c.report.samples_every = 500
    c.report.checkpoint_every = 250
    return c
