"""WGAN with weight clipping on scikit-learn's digits, to set beside `digits.py`.

Command:  python -m wgan_jax.train --config=configs/digits_clip.py --workdir=runs/digits_clip
Machine:  2 CPU cores
Time:     1 to 3 minutes, compilation included
Expect:   blurred digits, worse than the penalty's: a 1-nearest-neighbour accuracy of about 0.87

RMSProp, clipping and the critic's warm-up as in WGAN's code (arXiv 1701.07875).
"""

from ml_collections import ConfigDict

from wgan_jax.config import default


def get_config() -> ConfigDict:
    c = default()
    c.steps = 5_000
    c.steps_per_dispatch = 20
    c.constraint.kind = "clip"
    c.constraint.bound = 0.01
    c.warmup.n_critic = 100
    c.warmup.steps = 25
    c.warmup.every = 500
    for player in (c.generator, c.critic):
        player.optimizer.name = "rmsprop"
        player.optimizer.learning_rate = 5e-5
    return c
