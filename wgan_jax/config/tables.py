"""Tables of what a setting chooses by name: one row for each constraint, network, optimizer and way to use classes.

A row says what is built and which settings it reads. All rules and messages read the rows, so a new name is one new
row, here or in a program of your own: `CONSTRAINTS["mine"] = ConstraintKind(...)` makes
`config.constraint.kind = "mine"` work.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import optax
from ml_collections import ConfigDict

from wgan_jax.method import constraints, heads
from wgan_jax.method.heads import Head
from wgan_jax.networks import dcgan, mlp, resnet


class ConstraintKind(NamedTuple):
    """One way to keep the critic Lipschitz: a name in `config.constraint.kind`."""

    build: Callable[[ConfigDict], constraints.Constraint]
    """`config.constraint -> constraint`"""
    settings: tuple[str, ...] = ()
    """Settings of `config.constraint` that it reads. One with `every` is made lazy by it, outside of `build`."""
    metrics: tuple[str, ...] = ()
    """Metrics that it reports in every iteration and that `config.report.best` may name."""
    each_example: bool = False
    """Whether it needs a critic whose score of one example does not depend on the others."""
    unnormalized: bool = False
    """Whether it needs a critic without normalization."""
    dropout: bool = False
    """Whether it needs a critic with dropout."""


CONSTRAINTS: dict[str, ConstraintKind] = {
    "gradient_penalty": ConstraintKind(
        lambda c: constraints.gradient_penalty(c.weight, target=c.target, one_sided=c.one_sided),
        settings=("weight", "target", "one_sided", "every"),
        metrics=("gradient_penalty",),
        each_example=True,
    ),
    "lipschitz_penalty": ConstraintKind(
        lambda c: constraints.lipschitz_penalty(c.weight, target=c.target),
        settings=("weight", "target", "every"),
        metrics=("lipschitz_penalty",),
        each_example=True,
    ),
    "dragan": ConstraintKind(
        lambda c: constraints.dragan(c.weight, target=c.target, noise=c.noise),
        settings=("weight", "target", "noise", "every"),
        metrics=("dragan_penalty",),
        each_example=True,
    ),
    "wasserstein_divergence": ConstraintKind(
        lambda c: constraints.wasserstein_divergence(c.divergence_weight, c.divergence_power),
        settings=("divergence_weight", "divergence_power", "every"),
        metrics=("divergence_penalty",),
        each_example=True,
    ),
    "consistency": ConstraintKind(
        lambda c: constraints.consistency(c.consistency_weight, c.consistency_margin),
        settings=("consistency_weight", "consistency_margin", "every"),
        metrics=("consistency_term",),
        dropout=True,
    ),
    "spectral_norm": ConstraintKind(lambda c: constraints.spectral_norm(), unnormalized=True),
    "r1": ConstraintKind(
        lambda c: constraints.r1(c.gamma),
        settings=("gamma", "every"),
        metrics=("r1_penalty",),
        each_example=True,
    ),
    "r2": ConstraintKind(
        lambda c: constraints.r2(c.gamma),
        settings=("gamma", "every"),
        metrics=("r2_penalty",),
        each_example=True,
    ),
    "clip": ConstraintKind(
        lambda c: constraints.clip(c.bound, order=c.order),
        settings=("bound", "order"),
        metrics=("clipped_fraction",),
    ),
    "none": ConstraintKind(lambda c: constraints.Constraint()),
}
"""Every constraint by its name."""


def parts(kind: str) -> list[str]:
    """Returns the names of the constraints that `config.constraint.kind` joins by a plus, in their order."""
    return kind.split("+")


class NetworkKind(NamedTuple):
    """One architecture: a name in `config.generator.network` and `config.critic.network`.

    A network reads those settings of its player that are fields of its module. In the same way its module gets
    `image_shape`, `dtype`, `num_classes` and, in a critic, `conditioning`, if it has such fields.
    """

    generator: type[nn.Module]
    critic: type[nn.Module]
    inits: tuple[str, ...] = ()
    """Values of `kernel_init`, if the modules have that field."""
    levels: Callable[[tuple[int, ...]], Any] | None = None
    """`image_shape -> ...`, which raises `ValueError` for shapes it does not support; None if it supports all."""
    classes_by_norm: bool = False
    """Whether the generator's classes enter through its normalization, so that it needs one."""

    def module(self, player: str) -> type[nn.Module]:
        """Returns the module of `generator` or `critic`."""
        return self.generator if player == "generator" else self.critic

    def reads(self, player: str, setting: str) -> bool:
        """Tells whether the network of a player reads a setting."""
        return setting in _fields(self.module(player))

    def build(self, player: str, settings: dict[str, Any]) -> nn.Module:
        """Returns the network of a player, made with the settings that it reads."""
        module = self.module(player)
        return module(**{name: settings[name] for name in _fields(module) & settings.keys()})


