"""Signals to this very process, and what a run hears of them."""

import os
import signal
import time

import pytest

from wgan_jax.run import interrupt
from wgan_jax.run.interrupt import Interrupt


@pytest.fixture
def ends(monkeypatch):
    """The exit codes with which the process would have ended at once."""
    codes = []
    monkeypatch.setattr(interrupt.os, "_exit", codes.append)
    return codes


def send(*numbers):
    """Sends signals one by one, each heard before the next: the system may merge and reorder them otherwise."""
    with Interrupt() as heard:
        assert not heard.stops(0)
        for number in numbers:
            os.kill(os.getpid(), number)
            time.sleep(0.05)
    # Leaving has waited for the listener, so all has been heard.
    return heard


@pytest.mark.parametrize(
    ("numbers", "code"),
    [
        ([signal.SIGTERM], 143),
        ([signal.SIGINT], 130),
        ([signal.SIGTERM, signal.SIGTERM], 143),
        ([signal.SIGTERM, signal.SIGINT], 143),
        ([signal.SIGINT, signal.SIGTERM], 130),
    ],
)
def test_a_run_stops_and_its_exit_code_is_that_of_the_first_signal(numbers, code, ends):
    heard = send(*numbers)
    assert heard.stops(0)
    assert heard.exit_code == code
    assert ends == []


@pytest.mark.parametrize(
    "numbers",
    [
        [signal.SIGINT, signal.SIGINT],
        [signal.SIGTERM, signal.SIGINT, signal.SIGINT],
        [signal.SIGINT, signal.SIGTERM, signal.SIGINT],
    ],
)
def test_a_second_ctrl_c_ends_the_process(numbers, ends):
    send(*numbers)
    assert ends == [130]


def test_a_host_that_another_one_stopped_ends_as_by_sigterm():
    assert Interrupt(shared=True).exit_code == 143


def test_afterwards_signals_do_what_they_did():
    before = [signal.getsignal(number) for number in interrupt.SIGNALS]
    with Interrupt():
        assert [signal.getsignal(number) for number in interrupt.SIGNALS] != before
    assert [signal.getsignal(number) for number in interrupt.SIGNALS] == before
