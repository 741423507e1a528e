"""Decides whether a run may go on in a folder with these settings, data and devices.

Each refusal, and each change that matters to the result, is one line. Nothing is written before all is checked.
"""

import dataclasses
import shlex
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from wgan_jax.config.optimizers import learning_rate
from wgan_jax.config.settings import to_json
from wgan_jax.errors import UserError, say
from wgan_jax.method.stages import Stages
from wgan_jax.method.state import TrainState, init_state
from wgan_jax.run import checkpoint, differences, identity, origin
from wgan_jax.run.identity import Identity, Origin
from wgan_jax.run.workdir import CONFIG, holds_run, read_config, update


@dataclasses.dataclass(frozen=True)
class Options:
    """Wishes of a command besides the settings. The command `wgan_jax.train` has a flag for each."""

    init_from: Path | None = None
    """The run whose networks a new run begins with."""
    step: str = "latest"
    """The checkpoint of that run: a number, `best` or `latest`."""
    init_optimizer: bool = False
    """Whether the state of its optimizers is taken too."""
    reschedule: bool = False
    """Whether learning rates may jump to those of another number of iterations."""
    allow_other_data: bool = False
    """Whether the run may go on with other examples than it had so far."""

    def __post_init__(self) -> None:
        if not self.init_from and (self.step != "latest" or self.init_optimizer):
            raise UserError(
                "--step and --init_optimizer: they are about the run that --init_from=WORKDIR names; add it, or leave "
                "them out"
            )


class Run:
    """A run in its folder, and the settings and data that it is to go on with.

    Raises:
      UserError: if the folder holds a run with other settings, other data or another origin.
    """

    def __init__(self, workdir: Path, config: ConfigDict, fingerprint: dict[str, Any], options: Options):
        self.workdir, self.config, self.options = workdir, config, options
        self.before: ConfigDict | None = None
        """The settings so far; None for a new run."""
        self.new_origin = False
        """Whether the networks of another run are in no checkpoint of this one yet."""
        self._notes: list[str] = []
        known = None
        if holds_run(workdir):
            self.before, known = read_config(workdir), identity.read(workdir)
            self._check_settings(self.before)
            self._check_data(self.before, known, fingerprint)
            self._check_origin(known)
        else:
            identity.refuse_foreign(workdir)
        self.identity = dataclasses.replace(known, data=fingerprint) if known else Identity(fingerprint)

    def state(self, stages: Stages) -> TrainState:
        """Returns the state to go on from: a checkpoint's, or the first one.

        Raises:
          UserError: if `config.steps` cannot be reached from it, or only by a jump of a learning rate.
        """
        found = checkpoint.newest(self.workdir, stages, warn=say)
        if found:
            done, state = found
            if self.before is not None:
                check_steps(self.before, self.config, done, self.options.reschedule)
            self._check_stages(stages, done)
            return state
        self._record_stages(stages)
        gan = stages[0].gan
        key, options, known = jax.random.key(self.config.seed), self.options, self.identity.origin
        self.new_origin = bool(known or options.init_from)
        if known and (not options.init_from or _same_origin(known, options)):
            try:
                return origin.begin(gan, key, Path(known.workdir), str(known.step), known.optimizer)[1]
            except UserError as error:
                if not options.init_from:
                    there = shlex.quote(known.workdir)
                    raise UserError(
                        f"{self.workdir} has no checkpoint yet, and where it began is not there any more ({error}); "
                        f"add --init_from={there} to begin with its newest one"
                    ) from None
        if not options.init_from:
            return init_state(gan, key)
        known, state = origin.begin(gan, key, options.init_from, options.step, options.init_optimizer)
        self.identity = dataclasses.replace(self.identity, origin=known)
        return state

    def record(self, step: int) -> None:
        """Writes the settings and the identity, now that all is checked, and tells what has changed.

        Args:
          step: iterations done.
        """
        if step < self.config.steps:
            here = {"step": step, "steps": self.config.steps} | identity.environment(self.config)
            if step and self.identity.starts:
                changed = differences.of_environments(self.identity.starts[-1], here)
                if changed:
                    self._notes.append(f"no longer bit for bit as a run on one of them alone: {'; '.join(changed)}")
            self.identity = self.identity.started(here)
        changed = list(differences.of_settings(self.before, self.config).values()) if self.before is not None else []
        if changed:
            print(f"going on with other settings: {'; '.join(changed)}", flush=True)
        for note in self._notes:
            say(f"{self.workdir}: {note}")
        identity.write(self.workdir, self.identity)
        update(self.workdir / CONFIG, to_json(self.config))

    def _check_settings(self, before: ConfigDict) -> None:
        free = (*differences.FREE, *differences.DATA, "steps")
        lines = [
            line
            for key, line in differences.of_settings(before, self.config).items()
            if not differences.within(key, free)
        ]
        if lines:
            raise UserError(
                f"{self.workdir} holds a run with other settings: {'; '.join(lines)}; use those, or another workdir, "
                f"where --init_from={shlex.quote(str(self.workdir))} begins with this run's networks"
            )

    def _check_data(self, before: ConfigDict, known: Identity | None, fingerprint: dict[str, Any]) -> None:
        if known:
            lines = differences.of_data(known.data, fingerprint)
        else:
            self._notes.append("the data and versions of this run were not recorded so far; now they are")
            changed = differences.of_settings(before, self.config)
            lines = [line for key, line in changed.items() if differences.within(key, differences.DATA)]
        if not lines:
            return
        if not self.options.allow_other_data:
            raise UserError(
                f"{self.workdir} holds a run on other data: {'; '.join(lines)}; use those, or add --allow_other_data "
                "to go on with these"
            )
        self._notes.append(f"going on with other data: {'; '.join(lines)}")

    def _check_stages(self, stages: Stages, done: int) -> None:
        """Raises `UserError` if the iterations that are done had other batches or stages; notes the stages to come."""
        known = self.identity.stages or ((self.config.batch_size, 0, self.config.steps),)
        given = tuple((stage.batch_size, stage.start, stage.stop) for stage in stages)
        there, here = (
            [(size, start, min(stop, done)) for size, start, stop in spans if start < done] for spans in (known, given)
        )
        if there != here:
            raise UserError(
                f"{self.workdir} holds a run with other stages, as (batch size, start, stop): {there} there, {here} "
                "here; go on in Python with `train(config, workdir, stages=…)` and those, or use another workdir"
            )
        self._record_stages(stages)

    def _record_stages(self, stages: Stages) -> None:
        given = tuple((stage.batch_size, stage.start, stage.stop) for stage in stages)
        of_config = given == ((self.config.batch_size, 0, self.config.steps),)
        self.identity = dataclasses.replace(self.identity, stages=None if of_config else given)

    def _check_origin(self, known: Identity | None) -> None:
        asked, there = self.options, known.origin if known else None
        if not asked.init_from or (there and not checkpoint.steps(self.workdir)):
            return
        if not (there and _same_origin(there, asked)):
            began = f"from iteration {there.step:,} of {there.workdir}" if there else "with networks of its own"
            optimizer = ", with its optimizers' state," if there and there.optimizer else ""
            raise UserError(
                f"--init_from={asked.init_from}: {self.workdir} holds a run that began {began}{optimizer} already; "
                "leave --init_from out to go on with it, or use another workdir"
            )


