"""Measures a state's samples, or any images, against real ones."""

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any

from ml_collections import ConfigDict

from wgan_jax import data
from wgan_jax.data import Source, fixed_subset, image_sets
from wgan_jax.devices.mesh import Parallel
from wgan_jax.errors import UserError, say
from wgan_jax.method.gan import Gan
from wgan_jax.method.state import TrainState
from wgan_jax.metrics import choosing, evaluators, sets
from wgan_jax.metrics.choosing import ALL, Table
from wgan_jax.metrics.evaluators import EVALUATORS, Context, Evaluator
from wgan_jax.metrics.measuring import Measurer, Statistics, score
from wgan_jax.metrics.scores import METRICS
from wgan_jax.metrics.streaming import Bar, no_bar

MOST = 10_000
"""Largest number of images in a set, unless another is asked for."""

Numbers = dict[str, dict[str, Any]]


def evaluate(
    config: ConfigDict,
    gan: Gan,
    state: TrainState,
    *,
    ema: bool = True,
    seed: int = 0,
    rows: Iterable[Evaluator] = EVALUATORS,
) -> dict[str, Any]:
    """Returns the measures of a state by name.

    `real_nearest_neighbour_accuracy` compares training with held-out examples. `evaluate_samples` measures the metrics
    that the config names: it takes all of the data, and gives their floors.

    Args:
      config: the run's settings, which name its data.
      gan: what was trained.
      state: of any step.
      ema: whether the generator's average is measured, or the generator itself.
      seed: seed of the samples' latents.
      rows: what is measured.

    Raises:
      UserError: if the data cannot be read.
    """
    train, held_out = (data.load(config, split, most=evaluators.EXAMPLES) for split in ("train", "held_out"))
    devices = Parallel.from_devices()
    context = Context(config=config, gan=gan, train=train, held_out=held_out, devices=devices, ema=ema, seed=seed)
    result = {"step": int(state.step)}
    for row in rows:
        if row is not evaluators.METRICS_OF_SAMPLES and (measure := row.measure(context)):
            result |= evaluators.numbers(row.name, measure(devices.replicate(state) if row.collective else state))
    return result


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wishes:
    """Choice of what is measured, and how."""

    metrics: tuple[str, ...] = (ALL,)
    """Names of metrics, or `all`: then those that do not suit are left out."""
    num: int = 0
    """Number of images that are measured; 0 for as many as there are real ones to compare, but at most `MOST`."""
    reference_num: int = 0
    """Number of real images in the reference; 0 for as many as are measured, −1 for all."""
    weights: str | None = None
    """File of Inception's weights; None looks in the usual places."""
    input: str = "tf1"
    """Name of the way in which images are resized for Inception: see `wgan_jax.metrics.resizing`."""
    cascade: str | None = None
    """Cascade of OpenCV that finds faces, for the metric `afd`."""
    table: Table = dataclasses.field(default_factory=lambda: METRICS)
    """All metrics; `afd` is added if there is a cascade."""
    statistics: Statistics | None = None
    """Statistics of real images that were measured before, and the place for new ones."""
    bar: Bar = no_bar
    """Function that shows the progress."""

    def measurer(self, shape: tuple[int, ...], smallest: int, devices: Parallel) -> Measurer:
        """Returns what measures sets of images of a shape, of which the smallest set has so many."""
        table = choosing.with_faces(self.table, self.cascade)
        choosing.check_names(self.metrics, "--metrics", [*table, ALL])
        everything = ALL in self.metrics
        names, skip = table if everything else self.metrics, say if everything else None
        rows = choosing.rows(names, shape, smallest, "--metrics", table, skip)
        rows, networks = choosing.networks(rows, weights=self.weights, input=self.input, skip=skip)
        return Measurer(rows, networks, devices, statistics=self.statistics, bar=self.bar)


def evaluate_samples(
    config: ConfigDict, gan: Gan, state: TrainState, wishes: Wishes, *, ema: bool = True, seed: int = 0
) -> Numbers:
    """Returns the wished metrics of a state's samples against training images, with held-out images as the floor.

    Args:
      config: the run's settings, which name its data.
      gan: what was trained.
      state: of any step.
      wishes: what is measured.
      ema: whether the generator's average is measured, or the generator itself.
      seed: seed of the samples' latents.

    Raises:
      UserError: if a metric, a network or the data are not there, or do not suit each other.
    """
    devices = Parallel.from_devices()
    train, held_out = (data.load(config, split) for split in ("train", "held_out"))
    num = wishes.num or min(MOST, len(train), len(held_out))
    reference = sets.real(train, fixed_subset(train, _reference_num(wishes, num, len(train))), devices)
    unseen = sets.real(held_out, fixed_subset(held_out, num), devices)
    measurer = wishes.measurer(gan.image_shape, min(num, reference.num, unseen.num), devices)
    samples = sets.samples(gan, num, devices, seed=seed, ema=ema)
    return score(measurer, reference, samples(state), unseen)


def evaluate_files(images: str, reference: str, wishes: Wishes) -> Numbers:
    """Returns `evaluate_images` of a folder or an `.npz` file against another.

    Raises:
      UserError: as `evaluate_images` does, or if a file cannot be read.
    """
    return evaluate_images(image_sets.load(images), image_sets.load(reference), wishes)


def evaluate_images(images: Source, reference: Source, wishes: Wishes) -> Numbers:
    """Returns the wished metrics of some images against others, which are taken for real.

    The floor is of images of the reference that are left over; a line says so if there are too few.

    Args:
      images: what is measured.
      reference: images of the same size. If one of the two sets is grey, it is taken as RGB.
      wishes: what is measured of them.

    Raises:
      UserError: if the sizes differ, or a metric or a network is not there or does not suit.
    """
    devices = Parallel.from_devices()
    if images.image_shape[:2] != reference.image_shape[:2]:
        sizes = " and ".join("×".join(map(str, source.image_shape[:2])) for source in (images, reference))
        raise UserError(f"images of {sizes}: --images and --reference must have one size")
    channels = max(images.image_shape[2], reference.image_shape[2])  # grey becomes RGB beside RGB
    take = functools.partial(sets.real, devices=devices, channels=channels)
    num = min(wishes.num or MOST, len(images))
    if wishes.num > len(images):
        raise UserError(f"--num={wishes.num}: there are {len(images)} images; ask for as many at most")
    order = fixed_subset(reference, len(reference))
    reference_num = _reference_num(wishes, num, len(reference))
    real, others = order[:reference_num], order[reference_num : reference_num + num]
    unseen = take(reference, others) if len(others) == num else None
    if unseen is None:
        say(
            f"no floor: it is of {num} images of --reference beside its first {len(real)}, and there are "
            f"{len(reference)} in all; ask for fewer with --num or --reference_num"
        )
    measurer = wishes.measurer((*images.image_shape[:2], channels), min(num, len(real)), devices)
    # These are not kept: they are other images as soon as a model has drawn new ones under the same names.
    measured = take(images, fixed_subset(images, num))._replace(identity="")
    return score(measurer, take(reference, real), measured, unseen)


def _reference_num(wishes: Wishes, num: int, there: int) -> int:
    """Returns the number of images in the reference."""
    if wishes.reference_num > there:
        raise UserError(f"--reference_num={wishes.reference_num}: there are {there} images; ask for as many at most")
    return there if wishes.reference_num < 0 else min(wishes.reference_num or num, there)
