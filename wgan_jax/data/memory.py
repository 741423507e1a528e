"""Encoded images, decoded once into memory where they fit, and looked at before a run relies on them."""

import sys
import time
from pathlib import Path

import numpy as np
import psutil
from tqdm import tqdm

from wgan_jax.data.images import ImageSource, UnreadableError
from wgan_jax.data.source import ArraySource, Source
from wgan_jax.errors import UserError

CHUNK = 512
"""Images that are decoded in one go, in threads."""

NAMED = 10
"""Unreadable images that are named, at most."""

CGROUP = Path("/sys/fs/cgroup")


def settle(source: ImageSource, *, cache: str, unreadable_fraction: float) -> Source:
    """The source as a run reads it: without the images that cannot be read, and from memory if it is kept there.

    Args:
      source: images that are decoded at every read.
      cache: "always" for memory, "never", or "auto": if they take at most half of the memory that is free.
      unreadable_fraction: how large a part of the images may be unreadable.

    Raises:
      UserError: if more of them cannot be read, naming them.
    """
    size = len(source) * int(np.prod(source.image_shape))
    keep = cache == "always" or (cache == "auto" and 2 * size <= available())
    if not keep and not source.can_be_damaged:
        return source
    image = np.empty((len(source), *source.image_shape), np.uint8) if keep else None
    good, label = _decode(source, image, unreadable_fraction)
    if image is None:
        return source.only(good)
    if len(good) < len(image):
        for new, old in enumerate(good):  # within the array: a copy might not fit
            image[new] = image[old]
    return ArraySource(image[: len(good)], None if label is None else label[good], source.num_classes)


def _decode(
    source: ImageSource, image: np.ndarray | None, unreadable_fraction: float
) -> tuple[np.ndarray, np.ndarray | None]:
    """Decodes every image, into `image` if it is given: which can be read, and all labels."""
    labels, bad = [], {}
    with Counter("decoding images" if image is not None else "checking images", len(source)) as counter:
        for start in range(0, len(source), CHUNK):
            index = np.arange(start, min(start + CHUNK, len(source)))
            pixels, label = source.attempt(index)
            if label is not None:
                labels.append(label)
            for i, result in zip(index, pixels, strict=True):
                if isinstance(result, UnreadableError):
                    bad[int(i)] = result
                elif image is not None:
                    image[i] = result
            counter.add(len(index))
    if bad:
        _report(source, bad, unreadable_fraction)
    good = np.setdiff1d(np.arange(len(source)), list(bad))
    return good, np.concatenate(labels) if labels else None


def _report(source: ImageSource, bad: dict[int, UnreadableError], allowed: float) -> None:
    named = [f"{source.name(i)} ({error})" for i, error in list(bad.items())[:NAMED]]
    more = f", and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
    words = f"{len(bad)} of {len(source)} images cannot be read: {', '.join(named)}{more}"
    if len(bad) > allowed * len(source):
        raise UserError(
            f"{words}; mend or remove them, or allow a larger part than config.data.unreadable_fraction = {allowed}"
        )
    print(f"{words}; they are left out", file=sys.stderr, flush=True)


def available() -> int:
    """Bytes of memory that are free for this process: of the machine, and of its control group if that has a limit."""
    free = int(psutil.virtual_memory().available)
    try:
        limit, used = ((CGROUP / name).read_text().strip() for name in ("memory.max", "memory.current"))
        return free if limit == "max" else min(free, int(limit) - int(used))
    except (OSError, ValueError):
        return free


class Counter:
    """How far a long preparation is: a bar on a terminal, elsewhere a line every ten seconds."""

    def __init__(self, what: str, total: int):
        self._what, self._total, self._done = what, total, 0
        self._line = time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._bar = tqdm(desc=what, total=total, unit="image", disable=not self._terminal, dynamic_ncols=True)

    def __enter__(self) -> "Counter":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def add(self, count: int) -> None:
        """Says that so many more are done."""
        self._done += count
        self._bar.update(count)
        if not self._terminal and time.monotonic() - self._line >= 10:
            self._line = time.monotonic()
            percent = 100 * self._done // self._total
            print(f"{self._what}: {self._done:,} of {self._total:,} ({percent} %)", file=sys.stderr, flush=True)