def _fields(module: type[nn.Module]) -> set[str]:
    return {field.name for field in dataclasses.fields(module)}


NETWORKS: dict[str, NetworkKind] = {
    "mlp": NetworkKind(mlp.Generator, mlp.Critic, mlp.INITS),
    "dcgan": NetworkKind(dcgan.Generator, dcgan.Critic, dcgan.INITS, dcgan.levels, classes_by_norm=True),
    "resnet": NetworkKind(resnet.Generator, resnet.Critic, levels=resnet.levels, classes_by_norm=True),
}
"""Every architecture by its name."""


class OptimizerKind(NamedTuple):
    """One optimizer, apart from its learning rate and weight decay: a name in `config.PLAYER.optimizer.name`."""

    build: Callable[[ConfigDict], optax.GradientTransformation]
    """`config.PLAYER.optimizer -> transformation` of gradients into updates of learning rate 1, of the same sign."""
    settings: tuple[str, ...] = ()
    """Settings of `config.PLAYER.optimizer` that it reads and that not every optimizer does."""


OPTIMIZERS: dict[str, OptimizerKind] = {
    "adam": OptimizerKind(lambda c: optax.scale_by_adam(b1=c.b1, b2=c.b2, eps=c.eps), ("b1", "b2", "eps")),
    "rmsprop": OptimizerKind(
        lambda c: optax.scale_by_rms(decay=c.decay, eps=c.eps, eps_in_sqrt=False), ("decay", "eps")
    ),
    "rmsprop_tf": OptimizerKind(
        lambda c: optax.scale_by_rms(decay=c.decay, eps=c.eps, initial_scale=1.0), ("decay", "eps")
    ),
    "sgd": OptimizerKind(lambda c: optax.identity()),
}
"""Every optimizer by its name.

`rmsprop` is the one of WGAN's code (PyTorch's), with ε outside the root. optax's default puts it inside, where 1e-8 is
a floor that is large against a clipped critic's gradients. `rmsprop_tf` is the one of WGAN-GP's code (TensorFlow's): ε
is inside the root, 1e-10 there, and the mean square begins at 1, so the first steps are small.

`adam` is the one of the paper and of PyTorch. TensorFlow, and so WGAN-GP's code, does not divide ε by `√(1 − b2ᵗ)`;
with an ε of 1e-8 both make the same steps except where gradients are as small as ε.
"""


class Conditioning(NamedTuple):
    """One way in which a critic uses classes: a name in `config.conditional.kind`; see `networks.layers.ClassHead`."""

    settings: tuple[str, ...] = ()
    """Settings of `config.conditional` that it reads."""
    heads: Callable[[ConfigDict], tuple[Head, ...]] = lambda c: ()
    """`config.conditional -> heads` of the critic."""
    metrics: tuple[str, ...] = ()
    """Metrics of every iteration that `config.report.best` may name."""


CONDITIONINGS: dict[str, Conditioning] = {
    "none": Conditioning(),
    "auxiliary": Conditioning(
        ("classes", "critic_weight", "generator_weight"),
        lambda c: (heads.classes(c.critic_weight, c.generator_weight),),
        ("critic_class_loss", "critic_class_accuracy", "generator_class_loss"),
    ),
    "projection": Conditioning(("classes",)),
}
"""Every way to use classes by its name."""
