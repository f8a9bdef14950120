"""Cases: what the events and verdicts of one cause have in common, and how blames are compared."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from statistics import median

__all__ = [
    "FAINTEST",
    "Blame",
    "Case",
    "Finding",
    "Rules",
    "Sighting",
    "cosine",
    "mint_case_id",
    "ranked_blame",
    "ratio",
]

Blame = Mapping[str, float]

FAINTEST = 4.0
"""Anomaly score that counts as the strongest of a case whose events are fainter."""
FEWEST = 5
"""Number of anomalies that an event of a case has where none is over yet."""
_DIGITS = 6


@dataclass(frozen=True)
class Rules:
    """How long things take, in running time.

    Attributes:
        quiet: A machine that was normal for so long is normal again: the case closes.
        comeback: What comes back within so long is the same case.
        gap: An event without an anomaly for so long is over, time on the wall.
        patience: How many times the longest pause so far the next one may last, at least.
    """

    quiet: timedelta
    comeback: timedelta
    gap: timedelta
    patience: float = 2.0


@dataclass(frozen=True)
class Sighting:
    """One event of a machine, as the cases see it; times are UTC.

    Attributes:
        event_id: Its id when it was first told.
        machine_id: The machine.
        started_at: Time of the first anomaly.
        told_at: Time of the anomaly that made it an event: its head ends there.
        ended_at: Time of the last anomaly.
        lasted_until: Time of the last reading that was off itself, see `mart.anomaly_events`.
        n_readings: Anomalies.
        peak: Largest anomaly score.
        head_peak: Largest anomaly score of the head.
        climbs: Where its anomaly score was larger than before, after the head: time and score, in the order of time.
        is_over: Whether it is over, and was judged as a whole.
        cluster_key: Regime of the largest.
        segment: Segment of the largest.
        blame: Contribution of each sensor.
        head_blame: The same of the head.
    """

    event_id: str
    machine_id: str
    started_at: datetime
    told_at: datetime
    ended_at: datetime
    lasted_until: datetime
    n_readings: int
    peak: float
    head_peak: float
    cluster_key: str
    segment: str
    blame: Blame
    head_blame: Blame
    climbs: tuple[tuple[datetime, float], ...] = ()
    is_over: bool = False

    @property
    def known_shares(self) -> dict[str, float]:
        """Share of each sensor in the blame as it is known: of the head, and of the whole once it is over."""
        return self.shares if self.is_over else self.head_shares

    @property
    def known_peak(self) -> float:
        """Largest anomaly score as it is known: of the head, and of the whole once it is over."""
        return self.peak if self.is_over else self.head_peak

    @cached_property
    def shares(self) -> dict[str, float]:
        """Share of each sensor in the blame."""
        return _shares(self.blame)

    @cached_property
    def head_shares(self) -> dict[str, float]:
        """Share of each sensor in the blame of the head."""
        return _shares(self.head_blame)


@dataclass(frozen=True)
class Finding:
    """A verdict on drift, as the cases see it.

    Attributes:
        verdict_id: Its id.
        kind: Its kind.
        told_at: End of the day on which it was found, UTC.
        since: When it began, UTC.
        machines: Machines that it is about.
        keys: Regimes.
        segments: Segments of these regimes.
        sensors: Sensors.
        is_common: Whether it says that a regime moved on several machines alike.
        ended_at: End of the day after which it was over, UTC; None while it goes on, or if it was settled otherwise.
    """

    verdict_id: str
    kind: str
    told_at: datetime
    since: datetime
    machines: tuple[str, ...]
    keys: tuple[str, ...]
    segments: tuple[str, ...]
    sensors: tuple[str, ...]
    is_common: bool = False
    ended_at: datetime | None = None


@dataclass(eq=False)
class Case:
    """One case: its events and verdicts, in the order in which they were told.

    Attributes:
        case_id: Its id.
        sightings: Its events.
        findings: Its verdicts.
        longest_pause: Longest running time between two of its events.
    """

    case_id: str
    sightings: list[Sighting] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    longest_pause: timedelta = timedelta(0)

    def forget(self) -> None:
        """Have what follows from its events and verdicts computed again: they changed."""
        for name in ("machines", "segments", "blame", "usual_peak", "usual_size"):
            self.__dict__.pop(name, None)

    @cached_property
    def machines(self) -> tuple[str, ...]:
        """Its machines: those of its events; of its verdicts where there are none, or where it is common to all."""
        own = {sighting.machine_id for sighting in self.sightings}
        own |= {m for finding in self.findings if finding.is_common or not own for m in finding.machines}
        return tuple(sorted(own))

    @cached_property
    def segments(self) -> frozenset[str]:
        """Segments in which it was seen."""
        told = {segment for finding in self.findings for segment in finding.segments}
        return frozenset({sighting.segment for sighting in self.sightings} | told)

    @property
    def is_common(self) -> bool:
        """Whether a verdict says that machines moved alike."""
        return any(finding.is_common for finding in self.findings)

    @property
    def since(self) -> datetime:
        """When it began."""
        return min([s.started_at for s in self.sightings] or [f.since for f in self.findings])

    def last_seen(self, until: datetime = datetime.max) -> datetime:  # noqa: DTZ901 - UTC without saying so
        """Return when it was last seen, up to a time."""
        seen = [min(s.ended_at, until) for s in self.sightings] + [min(f.told_at, until) for f in self.findings]
        return max(seen)

    @cached_property
    def blame(self) -> dict[str, float]:
        """Shares of the sensors over its events, as far as they are known; those that are over count by their size."""
        total: dict[str, float] = {}
        for sighting in self.sightings:
            _add(total, sighting.known_shares, math.log2(1 + sighting.n_readings) if sighting.is_over else 1.0)
        if not self.sightings:
            for finding in self.findings:
                _add(total, ranked_blame(finding.sensors), 1.0)
        return _shares(total)

    @cached_property
    def usual_peak(self) -> float:
        """Median of the largest anomaly scores of its events, as far as they are known."""
        return median([s.known_peak for s in self.sightings] or [FAINTEST])

    @cached_property
    def usual_size(self) -> float:
        """Median number of anomalies of its events that are over."""
        return median([s.n_readings for s in self.sightings if s.is_over] or [FEWEST])

    def without(self, sighting: Sighting) -> Case:
        """Return the case as it would be without an event."""
        others = [s for s in self.sightings if s.event_id != sighting.event_id]
        return Case(self.case_id, others, self.findings, self.longest_pause)

    def lasts_until(self, rules: Rules) -> timedelta:
        """Return the running time without events after which it is over."""
        return max(rules.quiet, rules.patience * self.longest_pause)

    def comes_back_until(self, rules: Rules) -> timedelta:
        """Return the running time without events within which the same is the same case."""
        return max(rules.comeback, rules.patience * self.longest_pause)


def mint_case_id(origin: str, known: Collection[str]) -> str:
    """Return the id of a new case: made from what it began with, and never one that is known."""
    for attempt in range(1_000):
        digest = hashlib.sha256(f"{origin}#{attempt}".encode() if attempt else origin.encode()).hexdigest()
        if (case_id := f"K-{digest[:_DIGITS]}") not in known:
            return case_id
    return f"K-{hashlib.sha256(origin.encode()).hexdigest()}"


def ranked_blame(sensors: Iterable[str]) -> dict[str, float]:
    """Return the sensors of a verdict as a blame: each counts for half of the one before it."""
    return _shares({sensor: 0.5**place for place, sensor in enumerate(sensors)})


def ratio(one: float, other: float) -> float:
    """Return how many times the smaller of two numbers the larger is."""
    return max(one, other) / max(min(one, other), 1e-9)


def _shares(blame: Blame) -> dict[str, float]:
    positive = {sensor: value for sensor, value in blame.items() if value > 0}
    total = sum(positive.values())
    return {sensor: value / total for sensor, value in sorted(positive.items())} if total > 0 else {}


def _add(total: dict[str, float], shares: Blame, weight: float) -> None:
    for sensor, share in shares.items():
        total[sensor] = total.get(sensor, 0.0) + weight * share


def cosine(one: Blame, other: Blame) -> float:
    """Return the cosine of two blames; events that nothing explains are alike."""
    if not one or not other:
        return 1.0 if not one and not other else 0.0
    dot = sum(value * other.get(sensor, 0.0) for sensor, value in one.items())
    lengths = (math.sqrt(sum(value**2 for value in blame.values())) for blame in (one, other))
    return dot / math.prod(lengths)
