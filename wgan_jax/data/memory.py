"""Encoded images, decoded once into memory where they fit, and looked at before a run relies on them."""

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
"""Images that are decoded in one go, in threads."""

NAMED = 10
"""Unreadable images that are named, at most."""

CGROUP = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")


def settle(source: ImageSource, *, cache: str, unreadable_fraction: float, processes: int = 1) -> Source:
    """Returns the source as a run reads it: without images that cannot be read, and from memory if it is kept there.

    Args:
      source: images that are decoded at every read.
      cache: "always" for memory, "never", or "auto": if they take at most half of the memory that is free.
      unreadable_fraction: how large a part of the images may be unreadable.
      processes: how many processes read these images. Those of one machine decode them once, and share the memory.

    Raises:
      UserError: if more of them cannot be read, naming them, or all of them.
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
    """Returns `size` bytes that `fill` has written, shared by the processes if that works; None if they do not fit."""
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
    """Bytes of the labels and flags of `num` images."""
    return 5 * num


def _parts(memory: np.ndarray, source: ImageSource) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns views: the labels `[N]` int32, which images are good `[N]` bool, and the images, `[N, ...]` or none."""
    label, good, image = np.split(memory, [4 * len(source), _size(len(source))])
    return label.view(np.int32), good.view(np.bool_), image.reshape(-1, *source.image_shape)


def _decode(
    source: ImageSource, label: np.ndarray, good: np.ndarray, image: np.ndarray, unreadable_fraction: float
) -> None:
    """Decodes every image; writes the labels, which images can be read, and, if `image` has room, these in a row."""
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
        raise UserError(f"{words}; mend them, or give other images in config.data.name")
    if len(bad) > allowed * len(source):
        raise UserError(
            f"{words}; mend or remove them, or allow a larger part than config.data.unreadable_fraction = {allowed}"
        )
    print(f"{words}; they are left out", file=sys.stderr, flush=True)


def available() -> int:
    """Returns the bytes of memory that this process may still take: of the machine, and of its control groups."""
    return min(int(psutil.virtual_memory().available), *_left_in_groups())


def _left_in_groups() -> Iterator[int]:
    """Yields what the limits of this process's control groups, of version 1 or 2, and of those above leave."""
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
            # A container may see its own group as the root, and no other; and the root itself has no limit.
            with contextlib.suppress(OSError, ValueError):
                yield int((root / place / limit).read_text()) - int((root / place / used).read_text())


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
