"""Saving and restoring a run's state with orbax."""

from pathlib import Path
from types import TracebackType
from typing import Self

import jax
from ml_collections import ConfigDict
from orbax.checkpoint import v1 as ocp

from wgan_jax import config as configs
from wgan_jax.errors import UserError
from wgan_jax.gan import Gan, build
from wgan_jax.state import TrainState, init_state


class Checkpointer:
    """The checkpoints of one run, under `workdir/checkpoints/<step>`; the newest `keep` stay.

    Writing goes on in the background; leaving the `with` block waits for it.
    """

    def __init__(self, workdir: Path, keep: int = 3):
        policies = ocp.training.preservation_policies
        self._checkpointer = ocp.training.Checkpointer(
            folder(workdir).absolute(), preservation_policy=policies.LatestN(keep)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._checkpointer.close()

    @property
    def latest(self) -> int | None:
        """The newest checkpoint's step; None if there is none."""
        newest = self._checkpointer.latest
        return None if newest is None else int(newest.step)

    def save(self, step: int, state: TrainState) -> None:
        """Copies the state to the host, and lets a thread write it while the run goes on."""
        self._checkpointer.save_async(step, state, force=True)

    def load(self, step: int, gan: Gan) -> TrainState:
        """The state at a step, on this process's first device."""
        return self._checkpointer.load(step, abstract_state(gan))


def folder(workdir: Path) -> Path:
    """Where a run's checkpoints are."""
    return workdir / "checkpoints"


def abstract_state(gan: Gan) -> TrainState:
    """Shapes, types and placement of a state, without its arrays."""
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shapes = jax.eval_shape(lambda key: init_state(gan, key), jax.random.key(0))
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), shapes)


def read_config(workdir: Path) -> ConfigDict:
    """The settings of the run in `workdir`.

    Raises:
      UserError: if there is no run, or its `config.json` cannot be read.
    """
    path = workdir / "config.json"
    if not path.is_file():
        raise UserError(
            f"{workdir} holds no run: {path} is missing; train one first: "
            f"python -m wgan_jax.train --config=… --workdir={workdir}"
        )
    try:
        return configs.from_json(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); restore it, or start in another workdir") from None


def restore(workdir: str | Path) -> tuple[Gan, TrainState]:
    """The GAN and the newest state of the run in `workdir`.

    Raises:
      UserError: if there is no run or no checkpoint.
    """
    workdir = Path(workdir)
    gan = build(read_config(workdir))
    with Checkpointer(workdir) as checkpointer:
        step = checkpointer.latest
        if step is None:
            raise UserError(f"{folder(workdir)} holds no checkpoint yet; start the run again to go on with it")
        return gan, checkpointer.load(step, gan)
