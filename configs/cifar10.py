"""WGAN-GP with a DCGAN on CIFAR-10: 50,000 photographs in ten classes, 32×32.

Command:  pip install -e ".[prepare]"  # once, with the next line; training itself needs ".[tfds]" only
          python -m wgan_jax.data prepare --name=cifar10  # once, with a network
          python -m wgan_jax.train --config=configs/cifar10.py --workdir=runs/cifar10
Machine:  1 GPU
Time:     not measured
Expect:   not measured; the estimate falls as the samples improve, and where its curves on training and held-out
          images part, the critic has begun to know the training images by heart

All settings are those of WGAN-GP's CIFAR-10 DCGAN (arXiv 1704.00028, section 5.1 and `gan_cifar.py`): width 128, batch
norm in the generator only. The noise on the bytes is that of its ResNet run (`gan_cifar_resnet.py`). No flips.
"""

from ml_collections import ConfigDict

from wgan_jax.config import default


def get_config() -> ConfigDict:
    c = default()
    c.steps = 200_000
    c.batch_size = 64
    c.data.name = "tfds:cifar10"
    c.data.size = 32
    c.data.channels = 3
    c.data.dequantise = True
    for player in (c.generator, c.critic):
        player.network = "dcgan"
        player.width = 128
        player.optimizer.name = "adam"
        player.optimizer.learning_rate = 1e-4
        player.optimizer.b1 = 0.5
        player.optimizer.b2 = 0.9
    c.generator.norm = "batch"
    return c
