"""WGAN-GP on LSUN bedrooms: 3,033,042 photographs, at 64×64.

Command:  pip install -e ".[prepare]"  # once, with the next line; training itself needs ".[tfds]" only
          python -m wgan_jax.data prepare --name=lsun/bedroom  # once, with a network
          python -m wgan_jax.train --config=configs/lsun_bedroom.py --workdir=runs/lsun_bedroom
Machine:  1 GPU
Time:     not measured
Expect:   not measured; the estimate falls as the samples improve, and where its curves on training and held-out
          images part, the critic has begun to know the training images by heart.
          Images that do not fit into memory (37 GB) are decoded as they are read, by every core

Optimizer, batch and iterations are those of WGAN-GP's 64×64 runs (arXiv 1704.00028, `gan_64x64.py`), with its DCGAN:
batch norm in the generator, layer norm in the critic. The central square, resized to 64, is the crop of WGAN's code
(arXiv 1701.07875, `main.py`: `Scale`, `CenterCrop`).
"""

from ml_collections import ConfigDict

from wgan_jax.config import default


def get_config() -> ConfigDict:
    c = default()
    c.steps = 200_000
    c.batch_size = 64
    c.data.name = "tfds:lsun/bedroom"
    c.data.size = 64
    c.data.channels = 3
    for player in (c.generator, c.critic):
        player.network = "dcgan"
        player.width = 64
        player.optimizer.name = "adam"
        player.optimizer.learning_rate = 1e-4
        player.optimizer.b1 = 0.0
        player.optimizer.b2 = 0.9
    c.generator.norm = "batch"
    c.critic.norm = "layer"
    return c
