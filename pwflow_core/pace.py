"""Pace: how far a long step has come, and how long the rest takes, said in the log now and then."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

__all__ = ["Pace"]

_PAUSE_SECONDS, _PAUSE_SHARE = 15.0, 0.25
"""Between two lines, at least: seconds, and a share of the time since the step began."""


class Pace:
    """Says how far a step has come, now and then, and less often the longer it takes; a quick one says nothing.

    Arguments:
        log: Where it is said.
        what: What is counted, such as "readings of c0003 scored".
        total: How many there are.
        may_end_early: Whether fewer may be enough, so that the time that is left is at most what it seems.
        clock: Returns seconds.
    """

    def __init__(
        self,
        log: logging.Logger,
        what: str,
        total: int,
        *,
        may_end_early: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log, self._what, self._total, self._clock = log, what, total, clock
        self._bound = "at most" if may_end_early else "about"
        self._done = 0
        self._began = self._said = clock()

    def advance(self, n: int) -> None:
        """Count what was done since the last time."""
        self._done += n
        now = self._clock()
        pause = max(_PAUSE_SECONDS, _PAUSE_SHARE * (now - self._began))
        if now - self._said < pause or not 0 < self._done < self._total:
            return
        self._said = now
        left = (now - self._began) * (self._total / self._done - 1)
        self._log.info(
            "%s of %s %s, %s %s left", f"{self._done:,}", f"{self._total:,}", self._what, self._bound, _say(left)
        )


def _say(seconds: float) -> str:
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            return f"{round(seconds / size)} {unit}"
    return f"{max(round(seconds), 1)} s"
