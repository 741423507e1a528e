"""WGAN with weight clipping on LSUN bedrooms, as in its paper: `--config=configs/wgan_clip.py:NETWORKS`.

NETWORKS are those of the paper's comparison (arXiv 1701.07875, section 4.3): the critic is a DCGAN with batch norm, and
the generator
    dcgan          a DCGAN with batch norm (Figure 5),
    dcgan_no_norm  the same without batch norm (`main.py --noBN`),
    poor           a DCGAN without batch norm, and with as many filters in every layer (Figure 6),
    mlp            a ReLU MLP of 512 units (Figure 7; `main.py --mlp_G --ngf 512`), which ends in a tanh here.

Command:  pip install -e ".[prepare]"  # once, with the next line; training itself needs no TensorFlow
          python -m wgan_jax.prepare --name=lsun/bedroom  # once, with a network
          python -m wgan_jax.train --config=configs/wgan_clip.py:dcgan --workdir=runs/wgan_clip
Machine:  1 GPU
Time:     not measured
Expect:   not measured; in the paper, bedrooms with `dcgan` and with `poor`, and samples of lower quality with `mlp`

Clipping is after the update, as in the paper's Algorithm 1; `--config.constraint.order=before` has it before, as in its
code. Other differences from the code: the central square is cut out and then resized (bicubic), where the code resizes
(bilinear) and then cuts; an epoch's last batch and last critic updates are whole, where the code's may be cut short;
and the moving average of the generator is sampled (`--config.ema_decay=0` samples the generator itself).
On other data: `--config.data.name=tfds:cifar10 --config.data.size=32`.
"""

from ml_collections import ConfigDict

from wgan_jax.config import default, one_of

NETWORKS = ("dcgan", "dcgan_no_norm", "poor", "mlp")


def get_config(networks: str = "dcgan") -> ConfigDict:
    one_of(networks, NETWORKS)
    c = default()
    c.steps = 200_000  # WGAN-GP's gan_64x64.py: ITERS; the paper gives none
    c.batch_size = 64  # arXiv 1701.07875, Algorithm 1: m
    c.n_critic = 5  # arXiv 1701.07875, Algorithm 1: n_critic
    c.latent_dim = 100  # main.py: nz
    c.game = "wasserstein"  # arXiv 1701.07875, Algorithm 1
    c.warmup.n_critic = 100  # main.py: Diters
    c.warmup.steps = 25  # main.py: gen_iterations < 25
    c.warmup.every = 500  # main.py: gen_iterations % 500
    c.constraint.kind = "clip"  # arXiv 1701.07875, Algorithm 1
    c.constraint.bound = 0.01  # arXiv 1701.07875, Algorithm 1: c
    c.constraint.order = "after"  # arXiv 1701.07875, Algorithm 1
    c.data.name = "tfds:lsun/bedroom"  # arXiv 1701.07875, section 4.1
    c.data.size = 64  # main.py: imageSize
    c.data.channels = 3  # main.py: nc
    for player in (c.generator, c.critic):
        player.network = "dcgan"  # models/dcgan.py
        player.width = 64  # main.py: ngf, ndf
        player.norm = "batch"  # models/dcgan.py: BatchNorm2d
        player.kernel_size = 4  # models/dcgan.py: Conv2d, ConvTranspose2d
        player.use_bias = False  # models/dcgan.py: Conv2d, ConvTranspose2d
        player.kernel_init = "normal"  # main.py: weights_init
        player.optimizer.name = "rmsprop"  # arXiv 1701.07875, Algorithm 1
        player.optimizer.learning_rate = 5e-5  # arXiv 1701.07875, Algorithm 1: α
        player.optimizer.decay = 0.99  # main.py: optim.RMSprop, whose default it is
        player.optimizer.eps = 1e-8  # main.py: optim.RMSprop, whose default it is
    c.generator.activation = "relu"  # models/dcgan.py: ReLU
    c.critic.activation = "leaky_relu"  # models/dcgan.py: LeakyReLU(0.2)
    if networks != "dcgan":
        c.generator.norm = "none"  # models/dcgan.py: DCGAN_G_nobn; models/mlp.py
    if networks == "poor":
        c.generator.constant_width = True  # arXiv 1701.07875, Figure 6
    if networks == "mlp":
        c.generator.network = "mlp"  # models/mlp.py: MLP_G
        c.generator.kernel_size = default().generator.kernel_size  # it has no convolutions
        c.generator.use_bias = True  # models/mlp.py: Linear
        c.generator.kernel_init = "fan_in"  # models/mlp.py: Linear, which main.py's weights_init leaves as it is
        c.generator.width = 512  # arXiv 1701.07875, section 4.3
        c.generator.depth = 3  # models/mlp.py: MLP_G, and a fourth layer to the pixels
    return c