def _same_origin(there: Origin, asked: Options) -> bool:
    """Tells whether the options ask for the run and checkpoint that a run began with."""
    return (
        asked.init_from is not None
        and asked.init_from.resolve() == Path(there.workdir)
        and asked.step in ("latest", "best", str(there.step))
        and asked.init_optimizer <= there.optimizer
    )


def check_steps(before: ConfigDict, config: ConfigDict, done: int, reschedule: bool) -> None:
    """Checks that a run of `before.steps` iterations, of which some are done, can go on to `config.steps`.

    Raises:
      UserError: if more are done already, or a learning rate depends on the number and nobody asked for its jump.
    """
    if config.steps < done:
        raise UserError(
            f"config.steps = {config.steps}: {done:,} iterations are done already; use at least {done}, or another "
            "workdir"
        )
    if config.steps == before.steps or not done or reschedule:
        return
    jumps = []
    for name in ("critic", "generator"):
        optimizer = config[name].optimizer
        old, new = (
            float(learning_rate(optimizer.learning_rate, optimizer.schedule, steps)(done))
            for steps in (before.steps, config.steps)
        )
        if old != new:
            jumps.append(f"config.{name}.optimizer's from {old:.3g} to {new:.3g}")
    if jumps:
        raise UserError(
            f"config.steps = {config.steps}: the learning rates decay to 0 at iteration {before.steps:,}, where this "
            f"run was to end; to end at {config.steps:,}, they would jump after iteration {done:,}, "
            f"{' and '.join(jumps)}; add --reschedule to go on so, or use --config.steps={before.steps}"
        )
