"""The progress of a run, shown while it trains."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Self, TypeVar

from tqdm import tqdm

T = TypeVar("T")

LINE_SECONDS = 10.0
"""Seconds between two lines of progress if the output is not a terminal."""


class Progress:
    """A progress bar on a terminal, or a line every `LINE_SECONDS` elsewhere, such as in a log file.

    It shows the iteration, the estimate, images per second, the time left, and the percentage of the time since the
    start that the run has waited for data.

    Args:
      start: number of iterations done when this run starts.
      steps: number of iterations at its end.
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
        """Yields the items of a stream, and measures how long the run waits for them.

        None ends the stream.
        """
        items = iter(stream)
        while True:
            began = time.monotonic()
            item = next(items, None)
            self._waited += time.monotonic() - began
            if item is None:
                return
            yield item

    def update(self, step: int, images: int, estimate_name: str, estimate: float) -> None:
        """Shows the progress.

        Args:
          step: number of iterations done.
          images: number of real images that the run has trained on since the last call.
          estimate_name: name of the estimate.
          estimate: its value.
        """
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
