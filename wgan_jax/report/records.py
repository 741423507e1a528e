"""The records of a run, in `metrics.jsonl`: one line for each generator iteration.

The lines are in order, and every iteration has exactly one, no matter when the run was killed and resumed.
"""

import bisect
import itertools
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from wgan_jax.errors import say
from wgan_jax.files import write_atomically

Record = dict[str, Any]


class Records:
    """A writer that appends records to the `metrics.jsonl` of a run.

    Opening it removes all records after iteration `step`, because the resumed run writes them again. It also removes
    damaged lines, and keeps the records around them.

    Args:
      workdir: folder of the run.
      step: number of iterations done; 0 for a new run.
      warn: function that receives a line about the iterations whose records are damaged or missing, if there are any.
    """

    def __init__(self, workdir: Path, step: int, warn: Callable[[str], None] = say):
        self.path = path(workdir)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)
        try:
            lines = self.path.read_bytes().splitlines(keepends=True)
            good = _in_order(lines, step)
            _warn_of_gaps(self.path, [number for number, _ in good], step, warn)
            kept = b"".join(line for _, line in good)
            alone = os.fstat(descriptor).st_nlink == 1  # otherwise a backup may share the file through a hard link
            if alone and b"".join(lines).startswith(kept):
                os.ftruncate(descriptor, len(kept))
            else:
                write_atomically(self.path, kept)
                os.close(descriptor)
                descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
        except BaseException:
            os.close(descriptor)
            raise
        self._file = os.fdopen(descriptor, "a", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def write(self, record: Record) -> None:
        """Appends one record; `record["step"]` is the number of iterations done."""
        self._file.write(json.dumps(record) + "\n")

    def flush(self) -> None:
        """Writes all records through to the disk.

        Call it before a checkpoint is written: the records up to its step must be on the disk first.
        """
        self._file.flush()
        os.fsync(self._file.fileno())


def path(workdir: Path) -> Path:
    """Returns the path of a run's records."""
    return workdir / "metrics.jsonl"


def read(workdir: Path) -> list[Record]:
    """Returns all records of a run, in order, and skips lines that are damaged or cut short."""
    with path(workdir).open("rb") as lines:
        return [record for record in map(_parse, lines) if record]


def _parse(line: bytes) -> Record | None:
    """Parses the record in a line; returns None if the line is cut short or damaged."""
    try:
        record = json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and type(record.get("step")) is int else None


def _in_order(lines: list[bytes], last: int) -> list[tuple[int, bytes]]:
    """Returns the step and the line of each good record up to step `last`, in rising order of the steps.

    They are the longest rising sequence of records in the file, so a step that damage has changed costs only its own
    record. Of two records with the same step, the right one follows the record of the step before in the file, or is
    followed by the record of the step after.
    """
    parsed = [(record["step"], line) for line in lines if (record := _parse(line)) and 0 < record["step"] <= last]
    steps = [step for step, _ in parsed]
    fitting = {i for i, step in enumerate(steps) if step - 1 in steps[i - 1 : i] or step + 1 in steps[i + 1 : i + 2]}
    often, fits = Counter(steps), Counter(steps[i] for i in fitting)
    records = [
        record for i, record in enumerate(parsed) if often[record[0]] == 1 or (i in fitting and fits[record[0]] == 1)
    ]
    ends: list[int] = []  # smallest last step among the rising sequences of each length
    chosen: list[int] = []  # index of the record with that step
    before: list[int] = []  # for each record, the index of the one before it in its longest sequence, or -1
    for i, (step, _) in enumerate(records):
        length = bisect.bisect_left(ends, step)
        before.append(chosen[length - 1] if length else -1)
        ends[length : length + 1], chosen[length : length + 1] = [step], [i]
    kept, i = [], chosen[-1] if chosen else -1
    while i >= 0:
        kept.append(records[i])
        i = before[i]
    return kept[::-1]


def _warn_of_gaps(file: Path, there: list[int], last: int, warn: Callable[[str], None]) -> None:
    ends = [0, *there, last + 1]
    gaps = [(a + 1, b - 1) for a, b in itertools.pairwise(ends) if b > a + 1]
    if gaps:
        names = ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in gaps)
        warn(f"{file}: the records of iterations {names} are damaged or missing; the others are kept")
