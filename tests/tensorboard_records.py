"""Reads TensorBoard event files without TensorFlow: length, checksum, protocol buffer, checksum."""

import struct
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event


def scalars(folder: Path) -> dict[tuple[str, int], float]:
    """Every scalar of a folder's event files by name and step."""
    values = {}
    for path in folder.glob("events.*"):
        data = path.read_bytes()
        position = 0
        while position < len(data):
            (length,) = struct.unpack_from("<Q", data, position)
            event = Event.FromString(data[position + 12 : position + 12 + length])
            position += 12 + length + 4
            for value in event.summary.value:
                values[value.tag, event.step] = value.simple_value
    return values
