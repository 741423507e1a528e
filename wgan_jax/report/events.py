"""TensorBoard events."""

from pathlib import Path

from tensorboardX import SummaryWriter

from wgan_jax.report.records import Record


class Events(SummaryWriter):
    """Events under `workdir/tensorboard`; those that an earlier start wrote beyond `step` are hidden."""

    def __init__(self, workdir: Path, step: int):
        super().__init__(str(workdir / "tensorboard"), purge_step=step + 1 if step else None)

    def write(self, record: Record) -> None:
        """Adds every metric of a record at its step."""
        for name, value in record.items():
            if name != "step":
                self.add_scalar(name, value, record["step"])
