"""How long a machine ran: the clock by which a case falls silent, and by which a fault may take its time to come back.

Time in which nothing was judged does not count, or a case would close while the machine stands still. Time in another
segment than those in which the case was seen counts for a part, because the fault may not show there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

__all__ = ["RunningTime"]

OTHER_SEGMENTS = 0.25
"""What time in another segment counts."""
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - times of the warehouse are UTC without saying so


@dataclass(frozen=True, eq=False)
class RunningTime:
    """In which parts of time each machine had judged readings, by segment.

    Attributes:
        part: Length of a part of time.
        parts: By machine and segment: the numbers of the parts with judged readings, counted from 1970, sorted.
    """

    part: timedelta
    parts: Mapping[tuple[str, str], NDArray[np.int64]]
    _segments: dict[str, list[str]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        """Know which segments each machine has."""
        for machine, segment in self.parts:
            self._segments.setdefault(machine, []).append(segment)

    def between(
        self, machines: Iterable[str], segments: Collection[str], since: datetime, until: datetime
    ) -> timedelta:
        """Return how long machines ran between two times, on average of those that ran; whole parts only."""
        times = [self._weights(machine, segments, since, self._number(until))[1] for machine in machines]
        totals = [float(weights.sum()) for weights in times if len(weights)]
        return self.part * (sum(totals) / len(totals) if totals else 0.0)

    def inside(self, machine: str, segment: str, since: datetime, until: datetime) -> timedelta:
        """Return how long a machine ran in one segment between two times; whole parts only."""
        numbers = self.parts.get((machine, segment), np.empty(0, np.int64))
        first, last = np.searchsorted(numbers, [self._number(since) + 1, self._number(until)])
        return self.part * max(int(last - first), 0)

    def reached(
        self, machines: Iterable[str], segments: Collection[str], since: datetime, length: timedelta
    ) -> datetime | None:
        """Return when machines had run for so long since a time, all of them that ran at all; None if not yet."""
        ends = []
        for machine in machines:
            numbers, weights = self._weights(machine, segments, since, None)
            if not len(numbers):
                continue
            enough = np.flatnonzero(np.cumsum(weights) >= length / self.part - 1e-9)
            # a part counts once a later one has begun: until then it may still grow
            if not len(enough) or enough[0] + 1 >= len(numbers):
                return None
            ends.append(int(numbers[enough[0] + 1]))
        return _EPOCH + max(ends) * self.part if ends else None

    def _number(self, time: datetime) -> int:
        return (time - _EPOCH) // self.part

    def _weights(
        self, machine: str, segments: Collection[str], since: datetime, until: int | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the parts of a machine after that of a time and before another, and what each counts."""
        first = self._number(since) + 1
        found: list[NDArray[np.int64]] = []
        counts: list[NDArray[np.float64]] = []
        for segment in self._segments.get(machine, ()):
            numbers = self.parts[machine, segment]
            last = len(numbers) if until is None else int(np.searchsorted(numbers, until))
            own = numbers[int(np.searchsorted(numbers, first)) : last]
            found.append(own)
            counts.append(np.full(len(own), 1.0 if segment in segments else OTHER_SEGMENTS))
        if not found:
            return np.empty(0, np.int64), np.empty(0)
        numbers, places = np.unique(np.concatenate(found), return_inverse=True)
        weights = np.zeros(len(numbers))
        np.maximum.at(weights, places, np.concatenate(counts))
        return numbers, weights
