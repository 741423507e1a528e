"""TensorBoard events, written in this thread: a full disk is an error here, not a message from another thread."""

import time
from pathlib import Path
from typing import Self

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from wgan_jax.report.records import Record


class Events:
    """Appends a file to `workdir/tensorboard`; TensorBoard drops what earlier files hold beyond `step`."""

    def __init__(self, workdir: Path, step: int):
        folder = workdir / "tensorboard"
        folder.mkdir(exist_ok=True)
        # The writer names a file by the second; the number keeps one of the same second whole, and the two in order.
        self._writer = EventsWriter(str(folder / "events"), f".{len(list(folder.iterdir())):06}")
        # At step 0 too: a run that was killed before its first checkpoint has left points.
        self._write(Event(step=step + 1, session_log=SessionLog(status=SessionLog.START)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def write(self, record: Record) -> None:
        """Adds every metric of a record at its step."""
        for name, value in record.items():
            if name != "step":
                self._write(Event(step=record["step"], summary=scalar(name, value)))

    def flush(self) -> None:
        """Puts all events on the disk."""
        self._writer.flush()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._writer.write_event(event)
