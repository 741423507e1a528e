"""What a person sees while a run goes on."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Self, TypeVar

from tqdm import tqdm

T = TypeVar("T")

LINE_SECONDS = 10.0
"""Where the output is no terminal, a line is written this often."""


class Progress:
    """A bar on a terminal; elsewhere (a log file) a line now and then: iteration, estimate, images/s, time left.

    With the share of the time, since the start, that the run has waited for data.
    """

    def __init__(self, start: int, steps: int):
        self._terminal = sys.stderr.isatty()
        self._start, self._steps = start, steps
        self._images = 0
        self._waited = 0.0
        self._began = self._line = time.monotonic()
        self._bar = tqdm(total=steps, initial=start, unit="it", disable=not self._terminal, dynamic_ncols=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def waiting(self, stream: Iterable[T]) -> Iterator[T]:
        """The items of a stream; the time that the run waits for them is shown as a share of its whole time."""
        items = iter(stream)
        while True:
            began = time.monotonic()
            item = next(items, None)
            self._waited += time.monotonic() - began
            if item is None:
                return
            yield item

    def update(self, step: int, images: int, estimate_name: str, estimate: float) -> None:
        """Says that `step` iterations are done, `images` real images later than at the last call."""
        self._images += images
        now = time.monotonic()
        seconds = max(now - self._began, 1e-9)
        shown = {
            estimate_name: f"{estimate:.4f}",
            "images/s": f"{self._images / seconds:,.0f}",
            "waiting for data": f"{100 * self._waited / seconds:.1f} %",
        }
        if self._terminal:
            self._bar.set_postfix(shown, refresh=False)
            self._bar.update(step - self._bar.n)
        elif now - self._line >= LINE_SECONDS or step == self._steps:
            self._line = now
            left = (self._steps - step) * seconds / max(step - self._start, 1)
            values = "  ".join(f"{name} {value}" for name, value in shown.items())
            percent = 100 * step // self._steps
            print(
                f"iteration {step:,} of {self._steps:,} ({percent} %)  {values}  {tqdm.format_interval(left)} left",
                file=sys.stderr,
                flush=True,
            )
