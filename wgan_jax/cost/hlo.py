"""Arithmetic, memory traffic and collectives of a compiled program, read from its HLO text.

XLA's own cost analysis counts the body of a loop once. Here it counts once for each iteration, if the number of
iterations is in the text. If it is decided at run time, the body counts once. All branches of a conditional count,
although only one of them runs. A step that is lowered for one platform has no conditionals.
"""

import collections
import functools
import itertools
import math
import re
from collections.abc import Iterator
from typing import NamedTuple

COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)
FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call", "after-all"}
"""Instructions that move no data themselves."""

BITS = {"pred": 8, "token": 0, "bf16": 16}
"""Bits of the types for which this number is not read from the name."""


PASSES = {"high": 3, "highest": 6}
"""Passes in bfloat16 that a TPU needs for a float32 product at these precisions (`jax.lax.Precision`).

At every other precision it needs one pass.
"""


class Shape(NamedTuple):
    """Type, shape and memory space of an array."""

    bits: int
    dimensions: tuple[int, ...]
    memory: int
    """Memory space: 0 is the main memory. The others are on the chip."""

    @property
    def size(self) -> int:
        """Size of the array in bytes."""
        return math.prod(self.dimensions) * self.bits // 8


class Instruction(NamedTuple):
    """One instruction of a computation, which is one line of the text."""

    name: str
    shapes: list[Shape]
    """Shapes of the result. A tuple has several."""
    opcode: str
    operands: list[str]
    attributes: str

    def attribute(self, pattern: str) -> str:
        """Searches the attributes for a pattern. Returns the text of its first group, or "" if it is not found."""
        found = re.search(pattern, self.attributes)
        return found.group(1) if found else ""


class Collective(NamedTuple):
    """One collective operation, which exchanges data between devices."""

    kind: str
    bytes: int
    """Bytes of its result on one device."""
    times: int
    """Number of times that it runs in one run of the program."""


class Program:
    """Compiled program, parsed from its `as_text()`."""

    def __init__(self, text: str):
        self._computations: dict[str, dict[str, Instruction]] = {}
        here: dict[str, Instruction] = {}
        for line in text.splitlines():
            if line.endswith("{") and not line.startswith(" ") and (name := re.match(r"(?:ENTRY )?%?([^\s(]+) ", line)):
                here = self._computations[name.group(1)] = {}
                if line.startswith("ENTRY"):
                    self._entry = name.group(1)
            elif instruction := _parse(line):
                here[instruction.name] = instruction

    @property
    def flops(self) -> int:
        """Number of multiplications and additions in all matrix products and convolutions."""
        return sum(times * self._flops(name, i) for name, i, times in self._all(fused=True))

    @property
    def bfloat16_flops(self) -> int:
        """Number of operations on a TPU: `flops`, with each product times the passes in bfloat16 that it needs."""
        return sum(times * self._flops(name, i) * self._passes(name, i) for name, i, times in self._all(fused=True))

    @property
    def bytes(self) -> int:
        """Bytes that all operations read from the main memory and write to it.

        It is an upper bound for operations that read only parts of their operands.
        """
        return sum(times * self._bytes(name, i) for name, i, times in self._all(fused=False))

    @property
    def collectives(self) -> list[Collective]:
        """Collective operations of the program."""
        return [
            Collective(i.opcode.removesuffix("-start"), sum(shape.size for shape in i.shapes), times)
            for _, i, times in self._all(fused=True)
            if i.opcode.removesuffix("-start") in COLLECTIVES
        ]

    def _all(self, fused: bool) -> Iterator[tuple[str, Instruction, int]]:
        """Yields each instruction that runs, as (name of its computation, instruction, number of runs).

        `fused` says whether the instructions inside fusions are included.
        """
        for name, times in self._runs(fused).items():
            for instruction in self._computations[name].values():
                yield name, instruction, times

    def _runs(self, fused: bool) -> dict[str, int]:
        runs: dict[str, int] = collections.Counter()
        ahead = [(self._entry, 1)]
        while ahead:
            name, times = ahead.pop()
            runs[name] += times
            for i in self._computations[name].values():
                if i.opcode == "while":
                    ahead.append((i.attribute(r"body=%?([^\s,]+)"), times * self._iterations(i)))
                elif i.opcode in ("call", "async-start") or (fused and i.opcode == "fusion"):
                    ahead.append((i.attribute(r"(?:calls|to_apply)=%?([^\s,]+)"), times))
                elif i.opcode == "conditional":
                    branches = i.attribute(r"(?:branch_computations=\{([^}]*)\})") or ", ".join(
                        [i.attribute(r"true_computation=%?([^\s,]+)"), i.attribute(r"false_computation=%?([^\s,]+)")]
                    )
                    ahead += [(branch.strip(" %"), times) for branch in branches.split(",")]
        return runs

    def _iterations(self, loop: Instruction) -> int:
        known = loop.attribute(r'"known_trip_count":\{"n":"(\d+)"')
        if known:
            return int(known)
        condition = self._computations[loop.attribute(r"condition=%?([^\s,]+)")]
        bounds = [int(i.attributes) for i in condition.values() if i.opcode == "constant" and i.attributes.isdecimal()]
        return bounds[0] if len(bounds) == 1 else 1

    def _flops(self, computation: str, i: Instruction) -> int:
        if i.opcode not in ("dot", "convolution"):
            return 0
        lhs, rhs = (self._computations[computation][name].shapes[0].dimensions for name in i.operands)
        output = i.shapes[0].dimensions
        if i.opcode == "dot":
            axes = i.attribute(r"lhs_contracting_dims=\{([\d,]*)\}")
            return 2 * math.prod(output) * math.prod(lhs[int(a)] for a in axes.split(",") if a)
        labels = i.attribute(r"dim_labels=(\S+?)(?:,|$)")
        at_lhs, at_rhs, at_output = re.split("_|->", labels)
        spatial = [c for c in at_rhs if c.isdecimal()]
        window = i.attribute(r"window=\{([^}]*)\}")
        pairs = 1
        for n, axis in enumerate(sorted(spatial)):
            sizes = lhs[at_lhs.index(axis)], rhs[at_rhs.index(axis)], output[at_output.index(axis)]
            pairs *= _pairs(*sizes, {key: value.split("x")[n] for key, value in _window(window)})
        others = output[at_output.index("b")] * output[at_output.index("f")] * rhs[at_rhs.index("i")]
        return 2 * pairs * others

    def _passes(self, computation: str, i: Instruction) -> int:
        wide = any(shape.bits == 32 for shape in self._given(computation, i))
        return PASSES.get(i.attribute(r"operand_precision=\{(\w+)"), 1) if wide else 1

    def _bytes(self, computation: str, i: Instruction) -> int:
        if i.opcode in FREE or i.opcode.endswith("-done"):
            return 0
        if i.opcode.endswith("-start"):  # the bytes of the result, read at one end and written at the other
            ends = [i.shapes[0], *self._given(computation, i)[:1]]
            return sum(i.shapes[0].size for end in ends if not end.memory)
        return sum(shape.size for shape in [*i.shapes, *self._given(computation, i)] if not shape.memory)

    def _given(self, computation: str, i: Instruction) -> list[Shape]:
        here = self._computations[computation]
        return list(itertools.chain.from_iterable(here[name].shapes for name in i.operands if name in here))


