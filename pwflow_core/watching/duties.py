"""Duties: what the watch does beside scoring, each in a thread of its own: no mail server holds a reading up."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from pwflow_core.errors import PwflowError

__all__ = ["Duty"]

_log = logging.getLogger("pwflow.watch")


class Duty(threading.Thread):
    """Does something again and again; what fails is said once, and tried again.

    Arguments:
        name: What it is called.
        work: What it does.
        every_seconds: How long it rests at least.
        share: Most of the time that it may take, 0 to 1: after long work it rests longer.

    Attributes:
        error: Why it failed when it was last done; None if it did not.
    """

    def __init__(self, name: str, work: Callable[[], None], *, every_seconds: float, share: float = 0.1) -> None:
        super().__init__(name=name, daemon=True)
        self.error: str | None = None
        self._work, self._every, self._share = work, every_seconds, share
        self._is_over = threading.Event()
        self._turn = threading.Lock()

    def run(self) -> None:
        """Do it until it is ended."""
        pause = self._every
        while not self._is_over.wait(pause):
            started = time.monotonic()
            self.do()
            taken = time.monotonic() - started
            pause = max(self._every, taken * (1 - self._share) / self._share)

    def do(self) -> None:
        """Do it once, now."""
        with self._turn:
            try:
                self._work()
            except PwflowError as error:
                said = str(error)
            except Exception as error:  # the readings go on
                said = f"{type(error).__name__}: {error}"
            else:
                self.error = None
                return
        if said != self.error:
            _log.warning("%s: %s", self.name, said)
        self.error = said

    def end(self, wait_seconds: float) -> None:
        """End it, after what it does just now if that does not take too long."""
        self._is_over.set()
        if self.is_alive():
            self.join(wait_seconds)
