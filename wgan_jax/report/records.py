"""`metrics.jsonl`: one line per generator iteration, in order, each exactly once, whatever was killed when."""

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
    """Appends to a run's `metrics.jsonl`, after dropping what is beyond `step`: the resumed run writes it anew.

    A damaged line is left out, and said to `warn`; the records around it stay.
    """

    def __init__(self, workdir: Path, step: int, warn: Callable[[str], None] = say):
        self.path = path(workdir)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)
        try:
            lines = self.path.read_bytes().splitlines(keepends=True)
            good = _in_order(lines, step)
            _warn_of_gaps(self.path, [number for number, _ in good], step, warn)
            kept = b"".join(line for _, line in good)
            alone = os.fstat(descriptor).st_nlink == 1  # or else a backup may share the file
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
        """Ends writing."""
        self._file.close()

    def write(self, record: Record) -> None:
        """Appends one record; `record["step"]` is the number of iterations done."""
        self._file.write(json.dumps(record) + "\n")

    def flush(self) -> None:
        """Puts all records on the disk. A checkpoint must not be there before the records up to its step are."""
        self._file.flush()
        os.fsync(self._file.fileno())


def path(workdir: Path) -> Path:
    """Returns where a run's records are."""
    return workdir / "metrics.jsonl"


def read(workdir: Path) -> list[Record]:
    """Returns all whole records of a run, in order; a line that is none is passed over."""
    with path(workdir).open("rb") as lines:
        return [record for record in map(_parse, lines) if record]


def _parse(line: bytes) -> Record | None:
    """The record in a line; None if the line is cut short or damaged."""
    try:
        record = json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and type(record.get("step")) is int else None


def _in_order(lines: list[bytes], last: int) -> list[tuple[int, bytes]]:
    """The records up to the step `last`: number and line of each, as many as follow each other.

    They are the longest rising sequence, so a number that damage has changed costs no other record. Of two with one
    number, the one that follows or is followed in the file is right.
    """
    parsed = [(record["step"], line) for line in lines if (record := _parse(line)) and 0 < record["step"] <= last]
    steps = [step for step, _ in parsed]
    fitting = {i for i, step in enumerate(steps) if step - 1 in steps[i - 1 : i] or step + 1 in steps[i + 1 : i + 2]}
    often, fits = Counter(steps), Counter(steps[i] for i in fitting)
    records = [
        record for i, record in enumerate(parsed) if often[record[0]] == 1 or (i in fitting and fits[record[0]] == 1)
    ]
    ends: list[int] = []  # of the best sequence of each length, the smallest last step
    chosen: list[int] = []  # its record
    before: list[int] = []  # for each record, the one that it follows in its best sequence
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
