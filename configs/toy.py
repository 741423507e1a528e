"""WGAN on points of the plane: `--config=configs/toy.py:DATA,CONSTRAINT` (arXiv 1704.00028, Figure 1).

DATA is 8gaussians, 25gaussians or swissroll; CONSTRAINT is penalty or clip.

Command:  python -m wgan_jax.train --config=configs/toy.py:swissroll,penalty --workdir=runs/swissroll
Machine:  2 CPU cores
Time:     4 1/2 minutes per 1,000 iterations, measured beside another run
Expect:   the penalised critic's contours follow the data, and the points lie along them after a few thousand
          iterations; the clipped critic's are few and coarse

Networks, initial weights, batch, penalty weight and optimizers are those of WGAN-GP's toy script, `gan_toy.py`, whose
clipped run has TensorFlow's RMSProp; it ran 100,000 iterations. It draws new points for each batch of 8gaussians and
swissroll, and has exactly 4,000 points in each mode of 25gaussians; here 100,000 points are drawn once, with a random
mode each. The moving average of the generator is sampled; `--config.ema_decay=0` samples the generator itself.
"""

from ml_collections import ConfigDict

from wgan_jax.config import default, one_of

DATA = ("8gaussians", "25gaussians", "swissroll")
CONSTRAINTS = ("penalty", "clip")


def get_config(choice: str = "8gaussians,penalty") -> ConfigDict:
    one_of(choice, [f"{data},{constraint}" for data in DATA for constraint in CONSTRAINTS])
    data, constraint = choice.split(",")
    c = default()
    c.steps = 5_000
    c.batch_size = 256
    c.latent_dim = 2
    c.steps_per_dispatch = 20
    c.report.wasserstein_exact = True
    c.data.name = f"toy:{data}"
    c.data.size = 0
    c.data.channels = 2
    for player in (c.generator, c.critic):
        player.network = "mlp"
        player.width = 512
        player.depth = 3
        player.activation = "relu"
        player.kernel_init = "he_glorot"
    if constraint == "penalty":
        c.constraint.kind = "gradient_penalty"
        c.constraint.weight = 0.1
        for player in (c.generator, c.critic):
            player.optimizer.name = "adam"
            player.optimizer.learning_rate = 1e-4
            player.optimizer.b1 = 0.5
            player.optimizer.b2 = 0.9
    else:
        c.constraint.kind = "clip"
        c.constraint.bound = 0.01
        for player in (c.generator, c.critic):
            player.optimizer.name = "rmsprop_tf"
            player.optimizer.learning_rate = 5e-5
            player.optimizer.decay = 0.9
            player.optimizer.eps = 1e-10
    return c
