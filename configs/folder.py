"""WGAN-GP on a folder of pictures of your own, at 64×64: `--config=configs/folder.py:PATH`.

Command:  python -m wgan_jax.train --config=configs/folder.py:pictures --workdir=runs/pictures
Machine:  1 GPU; 2 CPU cores for a look, with --config.data.size=32 and --config.generator.width=32
Time:     not measured
Expect:   not measured; the estimate falls as the samples improve, and where its curves on training and held-out
          images part, the critic has begun to know the training images by heart

Any sizes, PNG, JPEG, WebP and others, in any sub-folders; a tenth of the pictures is held out. For grey pictures
`--config.data.channels=1`; for pictures that may be mirrored, such as faces, `--config.data.flip=True`.

Networks, their initial weights and the optimizer are those of WGAN-GP's DCGAN for 64×64 (arXiv 1704.00028,
`gan_64x64.py`): batch norm in the generator, layer norm in the critic.
"""

from ml_collections import ConfigDict

from wgan_jax.config import default


def get_config(path: str = "pictures") -> ConfigDict:
    c = default()
    c.steps = 200_000
    c.batch_size = 64
    c.data.name = f"folder:{path}"
    c.data.size = 64
    c.data.channels = 3
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
