"""SIGTERM and Ctrl-C, heard between two iterations."""

import os
import signal
import socket
import threading
from typing import Any, Self

from wgan_jax import parallel

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupt:
    """Within its `with` block the first SIGTERM or Ctrl-C only sets `signal`; a second Ctrl-C ends the process.

    Python runs signal handlers between two operations of the main thread, and one of those may be a long compiled
    step. So a thread of its own listens at the file descriptor where the system's handler leaves the signals' numbers.

    Where several hosts share a run, SIGTERM is left to JAX, which tells the other hosts, and Ctrl-C is made one.
    """

    def __init__(self, shared: bool = False) -> None:
        self.signal: signal.Signals | None = None
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
        while number := self._heard.recv(1):
            again = self.signal is not None
            if number[0] in SIGNALS:
                self.signal = signal.Signals(number[0])
            if again and self.signal == signal.SIGINT:
                os._exit(130)
            if self._shared:
                os.kill(os.getpid(), signal.SIGTERM)

    def stops(self, number: int) -> bool:
        """Whether the run is to end here, asked between iterations with 0, 1, 2, …: so do all hosts at once."""
        return parallel.asked_to_stop(number) if self._shared else self.signal is not None

    @property
    def exit_code(self) -> int:
        """What a shell expects: 0 for a run that was asked to stop, 130 for Ctrl-C."""
        return 130 if self.signal == signal.SIGINT else 0
