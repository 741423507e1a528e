"""Reads TensorBoard event files without TensorFlow: length, checksum, protocol buffer, checksum."""

import struct
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event, SessionLog


def events(path: Path) -> list[Event]:
    """Every event of one file, in order."""
    data, position, found = path.read_bytes(), 0, []
    while position < len(data):
        (length,) = struct.unpack_from("<Q", data, position)
        found.append(Event.FromString(data[position + 12 : position + 12 + length]))
        position += 12 + length + 4
    return found


def scalars(folder: Path) -> dict[tuple[str, int], float]:
    """Every scalar that TensorBoard shows of a folder, by name and step.

    It reads the files in the order of their names. A START event drops what was read at its step and beyond
    (`EventAccumulator._CheckForRestartAndMaybePurge`).
    """
    values: dict[tuple[str, int], float] = {}
    for path in sorted(folder.glob("*tfevents*")):
        for event in events(path):
            if event.session_log.status == SessionLog.START:
                values = {(name, step): value for (name, step), value in values.items() if step < event.step}
            for value in event.summary.value:
                values[value.tag, event.step] = value.simple_value
    return values
