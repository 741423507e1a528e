"""A run as a tuple of stages: what each iteration trains, and on batches of which size.

Most runs have one stage. In one that grows its networks, a stage begins with the arrays of the stage before it that it
has too, and with new ones: see `grow`.
"""

import itertools
from typing import NamedTuple

from wgan_jax.method.gan import Gan
from wgan_jax.method.state import TrainState, init_state, named_arrays, with_arrays


class Stage(NamedTuple):
    """The iterations `[start, stop)` of a run."""

    gan: Gan
    batch_size: int
    """Real examples per critic update, over all devices."""
    start: int
    stop: int


Stages = tuple[Stage, ...]


def check_stages(stages: Stages, steps: int) -> None:
    """Raises `ValueError` if stages do not follow one another from iteration 0 to `steps`, or a batch has no size."""
    spans = [(stage.start, stage.stop) for stage in stages]
    ends = [0, *(stop for _, stop in spans)]
    if not stages or ends[-1] != steps or ends != sorted(set(ends)) or spans != list(itertools.pairwise(ends)):
        raise ValueError(f"stages of iterations {spans}: must follow one another from 0 to {steps}")
    for stage in stages:
        if type(stage.batch_size) is not int or stage.batch_size < 1:
            raise ValueError(f"a stage's batch_size = {stage.batch_size!r}: must be an int, and at least 1")


def stage_of(stages: Stages, step: int) -> Stage:
    """Returns the stage of the iteration `step`, counted from 0; of an iteration beyond the run's, the last stage."""
    return next((stage for stage in stages if step < stage.stop), stages[-1])


def stage_after(stages: Stages, step: int) -> Stage:
    """Returns the stage whose arrays the state has after `step` iterations: the last of these is in it.

    Where one stage ends and another begins, it is the one that ends: that state has not grown yet.
    """
    return stage_of(stages, max(step - 1, 0))


def examples_before(stages: Stages, step: int) -> int:
    """Counts the real examples of all iterations before `step`: where its first batch stands in the data."""
    return sum(
        stage.batch_size
        * (stage.gan.schedule.updates_before(min(step, stage.stop)) - stage.gan.schedule.updates_before(stage.start))
        for stage in stages
        if stage.start < step
    )


def grow(state: TrainState, gan: Gan) -> TrainState:
    """Returns the state in which a GAN goes on from that of another.

    An array whose name, shape and type both have is kept: a parameter, a running statistic, a part of the generator's
    average or of an optimizer's state; so are the step and the key. Any other begins as `init_state` has it.
    """
    old, new = named_arrays(state), init_state(gan, state.key)
    kept = {
        name: old[name]
        for name, x in named_arrays(new).items()
        if name in old and (old[name].shape, old[name].dtype) == (x.shape, x.dtype)
    }
    return with_arrays(new, kept)
