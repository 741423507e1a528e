"""Every setting of a run: its name, its default and what it means.

A config file starts from `default()` and changes what it must.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from ml_collections import ConfigDict

from wgan_jax.errors import UserError


def default() -> ConfigDict:
    """Returns all settings with their defaults: WGAN-GP on scikit-learn's digits with a small MLP.

    A run whose `config.json` is older than a setting gets the default, so a default must be what was done before.
    """
    c = ConfigDict()
    c.seed = 0  # seed of everything: parameters, latents, ε, the order of the data
    c.steps = 10_000  # number of generator iterations
    c.batch_size = 64  # real examples per critic update, over all devices
    c.n_critic = 5  # critic updates per generator iteration
    c.latent_dim = 128
    c.game = "wasserstein"  # or minimax, non_saturating, least_squares, hinge
    c.precision = "float32"  # or bfloat16: activations and matmuls; parameters and sums stay float32
    # How the operands of float32 products and convolutions are rounded, as in jax.default_matmul_precision:
    #                              CPU                Nvidia GPU since Ampere        TPU
    #   default, bfloat16          float32, 24 bits   TensorFloat-32, 11 bits        bfloat16, 8 bits
    #   high, tensorfloat32        float32            TensorFloat-32                 3 passes of bfloat16, about 16 bits
    #   highest, float32           float32            float32                        6 passes of bfloat16, about 24 bits
    c.matmul_precision = "default"
    c.ema_decay = 0.999  # decay of the generator's average, which is sampled; 0: the generator itself, as in the papers
    c.microbatches = 1  # parts of a batch whose gradients are added up: less memory, the same sums in another order
    c.steps_per_dispatch = 1  # generator iterations in one compiled call: more for tiny networks

    c.warmup = ConfigDict()  # more critic updates in some iterations (WGAN's code: 100, 25, 500)
    c.warmup.n_critic = 0  # critic updates of a warm-up iteration; 0 turns the warm-up off
    c.warmup.steps = 25  # number of warm-up iterations at the beginning
    c.warmup.every = 500  # interval of further warm-up iterations; 0 for none

    c.data = ConfigDict()
    c.data.name = "digits"  # or toy:8gaussians, toy:25gaussians, toy:swissroll, tfds:fashion_mnist, folder:/path
    c.data.size = 8  # pixels of a side, to which tfds and folder images are resized; 0 for toy points
    c.data.channels = 1  # 1 (grey) or 3 (RGB), to which tfds and folder images are converted; 2 for toy points
    c.data.dir = ""  # where tfds sets are prepared; "" for TFDS_DATA_DIR, or else ~/tensorflow_datasets
    c.data.crop = 0  # the central square that is cut out before resizing; 0 for the shorter side
    c.data.flip = False  # mirror half of the images; tfds and folder
    c.data.dequantise = False  # add U(0, 1/128), as WGAN-GP does on CIFAR-10; tfds and folder
    c.data.cache = "auto"  # decode images once, into memory: always, never, or auto (if they fill at most half of it)
    c.data.train_split = "train"  # of a tfds set; train[:1000] takes its first 1,000 images
    c.data.held_out_split = ""  # of a tfds set; "" for test (if its labels are classes), validation or part of train
    c.data.held_out_fraction = 0.1  # size of that part, and of the part of a folder's images that is held out
    c.data.unreadable_fraction = 0.01  # more damaged files than this in a folder, and the run does not start

    c.generator = _player(activation="relu")
    c.generator.batch_multiple = 1  # the generator's batch as a multiple of the critic's
    c.critic = _player(activation="leaky_relu")
    c.critic.dropout = 0.0  # rate of dropout in all its passes in training; CT-GAN: 0.5

    c.conditional = ConfigDict()  # images of a given class, from data with labels
    c.conditional.kind = "none"  # or auxiliary (ACGAN: the critic also classifies), projection
    c.conditional.classes = 10  # number of classes in the data
    c.conditional.critic_weight = 1.0  # auxiliary: weight of the classes in the critic's loss (WGAN-GP's CIFAR-10 code)
    c.conditional.generator_weight = 0.1  # auxiliary: their weight in the generator's loss (the same code)

    c.constraint = ConfigDict()
    # gradient_penalty, lipschitz_penalty (WGAN-LP), dragan, wasserstein_divergence (WGAN-div), r1, r2, spectral_norm,
    # consistency (CT-GAN, beside gradient_penalty), clip, none, or several joined by a plus, as in spectral_norm+r1
    c.constraint.kind = "gradient_penalty"
    c.constraint.weight = 10.0  # λ of the first three
    c.constraint.target = 1.0  # the gradient's norm that costs nothing, for the first three
    c.constraint.one_sided = False  # gradient_penalty: penalise only norms above the target, as lipschitz_penalty does
    c.constraint.noise = 0.25  # dragan: how far around real examples; half of the data's std in the paper's code
    c.constraint.divergence_weight = 2.0  # wasserstein_divergence: k of k · mean(‖∇‖^p)
    c.constraint.divergence_power = 6.0  # wasserstein_divergence: p
    c.constraint.consistency_weight = 2.0  # consistency: λ₂
    c.constraint.consistency_margin = 0.0  # consistency: M', what an example may cost for nothing
    c.constraint.gamma = 10.0  # r1 and r2: γ of γ/2 · mean(‖∇‖²); the 10 of the paper's code, without its ½, is 20 here
    c.constraint.every = 1  # k: penalties are in every k-th critic update alone, k times as heavy; between them 0
    c.constraint.bound = 0.01  # clip: every critic parameter stays in [−bound, bound]
    c.constraint.order = "after"  # clip after the optimizer's update, or before (WGAN's first code)

    c.parallel = ConfigDict()
    c.parallel.mode = "jit"  # how several devices share a batch: jit over a mesh, or pmap; the same bits

    c.report = ConfigDict()  # intervals in generator iterations
    c.report.every = 100  # held-out estimate, progress line, TensorBoard
    c.report.samples_every = 1_000  # grids from the same latents
    c.report.checkpoint_every = 1_000
    c.report.checkpoints = 3  # how many of the newest checkpoints are kept
    c.report.wasserstein_exact = False  # for points only: also the exact W₁ of the points in the held-out estimate
    c.report.metrics = ()  # names of metrics of the samples, such as ("sliced_wasserstein", "fd_lite0"); see `evaluate`
    c.report.metrics_every = 1_000
    c.report.metrics_num = 1_000  # how many samples, and real images, they compare
    c.report.best = ""  # a metric, such as held_out_estimate: the best checkpoint by it is kept too

    c.debug = ConfigDict()
    c.debug.nans = False  # stop in the operation that makes the first NaN or infinity; slow
    return c


def _player(activation: str) -> ConfigDict:
    c = ConfigDict()
    c.network = "mlp"  # or dcgan, resnet
    c.width = 256  # width of a hidden layer, or of the narrowest convolution
    c.depth = 3  # number of hidden layers of an MLP
    c.activation = activation  # relu, leaky_relu, elu, tanh, softplus
    c.norm = "none"  # or batch, layer
    c.kernel_init = "he_uniform"  # how kernels are drawn; for others see the networks mlp and dcgan
    c.kernel_size = 5  # for a DCGAN, as in WGAN-GP's code; 4 in WGAN's
    c.use_bias = True  # for a DCGAN, as in WGAN-GP's code; False in WGAN's
    c.constant_width = False  # for a DCGAN generator: the same number of filters in every layer (WGAN, Fig. 6)
    c.optimizer = ConfigDict()
    c.optimizer.name = "adam"  # or rmsprop (PyTorch's), rmsprop_tf (TensorFlow's), sgd
    c.optimizer.learning_rate = 1e-4
    c.optimizer.schedule = "constant"  # or linear, to 0 at the last generator iteration
    c.optimizer.b1 = 0.5  # adam
    c.optimizer.b2 = 0.9  # adam
    c.optimizer.decay = 0.99  # rmsprop and rmsprop_tf (TensorFlow: 0.9)
    c.optimizer.eps = 1e-8  # adam and rmsprop: outside the root; rmsprop_tf: inside it (TensorFlow: 1e-10)
    c.optimizer.weight_decay = 0.0  # decoupled, as in AdamW
    return c


def one_of(argument: str, known: Sequence[str]) -> None:
    """Checks the argument of a config file, as in `--config=configs/digits.py:clip`.

    Raises:
      UserError: if it is none of the arguments that the file knows.
    """
    if argument not in known:
        raise UserError(f"{argument!r}: must be one of {', '.join(known)}")


def flatten(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields pairs of dotted key and value."""
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def to_json(config: ConfigDict) -> str:
    """Returns the settings as JSON, one key a line, in the order of the defaults."""
    return json.dumps(config.to_dict(), indent=2, ensure_ascii=False) + "\n"


