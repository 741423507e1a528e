"""Image data sets of TFDS that are prepared as `array_record` files. TensorFlow is not needed to read them.

`tensorflow_datasets` is imported when a set is opened, since that takes time, which runs on other data need not spend.
"""

import os
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from wgan_jax.data.images import Form, ImageSource
from wgan_jax.data.source import fixed_subset
from wgan_jax.errors import UserError

PEEKED = 64
"""Number of records that are read when a split is opened.

Their labels show whether the split is labelled, and the digest includes them.
"""


class TfdsSource(ImageSource):
    """The images of one split, in the order of its files, with their labels if the set has any.

    Args:
      records: the records of the split, with encoded images.
      form: size and channels of the decoded images.
      num_classes: number of classes; 0 if there are no labels.
      title: name, version and split of the set, for messages and the digest.
      remedy: advice for the error message about a label that is not a class; "" if such labels are allowed.
    """

    def __init__(self, records: Any, form: Form, num_classes: int, title: str, remedy: str = ""):
        super().__init__(form, np.arange(len(records)), num_classes)
        self._records, self._title, self._remedy = records, title, remedy

    def fetch(self, index: np.ndarray) -> tuple[Sequence[bytes], np.ndarray | None]:
        records = self._records.__getitems__(index.tolist())
        label = np.array([record["label"] for record in records]) if self.num_classes else None
        if self._remedy and (wrong := self._no_classes(label)):
            raise UserError(
                f"{self._title} has images of label {wrong[0]}, which is none of its {self.num_classes} classes from 0 "
                f"on (TFDS marks images without a label by -1); {self._remedy}"
            )
        return [record["image"] for record in records], label

    def _no_classes(self, label: np.ndarray | None) -> list[int]:
        return [] if label is None else label[(label < 0) | (label >= self.num_classes)].tolist()

    def peek(self) -> tuple[Sequence[bytes], np.ndarray | None]:
        """Fetches a few records: the first, the last, and some between."""
        places = np.concatenate([[0, len(self) - 1], fixed_subset(self, PEEKED - 2)])
        return self.fetch(self._index[places])

    @property
    def labelled(self) -> bool:
        """Whether the labels of a few records are all classes."""
        return not self._no_classes(self.peek()[1])

    @property
    def content(self) -> Iterator[str | bytes | np.ndarray]:
        """The name, version and split of the set, the indices of the records in use, and a few records as stored."""
        images, label = self.peek()
        yield from ("tfds", self._title)
        yield self._index
        yield from images
        if label is not None:
            yield label.astype(np.int64)


def load(
    name: str,
    split: str,
    form: Form,
    *,
    directory: str = "",
    train_split: str = "train",
    held_out_split: str = "",
    held_out_fraction: float = 0.1,
    labelled: bool = False,
) -> TfdsSource:
    """Opens the images of `train` or `held_out`.

    Args:
      name: name of the set in TFDS, such as `fashion_mnist` or `lsun/bedroom`.
      split: `train` or `held_out`.
      form: size and channels of the decoded images.
      directory: folder of the prepared set; "" for `TFDS_DATA_DIR` if that is set, else `~/tensorflow_datasets`.
      train_split: split of the set to train on, or a part of it such as `train[:90%]`.
      held_out_split: split of the set to hold out. "" chooses `test` or else `validation`; if the set has neither, it
        holds out the last part of `train_split`.
      held_out_fraction: size of that last part, as a fraction.
      labelled: whether every label must be a class. If so, `validation` is chosen rather than a `test` split without
        labels, and reading a label that is not a class raises an error.

    Raises:
      UserError: if tensorflow_datasets is not installed; if the set does not exist, is not prepared, or is prepared in
        a format without random access; if it lacks the split, images of type uint8, or the labels that are needed.
    """
    tfds = library(f"config.data.name = 'tfds:{name}'")
    builder = open_builder(tfds, name, directory)
    known = list(builder.info.splits)
    key = "held_out_split" if split == "held_out" and held_out_split else "train_split"
    wanted = splits(known, train_split, held_out_split, held_out_fraction)

    features = dict(builder.info.features.items())
    image, label = features.get("image"), features.get("label")
    if not isinstance(image, tfds.features.Image) or image.np_dtype != np.uint8:  # `dtype` needs TensorFlow
        raise UserError(
            f"config.data.name = 'tfds:{name}': it has no feature `image` of bytes (its features: "
            f"{', '.join(sorted(features))}); use a TFDS data set of images"
        )
    num_classes = int(label.num_classes or 0) if isinstance(label, tfds.features.ClassLabel) else 0

    def source(part: str, remedy: str = "") -> TfdsSource:
        try:
            records = builder.as_data_source(split=part, decoders={"image": tfds.decode.SkipDecoding()})
        except (ValueError, KeyError, AssertionError) as error:
            raise UserError(
                f"config.data.{key} = {part!r}: {name} has no such split, but {', '.join(known)} "
                f"({str(error).splitlines()[0]})"
            ) from None
        if not len(records):
            raise UserError(f"config.data.{key} = {part!r}: no image of {name} is in it; name another split")
        return TfdsSource(records, form, num_classes, f"tfds:{builder.info.full_name}, split {part!r},", remedy)

    part = wanted[split]
    if not labelled or not num_classes:
        return source(part)
    trained_on = train_split.partition("[")[0]
    spare = "validation" if "validation" in known and "validation" not in (trained_on, part) else ""
    if split == "held_out" and not held_out_split and spare and not source(part).labelled:
        part, spare = spare, ""
    found = source(part, _remedy(split, trained_on, spare))
    found.peek()
    return found


