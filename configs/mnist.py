"""WGAN-GP on MNIST: 60,000 handwritten digits, 28×28.

Command:  pip install -e ".[prepare]"  # once, with the next line; training itself needs no TensorFlow
          python -m wgan_jax.prepare --name=mnist  # once, with a network
          python -m wgan_jax.train --config=configs/mnist.py --workdir=runs/mnist
Machine:  1 GPU; 2 CPU cores for a look, with --config.steps=5000
Time:     not measured
Expect:   not measured; the estimate falls as the samples improve, and where its curves on training and held-out
          images part, the critic has begun to know the training images by heart

Batch, width, latents, optimizer and iterations are those of the MNIST script of WGAN-GP (arXiv 1704.00028,
`gan_mnist.py`), which has no normalization.

Differences: its generator ends in a sigmoid on [0, 1], ours in a tanh on [−1, 1]. Distances between images are twice as
long here, and so is W₁, under the same λ. It trains on 50,000 of the 60,000 training images and keeps 10,000 to
measure on; here all 60,000 are trained on, and the test images are held out.
"""

from ml_collections import ConfigDict

from wgan_jax.config import default


def get_config() -> ConfigDict:
    c = default()
    c.steps = 200_000
    c.batch_size = 50
    c.data.name = "tfds:mnist"
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
