"""`metrics.jsonl`: what is damaged costs itself alone."""

import json

import pytest

from wgan_jax.report import records
from wgan_jax.report.records import Records


def write(workdir, lines):
    records.path(workdir).write_bytes(b"".join(lines))


def line(step):
    return json.dumps({"step": step, "critic_loss": step / 3}).encode() + b"\n"


def steps(workdir):
    return [record["step"] for record in records.read(workdir)]


@pytest.mark.parametrize(
    ("damaged", "lost"),
    [
        ({3: b"\x00garbage\n"}, "3"),
        ({3: b'{"step": 3, "critic_l\n'}, "3"),
        ({3: b"[" * 100_000 + b"\n"}, "3"),
        ({3: line(7)}, "3"),  # a flipped bit in the number itself
        ({3: line(1)}, "3"),
        ({3: line(2)}, "3"),  # of two with one number, one stands in its place
        ({3: line(4)}, "3"),
        ({1: line(2)}, "1"),
        ({1: b"\xff\n", 5: b"\n", 6: b"5\n"}, "1, 5 to 6"),
        ({8: b""}, "8"),
    ],
)
def test_a_damaged_line_is_lost_alone_and_said(damaged, lost, tmp_path):
    write(tmp_path, [damaged.get(step, line(step)) for step in range(1, 11)])
    said = []
    with Records(tmp_path, 8, warn=said.append) as log:
        log.write({"step": 9})
    gone = {step for step in damaged if step <= 8}
    assert steps(tmp_path) == [step for step in range(1, 10) if step not in gone]
    assert said == [
        f"{tmp_path / 'metrics.jsonl'}: the records of iterations {lost} are damaged or missing; the others are kept"
    ]


def test_what_is_beyond_the_checkpoint_is_dropped_and_a_kill_in_a_line_is_no_damage(tmp_path):
    whole = [line(step) for step in range(1, 7)]
    write(tmp_path, [*whole, b'{"step": 7, "crit'])
    said = []
    with Records(tmp_path, 4, warn=said.append) as log:
        log.write({"step": 5})
    assert steps(tmp_path) == [1, 2, 3, 4, 5]
    assert said == []
    assert records.path(tmp_path).read_bytes().startswith(b"".join(whole[:4]))


def test_a_backup_that_shares_the_file_keeps_its_lines(tmp_path):
    whole = [line(step) for step in range(1, 7)]
    write(tmp_path, whole)
    (tmp_path / "backup").hardlink_to(records.path(tmp_path))
    with Records(tmp_path, 4) as log:
        log.write({"step": 5})
    assert (tmp_path / "backup").read_bytes() == b"".join(whole)
    assert steps(tmp_path) == [1, 2, 3, 4, 5]


def test_reading_passes_over_what_is_damaged(tmp_path):
    write(tmp_path, [line(1), b"\xff\xfe{\n", line(3), b'{"step": 4'])
    assert steps(tmp_path) == [1, 3]
