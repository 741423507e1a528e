"""TFDS image data sets that are prepared as `array_record` files, read without TensorFlow.

`tensorflow_datasets` is imported when a set is opened, and comes with the extra `[tfds]`: it brings 200 MB of
libraries that runs on other data need not have.
"""

import os
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from wgan_jax.data.images import Form, ImageSource
from wgan_jax.errors import UserError


class TfdsSource(ImageSource):
    """The images of one split, in the order of its files, with their labels if the set has any."""

    def __init__(self, records: Any, form: Form, num_classes: int):
        super().__init__(form, np.arange(len(records)), num_classes)
        self._records = records

    def fetch(self, index: np.ndarray) -> tuple[Sequence[bytes], np.ndarray | None]:
        records = self._records.__getitems__(index.tolist())
        label = np.array([record["label"] for record in records]) if self.num_classes else None
        return [record["image"] for record in records], label


def load(
    name: str,
    split: str,
    form: Form,
    *,
    directory: str = "",
    train_split: str = "train",
    held_out_split: str = "",
    held_out_fraction: float = 0.1,
) -> TfdsSource:
    """The images of `train` or `held_out`.

    Args:
      name: as TFDS has it, such as `fashion_mnist` or `lsun/bedroom`.
      split: `train` or `held_out`.
      form: what the images are brought to.
      directory: where the set is prepared; "" for `TFDS_DATA_DIR`, or else `~/tensorflow_datasets`.
      train_split: the set's split that is trained on, or a part of it such as `train[:90%]`.
      held_out_split: the set's split that is held out; "" for `test` or `validation`, or else for the last part of
        the split that is trained on.
      held_out_fraction: that part.

    Raises:
      UserError: if tensorflow_datasets is not installed; if there is no such set, or it is not prepared, or in a
        format without random access; if it has no such split, or no images of bytes.
    """
    tfds = library(f"config.data.name = 'tfds:{name}'")
    builder = open_builder(tfds, name, directory)
    key = "held_out_split" if split == "held_out" and held_out_split else "train_split"
    wanted = splits(list(builder.info.splits), train_split, held_out_split, held_out_fraction)[split]

    features = dict(builder.info.features.items())
    image, label = features.get("image"), features.get("label")
    if not isinstance(image, tfds.features.Image) or image.np_dtype != np.uint8:  # `dtype` needs TensorFlow
        raise UserError(
            f"config.data.name = 'tfds:{name}': it has no feature `image` of bytes (its features: "
            f"{', '.join(sorted(features))}); use a TFDS data set of images"
        )
    num_classes = int(label.num_classes or 0) if isinstance(label, tfds.features.ClassLabel) else 0
    try:
        records = builder.as_data_source(split=wanted, decoders={"image": tfds.decode.SkipDecoding()})
    except (ValueError, KeyError, AssertionError) as error:
        raise UserError(
            f"config.data.{key} = {wanted!r}: {name} has no such split, but {', '.join(builder.info.splits)} "
            f"({str(error).splitlines()[0]})"
        ) from None
    if not len(records):
        raise UserError(f"config.data.{key} = {wanted!r}: no image of {name} is in it; name another split")
    return TfdsSource(records, form, num_classes)


def splits(known: list[str], train: str, held_out: str, held_out_fraction: float) -> dict[str, str]:
    """The set's splits to train on and to hold out, by `train` and `held_out`; see `load`.

    Raises:
      UserError: if there is none to hold out.
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
    """The library; `UserError` with the command that installs it if it is not there."""
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise UserError(
            f"{wanted_by}: needs tensorflow_datasets, which cannot be imported ({error}); "
            "pip install 'wgan_jax[tfds]', or pip install -e '.[tfds]' in a clone"
        ) from None
    return tensorflow_datasets


def location(directory: str) -> str:
    """Where TFDS looks for prepared sets."""
    return os.path.expanduser(directory or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")


def prepare_command(name: str, directory: str) -> str:
    """What prepares a set where it is looked for."""
    return f"python -m wgan_jax.data prepare --name={name}" + (f" --dir={directory}" if directory else "")


def open_builder(tfds: ModuleType, name: str, directory: str) -> Any:
    """A prepared set's builder."""
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
