"""Prepares a TFDS data set for training: downloads it and writes it as files that are read without TensorFlow.

python -m wgan_jax.prepare --name=fashion_mnist [--dir=…]
"""

from absl import flags

from wgan_jax import cli
from wgan_jax.data import tfds


def main() -> None:
    print(tfds.prepare(flags.FLAGS.name, flags.FLAGS.dir))


if __name__ == "__main__":
    flags.DEFINE_string("name", None, "The data set as TFDS has it, such as fashion_mnist.")
    flags.DEFINE_string("dir", "", "The folder for it; by default TFDS_DATA_DIR, or else ~/tensorflow_datasets.")
    flags.mark_flag_as_required("name")
    cli.run(main)
