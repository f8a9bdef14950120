"""Grouping: which case an event or a verdict belongs to.

What is decided about an event is decided by its head: its anomalies up to the one that made it an event. Whatever
happens later, and in however many runs the history is read, the same event joins the same case.

An event joins a case of its machine that blames the same sensors, unless it is far stronger than all before it, which
is something new, or comes later than the rhythm of the case allows. A verdict joins the case whose events explain it;
one that finds the same move on all machines joins their cases to one.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from statistics import median

from pwflow_core.pipeline.cases.clock import RunningTime

__all__ = ["Case", "Finding", "Rules", "Sighting", "choose_case", "explain_finding", "mint_case_id", "same_move"]

Blame = Mapping[str, float]

ENOUGH_ALIKE = 0.5
"""Cosine of two blames from which they overlap."""
MUCH_ALIKE = 0.8
"""The same of the cases themselves, from which they are one."""
_SUDDEN = 4.0
"""An event this many times as strong as the strongest of a case is none of its own."""
_FAINTEST = 4.0
"""Anomaly score that counts as the strongest of a case whose events are fainter."""
_MOST_COMPARED = 100
"""The latest events of a common case that others are compared with."""
_FEWEST_LIKE, _SHARE_LIKE = 3, 0.15
"""This many of them, or such a share, have to be like an event."""
_HEAD_START = timedelta(days=3)
"""So long before a verdict has it its first alarms may come."""
_DIGITS = 6


@dataclass(frozen=True)
class Rules:
    """How long things take, in running time.

    Attributes:
        quiet: A machine that was normal for so long is normal again: the case closes.
        comeback: What comes back within so long is the same case.
        patience: How many times the longest pause so far the next one may last, at least.
    """

    quiet: timedelta
    comeback: timedelta
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
        cluster_key: Regime of the largest.
        segment: Segment of the largest.
        blame: Contribution of each sensor.
        head_blame: The same of the head.
    """

    event_id: int
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

    @property
    def machines(self) -> tuple[str, ...]:
        """Its machines: those of its events; of its verdicts where there are none, or where it is common to all."""
        own = {sighting.machine_id for sighting in self.sightings}
        own |= {m for finding in self.findings if finding.is_common or not own for m in finding.machines}
        return tuple(sorted(own))

    @property
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

    def blame(self, machine: str, current: Sighting | None = None) -> dict[str, float]:
        """Return the shares of the sensors over its events, as they were known when the last of a machine was over.

        Events of other machines, and the one that is being told, may still go on, and count by their heads.
        """
        total: dict[str, float] = {}
        for sighting in self.sightings:
            if sighting.machine_id == machine and (current is None or sighting.event_id != current.event_id):
                _add(total, sighting.shares, math.log2(1 + sighting.n_readings))
            else:
                _add(total, sighting.head_shares, 1.0)
        if not self.sightings:
            for finding in self.findings:
                _add(total, dict.fromkeys(finding.sensors, 1.0), 1.0)
        return total

    @property
    def usual_peak(self) -> float:
        """Median of the largest anomaly scores of the heads of its events."""
        return median([s.head_peak for s in self.sightings] or [_FAINTEST])

    def lasts_until(self, rules: Rules) -> timedelta:
        """Return the running time without events after which it is over."""
        return max(rules.quiet, rules.patience * self.longest_pause)

    def comes_back_until(self, rules: Rules) -> timedelta:
        """Return the running time without events within which the same is the same case."""
        return max(rules.comeback, rules.patience * self.longest_pause)


def choose_case(sighting: Sighting, cases: Iterable[Case], rules: Rules, clock: RunningTime) -> Case | None:
    """Return the case that an event belongs to, out of those of the plant that may still go on; None if to none."""
    best: tuple[float, Case] | None = None
    for case in cases:
        if sighting.machine_id not in case.machines:
            continue
        alike = _measure_likeness(sighting, case)
        if alike < ENOUGH_ALIKE or _is_sudden(sighting, case) or _is_elsewhere(sighting, case, rules, clock):
            continue
        pause = measure_pause(sighting, case, clock)
        allowed = case.comes_back_until(rules)
        if pause > allowed:
            continue
        score = alike - 0.2 * (pause / allowed) - 0.05 * _distance(sighting, case)
        if best is None or score > best[0] + 1e-9:
            best = (score, case)
    return None if best is None else best[1]


