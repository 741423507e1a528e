"""WGAN-GP on CelebA: 162,770 faces, at 64×64.

Command:  pip install -e ".[prepare]"  # once, with the next line; training itself needs no TensorFlow
          python -m wgan_jax.prepare --name=celeb_a  # once, with a network
          python -m wgan_jax.train --config=configs/celeb_a.py --workdir=runs/celeb_a
Machine:  1 GPU
Time:     not measured
Expect:   not measured; the estimate falls as the samples improve, and where its curves on training and held-out
          images part, the critic has begun to know the training images by heart.
          The images in memory take 2.0 GB

The paper has no run on CelebA. The central 108×108 pixels, resized to 64, are the crop of DCGAN's public code
(`--input_height 108`, arXiv 1511.06434); networks, their initial weights and the optimizer are those of
WGAN-GP's DCGAN for 64×64 (arXiv 1704.00028, `gan_64x64.py`): batch norm in the generator, layer norm in the critic.
"""

from ml_collections import ConfigDict

from wgan_jax.config import default


def get_config() -> ConfigDict:
    c = default()
    c.steps = 200_000
    c.batch_size = 64
    c.data.name = "tfds:celeb_a"
    c.data.size = 64
    c.data.channels = 3
    c.data.crop = 108
    for player in (c.generator, c.critic):
        player.network = "dcgan"
        player.width = 64
        player.kernel_init = "uniform"
        player.optimizer.name = "adam"
        player.optimizer.learning_rate = 1e-4
        player.optimizer.b1 = 0.0
        player.optimizer.b2 = 0.9
    c.generator.norm = "batch"
    c.critic.norm = "layer"
    return c