def _window(text: str) -> list[tuple[str, str]]:
    return [(key, value) for key, _, value in (part.partition("=") for part in text.split())]


@functools.cache
def _valid(size: int, taps: int, positions: int, stride: int, low: int, dilation: int, spread: int) -> int:
    reach = (size - 1) * dilation
    count = 0
    for position in range(positions):
        places = (position * stride + tap * spread - low for tap in range(taps))
        count += sum(0 <= place <= reach and place % dilation == 0 for place in places)
    return count


def _pairs(size: int, taps: int, positions: int, window: dict[str, str]) -> int:
    """Counts the pairs of an output position and a tap that meet a pixel.

    Pairs that meet padding or a hole of a dilation do not count.
    """
    stride, dilation, spread = (int(window.get(key, 1)) for key in ("stride", "lhs_dilate", "rhs_dilate"))
    low = int(window.get("pad", "0_0").split("_")[0])
    return _valid(size, taps, positions, stride, low, dilation, spread)


def _parse(line: str) -> Instruction | None:
    found = re.match(r"\s+(?:ROOT )?%?(\S+) = ", line)
    if not found:
        return None
    rest = line[found.end() :]
    end = _closing(rest) + 1 if rest.startswith("(") else rest.index(" ")
    shapes, rest = _shapes(rest[:end]), rest[end:].lstrip()
    opcode, _, rest = rest.partition("(")
    rest = "(" + rest
    end = _closing(rest)
    operands, attributes = rest[1:end], rest[end + 1 :].lstrip(", ")
    if opcode == "constant":
        return Instruction(found.group(1), shapes, opcode, [], operands)
    return Instruction(found.group(1), shapes, opcode, re.findall(r"%([^\s,()]+)", operands), attributes)


def _closing(text: str) -> int:
    """Returns the index of the parenthesis that closes the one at the beginning of a text."""
    depth = 0
    for place, c in enumerate(text):
        depth += (c == "(") - (c == ")")
        if depth == 0:
            return place
    raise ValueError(f"no end of {text[:80]!r}")


def _shapes(text: str) -> list[Shape]:
    found = re.findall(r"([a-z]\w*)\[([\d,]*)\](?:\{([^{}]*)\})?", text)
    return [_shape(kind, dimensions, layout) for kind, dimensions, layout in found]


def _shape(kind: str, dimensions: str, layout: str) -> Shape:
    number = re.search(r"[a-z](\d+)", kind)
    bits = BITS[kind] if kind in BITS else int(number.group(1)) if number else 0
    memory = re.search(r"S\((\d+)\)", layout)
    sizes = tuple(int(n) for n in dimensions.split(",") if n)
    return Shape(bits, sizes, int(memory.group(1)) if memory else 0)