def _measure_likeness(sighting: Sighting, case: Case) -> float:
    """Return how much an event blames what a case does, 0 to 1.

    A regime that moved shows in many ways: there the event is compared with the events that are most like it. While a
    verdict has no events yet, one in its regimes that blames what it names is enough, or any if it names nothing.
    """
    shares = sighting.head_shares
    if not case.is_common:
        return _cosine(shares, case.blame(sighting.machine_id))
    if sighting.segment not in case.segments:
        return 0.0
    if len(case.sightings) >= _FEWEST_LIKE:
        return _nearest(shares, case)
    findings = [f for f in case.findings if f.is_common and sighting.cluster_key in f.keys]
    sensors = {sensor for finding in findings for sensor in finding.sensors}
    return max(sum(shares.get(s, 0.0) for s in sensors), 0.0 if sensors or not findings else ENOUGH_ALIKE)


def _nearest(shares: Blame, case: Case) -> float:
    """Return the mean cosine of a blame with those of the events that are most like it, a few of all."""
    found = sorted((_cosine(shares, s.head_shares) for s in case.sightings[-_MOST_COMPARED:]), reverse=True)
    n_compared = max(_FEWEST_LIKE, math.ceil(_SHARE_LIKE * len(found)))
    return sum(found[:n_compared]) / n_compared


def measure_pause(sighting: Sighting, case: Case, clock: RunningTime) -> timedelta:
    """Return how long the machine of an event ran since its case was last seen."""
    segments = case.segments | {sighting.segment}
    return clock.between([sighting.machine_id], segments, case.last_seen(sighting.told_at), sighting.told_at)


def _is_sudden(sighting: Sighting, case: Case) -> bool:
    return sighting.head_peak > sudden_peak(sighting, case)


def sudden_peak(sighting: Sighting, case: Case) -> float:
    """Return the anomaly score above which an event is none of a case: far more than its others; inf without any."""
    others = [s for s in case.sightings if s.event_id != sighting.event_id and s.told_at <= sighting.told_at]
    if not others:
        return math.inf
    if case.is_common:
        return _SUDDEN * max(median(s.head_peak for s in others), _FAINTEST)
    own = max((s.peak if s.machine_id == sighting.machine_id else s.head_peak) for s in others)
    return _SUDDEN * max(own, _FAINTEST)


def find_climb(sighting: Sighting, case: Case) -> datetime | None:
    """Return when an event of a case became too strong to be one of its others; None if it did not."""
    limit = sudden_peak(sighting, case)
    return next((time for time, score in sighting.climbs if score > limit), None)


def _is_elsewhere(sighting: Sighting, case: Case, rules: Rules, clock: RunningTime) -> bool:
    """Tell whether a machine ran in the segment of an event for long enough without the case being seen there."""
    segment = sighting.segment
    if not case.sightings or segment in case.segments:
        return False
    normal = clock.inside(sighting.machine_id, segment, case.since, sighting.told_at)
    return normal > rules.quiet


def _distance(sighting: Sighting, case: Case) -> float:
    """Return how far an event is from the last of a case, in powers of two of the anomaly score."""
    last = case.sightings[-1] if case.sightings else sighting
    return abs(math.log2(max(sighting.head_peak, 1e-9) / max(last.head_peak, 1e-9)))


def explain_finding(finding: Finding, cases: Iterable[Case]) -> Case | None:
    """Return the case that a verdict belongs to, out of those that may still go on; None if there is none.

    A regime that moved on all machines belongs to what moved on them before in the same segments. Any other verdict
    belongs to the case about the same sensors, or with most of the anomalies of its machines and regimes since it
    began.
    """
    if finding.is_common:
        return next((case for case in cases if any(_is_same_move(finding, other) for other in case.findings)), None)
    totals: dict[str, tuple[float, Case]] = {}
    for case in cases:
        counted = [s for s in case.sightings if _is_about(finding, s)]
        if counted or any(_is_same(finding, other) for other in case.findings):
            totals[case.case_id] = (float(sum(s.n_readings for s in counted)), case)
    n_all = sum(n for n, _ in totals.values())
    best: tuple[float, str, Case] | None = None
    for case_id, (n, case) in totals.items():
        same = any(_is_same(finding, other) for other in case.findings)
        score = (n / n_all if n_all else 0.0) + case_alike(case, finding.sensors) + (1.0 if same else 0.0)
        if score >= ENOUGH_ALIKE and (best is None or (score, case_id) > best[:2]):
            best = (score, case_id, case)
    return None if best is None else best[2]


