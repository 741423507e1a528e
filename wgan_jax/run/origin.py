"""The start of a new run with the networks of another run."""

from pathlib import Path

import jax

from wgan_jax.config import stages
from wgan_jax.config.settings import digest
from wgan_jax.errors import UserError, say
from wgan_jax.method.gan import Gan
from wgan_jax.method.state import TrainState, init_state, named_arrays, with_arrays
from wgan_jax.run import checkpoint
from wgan_jax.run.identity import Origin
from wgan_jax.run.workdir import read_config

NETWORKS = ("generator/variables/", "critic/variables/", "ema/")
"""Beginnings of the names in `named_arrays` that belong to the networks.

They are the parameters, the statistics, and the average of the generator.
"""
CONSTRAINT = ("critic/constraint",)
"""Beginning of the names in `named_arrays` that belong to the state of the constraint, which may be one array."""
OPTIMIZERS = ("generator/opt_state", "critic/opt_state")
"""Beginnings of the names in `named_arrays` that belong to the optimizers."""


def begin(gan: Gan, key: jax.Array, workdir: Path, step: str, optimizer: bool) -> tuple[Origin, TrainState]:
    """Returns the origin of a new run, and its state before the first step, with the networks of the other run.

    Args:
      gan: GAN of the new run.
      key: random key of the new run, `jax.random.key(seed)`.
      workdir: folder of the other run.
      step: checkpoint of the other run: a number, `best` or `latest`.
      optimizer: whether to take the state of the optimizers too.

    Raises:
      UserError: if the other run or its checkpoint does not exist, or if its arrays have other names, types or shapes;
        the message names the first of them.
    """
    config = read_config(workdir)
    if not checkpoint.steps(workdir):
        raise UserError(f"--init_from={workdir}: no checkpoint is there yet; wait for its first one")
    number, theirs = checkpoint.choose(workdir, stages(config), step, config.report.best, warn=say)
    names = NETWORKS + (OPTIMIZERS if optimizer else ())
    state = _with_arrays(init_state(gan, key), theirs, names, f"--init_from={workdir}")
    return Origin(str(workdir.resolve()), number, digest(config).hex(), optimizer), state


def _with_arrays(state: TrainState, theirs: TrainState, names: tuple[str, ...], flag: str) -> TrainState:
    """Returns `state` with the arrays of `theirs` whose names begin with one of `names`.

    The state of the constraint is taken too if both runs have the same; that of another constraint begins anew.
    """
    constraints = [_forms(s, CONSTRAINT) for s in (theirs, state)]
    if constraints[0] == constraints[1]:
        names += CONSTRAINT
    elif constraints[1]:
        say(f"{flag}: its constraint has another state than this run's, which begins anew")
    forms = (_forms(s, names) for s in (theirs, state))
    different, shown = checkpoint.differences(*forms)
    if different:
        if all(n.startswith(OPTIMIZERS) for n in different):
            raise UserError(f"{flag}: its optimizers differ: {shown}; leave --init_optimizer out")
        raise UserError(f"{flag}: its networks differ: {shown}; use the settings of that run's networks")
    taken = {n: x for n, x in named_arrays(theirs).items() if n.startswith(names)}
    return with_arrays(state, taken)


def _forms(state: TrainState, names: tuple[str, ...]) -> dict[str, str]:
    """Returns type and shape of the arrays whose names begin with one of `names`."""
    return {name: form for name, form in checkpoint.describe(state).items() if name.startswith(names)}
