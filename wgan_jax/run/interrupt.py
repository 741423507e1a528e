"""SIGTERM and Ctrl-C, heard between two iterations."""

import os
import signal
import socket
import threading
from typing import Any, Self

from wgan_jax.devices import hosts

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupt:
    """Within its `with` block SIGTERM and the first Ctrl-C only set `signal`; a second Ctrl-C ends the process.

    Python runs signal handlers between two operations of the main thread, and one of those may be a long compiled
    step. So a thread of its own listens at the file descriptor where the system's handler leaves the signals' numbers.

    Where several hosts share a run, SIGTERM is left to JAX, which tells the other hosts, and Ctrl-C is made one.
    """

    def __init__(self, shared: bool = False) -> None:
        self.signal: signal.Signals | None = None
        """The first that was heard."""
        self._shared = shared
        self._signals = (signal.SIGINT,) if shared else SIGNALS
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._heard, self._hearing = socket.socketpair()
        self._hearing.setblocking(False)
        self._wakeup = signal.set_wakeup_fd(self._hearing.fileno(), warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, lambda *_: None) for number in self._signals}
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        self._hearing.close()
        self._thread.join()
        self._heard.close()

    def _listen(self) -> None:
        impatient = False
        while number := self._heard.recv(1):
            if number[0] not in SIGNALS:
                continue
            self.signal = self.signal or signal.Signals(number[0])
            if number[0] == signal.SIGINT:
                if impatient:
                    os._exit(128 + signal.SIGINT)
                impatient = True
                if self._shared:
                    os.kill(os.getpid(), signal.SIGTERM)

    def stops(self, number: int) -> bool:
        """Whether the run is to end here, asked between iterations with 0, 1, 2, …: so do all hosts at once."""
        return hosts.asked_to_stop(number) if self._shared else self.signal is not None

    @property
    def exit_code(self) -> int:
        """What a shell and a scheduler expect of a run that was asked to stop: 128 + the signal, 130 or 143.

        Of several hosts, those that another one told of SIGTERM count as having it.
        """
        return 128 + (self.signal or signal.SIGTERM)