def same_move(common: Case, cases: Iterable[Case]) -> list[Case]:
    """Return the cases that show what a verdict says of several machines alike: they are one with its case.

    Those are cases of its segments alone that blame what it names, or what its events do; as long as it has none, what
    a case of another machine blames as well.
    """
    findings = [finding for finding in common.findings if finding.is_common]
    machines = {machine for finding in findings for machine in finding.machines}
    begun = min(finding.since for finding in findings)
    sensors = {sensor for finding in findings for sensor in finding.sensors}
    likely = [
        case
        for case in cases
        if case is not common
        and not case.is_common
        and case.sightings
        and set(case.machines) <= machines
        and case.segments <= common.segments
        and case.since >= begun - _HEAD_START
        and (not common.sightings or _ratio(case.usual_peak, common.usual_peak) <= _SUDDEN)
    ]
    found = []
    for case in likely:
        own = _case_shares(case)
        if common.sightings:
            is_one = _nearest(own, common) >= MUCH_ALIKE
        else:
            is_one = any(
                other.machines != case.machines
                and _cosine(own, _case_shares(other)) >= MUCH_ALIKE
                and _ratio(case.usual_peak, other.usual_peak) <= _SUDDEN
                for other in likely
            )
        if is_one or (sensors and case_alike(case, sensors) >= MUCH_ALIKE):
            found.append(case)
    return found


def find_twin(case: Case, sighting: Sighting, cases: Iterable[Case], rules: Rules, clock: RunningTime) -> Case | None:
    """Return the case that goes on together with that of an event and blames the same; None if there is none.

    The heads of two events of one cause may differ more than the cases that they began.
    """
    machine, now = sighting.machine_id, sighting.told_at
    best: tuple[float, Case] | None = None
    for other in cases:
        if other is case or case.is_common or other.is_common or not other.sightings:
            continue
        if machine not in other.machines or not case.segments & other.segments:
            continue
        if _ratio(case.usual_peak, other.usual_peak) > _SUDDEN:
            continue
        alike = _cosine(case.blame(machine, sighting), other.blame(machine))
        idle = clock.between([machine], case.segments | other.segments, other.last_seen(now), now)
        if alike >= MUCH_ALIKE and idle <= rules.quiet and (best is None or alike > best[0]):
            best = (alike, other)
    return None if best is None else best[1]


def case_alike(case: Case, sensors: Collection[str]) -> float:
    """Return the share that some sensors have in the cause of a case, 0 to 1."""
    shares = _case_shares(case)
    return sum(shares.get(sensor, 0.0) for sensor in sensors)


def _case_shares(case: Case) -> dict[str, float]:
    """Return the shares of the sensors over the heads of the events of a case, or else what its verdicts name."""
    total: dict[str, float] = {}
    for sighting in case.sightings:
        _add(total, sighting.head_shares, 1.0)
    if not case.sightings:
        for finding in case.findings:
            _add(total, dict.fromkeys(finding.sensors, 1.0), 1.0)
    return _shares(total)


def _ratio(one: float, other: float) -> float:
    return max(one, other) / max(min(one, other), 1e-9)


def mint_case_id(origin: str, known: Collection[str]) -> str:
    """Return the id of a new case: made from what it began with, and never one that is known."""
    for attempt in range(1_000):
        digest = hashlib.sha256(f"{origin}#{attempt}".encode() if attempt else origin.encode()).hexdigest()
        if (case_id := f"K-{digest[:_DIGITS]}") not in known:
            return case_id
    return f"K-{hashlib.sha256(origin.encode()).hexdigest()}"


def _is_about(finding: Finding, sighting: Sighting) -> bool:
    return (
        sighting.machine_id in finding.machines
        and finding.since <= sighting.told_at < finding.told_at
        and (not finding.keys or sighting.cluster_key in finding.keys)
    )


def _is_same_move(one: Finding, other: Finding) -> bool:
    """Tell whether two verdicts are about one move of machines alike, in the same segments."""
    return (
        one.is_common
        and other.is_common
        and bool(set(one.machines) & set(other.machines))
        and bool(set(one.segments) & set(other.segments))
    )


def _is_same(one: Finding, other: Finding) -> bool:
    """Tell whether two verdicts are about one fact: machines and sensors in common, or the same kind and regimes."""
    if not set(one.machines) & set(other.machines) and (one.machines or other.machines):
        return False
    if one.sensors and other.sensors:
        return bool(set(one.sensors) & set(other.sensors))
    return one.kind == other.kind and (not one.keys or bool(set(one.keys) & set(other.keys)))


def _shares(blame: Blame) -> dict[str, float]:
    positive = {sensor: value for sensor, value in blame.items() if value > 0}
    total = sum(positive.values())
    return {sensor: value / total for sensor, value in sorted(positive.items())} if total > 0 else {}


def _add(total: dict[str, float], shares: Blame, weight: float) -> None:
    for sensor, share in shares.items():
        total[sensor] = total.get(sensor, 0.0) + weight * share


def _cosine(one: Blame, other: Blame) -> float:
    """Return the cosine of two blames; events that nothing explains are alike."""
    if not one or not other:
        return 1.0 if not one and not other else 0.0
    dot = sum(value * other.get(sensor, 0.0) for sensor, value in one.items())
    lengths = (math.sqrt(sum(value**2 for value in blame.values())) for blame in (one, other))
    return dot / math.prod(lengths)