def _remedy(split: str, trained_on: str, spare: str) -> str:
    """Returns advice to the user for the case that the labels of `split` are not classes."""
    if split == "train":
        return "train on another split, by config.data.train_split, or use --config.conditional.kind=none"
    if spare:
        return f"use --config.data.held_out_split={spare}"
    return (
        f"hold out a part of the other split: --config.data.train_split='{trained_on}[:90%]' "
        f"--config.data.held_out_split='{trained_on}[90%:]'"
    )


def splits(known: list[str], train: str, held_out: str, held_out_fraction: float) -> dict[str, str]:
    """Returns the splits of a set to train on and to hold out: `{"train": …, "held_out": …}`.

    Args:
      known: names of the set's splits.
      train: split to train on, as `train_split` of `load`.
      held_out: split to hold out, as `held_out_split` of `load`.
      held_out_fraction: fraction of `train` to hold out if the set has no other split for it.

    Raises:
      UserError: if there is no split to hold out, because `train` is itself a part of a split.
    """
    named = held_out or next((name for name in ("test", "validation") if name in known and name != train), "")
    if named:
        return {"train": train, "held_out": named}
    if "[" in train:
        raise UserError(
            f"config.data.train_split = {train!r}: the data set has neither a test nor a validation split to hold out; "
            f"name a part in config.data.held_out_split, such as {train.partition('[')[0]}[90%:]"
        )
    percent = min(max(1, round(100 * held_out_fraction)), 99)
    return {"train": f"{train}[:{100 - percent}%]", "held_out": f"{train}[{100 - percent}%:]"}


def library(wanted_by: str) -> ModuleType:
    """Imports and returns `tensorflow_datasets`.

    Args:
      wanted_by: the flag or setting that needs the library, for the message.

    Raises:
      UserError: if the library cannot be imported, with the command that installs it.
    """
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise UserError(
            f"{wanted_by}: needs tensorflow_datasets, which cannot be imported ({error}); "
            "pip install tensorflow-datasets importlib_resources"
        ) from None
    return tensorflow_datasets


def location(directory: str) -> str:
    """Returns the folder of prepared sets: `directory`, or if it is "" the default of TFDS."""
    return os.path.expanduser(directory or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")


def prepare_command(name: str, directory: str) -> str:
    """Returns the command that prepares a set in `directory`."""
    return f"python -m wgan_jax.prepare --name={name}" + (f" --dir={directory}" if directory else "")


def open_builder(tfds: ModuleType, name: str, directory: str) -> Any:
    """Returns the TFDS builder of a prepared set.

    Raises:
      UserError: if the set does not exist, is not prepared, or is prepared in a format without random access.
    """
    place = location(directory)
    try:
        builder = tfds.builder(name, data_dir=place)
    except tfds.core.DatasetNotFoundError:
        raise UserError(
            f"config.data.name = 'tfds:{name}': TFDS knows no such data set, and {place} holds none; "
            "https://www.tensorflow.org/datasets/catalog lists them"
        ) from None
    except (ValueError, AssertionError, ImportError, OSError) as error:
        raise UserError(f"config.data.name = 'tfds:{name}': {' '.join(str(error).split())}") from None
    if not builder.info.splits:
        raise UserError(
            f"config.data.name = 'tfds:{name}': not prepared in {place}; {prepare_command(name, directory)}, "
            "or config.data.dir for the folder where it is"
        )
    if builder.info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
        other = os.path.join(place, "array_record")
        raise UserError(
            f"config.data.name = 'tfds:{name}': prepared as {builder.info.file_format.value} in {place}, which has "
            f"no random access; {prepare_command(name, other)}, and then --config.data.dir={other}"
        )
    return builder


def prepare(name: str, directory: str = "") -> str:
    """Downloads a set and writes it as `array_record` files. Returns a message with its folder, splits and their sizes.

    Args:
      name: name of the set in TFDS, such as `fashion_mnist` or `lsun/bedroom`.
      directory: folder to write to; "" for `TFDS_DATA_DIR` if that is set, else `~/tensorflow_datasets`.

    Raises:
      UserError: if TensorFlow is not installed, the set does not exist, it cannot be downloaded or prepared, or the
        folder contains it in another format already.
    """
    tfds = library(f"--name={name}")
    place = location(directory)
    try:
        builder = tfds.builder(name, data_dir=place)
    except tfds.core.DatasetNotFoundError:
        raise UserError(
            f"--name={name}: TFDS knows no such data set; https://www.tensorflow.org/datasets/catalog lists them"
        ) from None
    except (ValueError, AssertionError, ImportError, OSError) as error:
        raise UserError(f"--name={name}: {_line(error)}") from None
    if builder.info.splits and builder.info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
        raise UserError(
            f"--name={name}: {place} holds it as {builder.info.file_format.value} already, which has no random access; "
            "give another --dir, and the same in config.data.dir"
        )
    if not builder.info.splits:
        _require_tensorflow(name)
        try:
            builder.download_and_prepare(file_format="array_record")
        except Exception as error:  # network, disk or the code of the set: the user must fix each of them
            raise UserError(f"--name={name}: cannot be prepared: {type(error).__name__}: {_line(error)}") from error
    sizes = ", ".join(f"{split} {info.num_examples:,}" for split, info in builder.info.splits.items())
    return f"{name} is in {builder.data_path} ({sizes}); train on it with --config.data.name=tfds:{name}"


def _require_tensorflow(name: str) -> None:
    try:
        import tensorflow  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"--name={name}: preparing a data set needs TensorFlow, which cannot be imported ({error}); "
            "pip install 'wgan_jax[prepare]', or pip install -e '.[prepare]' in a clone; training does not need it"
        ) from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:500]
