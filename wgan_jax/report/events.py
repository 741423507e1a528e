"""TensorBoard events.

They are written in the calling thread, so that a full disk raises an error here, not in a background thread.
"""

import time
from pathlib import Path
from typing import Self

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from wgan_jax.report.records import Record


class Events:
    """A writer of one more event file in `workdir/tensorboard`.

    TensorBoard ignores the events after iteration `step` in earlier files, because the resumed run writes them again.

    Args:
      workdir: folder of the run.
      step: number of iterations done; 0 for a new run.
    """

    def __init__(self, workdir: Path, step: int):
        folder = workdir / "tensorboard"
        folder.mkdir(exist_ok=True)
        # The writer puts the time in seconds into the name. The number tells files of the same second apart, in order.
        self._writer = EventsWriter(str(folder / "events"), f".{len(list(folder.iterdir())):06}")
        # Needed at step 0 too: a run that was killed before its first checkpoint has left events.
        self._write(Event(step=step + 1, session_log=SessionLog(status=SessionLog.START)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def write(self, record: Record) -> None:
        """Writes every metric of a record, at the step of the record."""
        for name, value in record.items():
            if name != "step":
                self._write(Event(step=record["step"], summary=scalar(name, value)))

    def flush(self) -> None:
        """Writes all events through to the disk."""
        self._writer.flush()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._writer.write_event(event)
