"""Decodes encoded images before a run starts, and keeps them in memory where they fit.

Decoding every image once also finds the unreadable ones before the run relies on them.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
from tqdm import tqdm

from wgan_jax.data import shared
from wgan_jax.data.arrays import ArraySource
from wgan_jax.data.digest import sha256
from wgan_jax.data.images import ImageSource, UnreadableError
from wgan_jax.data.source import Source
from wgan_jax.errors import UserError

CHUNK = 512
"""Number of images that the threads decode at a time."""

NAMED = 10
"""Largest number of unreadable images that a message names."""

CGROUP = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")


def settle(source: ImageSource, *, cache: str, unreadable_fraction: float, processes: int = 1) -> Source:
    """Returns the source that a run reads: without unreadable images, and in memory if they are cached.

    Args:
      source: images that are decoded at every read.
      cache: whether to keep the decoded images in memory: "always", "never", or "auto", which does so if they take at
        most half of the free memory.
      unreadable_fraction: largest fraction of the images that may be unreadable. They are left out.
      processes: number of processes that read these images. Processes on one machine decode them once, and share the
        memory.

    Raises:
      UserError: if a larger fraction of the images is unreadable, or all are. The message names the first of them.
    """
    num, pixels = len(source), len(source) * int(np.prod(source.image_shape))

    def fits(copies: int) -> bool:
        return cache == "always" or (cache == "auto" and 2 * pixels * copies <= available())

    def fill(memory: np.ndarray) -> None:
        _decode(source, *_parts(memory, source), unreadable_fraction)

    key = sha256([source.digest, repr(source.form), str(unreadable_fraction)]) if processes > 1 else ""
    memory = None
    if cache != "never":
        memory = _filled(f"{key}-decoded", _size(num) + pixels, fill, fits, processes)
    if memory is None and source.can_be_damaged:
        memory = _filled(f"{key}-checked", _size(num), fill, lambda copies: True, processes)
    if memory is None:
        return source
    label, good, image = _parts(memory, source)
    index = np.flatnonzero(good)
    whole = source.only(index)
    if not len(image):
        return whole
    return ArraySource(
        image[: len(index)],
        label[index] if source.num_classes else None,
        source.num_classes,
        rank=whole.rank,
        digest=whole.digest,
    )


def _filled(
    key: str, size: int, fill: Callable[[np.ndarray], None], fits: Callable[[int], bool], processes: int
) -> np.ndarray | None:
    """Returns `size` bytes that `fill` has written; None if they do not fit.

    The processes of one machine share them where the system allows it.
    """
    if processes > 1:
        try:
            return shared.once(key, size, fill, lambda: fits(1))
        except shared.NotSharedError as error:
            print(f"every process decodes the images for itself: {error}", file=sys.stderr, flush=True)
    if not fits(processes):
        return None
    memory = np.empty(size, np.uint8)
    fill(memory)
    return memory


def _size(num: int) -> int:
    """Returns the number of bytes that the labels and flags of `num` images take."""
    return 5 * num


def _parts(memory: np.ndarray, source: ImageSource) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns three views of `memory`: labels, flags and images.

    They are the labels `[N]` int32, whether each image is readable `[N]` bool, and the images uint8: `[N, ...]`, or
    `[0, ...]` if the memory has no room for them.
    """
    label, good, image = np.split(memory, [4 * len(source), _size(len(source))])
    return label.view(np.int32), good.view(np.bool_), image.reshape(-1, *source.image_shape)


def _decode(
    source: ImageSource, label: np.ndarray, good: np.ndarray, image: np.ndarray, unreadable_fraction: float
) -> None:
    """Decodes every image of a source, and writes the results into three arrays.

    Args:
      source: the N images.
      label: receives the labels, `[N]`.
      good: receives whether each image is readable, `[N]`.
      image: receives the readable images, one after another from the first row on, unless it has no rows.
      unreadable_fraction: largest fraction that may be unreadable.

    Raises:
      UserError: if a larger fraction of the images is unreadable, or all are.
    """
    bad, written = {}, 0
    with Counter("decoding images" if len(image) else "checking images", len(source)) as counter:
        for start in range(0, len(source), CHUNK):
            index = np.arange(start, min(start + CHUNK, len(source)))
            pixels, labels = source.attempt(index)
            if labels is not None:
                label[index] = labels
            for i, result in zip(index, pixels, strict=True):
                good[i] = not isinstance(result, UnreadableError)
                if isinstance(result, UnreadableError):
                    bad[int(i)] = result
                elif len(image):
                    image[written] = result
                    written += 1
            counter.add(len(index))
    if bad:
        _report(source, bad, unreadable_fraction)


def _report(source: ImageSource, bad: dict[int, UnreadableError], allowed: float) -> None:
    named = [f"{source.name(i)} ({error})" for i, error in list(bad.items())[:NAMED]]
    more = f", and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
    words = f"{len(bad)} of {len(source)} images cannot be read: {', '.join(named)}{more}"
    if len(bad) == len(source):
        raise UserError(f"{words}; fix them, or give other images in config.data.name")
    if len(bad) > allowed * len(source):
        raise UserError(
            f"{words}; fix or remove them, or allow a larger part than config.data.unreadable_fraction = {allowed}"
        )
    print(f"{words}; they are left out", file=sys.stderr, flush=True)


def available() -> int:
    """Returns the number of bytes of memory that this process may still take.

    Both the free memory of the machine and the limits of the control groups of this process count.
    """
    return min(int(psutil.virtual_memory().available), *_left_in_groups())


def _left_in_groups() -> Iterator[int]:
    """Yields the bytes that are left in each control group of this process and in the groups above it.

    The groups may be of version 1 or 2.
    """
    yield sys.maxsize
    try:
        groups = [line.split(":", 2) for line in OWN_GROUPS.read_text().splitlines()]
    except OSError:
        return
    for _, controllers, path in groups:
        if controllers and "memory" not in controllers.split(","):
            continue
        root = CGROUP / "memory" if controllers else CGROUP
        limit, used = (
            ("memory.limit_in_bytes", "memory.usage_in_bytes") if controllers else ("memory.max", "memory.current")
        )
        group = Path(path.lstrip("/"))
        for place in (group, *group.parents):
            # A container may see only its own group, as the root. The real root has no limit, and so no such files.
            with contextlib.suppress(OSError, ValueError):
                yield int((root / place / limit).read_text()) - int((root / place / used).read_text())


class Counter:
    """The progress of a long preparation: a bar on a terminal, and a line every ten seconds elsewhere.

    Args:
      what: what is being done, such as "decoding images".
      total: number of images.
    """

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
        """Reports that `count` more images are done."""
        self._done += count
        self._bar.update(count)
        if not self._terminal and time.monotonic() - self._line >= 10:
            self._line = time.monotonic()
            percent = 100 * self._done // self._total
            print(f"{self._what}: {self._done:,} of {self._total:,} ({percent} %)", file=sys.stderr, flush=True)
