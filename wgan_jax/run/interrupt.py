"""SIGTERM and Ctrl-C, which stop a run between two iterations."""

import os
import signal
import socket
import threading
from typing import Any, Self

from wgan_jax.devices import hosts

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupt:
    """A context in which SIGTERM and the first Ctrl-C only set `signal`. A second Ctrl-C ends the process at once.

    Python runs its signal handlers between two operations of the main thread, and one such operation may be a long
    compiled step. A separate thread therefore reads the numbers of the signals, which the handler of the system writes
    to a file descriptor.

    Args:
      shared: whether several hosts share the run. If so, JAX handles SIGTERM and passes it to the other hosts, and
        Ctrl-C is turned into a SIGTERM.
    """

    def __init__(self, shared: bool = False) -> None:
        self.signal: signal.Signals | None = None
        """The first signal that was received; None before that."""
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
        """Tells whether the run must stop now. Several hosts all stop at the same call.

        Args:
          number: count of the calls: 0, 1, 2, …. The run calls between iterations.
        """
        return hosts.asked_to_stop(number) if self._shared else self.signal is not None

    @property
    def exit_code(self) -> int:
        """The exit code that shells and schedulers expect of a stopped process: 128 + the signal, so 130 or 143.

        A host that stops because another host received SIGTERM uses the code of SIGTERM too.
        """
        return 128 + (self.signal or signal.SIGTERM)
