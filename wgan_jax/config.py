"""Every setting of a run: its name, its default, what it means, and the check of them all.

A config file starts from `default()` and changes what it must. `check` is called once, before anything is
compiled, and raises one `UserError` that names the key, its value and the remedy.
"""

import difflib
import json
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from wgan_jax.errors import UserError
from wgan_jax.games import GAMES
from wgan_jax.networks import dcgan, layers, mlp, resnet
from wgan_jax.readers import unread


def default() -> ConfigDict:
    """All settings with their defaults: WGAN-GP on scikit-learn's digits with a small MLP.

    A run whose `config.json` is older than a setting gets its default: that must be what was done before there was one.
    """
    c = ConfigDict()
    c.seed = 0  # of everything: parameters, latents, ε, the order of the data
    c.steps = 10_000  # generator iterations
    c.batch_size = 64  # real examples per critic update, over all devices
    c.n_critic = 5  # critic updates per generator iteration
    c.latent_dim = 128
    c.game = "wasserstein"  # or minimax, non_saturating, least_squares
    c.precision = "float32"  # or bfloat16: activations and matmuls; parameters and sums stay float32
    # How the operands of float32 products and convolutions are rounded, as in jax.default_matmul_precision:
    #                              CPU                Nvidia GPU since Ampere        TPU
    #   default, bfloat16          float32, 24 bits   TensorFloat-32, 11 bits        bfloat16, 8 bits
    #   high, tensorfloat32        float32            TensorFloat-32                 3 passes of bfloat16, about 16 bits
    #   highest, float32           float32            float32                        6 passes of bfloat16, about 24 bits
    c.matmul_precision = "default"
    c.ema_decay = 0.999  # of the generator's average, which is sampled; 0: the generator itself, as in the papers
    c.microbatches = 1  # parts of a batch whose gradients are added up: less memory, the same sums in another order
    c.steps_per_dispatch = 1  # generator iterations in one compiled call: more for tiny networks

    c.warmup = ConfigDict()  # more critic updates while the critic is young (WGAN's code: 100, 25, 500)
    c.warmup.n_critic = 0  # critic updates of a warm-up iteration; 0 turns the warm-up off
    c.warmup.steps = 25  # the first iterations that have them
    c.warmup.every = 500  # and every so many after that; 0 for the first ones only

    c.data = ConfigDict()
    c.data.name = "digits"  # or toy:8gaussians, toy:25gaussians, toy:swissroll, tfds:fashion_mnist, folder:/path
    c.data.size = 8  # pixels of a side, to which tfds and folder images are resized; toy points have none: 0
    c.data.channels = 1  # coordinates of a toy point; 1 (grey) or 3 (RGB), to which tfds and folder images convert
    c.data.dir = ""  # where tfds sets are prepared; "" for TFDS_DATA_DIR, or else ~/tensorflow_datasets
    c.data.crop = 0  # the central square that is cut out before resizing; 0 for the shorter side
    c.data.flip = False  # mirror half of the images; tfds and folder
    c.data.dequantise = False  # add U(0, 1/128), as WGAN-GP does on CIFAR-10; tfds and folder
    c.data.cache = "auto"  # images decoded once, into memory: always, never, or if they fill at most half of it
    c.data.train_split = "train"  # of a tfds set; train[:1000] takes its first 1,000 images
    c.data.held_out_split = ""  # of a tfds set; "" for test (if its labels are classes), validation or part of train
    c.data.held_out_fraction = 0.1  # that part; and of a folder's images, those that no network trains on
    c.data.unreadable_fraction = 0.01  # more damaged files than this in a folder, and the run does not start

    c.generator = _player(activation="relu")
    c.generator.batch_multiple = 1  # the generator's batch as a multiple of the critic's
    c.critic = _player(activation="leaky_relu")

    c.conditional = ConfigDict()  # images of a given class, from data with labels
    c.conditional.kind = "none"  # or auxiliary (ACGAN: the critic also tells the classes), projection
    c.conditional.classes = 10  # of the data
    c.conditional.critic_weight = 1.0  # auxiliary: of the classes in the critic's loss (WGAN-GP's CIFAR-10 code)
    c.conditional.generator_weight = 0.1  # auxiliary: of the classes in the generator's loss (the same)

    c.constraint = ConfigDict()
    c.constraint.kind = "gradient_penalty"  # or clip, none
    c.constraint.weight = 10.0  # λ of the penalty
    c.constraint.target = 1.0  # the gradient's norm that costs nothing
    c.constraint.one_sided = False  # penalise only norms above the target
    c.constraint.bound = 0.01  # clip: every critic parameter stays in [−bound, bound]
    c.constraint.order = "after"  # clip after the optimizer's update, or before (WGAN's first code)

    c.parallel = ConfigDict()
    c.parallel.mode = "jit"  # how several devices share a batch: jit over a mesh, or pmap; the same bits

    c.report = ConfigDict()  # intervals in generator iterations
    c.report.every = 100  # held-out estimate, progress line, TensorBoard
    c.report.samples_every = 1_000  # grids from the same latents
    c.report.checkpoint_every = 1_000
    c.report.checkpoints = 3  # how many of the newest checkpoints are kept
    c.report.wasserstein_exact = False  # points only: the exact W₁ of the held-out estimate's own points beside it
    c.report.best = ""  # a metric, such as held_out_estimate: the checkpoint that is best by it is kept too

    c.debug = ConfigDict()
    c.debug.nans = False  # stop in the operation that makes the first NaN or infinity; slow
    return c


