"""The order of a run: critic updates in each generator iteration, and iterations in each compiled call."""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple


@dataclasses.dataclass(frozen=True)
class CriticSchedule:
    """The number of critic updates: `n_critic` in each iteration, and more in those of a warm-up.

    WGAN's code gives the critic 100 updates while the iteration is below 25 and at every 500th
    (arXiv 1701.07875; `warmup=100, warmup_steps=25, warmup_every=500`).
    """

    n_critic: int = 5
    warmup: int = 0
    """Number of critic updates in a warm-up iteration; 0 turns the warm-up off."""
    warmup_steps: int = 25
    """Number of iterations at the beginning that are warm-up."""
    warmup_every: int = 500
    """Interval of further warm-up iterations; 0 for none."""

    def updates(self, step: int) -> int:
        """Returns the number of critic updates in the generator iteration `step`, counted from 0."""
        every = self.warmup_every and step % self.warmup_every == 0
        return self.warmup if self.warmup and (step < self.warmup_steps or every) else self.n_critic

    def updates_before(self, step: int) -> int:
        """Returns the number of critic updates before iteration `step`: the place of its first batch in the data."""
        if not self.warmup:
            return self.n_critic * step
        warm = min(step, self.warmup_steps)
        if self.warmup_every:
            multiples_below = lambda n: -(-n // self.warmup_every)  # noqa: E731
            warm += max(0, multiples_below(step) - multiples_below(self.warmup_steps))
        return self.n_critic * step + (self.warmup - self.n_critic) * warm


class Segment(NamedTuple):
    """The iterations `[start, stop)`, which one compiled call does."""

    start: int
    stop: int


def segments(
    start: int, steps: int, length: int, schedule: CriticSchedule, intervals: tuple[int, ...]
) -> Iterator[Segment]:
    """Cuts `[start, steps)` into segments of at most `length` iterations.

    A segment ends at each multiple of an interval, where the host has something to do, and before an iteration with
    another number of critic updates.
    """
    while start < steps:
        stop = min(start + length, steps, *(start + n - start % n for n in intervals))
        updates = schedule.updates(start)
        stop = next((s for s in range(start, stop) if schedule.updates(s) != updates), stop)
        yield Segment(start, stop)
        start = stop


def longest(steps: int, length: int, schedule: CriticSchedule, intervals: tuple[int, ...], start: int = 0) -> int:
    """Returns the length of the longest of a whole run's `segments`; none is longer wherever the run resumes.

    Args:
      steps: the number of iterations, or the last one's successor in a stage that begins at `start`.
      length: the most iterations of a segment.
      schedule: the critic's.
      intervals: whose multiples end a segment.
      start: the first iteration.
    """
    bound, found = min(length, steps - start, *intervals), 0
    for first, stop in segments(start, steps, length, schedule, intervals):
        found = max(found, stop - first)
        if found == bound:
            break
    return found
