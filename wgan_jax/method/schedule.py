"""The order of a run: critic updates in each generator iteration, and iterations in each compiled call."""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple


@dataclasses.dataclass(frozen=True)
class CriticSchedule:
    """`n_critic` updates an iteration, and more in those of a warm-up.

    WGAN's code gives the critic 100 updates while the iteration is below 25 and at every 500th
    (arXiv 1701.07875; `warmup=100, warmup_steps=25, warmup_every=500`).
    """

    n_critic: int = 5
    warmup: int = 0
    """Critic updates of a warm-up iteration; 0 turns the warm-up off."""
    warmup_steps: int = 25
    """The first iterations that are warm-up."""
    warmup_every: int = 500
    """Every so many iterations another one is; 0 for none."""

    def updates(self, step: int) -> int:
        """Critic updates of the generator iteration `step`, counted from 0."""
        every = self.warmup_every and step % self.warmup_every == 0
        return self.warmup if self.warmup and (step < self.warmup_steps or every) else self.n_critic

    def updates_before(self, step: int) -> int:
        """Critic updates of all iterations before `step`: where its first batch stands in the data."""
        if not self.warmup:
            return self.n_critic * step
        warm = min(step, self.warmup_steps)
        if self.warmup_every:
            multiples_below = lambda n: -(-n // self.warmup_every)  # noqa: E731
            warm += max(0, multiples_below(step) - multiples_below(self.warmup_steps))
        return self.n_critic * step + (self.warmup - self.n_critic) * warm


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
