"""The order of a run: which iterations go into one compiled call."""

from collections.abc import Iterator
from typing import NamedTuple

from wgan_jax.schedule import CriticSchedule


class Segment(NamedTuple):
    """The iterations `[start, stop)`, done in one compiled call."""

    start: int
    stop: int


def segments(
    start: int, steps: int, length: int, schedule: CriticSchedule, intervals: tuple[int, ...]
) -> Iterator[Segment]:
    """Cuts `[start, steps)` into segments of at most `length` iterations.

    A segment ends where something must be done on the host, at each multiple of an interval, and before an
    iteration with another number of critic updates.
    """
    while start < steps:
        stop = min(start + length, steps, *(start + n - start % n for n in intervals))
        updates = schedule.updates(start)
        stop = next((s for s in range(start, stop) if schedule.updates(s) != updates), stop)
        yield Segment(start, stop)
        start = stop


def longest(steps: int, length: int, schedule: CriticSchedule, intervals: tuple[int, ...]) -> int:
    """Returns the length of the longest of a whole run's `segments`; none is longer wherever the run resumes."""
    bound, found = min(length, steps, *intervals), 0
    for start, stop in segments(0, steps, length, schedule, intervals):
        found = max(found, stop - start)
        if found == bound:
            break
    return found
