"""WGANs on scikit-learn's digits: 8×8 and real; nothing is downloaded: `--config=configs/digits.py:VARIANT`.

VARIANT is
    penalty     WGAN-GP, the default,
    clip        WGAN with weight clipping, to compare with it,
    auxiliary   WGAN-GP with classes: each digit is drawn as the class that is asked for (ACGAN),
    projection  the same with an inner product in the critic.

Command:  python -m wgan_jax.train --config=configs/digits.py --workdir=runs/digits
          python -m wgan_jax.train --config=configs/digits.py:auxiliary --workdir=runs/digits_auxiliary
          python -m wgan_jax.sample --workdir=runs/digits_auxiliary --by_class --num=10
Machine:  2 CPU cores
Time:     penalty 1 to 2 minutes, clip 1 to 3, compilation included; auxiliary 3 minutes of one core
Expect:   penalty     every digit among the samples; `python -m wgan_jax.evaluate --workdir=runs/digits` tells samples
                      from held-out digits with a 1-nearest-neighbour accuracy of about 0.64 (0.5 is perfect)
          clip        blurred digits, worse than the penalty's: an accuracy of about 0.88
          auxiliary   a support-vector machine, trained on the real training digits, agrees with the class that was
                      asked for on 99 % of 1,000 samples, as it does on held-out digits: the class agreement that
                      `python -m wgan_jax.evaluate --workdir=runs/digits_auxiliary` prints

The papers have no such run. Penalty, n_critic and β are those of WGAN-GP (arXiv 1704.00028). A small MLP bears ten
times the learning rate, and the linear decay of WGAN-GP's CIFAR-10 run settles it. `clip` has RMSProp, clipping and the
critic's warm-up as in WGAN's code (arXiv 1701.07875). Classes are learned as in WGAN-GP's CIFAR-10 code
(`gan_cifar_resnet.py`), by an auxiliary head of the critic (arXiv 1610.09585), or by projection (arXiv 1802.05637).
"""

from ml_collections import ConfigDict

from wgan_jax.config import default, one_of

VARIANTS = ("penalty", "clip", "auxiliary", "projection")


def get_config(variant: str = "penalty") -> ConfigDict:
    one_of(variant, VARIANTS)
    c = default()
    c.steps = 5_000
    c.steps_per_dispatch = 20
    c.data.name = "digits"
    c.data.size = 8
    c.data.channels = 1
    for player in (c.generator, c.critic):
        player.network = "mlp"
        player.width = 256
        player.depth = 3
        player.optimizer.learning_rate = 1e-3
        player.optimizer.schedule = "linear"
    c.report.metrics = ("nearest_neighbour_accuracy",)  # at 1,000 iterations, 2,000, …
    c.report.metrics_num = 500
    if variant == "clip":
        c.constraint.kind = "clip"
        c.constraint.bound = 0.01
        c.warmup.n_critic = 100
        c.warmup.steps = 25
        c.warmup.every = 500
        for player in (c.generator, c.critic):
            player.optimizer.name = "rmsprop"
            player.optimizer.learning_rate = 5e-5
            player.optimizer.schedule = "constant"
    if variant in ("auxiliary", "projection"):
        c.conditional.kind = variant
        c.conditional.classes = 10
    if variant == "auxiliary":
        c.conditional.critic_weight = 1.0  # gan_cifar_resnet.py: ACGAN_SCALE
        c.conditional.generator_weight = 0.1  # gan_cifar_resnet.py: ACGAN_SCALE_G
    return c