def digest(config: ConfigDict) -> bytes:
    """Returns the SHA-256 of the settings as `to_json` writes them."""
    return hashlib.sha256(to_json(config).encode()).digest()


def from_json(text: str) -> ConfigDict:
    """Returns the settings that `to_json` wrote. Raises `ValueError` if the text is not a JSON object."""
    values = json.loads(text)
    if not isinstance(values, dict):
        raise ValueError("not a JSON object")
    return ConfigDict(_with_tuples(values))


def _with_tuples(values: Any) -> Any:
    """Returns values from JSON with tuples in the place of lists, which settings never are."""
    if isinstance(values, dict):
        return {key: _with_tuples(value) for key, value in values.items()}
    return tuple(values) if isinstance(values, list) else values


def complete(config: ConfigDict) -> tuple[ConfigDict, dict[str, Any]]:
    """Returns the settings with a default for each absent one, and the absent ones by dotted key."""
    there, defaults = dict(flatten(config)), dict(flatten(default()))
    absent = {key: value for key, value in defaults.items() if key not in there}
    return ConfigDict(_merge(default().to_dict(), config.to_dict())), absent


def _merge(defaults: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Puts `given` over `defaults`, section by section, in the order of the defaults."""
    merged = defaults | given
    for key, value in defaults.items():
        if isinstance(value, dict) and isinstance(merged[key], dict):
            merged[key] = _merge(value, merged[key])
    return merged
