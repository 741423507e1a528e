"""The table of all that is measured of a state, for the training loop and for `python -m wgan_jax.evaluate`.

A measure of your own is one more row: `train(config, workdir, evaluators=(*EVALUATORS, row))`. It is made once, from a
`Context`, and called with every state that is measured:

    def brightness(context):
        fakes = jax.jit(make_fakes(context.gan, 64))
        return lambda state: jnp.mean(fakes(state))

    Evaluator("brightness", every=lambda config: config.report.every, collective=False, measure=brightness)
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from wgan_jax.data import Examples, Source, fixed_subset
from wgan_jax.devices import hosts, mesh
from wgan_jax.devices.mesh import Parallel
from wgan_jax.method.batch import to_range
from wgan_jax.method.gan import Gan
from wgan_jax.method.sampling import sample
from wgan_jax.method.state import TrainState
from wgan_jax.metrics import choosing, neighbours, quality, sets, transport
from wgan_jax.metrics.estimate import FIXED_IMAGES, fixed_set, make_estimate, make_fakes
from wgan_jax.metrics.measuring import Measurer
from wgan_jax.metrics.scores import METRICS

SAMPLES = 1_000
"""Number of samples that are classified."""
EXAMPLES = 5_000
"""Largest number of examples of a split: the classifier learns from training examples and is tried on held-out ones."""
NEIGHBOURS = 500
"""Number of samples, and of held-out examples, in the nearest-neighbour classifier."""

Result = Any
"""A number, on a device or not; several of them by name; or a function without arguments that returns either.

The training loop asks for the numbers, and calls the function, only when its next iterations are under way.
"""
Measure = Callable[[TrainState], Result]


@dataclasses.dataclass(kw_only=True)
class Context:
    """All that a measure is made from."""

    config: ConfigDict
    gan: Gan
    train: Source
    held_out: Source
    devices: Parallel
    ema: bool = True
    """Whether `samples` come from the generator's average, or from the generator itself."""
    seed: int = 0
    """Seed of the latents of `samples`."""
    _drawn: tuple[TrainState, np.ndarray] | None = dataclasses.field(default=None, init=False, repr=False)

    @functools.cached_property
    def estimate(self) -> Callable[[TrainState, Examples], jax.Array]:
        """The compiled `make_estimate`."""
        return jax.jit(make_estimate(self.gan))

    @property
    def labels(self) -> np.ndarray | None:
        """Classes of `samples`, in turn; None for an unconditional GAN."""
        return np.arange(SAMPLES) % self.gan.num_classes if self.gan.num_classes else None

    def samples(self, state: TrainState) -> np.ndarray:
        """Returns `SAMPLES` samples of a state. They are drawn once for all measures."""
        if self._drawn is None or self._drawn[0] is not state:
            key = jax.random.key(self.seed)
            images = sample(self.gan, state, key, SAMPLES, label=self.labels, ema=self.ema)
            self._drawn = state, np.asarray(images)
        return self._drawn[1]


class Evaluator(NamedTuple):
    """One row of the table: something that is measured of a state."""

    name: str
    """Name of its number in records. A measure of several numbers names them itself."""
    every: Callable[[ConfigDict], int]
    """`config -> ` number of iterations between two measurements while a run goes on; 0 for `evaluate` only."""
    collective: bool
    """Whether all hosts measure together, with the state on all devices, or the first host measures on one device."""
    measure: Callable[[Context], Measure | None]
    """`context -> measure`, or None if there is nothing to measure."""
    names: Callable[[ConfigDict], tuple[str, ...]] | None = None
    """`config -> ` names of its numbers, if they are not just the row's. `config.report.best` may be any of them."""

    def numbers(self, config: ConfigDict) -> tuple[str, ...]:
        """Returns the names of the numbers of a run with these settings."""
        return (self.name,) if self.names is None else self.names(config)


def _estimate(context: Context, source: Source) -> Measure:
    examples = fixed_set(source)
    return lambda state: context.estimate(state, examples)


def _wasserstein_exact(context: Context) -> Measure | None:
    if not context.config.report.wasserstein_exact:
        return None
    points = _some(context.held_out, FIXED_IMAGES)["image"]
    fakes = jax.jit(make_fakes(context.gan, len(points)))

    def measure(state: TrainState) -> Result:
        fake = fakes(state)
        return lambda: transport.wasserstein(np.asarray(fake), points)

    return measure


def _nearest_neighbours(context: Context, *, of_training: bool) -> Measure:
    num = min(NEIGHBOURS, len(context.held_out), len(context.train))

    def measure(state: TrainState) -> float:
        real = to_range(_some(context.held_out, num)["image"])
        others = to_range(_some(context.train, num)["image"]) if of_training else context.samples(state)[:num]
        return neighbours.nearest_neighbour_accuracy(others, real)

    return measure


def _class_counts(context: Context) -> Measure | None:
    if context.config.data.name != "digits":
        return None

    def measure(state: TrainState) -> Result:
        examples = context.train.read(np.arange(len(context.train)))
        counts = quality.class_counts(context.samples(state), examples["image"], examples["label"])
        return counts.tolist()

    return measure


