"""WGAN-GP on scikit-learn's digits, each drawn as the class that is asked for.

Command:  python -m wgan_jax.train --config=configs/digits_conditional.py --workdir=runs/digits_conditional
          python -m wgan_jax.sample --workdir=runs/digits_conditional --by_class --num=10
Machine:  2 CPU cores
Time:     3 minutes of one core; 5 minutes of wall time on a busy machine
Expect:   a support-vector machine, trained on the real training digits, agrees with the class that was asked for on
          99 % of 1,000 samples, as it does on held-out digits: the class agreement that
          `python -m wgan_jax.evaluate --workdir=runs/digits_conditional` prints

The papers have no such run. Networks and optimizers are those of `digits.py`; the classes are learned as in WGAN-GP's
CIFAR-10 code (arXiv 1704.00028, `gan_cifar_resnet.py`): an auxiliary head of the critic (ACGAN, arXiv 1610.09585).
`--config.conditional.kind=projection` has an inner product in the critic instead (arXiv 1802.05637).
"""

from ml_collections import ConfigDict

from wgan_jax.config import default


def get_config() -> ConfigDict:
    c = default()
    c.steps = 5_000
    c.steps_per_dispatch = 20
    c.data.name = "digits"
    c.data.size = 8
    c.data.channels = 1
    c.conditional.kind = "auxiliary"
    c.conditional.classes = 10
    c.conditional.critic_weight = 1.0  # gan_cifar_resnet.py: ACGAN_SCALE
    c.conditional.generator_weight = 0.1  # gan_cifar_resnet.py: ACGAN_SCALE_G
    for player in (c.generator, c.critic):
        player.network = "mlp"
        player.width = 256
        player.depth = 3
        player.optimizer.learning_rate = 1e-3
        player.optimizer.schedule = "linear"
    return c