def _player(activation: str) -> ConfigDict:
    c = ConfigDict()
    c.network = "mlp"  # or dcgan, resnet
    c.width = 256  # of a hidden layer; of the narrowest convolution
    c.depth = 3  # hidden layers of the MLP
    c.activation = activation  # relu, leaky_relu, elu, tanh, softplus
    c.norm = "none"  # or batch, layer
    c.kernel_init = "he_uniform"  # how kernels are drawn; for others see the networks mlp and dcgan
    c.kernel_size = 5  # of a DCGAN, as in WGAN-GP's code; 4 in WGAN's
    c.use_bias = True  # of a DCGAN, as in WGAN-GP's code; False in WGAN's
    c.constant_width = False  # DCGAN generator with as many filters in every layer (WGAN, Fig. 6)
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


class Rule(NamedTuple):
    """What a value must be, in words and as a test."""

    wanted: str
    holds: Callable[[Any], bool]


def _at_least(low: float) -> Rule:
    return Rule(f"at least {low}", lambda value: value >= low)


def _between(low: float, high: float) -> Rule:
    return Rule(f"at least {low:,} and below {high:,}", lambda value: low <= value < high)


def _one_of(*names: str) -> Rule:
    return Rule("one of " + ", ".join(names), lambda value: value in names)


_POSITIVE = Rule("positive", lambda value: value > 0)

_INITS = {"mlp": mlp.INITS, "dcgan": dcgan.INITS, "resnet": ("he_uniform",)}

_PLAYER_RULES = {
    "network": _one_of("mlp", "dcgan", "resnet"),
    "width": _between(1, 2**16),
    "depth": _between(1, 2**8),
    "activation": _one_of(*layers.ACTIVATIONS),
    "norm": _one_of(*layers.NORMS),
    "kernel_init": _one_of(*dict.fromkeys(name for names in _INITS.values() for name in names)),
    "kernel_size": _between(1, 2**5),
    "optimizer.name": _one_of("adam", "rmsprop", "rmsprop_tf", "sgd"),
    "optimizer.learning_rate": _POSITIVE,
    "optimizer.schedule": _one_of("constant", "linear"),
    "optimizer.b1": _between(0, 1),
    "optimizer.b2": _between(0, 1),
    "optimizer.decay": _between(0, 1),
    "optimizer.eps": _POSITIVE,
    "optimizer.weight_decay": _at_least(0),
}

RULES: dict[str, Rule] = {
    "seed": _between(0, 2**32),
    "steps": _between(1, 2**31),
    "batch_size": _between(1, 2**24),
    "n_critic": _between(1, 2**16),
    "latent_dim": _between(1, 2**16),
    "game": _one_of(*GAMES),
    "precision": _one_of("float32", "bfloat16"),
    "matmul_precision": _one_of("default", "bfloat16", "high", "tensorfloat32", "highest", "float32"),
    "ema_decay": _between(0, 1),
    "microbatches": _between(1, 2**16),
    "steps_per_dispatch": _between(1, 2**16),
    "warmup.n_critic": _between(0, 2**16),
    "warmup.steps": _between(0, 2**31),
    "warmup.every": _between(0, 2**31),
    "data.size": _between(0, 2**13),
    "data.channels": _between(1, 2**10),
    "data.crop": _between(0, 2**20),
    "data.cache": _one_of("auto", "always", "never"),
    "data.train_split": Rule("the name of a split, such as train", bool),
    "data.held_out_fraction": Rule("above 0 and below 1", lambda value: 0 < value < 1),
    "data.unreadable_fraction": _between(0, 1),
    **{f"generator.{key}": rule for key, rule in _PLAYER_RULES.items()},
    "generator.batch_multiple": _between(1, 2**10),
    **{f"critic.{key}": rule for key, rule in _PLAYER_RULES.items()},
    "conditional.kind": _one_of(*layers.CONDITIONINGS),
    "conditional.classes": _between(2, 2**16),
    "conditional.critic_weight": _at_least(0),
    "conditional.generator_weight": _at_least(0),
    "constraint.kind": _one_of("gradient_penalty", "clip", "none"),
    "constraint.weight": _at_least(0),
    "constraint.target": _at_least(0),
    "constraint.bound": _POSITIVE,
    "constraint.order": _one_of("after", "before"),
    "parallel.mode": _one_of("jit", "pmap"),
    "report.every": _between(1, 2**31),
    "report.samples_every": _between(1, 2**31),
    "report.checkpoint_every": _between(1, 2**31),
    "report.checkpoints": _between(1, 2**31),
}


