"""GANs with a DCGAN on CIFAR-10, 50,000 photographs in ten classes, 32×32: `--config=configs/cifar10.py:VARIANT`.

VARIANT is
    penalty        WGAN-GP's run, the default,
    two_rates      the same with one critic update in each iteration and a faster critic (TTUR, arXiv 1706.08500),
    spectral_norm  spectral normalization with the hinge game (arXiv 1802.05957).

Command:  pip install -e ".[prepare]"  # once, with the next line; training itself needs no TensorFlow
          python -m wgan_jax.prepare --name=cifar10  # once, with a network
          python -m wgan_jax.train --config=configs/cifar10.py --workdir=runs/cifar10
          python -m wgan_jax.train --config=configs/cifar10.py:spectral_norm --workdir=runs/cifar10_spectral
Machine:  1 GPU
Time:     not measured
Expect:   not measured; the estimate falls as the samples improve, and where its curves on training and held-out
          images part, the critic has begun to know the training images by heart

All settings of `penalty` are those of WGAN-GP's CIFAR-10 DCGAN (arXiv 1704.00028, section 5.3, and its code, whose
names stand beside the values): width 128, batch norm in the generator only, no flips and no noise on the bytes.
Differences: its first batch norm has a scale and moments per unit, ours per channel; the moving average of the
generator is sampled, and `--config.ema_decay=0` samples the generator itself, as the code does. The other two change
what stands at the end of the file, and keep these networks: the papers' results are of their own.
"""

from ml_collections import ConfigDict

from wgan_jax.config import default, one_of

VARIANTS = ("penalty", "two_rates", "spectral_norm")


def get_config(variant: str = "penalty") -> ConfigDict:
    one_of(variant, VARIANTS)
    c = default()
    c.steps = 200_000  # gan_cifar.py: ITERS
    c.batch_size = 64  # gan_cifar.py: BATCH_SIZE
    c.n_critic = 5  # gan_cifar.py: CRITIC_ITERS
    c.latent_dim = 128  # gan_cifar.py: Generator, noise
    c.game = "wasserstein"  # gan_cifar.py: gen_cost, disc_cost
    c.constraint.kind = "gradient_penalty"  # gan_cifar.py: MODE
    c.constraint.weight = 10.0  # gan_cifar.py: LAMBDA
    c.data.name = "tfds:cifar10"  # gan_cifar.py: lib.cifar10.load
    c.data.size = 32  # gan_cifar.py: OUTPUT_DIM
    c.data.channels = 3  # gan_cifar.py: OUTPUT_DIM
    c.generator.activation = "relu"  # gan_cifar.py: Generator
    c.generator.norm = "batch"  # gan_cifar.py: Generator
    c.critic.activation = "leaky_relu"  # gan_cifar.py: LeakyReLU
    c.critic.norm = "none"  # gan_cifar.py: Discriminator
    for player in (c.generator, c.critic):
        player.network = "dcgan"  # gan_cifar.py: Generator, Discriminator
        player.width = 128  # gan_cifar.py: DIM
        player.optimizer.name = "adam"  # gan_cifar.py: gen_train_op, disc_train_op
        player.optimizer.learning_rate = 1e-4  # gan_cifar.py: gen_train_op, disc_train_op
        player.optimizer.b1 = 0.5  # gan_cifar.py: gen_train_op, disc_train_op
        player.optimizer.b2 = 0.9  # gan_cifar.py: gen_train_op, disc_train_op
    if variant == "two_rates":
        c.n_critic = 1  # arXiv 1706.08500, section 3
        c.critic.optimizer.learning_rate = 3e-4  # arXiv 1706.08500, Table 1; the generator's is 1e-4
    if variant == "spectral_norm":
        c.steps = 50_000  # arXiv 1802.05957, section 4
        c.game = "hinge"  # arXiv 1802.05957, eq. 16 and 17
        c.constraint.kind = "spectral_norm"  # arXiv 1802.05957, section 2
        for player in (c.generator, c.critic):
            player.optimizer.learning_rate = 2e-4  # arXiv 1802.05957, section 4
            player.optimizer.schedule = "linear"  # its code, pfnet-research/sngan_projection
            player.optimizer.b1 = 0.0  # its code, pfnet-research/sngan_projection
            player.optimizer.b2 = 0.9  # its code, pfnet-research/sngan_projection
    return c
