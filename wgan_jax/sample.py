"""Draws examples from a run's newest state, or a walk between two latents.

python -m wgan_jax.sample --workdir=runs/digits --num=64 --out=samples.png
python -m wgan_jax.sample --workdir=runs/digits --num=1000 --out=samples.npz   # array `image` in [−1, 1]
python -m wgan_jax.sample --workdir=runs/digits --interpolate --num=8 --out=walk.png

From a class-conditional run:

python -m wgan_jax.sample --workdir=runs/digits_auxiliary --label=3           # all of class 3
python -m wgan_jax.sample --workdir=runs/digits_auxiliary --by_class --num=8  # a row for each class, 8 of each

Without these flags its classes are drawn, each as likely; an .npz holds them as `label`.
"""

import jax
import numpy as np
from absl import flags

from wgan_jax import cli
from wgan_jax.errors import UserError
from wgan_jax.method.sampling import FRAMES, classes, generate, latents, walks
from wgan_jax.report import media
from wgan_jax.run.checkpoint import restore


def main() -> None:
    f = flags.FLAGS
    gan, state = restore(f.workdir, f.step)
    if f.by_class and (not gan.num_classes or f.label is not None):
        raise UserError("--by_class: needs a run with classes, and no --label")
    num = f.num * gan.num_classes if f.by_class else f.num
    media.check(f.out, gan, num * FRAMES if f.interpolate else num, f"--num={f.num}")
    key, columns = jax.random.key(f.seed), f.num if f.by_class else None
    label = classes(gan, key, num) if f.label is None else np.full(num, f.label)
    if f.by_class:
        label = np.arange(gan.num_classes).repeat(f.num)
    if f.interpolate:
        columns, z = FRAMES, walks(gan, key, num, label)
        label = None if label is None else label.repeat(FRAMES)
    else:
        z = latents(gan, key, num, label)
    images = generate(gan, state, z, label, ema=f.ema)
    media.write(f.out, np.asarray(images), label, columns)
    print(f"{len(images)} examples after {int(state.step):,} iterations: {f.out}")


if __name__ == "__main__":
    cli.define_path("workdir", None, "The run's folder.")
    flags.DEFINE_string("step", "latest", "The checkpoint: a number, best (by config.report.best) or latest.")
    flags.DEFINE_integer("num", 64, "How many examples, or walks.", lower_bound=1)
    cli.define_path("out", "samples.png", "A .png or .npz file.")
    flags.DEFINE_integer("seed", 0, "Seed of the latents.", lower_bound=0, upper_bound=2**32 - 1)
    flags.DEFINE_bool("interpolate", False, "Walk from one latent to another, one walk a row.")
    flags.DEFINE_integer("label", None, "The class of all examples, for a run with classes.")
    flags.DEFINE_bool("by_class", False, "Draw a row of --num examples for each class.")
    flags.DEFINE_bool("ema", True, "Sample the generator's average, not the generator itself.")
    flags.mark_flag_as_required("workdir")
    cli.use_compilation_cache()
    cli.run(main)
