"""WGAN-GP on a folder of small colour pictures of your own, at 32×32: `--config=configs/folder32.py:PATH`.

Command:  python -m wgan_jax.train --config=configs/folder32.py:pictures --workdir=runs/pictures
Machine:  2 CPU cores, or 1 GPU
Time:     about an hour on 2 quiet CPU cores
Expect:   on 3,400 emoji, faces and figures that can be told after 20 minutes (4,000 iterations)

Any sizes, PNG, JPEG, WebP and others, in any sub-folders; a tenth of the pictures is held out. For grey pictures
`--config.data.channels=1`; for pictures that may be mirrored, such as faces, `--config.data.flip=True`.

The recipe is that of `fashion_mnist.py` without classes: one critic update in each iteration, batch norm in the
generator, and Adam with a rate of 1e-3 and without momentum; penalty and β₂ are those of WGAN-GP (arXiv 1704.00028).
"""

from ml_collections import ConfigDict

from wgan_jax.config import default


def get_config(path: str = "pictures") -> ConfigDict:
    c = default()
    c.steps = 15_000
    c.batch_size = 64
    c.n_critic = 1
    c.data.name = f"folder:{path}"
    c.data.size = 32
    c.data.channels = 3
    for player in (c.generator, c.critic):
        player.network = "dcgan"
        player.width = 32
        player.kernel_size = 4
        player.optimizer.name = "adam"
        player.optimizer.learning_rate = 1e-3
        player.optimizer.b1 = 0.0
        player.optimizer.b2 = 0.9
    c.generator.norm = "batch"
    c.report.every = 100
    c.report.samples_every = 1_000
    c.report.checkpoint_every = 500
    c.report.metrics = ("nearest_neighbour_accuracy",)  # a second of every 1,000 iterations
    c.report.metrics_num = 500
    return c