def _class_agreement(context: Context) -> Measure | None:
    label = context.labels
    if label is None:
        return None

    def measure(state: TrainState) -> Result:
        known, unseen = (_some(source, EXAMPLES) for source in (context.train, context.held_out))
        predicted, expected = (
            quality.classify(images, to_range(known["image"]), known["label"])
            for images in (context.samples(state), to_range(unseen["image"]))
        )
        return {
            "class_agreement": float(np.mean(predicted == label)),
            "real_class_agreement": float(np.mean(expected == unseen["label"])),
        }

    return measure


def _metrics(context: Context) -> Measure:
    """Measures `config.report.metrics` of samples against training images, on all devices together."""
    config, devices = context.config.report, Parallel(context.devices.devices)
    num = min(config.metrics_num, len(context.train))
    shape = context.gan.image_shape
    rows = choosing.rows(config.metrics, shape, num, "config.report.metrics")
    measurer = Measurer(*choosing.networks(rows), devices)
    reference = sets.real(context.train, fixed_subset(context.train, num), devices)
    real = measurer.keep(reference, [num])[num]
    samples = sets.samples(context.gan, num, devices, seed=context.seed, ema=context.ema)

    def measure(state: TrainState) -> Result:
        found = measurer.keep(samples(state), [num])[num]
        pairs = [measurer.numbers(name, real[name], found[name]) for name in rows]
        return {name: value for pair in pairs for name, value in pair.items()}

    return measure


def _metrics_every(config: ConfigDict) -> int:
    return config.report.metrics_every if config.report.metrics else 0


def _metrics_numbers(config: ConfigDict) -> tuple[str, ...]:
    return tuple(number for name in config.report.metrics for number in METRICS[name].numbers)


def _some(source: Source, num: int) -> Examples:
    return source.read(fixed_subset(source, num))


def _with_reports(config: ConfigDict) -> int:
    return config.report.every


def _never(config: ConfigDict) -> int:
    del config
    return 0


METRICS_OF_SAMPLES = Evaluator("metrics", _metrics_every, True, _metrics, _metrics_numbers)
"""The metrics that a config names."""

EVALUATORS = (
    Evaluator("training_estimate", _with_reports, False, lambda context: _estimate(context, context.train)),
    Evaluator("held_out_estimate", _with_reports, False, lambda context: _estimate(context, context.held_out)),
    Evaluator(
        "wasserstein_exact",
        lambda config: config.report.every if config.report.wasserstein_exact else 0,
        False,
        _wasserstein_exact,
    ),
    Evaluator("nearest_neighbour_accuracy", _never, False, lambda c: _nearest_neighbours(c, of_training=False)),
    Evaluator("real_nearest_neighbour_accuracy", _never, False, lambda c: _nearest_neighbours(c, of_training=True)),
    Evaluator("class_counts", _never, False, _class_counts),
    Evaluator("class_agreement", _never, False, _class_agreement),
    METRICS_OF_SAMPLES,
)
"""All measures of this library. The first three, and the metrics that a config names, are in the records of a run."""


class Due(NamedTuple):
    """A measure that this host takes part in while a run goes on."""

    name: str
    every: int
    collective: bool
    measure: Measure


def check_rows(evaluators: Iterable[Evaluator], config: ConfigDict) -> None:
    """Checks the table of a run.

    Raises:
      ValueError: if two rows have one name, or an interval is not a number of iterations.
      UserError: if the config names a metric that does not exist.
    """
    choosing.check_names(config.report.metrics, "config.report.metrics")
    names: set[str] = set()
    for row in evaluators:
        if row.name in names or row.name == "step":
            raise ValueError(f"evaluator {row.name!r}: another number of a record has this name; rename one of them")
        names.add(row.name)
        every = row.every(config)
        if type(every) is not int or every < 0:
            raise ValueError(f"evaluator {row.name!r}: every = {every!r}, but must be a number of iterations, or 0")


def due(evaluators: Iterable[Evaluator], context: Context) -> list[Due]:
    """Makes the measures of a run that this host takes part in."""
    found = []
    for row in evaluators:
        every = row.every(context.config)
        if every and (row.collective or hosts.is_first()) and (measure := row.measure(context)):
            found.append(Due(row.name, every, row.collective, measure))
    return found


def intervals(evaluators: Iterable[Evaluator], config: ConfigDict) -> tuple[int, ...]:
    """Returns the numbers of iterations after which something is measured, which are the same on all hosts."""
    return tuple({every for row in evaluators if (every := row.every(config))})


def measure(measures: Iterable[Due], step: int, state: TrainState) -> dict[str, Result]:
    """Begins the measurements after `step` iterations without waiting for them. The state is on all devices."""
    now = [row for row in measures if step % row.every == 0]
    return {row.name: row.measure(state if row.collective else mesh.local(state)) for row in now}


def numbers(name: str, result: Result) -> dict[str, Any]:
    """Waits for the result of a measure; returns its numbers by name, in a form that JSON can hold."""
    result = result() if callable(result) else result
    values = result if isinstance(result, dict) else {name: result}
    return {key: x.item() if isinstance(x, jax.Array | np.ndarray | np.generic) else x for key, x in values.items()}
