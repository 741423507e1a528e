"""WGAN-GP with the paper's ResNet on CIFAR-10, 50,000 photographs, 32×32: `--config=configs/cifar10_resnet.py:CLASSES`.

CLASSES is
    none        the paper's unconditional run, the default,
    auxiliary   its class-conditional run, which draws images of the class that is asked for (ACGAN),
    projection  the same with an inner product in the critic (Miyato and Koyama 2018, arXiv 1802.05637).

Command:  pip install -e ".[prepare]"  # once, with the next line; training itself needs no TensorFlow
          python -m wgan_jax.prepare --name=cifar10  # once, with a network
          python -m wgan_jax.train --config=configs/cifar10_resnet.py --workdir=runs/cifar10_resnet
          python -m wgan_jax.train --config=configs/cifar10_resnet.py:auxiliary --workdir=runs/cifar10_auxiliary
          python -m wgan_jax.sample --workdir=runs/cifar10_auxiliary --by_class --num=10
Machine:  1 GPU
Time:     not measured
Expect:   not measured; the paper reports inception scores of 7.86 ± .07 without classes and 8.42 ± .10 with
          `auxiliary` (arXiv 1704.00028, Table 3)

The settings are those of the paper's run (arXiv 1704.00028, section 5.4, and its code, whose names stand beside the
values). No flips. The classes are those of the same code: conditional batch norm in the generator's blocks (arXiv
1610.07629), an auxiliary head of the critic (arXiv 1610.09585), and the penalty on the score alone, with the real
labels.

Differences: the code generates each batch in two halves, even on one GPU, so its generator's batch norm has the moments
of 32 images in the critic's updates and of 64 in its own; here they are those of the whole batches, 64 and 128. From
the same parameters and draws this moved the two runs apart by 1.5e-2. The paper samples the generator itself, by the
statistics of the batch: `--ema=false` has the generator, `wgan_jax/networks/layers.py` says why statistics are running
ones here.
"""

from ml_collections import ConfigDict

from wgan_jax.config import default, one_of

CLASSES = ("none", "auxiliary", "projection")


def get_config(classes: str = "none") -> ConfigDict:
    one_of(classes, CLASSES)
    c = default()
    c.steps = 100_000  # gan_cifar_resnet.py: ITERS
    c.batch_size = 64  # gan_cifar_resnet.py: BATCH_SIZE
    c.n_critic = 5  # gan_cifar_resnet.py: N_CRITIC
    c.latent_dim = 128  # gan_cifar_resnet.py: Generator, noise
    c.game = "wasserstein"  # gan_cifar_resnet.py: disc_costs, gen_costs
    c.constraint.kind = "gradient_penalty"  # gan_cifar_resnet.py: gradient_penalty
    c.constraint.weight = 10.0  # gan_cifar_resnet.py: gradient_penalty
    c.data.name = "tfds:cifar10"  # gan_cifar_resnet.py: lib.cifar10.load
    c.data.size = 32  # gan_cifar_resnet.py: OUTPUT_DIM
    c.data.channels = 3  # gan_cifar_resnet.py: OUTPUT_DIM
    c.data.dequantise = True  # gan_cifar_resnet.py: all_real_data
    c.generator.norm = "batch"  # gan_cifar_resnet.py: NORMALIZATION_G
    c.generator.batch_multiple = 2  # gan_cifar_resnet.py: GEN_BS_MULTIPLE
    c.critic.norm = "none"  # gan_cifar_resnet.py: NORMALIZATION_D
    if classes != "none":
        c.conditional.kind = classes  # gan_cifar_resnet.py: CONDITIONAL, ACGAN
        c.conditional.classes = 10  # gan_cifar_resnet.py: Normalize, n_labels
    if classes == "auxiliary":
        c.conditional.critic_weight = 1.0  # gan_cifar_resnet.py: ACGAN_SCALE
        c.conditional.generator_weight = 0.1  # gan_cifar_resnet.py: ACGAN_SCALE_G
    for player in (c.generator, c.critic):
        player.network = "resnet"  # gan_cifar_resnet.py: Generator, Discriminator
        player.width = 128  # gan_cifar_resnet.py: DIM_G, DIM_D
        player.activation = "relu"  # gan_cifar_resnet.py: nonlinearity
        player.optimizer.name = "adam"  # gan_cifar_resnet.py: gen_opt, disc_opt
        player.optimizer.learning_rate = 2e-4  # gan_cifar_resnet.py: LR
        player.optimizer.schedule = "linear"  # gan_cifar_resnet.py: DECAY
        player.optimizer.b1 = 0.0  # gan_cifar_resnet.py: gen_opt, disc_opt
        player.optimizer.b2 = 0.9  # gan_cifar_resnet.py: gen_opt, disc_opt
    return c