def flatten(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Pairs of dotted key and value."""
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def image_shape(config: ConfigDict) -> tuple[int, ...]:
    """The shape of one example: `(size, size, channels)`, or `(channels,)` for points."""
    size, channels = config.data.size, config.data.channels
    return (size, size, channels) if size else (channels,)


def num_classes(config: ConfigDict) -> int:
    """Classes that the players are told; 0 for an unconditional GAN."""
    return 0 if config.conditional.kind == "none" else config.conditional.classes


def nearest(name: str, known: list[str]) -> str:
    """A hint at the known name that `name` may have meant, or all of them."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else "known: " + ", ".join(known)


def _nearest_key(key: str, known: list[str]) -> str:
    by_name = {name.rpartition(".")[2]: name for name in known}
    close = difflib.get_close_matches(key, known, n=1) or [
        by_name[name] for name in difflib.get_close_matches(key.rpartition(".")[2], by_name, n=1)
    ]
    return f"did you mean {close[0]}?" if close else "wgan_jax/config.py explains every key"


def check(config: ConfigDict) -> None:
    """Raises `UserError` at the first setting that cannot be, or that nothing reads, naming key, value and remedy."""
    _check_each(config)
    _check_pairs(config)
    values, defaults = dict(flatten(config)), dict(flatten(default()))
    for key, reader in unread(values, defaults):
        raise UserError(
            f"config.{key} = {values[key]!r}: has no effect here, only {reader.name} reads it; "
            f"leave it at {defaults[key]!r}"
        )


def without_unread(config: ConfigDict) -> ConfigDict:
    """Returns a config whose settings that nothing reads have their defaults: older versions took any value for them.

    One that has other faults is returned as it is, for `check` to name them.
    """
    try:
        _check_each(config)
    except UserError:
        return config
    config, defaults = ConfigDict(config.to_dict()), dict(flatten(default()))
    names = [key for key, _ in unread(dict(flatten(config)), defaults)]
    for name in ("generator", "critic"):
        if config[name].kernel_init not in _INITS[config[name].network]:
            names.append(f"{name}.kernel_init")
    config.update_from_flattened_dict({key: defaults[key] for key in names})
    return config


def _check_each(config: ConfigDict) -> None:
    if not isinstance(config, ConfigDict):
        raise UserError(f"config = {config!r}: get_config() must return a ConfigDict; see wgan_jax.config.default()")
    values, defaults = dict(flatten(config)), dict(flatten(default()))
    sections = {key.rpartition(".")[0] for key in defaults}
    for key, value in values.items():
        if key in sections:
            raise UserError(f"config.{key} = {value!r}: must be a section of settings, such as wgan_jax.config has")
        if key not in defaults:
            raise UserError(f"config.{key}: unknown key; {_nearest_key(key, list(defaults))}")
    for key, example in defaults.items():
        if key not in values:
            raise UserError(f"config.{key}: missing; start from wgan_jax.config.default()")
        _check_type(key, values[key], example)
    for key, rule in RULES.items():
        if not rule.holds(values[key]):
            raise UserError(f"config.{key} = {values[key]!r}: must be {rule.wanted}")


def _check_type(key: str, value: Any, example: Any) -> None:
    kind = type(example)
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise UserError(f"config.{key} = {value!r}: must be {kind.__name__}, not {type(value).__name__}")
    if kind is float and not (abs(value) < 1e300 and math.isfinite(value)):
        raise UserError(f"config.{key} = {value}: must be finite")


def _check_pairs(c: ConfigDict) -> None:
    if c.constraint.kind == "gradient_penalty" and c.critic.norm == "batch":
        raise UserError(
            "config.critic.norm = 'batch': a gradient penalty needs a critic that treats each example by itself, "
            "and batch normalization mixes them; use 'layer' or 'none'"
        )
    for name, player in (("generator", c.generator), ("critic", c.critic)):
        if player.network == "mlp" and player.norm != "none":
            raise UserError(f"config.{name}.norm = {player.norm!r}: the mlp has none; use 'none'")
        if player.network != "mlp" and not c.data.size:
            raise UserError(
                f"config.{name}.network = {player.network!r}: convolutions need images, and config.data.size is 0; "
                "use 'mlp'"
            )
        if player.kernel_init not in _INITS[player.network]:
            raise UserError(
                f"config.{name}.kernel_init = {player.kernel_init!r}: config.{name}.network = {player.network!r} has "
                f"{' or '.join(_INITS[player.network])}"
            )
        levels = {"dcgan": dcgan.levels, "resnet": resnet.levels}.get(player.network)
        try:
            if levels:
                levels(image_shape(c))
        except ValueError as error:
            raise UserError(f"config.data.size = {c.data.size}: {error}") from None
    if c.data.name.startswith(("tfds:", "folder:")):
        if not c.data.size:
            raise UserError(f"config.data.size = 0: {c.data.name} has images; give the pixels of a side, such as 64")
        if c.data.channels not in (1, 3):
            raise UserError(f"config.data.channels = {c.data.channels}: images have 1 (grey) or 3 (RGB)")
    else:
        for key in ("flip", "dequantise"):
            if c.data[key]:
                raise UserError(
                    f"config.data.{key} = True: {c.data.name} has no bytes to do it to; "
                    "use False, or a tfds: or folder: data set"
                )
    if c.conditional.kind != "none" and c.generator.network != "mlp" and c.generator.norm == "none":
        raise UserError(
            f"config.generator.norm = 'none': the classes of config.conditional.kind = {c.conditional.kind!r} enter a "
            f"{c.generator.network} through its normalization; use 'batch' or 'layer'"
        )
    if c.report.wasserstein_exact and c.data.size:
        raise UserError(
            f"config.report.wasserstein_exact = True: {c.data.name} has images, and in so many dimensions the distance "
            "of two samples says little of that of their distributions; use False, or a toy: data set"
        )
    _check_microbatches(c)
    if c.report.best:
        _check_best(c)
    if c.warmup.n_critic and c.warmup.n_critic < c.n_critic:
        raise UserError(
            f"config.warmup.n_critic = {c.warmup.n_critic}: must be 0 (off) or at least config.n_critic = {c.n_critic}"
        )


def _check_microbatches(c: ConfigDict) -> None:
    for name, player in (("generator", c.generator), ("critic", c.critic)):
        if c.microbatches > 1 and player.norm == "batch":
            raise UserError(
                f"config.microbatches = {c.microbatches}: config.{name}.norm = 'batch' takes its moments of the whole "
                "batch, and a microbatch has only a part of it; use 1, or 'layer' or 'none'"
            )
    if c.batch_size % c.microbatches:
        raise UserError(
            f"config.batch_size = {c.batch_size}: must be divisible by config.microbatches = {c.microbatches}; "
            f"{multiples(c.batch_size, c.microbatches)}"
        )


def multiples(size: int, unit: int) -> str:
    """A hint at the multiples of `unit` that are nearest to a batch size which is none."""
    low = size // unit * unit
    return f"the nearest that works is {unit}" if not low else f"{low} and {low + unit} are the nearest that work"


def _check_best(c: ConfigDict) -> None:
    constraint = {"gradient_penalty": ("gradient_penalty",), "clip": ("clipped_fraction",)}
    every_step = ("critic_loss", "generator_loss", "critic_grad_norm", "generator_grad_norm")
    at_reports: tuple[str, ...] = ("training_estimate", "held_out_estimate")
    if c.report.wasserstein_exact:
        at_reports += ("wasserstein_exact",)
    classes = ("critic_class_loss", "critic_class_accuracy", "generator_class_loss")
    known = [*at_reports, *every_step, GAMES[c.game].estimate_name, *constraint.get(c.constraint.kind, ())]
    known += classes if c.conditional.kind == "auxiliary" else ()
    if c.report.best not in known:
        raise UserError(f"config.report.best = {c.report.best!r}: no such metric; {nearest(c.report.best, known)}")
    if c.report.best in at_reports and c.report.checkpoint_every % c.report.every:
        raise UserError(
            f"config.report.checkpoint_every = {c.report.checkpoint_every}: config.report.best = {c.report.best!r} is "
            f"known at reports only; use a multiple of config.report.every = {c.report.every}"
        )


def to_json(config: ConfigDict) -> str:
    """The settings as JSON, one key a line, in the order of the defaults."""
    return json.dumps(config.to_dict(), indent=2, ensure_ascii=False) + "\n"


def from_json(text: str) -> ConfigDict:
    """The settings that `to_json` wrote; `ValueError` if the text is not a JSON object."""
    values = json.loads(text)
    if not isinstance(values, dict):
        raise ValueError("not a JSON object")
    return ConfigDict(values)


def complete(config: ConfigDict) -> tuple[ConfigDict, dict[str, Any]]:
    """Gives every absent setting its default: the whole settings, and those that were absent by dotted key."""
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
