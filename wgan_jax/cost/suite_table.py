"""The results of `wgan_jax.cost.suite` in words and as Markdown tables."""

import math
from typing import Any

Row = dict[str, Any]


def line(part: str, row: Row) -> str:
    """Returns a row as a line for the terminal."""
    if "compile" in row:
        return f"{part}: {row['compile']}"
    words = [f"{part}: {row.get('config', row.get('case'))}, {row['precision']}"]
    if "batch_size" in row:
        words.append(f"batch {row['batch_size']}")
    for name in ("skipped", "failed"):
        if name in row:
            words.append(f"{name}, {row[name]}")
    if "milliseconds" in row:
        words.append(f"{_digits(row['milliseconds'])} ms, compiled in {row['compile_seconds']:.1f} s")
    if "digest" not in row and "same_bits" in row:
        words.append(f"the same bits: {row['same_bits']}")
    if "ratio" in row:
        words.append(
            f"{_digits(row['milliseconds']['ours'])} ms, PyTorch {row['ratio']:.2f} times that ({row['best']})"
        )
    if "distances" in row:
        words.append(f"{row['on']}: " + " ".join(f"{x:.1e}" for x in row["distances"]))
    return ", ".join(words)


def _digits(x: float) -> str:
    """Returns a number with its first three digits."""
    return f"{x:,.{max(0, 2 - math.floor(math.log10(abs(x))))}f}" if x else "0"


def _rows(head: list[str], rows: list[list[str]]) -> str:
    """Returns a Markdown table with the first column to the left and the others to the right."""
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, rule, *rows])


def table(results: Row) -> str:
    """Returns the numbers as Markdown, ready for a README."""
    machine, parts = results["machine"], []
    versions = ", ".join(f"{name} {version}" for name, version in machine.get("versions", {}).items())
    parts.append(
        f"{machine.get('device', 'no device')}, {machine.get('cores', '?')} CPU cores, {results['date']}, {versions}; "
        f"`XLA_FLAGS={machine.get('xla_flags', '')}`. A step is a generator iteration with its critic updates; times "
        "are medians. The rate counts products and convolutions by hand; its share is of a matrix product, measured in "
        "turn, in the same precision. A config's precisions are compiled side by side where there are cores for it."
    )
    measured = [row for row in results.get("speed", []) if "milliseconds" in row]
    if measured:
        head = ["config", "batch", "precision", "step, ms", "a call each, ms", "images/s", "TFLOP/s", "of a matmul"]
        head += ["memory, MB", "compile, s", "same bits"]
        rows = [
            [
                row["config"],
                str(row["batch_size"]),
                row["precision"],
                _digits(row["milliseconds"]),
                _digits(row["milliseconds_a_call_each"]) if row["steps_a_call"] > 1 else "–",
                f"{row['images_per_second']:,.0f}",
                _digits(row["tflop_per_second"]),
                f"{100 * row['fraction_of_matmul']:.2g} %",
                f"{row['megabytes']:,.0f}",
                f"{row['compile_seconds']:.1f}",
                "yes" if row["same_bits"] else "no",
            ]
            for row in measured
        ]
        parts.append(_rows(head, rows))
    if results.get("bits"):
        words = ", ".join(f"{row['precision']} {'yes' if row['same_bits'] else 'no'}" for row in results["bits"])
        parts.append(f"The same bits in another process ({results['bits'][0]['config']}): {words}.")
    if results.get("trajectory"):
        head = ["small runs, from the CPU's in float32", "computed on", "precision"]
        head += [f"after {n}" for n in results["trajectory"][0]["steps"]]
        rows = [
            [row["config"], row["on"], row["precision"], *(f"{x:.1e}" for x in row["distances"])]
            for row in results["trajectory"]
        ]
        parts.append(_rows(head, rows))
    compared = [row for row in results.get("torch", []) if "case" in row]
    if compared:
        head = ["against PyTorch", "precision", "ours, ms", "PyTorch at its best, ms", "ratio", "its ways, ms"]
        rows = [
            [
                row["case"],
                row["precision"],
                _digits(row["milliseconds"]["ours"]),
                _digits(row["milliseconds"][row["best"]]),
                f"{row['ratio']:.2f}",
                "; ".join(f"{way} {_digits(ms)}" for way, ms in row["milliseconds"].items() if way != "ours"),
            ]
            for row in compared
        ]
        parts.append(_rows(head, rows))
    parts += [
        f"`torch.compile`, on a penalty: {row['compile']}" for row in results.get("torch", []) if "compile" in row
    ]
    skipped = [
        f"{row['config']}, {row['precision']}, batch {row['batch_size']}: {row.get('skipped') or row['failed']}"
        for row in results.get("speed", [])
        if "skipped" in row or "failed" in row
    ]
    if skipped + results["skipped"]:
        parts.append("Skipped:\n" + "\n".join(f"- {words}" for words in skipped + results["skipped"]))
    return "\n\n".join(parts) + "\n"
