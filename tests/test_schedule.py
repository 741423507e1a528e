import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgan_jax.method.schedule import CriticSchedule, longest, segments


def test_wgans_warm_up():
    schedule = CriticSchedule(n_critic=5, warmup=100, warmup_steps=25, warmup_every=500)
    many = [step for step in range(1_600) if schedule.updates(step) == 100]
    assert many == [*range(25), 500, 1000, 1500]
    assert {schedule.updates(step) for step in range(1_600)} == {5, 100}


schedules = st.builds(CriticSchedule, st.integers(1, 5), st.sampled_from([0, 7]), st.integers(0, 12), st.integers(0, 9))


@given(schedules, st.integers(0, 60))
def test_updates_before_is_the_sum_of_updates(schedule, step):
    assert schedule.updates_before(step) == sum(schedule.updates(s) for s in range(step))


@given(schedules, st.integers(0, 30), st.integers(0, 40), st.integers(1, 8), st.tuples(st.integers(1, 9)))
def test_segments_cover_every_iteration_once(schedule, start, more, length, intervals):
    parts = list(segments(start, start + more, length, schedule, intervals))
    assert [step for part in parts for step in range(*part)] == list(range(start, start + more))
    for part in parts:
        assert 1 <= part.stop - part.start <= length
        assert len({schedule.updates(step) for step in range(*part)}) == 1
        assert not any(step % n == 0 for n in intervals for step in range(part.start + 1, part.stop))


@pytest.mark.parametrize("resumed", [4, 8, 12])
def test_a_resumed_run_has_the_segments_of_the_uninterrupted_one(resumed):
    schedule = CriticSchedule(2, 7, 3, 9)
    whole = list(segments(0, 30, 5, schedule, (4,)))
    assert list(segments(resumed, 30, 5, schedule, (4,))) == [part for part in whole if part.start >= resumed]


@given(schedules, st.integers(0, 30), st.integers(1, 40), st.integers(1, 50), st.tuples(*[st.integers(1, 9)] * 2))
def test_no_segment_is_longer_than_the_longest_wherever_a_run_resumes(schedule, start, more, length, intervals):
    steps = start + more
    most = longest(steps, length, schedule, intervals)
    assert most == max(stop - start for start, stop in segments(0, steps, length, schedule, intervals))
    resumed = list(segments(start, steps, length, schedule, intervals))
    assert list(segments(start, steps, most, schedule, intervals)) == resumed


def test_the_longest_segment():
    assert longest(40, 20_000, CriticSchedule(5), (100, 1_000)) == 40
    assert longest(5_000, 20_000, CriticSchedule(5), (100, 30)) == 30
    assert longest(5_000, 20, CriticSchedule(5), (100, 1_000)) == 20
    assert longest(5_000, 20, CriticSchedule(5, 100, 25, 6), (100, 1_000)) == 20  # the warm-up's first 24
    assert longest(5_000, 50, CriticSchedule(5, 100, 0, 6), (100, 1_000)) == 5  # between two of its single ones
