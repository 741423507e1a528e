"""Prepares a TFDS data set so that it can be read without TensorFlow, which preparing it needs."""

from wgan_jax.data.tfds import library, location
from wgan_jax.errors import UserError


def prepare(name: str, directory: str = "") -> str:
    """Downloads a set and writes it as `array_record` files: which splits there are, and where.

    Args:
      name: as TFDS has it, such as `fashion_mnist` or `lsun/bedroom`.
      directory: where to; "" for `TFDS_DATA_DIR`, or else `~/tensorflow_datasets`.

    Raises:
      UserError: if TensorFlow is not installed, there is no such set, it cannot be had, or the directory holds it in
        another format.
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
        except Exception as error:  # the network, the disk, the set's own code: all are the user's to mend
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
