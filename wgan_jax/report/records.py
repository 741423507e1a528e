"""`metrics.jsonl`: one line per generator iteration, in order, each exactly once, whatever was killed when."""

import json
import os
from pathlib import Path
from typing import Any, Self

Record = dict[str, Any]


class Records:
    """Appends to a run's `metrics.jsonl`, after dropping what is beyond `step`: the resumed run writes it anew."""

    def __init__(self, workdir: Path, step: int):
        self.path = path(workdir)
        self.path.touch()
        os.truncate(self.path, _end(self.path, step))
        self._file = self.path.open("a", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, record: Record) -> None:
        """Appends one record; `record["step"]` is the number of iterations done."""
        self._file.write(json.dumps(record) + "\n")

    def flush(self) -> None:
        """Puts all records on the disk. A checkpoint must not be there before the records up to its step are."""
        self._file.flush()
        os.fsync(self._file.fileno())


def path(workdir: Path) -> Path:
    """Where a run's records are."""
    return workdir / "metrics.jsonl"


def read(workdir: Path) -> list[Record]:
    """All whole records of a run, in order."""
    with path(workdir).open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.endswith("\n")]


def _end(file: Path, step: int) -> int:
    """The length in bytes of the records up to `step`; a line that a kill cut short ends them too."""
    end = 0
    with file.open("rb") as lines:
        for line in lines:
            try:
                beyond = not line.endswith(b"\n") or json.loads(line)["step"] > step
            except (ValueError, KeyError, TypeError):
                beyond = True
            if beyond:
                break
            end += len(line)
    return end
