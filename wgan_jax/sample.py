"""Draws examples from a run's newest state, or a walk between two latents.

python -m wgan_jax.sample --workdir=runs/digits --num=64 --out=samples.png
python -m wgan_jax.sample --workdir=runs/digits --num=1000 --out=samples.npz   # array `image` in [−1, 1]
python -m wgan_jax.sample --workdir=runs/digits --interpolate --num=8 --out=walk.png
"""

from pathlib import Path

import jax
import numpy as np
from absl import flags

from wgan_jax import command
from wgan_jax.checkpoint import restore
from wgan_jax.errors import UserError
from wgan_jax.gan import Gan
from wgan_jax.report import pictures
from wgan_jax.sampling import generate, interpolate, latents, sample
from wgan_jax.state import TrainState

FRAMES = 10
"""Images of one walk from a latent to another, ends included."""


def walks(gan: Gan, state: TrainState, key: jax.Array, num: int, *, ema: bool = True) -> jax.Array:
    """`num` walks between pairs of latents, `FRAMES` examples each: `[num · FRAMES, *image_shape]`."""
    ends = latents(gan, key, 2 * num).reshape(num, 2, -1)
    paths = jax.vmap(lambda pair: interpolate(pair[0], pair[1], FRAMES))(ends)
    return generate(gan, state, paths.reshape(num * FRAMES, -1), ema=ema)


def write(images: np.ndarray, out: Path, columns: int | None = None) -> None:
    """Writes examples as one picture (`.png`) or as an array named `image` (`.npz`).

    Raises:
      UserError: if `out` has another ending, cannot be written, or the examples cannot be a picture.
    """
    if out.suffix not in (".png", ".npz"):
        raise UserError(f"--out={out}: must end in .png or .npz")
    if out.suffix == ".png" and images.ndim != 4:
        raise UserError(f"--out={out}: points of the plane are no picture; use .npz")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.suffix == ".npz":
            np.savez_compressed(out, image=images)
        else:
            pictures.save(pictures.grid(images, columns), out)
    except OSError as error:
        raise UserError(f"--out={out}: cannot be written: {error.strerror}") from None


def main() -> None:
    f = flags.FLAGS
    gan, state = restore(f.workdir)
    key = jax.random.key(f.seed)
    draw = walks if f.interpolate else sample
    images = draw(gan, state, key, f.num, ema=f.ema)
    write(np.asarray(images), Path(f.out), columns=FRAMES if f.interpolate else None)
    print(f"{len(images)} examples after {int(state.step):,} iterations: {f.out}")


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "The run's folder.")
    flags.DEFINE_integer("num", 64, "How many examples, or walks.", lower_bound=1)
    flags.DEFINE_string("out", "samples.png", "A .png or .npz file.")
    flags.DEFINE_integer("seed", 0, "Of the latents.", lower_bound=0)
    flags.DEFINE_bool("interpolate", False, "Walk from one latent to another, one walk a row.")
    flags.DEFINE_bool("ema", True, "Sample the generator's average, not the generator itself.")
    flags.mark_flag_as_required("workdir")
    command.use_compilation_cache()
    command.run(main)
