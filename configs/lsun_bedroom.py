"""WGAN-GP on LSUN bedrooms: 3,033,042 photographs, at 64×64.

Command:  pip install -e ".[prepare]"  # once, with the next line; training itself needs no TensorFlow
          python -m wgan_jax.prepare --name=lsun/bedroom  # once, with a network
          python -m wgan_jax.train --config=configs/lsun_bedroom.py --workdir=runs/lsun_bedroom
Machine:  1 GPU
Time:     not measured
Expect:   not measured; the estimate falls as the samples improve, and where its curves on training and held-out
          images part, the critic has begun to know the training images by heart.
          Images that do not fit into memory (37 GB) are decoded as they are read, by every core

The settings are those of WGAN-GP's 64×64 runs (arXiv 1704.00028, section 5.2, and its code, whose names stand beside
the values) with its DCGAN: batch norm in the generator, layer norm in the critic. The ResNet of the same code:
`--config.generator.network=resnet --config.critic.network=resnet --config.critic.activation=relu
--config.generator.kernel_init=he_uniform --config.critic.kernel_init=he_uniform`.

Differences: the central square is cut out and then resized to 64 (bicubic); WGAN's code (arXiv 1701.07875, `main.py`:
`Scale`, `CenterCrop`) resizes (bilinear) and then cuts, and WGAN-GP's reads ImageNet, not LSUN. The moving average of
the generator is sampled; `--config.ema_decay=0` samples the generator itself, as the code does.
"""

from ml_collections import ConfigDict

from wgan_jax.config import default


def get_config() -> ConfigDict:
    c = default()
    c.steps = 200_000  # gan_64x64.py: ITERS
    c.batch_size = 64  # gan_64x64.py: BATCH_SIZE
    c.n_critic = 5  # gan_64x64.py: CRITIC_ITERS
    c.latent_dim = 128  # gan_64x64.py: DCGANGenerator, noise
    c.game = "wasserstein"  # gan_64x64.py: gen_cost, disc_cost
    c.constraint.kind = "gradient_penalty"  # gan_64x64.py: MODE
    c.constraint.weight = 10.0  # gan_64x64.py: LAMBDA
    c.data.name = "tfds:lsun/bedroom"  # arXiv 1704.00028, section 5.2
    c.data.size = 64  # gan_64x64.py: OUTPUT_DIM
    c.data.channels = 3  # gan_64x64.py: OUTPUT_DIM
    c.generator.activation = "relu"  # gan_64x64.py: DCGANGenerator
    c.generator.norm = "batch"  # gan_64x64.py: Normalize
    c.critic.activation = "leaky_relu"  # gan_64x64.py: DCGANDiscriminator
    c.critic.norm = "layer"  # gan_64x64.py: Normalize
    for player in (c.generator, c.critic):
        player.network = "dcgan"  # gan_64x64.py: GeneratorAndDiscriminator
        player.width = 64  # gan_64x64.py: DIM
        player.kernel_init = "uniform"  # gan_64x64.py: set_weights_stdev(0.02)
        player.optimizer.name = "adam"  # gan_64x64.py: gen_train_op, disc_train_op
        player.optimizer.learning_rate = 1e-4  # gan_64x64.py: gen_train_op, disc_train_op
        player.optimizer.b1 = 0.0  # gan_64x64.py: gen_train_op, disc_train_op
        player.optimizer.b2 = 0.9  # gan_64x64.py: gen_train_op, disc_train_op
    return c
