"""The life of a case: its states, what may follow on what, how grave it is, and the sentence that says it.

A case closes by itself once its machines have been normal for long enough, and opens again if the same comes back. Both
are decided by the record of readings, never by the clock on the wall, so that a history read at once ends like one
read night by night.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, get_args

from pwflow_core.errors import CaseStateError
from pwflow_core.pipeline.cases.case import Case, Sighting

__all__ = [
    "ACTIVE",
    "LABELS",
    "SEVERITIES",
    "TRANSITIONS",
    "Change",
    "ChangeKind",
    "Label",
    "Record",
    "Severity",
    "State",
    "alarm_seconds",
    "check_transition",
    "describe_case",
    "top_sensors",
    "weigh_case",
    "worst_sighting",
    "write_duration",
]

State = Literal["open", "acknowledged", "shelved", "closed", "merged"]
Severity = Literal["low", "medium", "high"]
Label = Literal["fault", "normal", "known"]
ChangeKind = Literal[
    "opened",
    "told",
    "worse",
    "closed",
    "reopened",
    "merged",
    "unshelved",
    "acknowledged",
    "shelved",
    "marked",
    "undone",
]

LABELS: tuple[Label, ...] = get_args(Label)
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
ACTIVE: tuple[State, ...] = ("open", "acknowledged", "shelved")
"""States of a case that goes on."""

TRANSITIONS: Mapping[State, frozenset[State]] = {
    "open": frozenset({"open", "acknowledged", "shelved", "closed", "merged"}),
    "acknowledged": frozenset({"open", "acknowledged", "shelved", "closed", "merged"}),
    "shelved": frozenset({"open", "acknowledged", "shelved", "closed", "merged"}),
    "closed": frozenset({"open", "acknowledged", "shelved", "closed"}),
    "merged": frozenset(),
}
"""What a case of each state may become. A closed one is open again when the same comes back, or a label is undone."""

_FEWEST_SHARE = 0.1
_MOST_SENSORS = 3


@dataclass(frozen=True)
class Change:
    """What became of a case.

    Attributes:
        case_id: The case.
        change: What.
        before: Its state before; None when it opened.
        after: Its state from then on.
        as_of: Time in the record of readings that it is about, UTC.
        reason: Why.
    """

    case_id: str
    change: ChangeKind
    before: State | None
    after: State
    as_of: datetime
    reason: str


@dataclass(eq=False)
class Record:
    """A case with its state.

    Attributes:
        case: What belongs to it.
        state: Its state.
        severity: How grave it is.
        label: What a person says that it is; None if nobody did.
        label_kind: Kind of a known cause.
        n_reopened: How often it came back.
        closed_at: When it closed, in the record of readings.
        shelved_until: Until when nobody wants to hear of it.
        merged_into: Case that it turned out to be one with.
        opened_at: When it was raised; None for a new one.
        is_known: Whether it was there before this run.
    """

    case: Case
    state: State = "open"
    severity: Severity = "low"
    label: Label | None = None
    label_kind: str | None = None
    n_reopened: int = 0
    closed_at: datetime | None = None
    shelved_until: datetime | None = None
    merged_into: str | None = None
    opened_at: datetime | None = None
    is_known: bool = False
    is_touched: bool = field(default=False, repr=False)

    @property
    def is_active(self) -> bool:
        """Whether it goes on."""
        return self.state in ACTIVE


def check_transition(case_id: str, before: State, after: State, merged_into: str | None = None) -> None:
    """Check that a case may change its state.

    Raises:
        CaseStateError: It may not.
    """
    if after in TRANSITIONS[before]:
        return
    where = f": it is one with {merged_into} now, decide about that" if merged_into else ""
    raise CaseStateError(f"The case {case_id} is {before}{where}; it cannot become {after}.")


def weigh_case(case: Case, alpha: float) -> Severity:
    """Return how grave a case is: by how far its readings are off, how many, how often, and whether a verdict says so.

    Each counts up to two points; two make it medium, four high.

    Arguments:
        case: The case.
        alpha: The false-alarm rate per reading; NaN counts as if no reading were far off.
    """
    n_events, n_readings = len(case.sightings), sum(s.n_readings for s in case.sightings)
    limit = -math.log10(alpha) if alpha > 0 else math.inf
    beyond = max((s.peak for s in case.sightings), default=-math.inf) - limit
    points = (n_events >= 3) + (n_events >= 10) + (n_readings >= 30) + (n_readings >= 300)
    points += (beyond >= 5) + (beyond >= 20) + bool(case.findings)
    return "high" if points >= 4 else "medium" if points >= 2 else "low"


def top_sensors(case: Case) -> list[str]:
    """Return up to three sensors with at least a tenth of the cause of a case, the most first."""
    total: dict[str, float] = {}
    for sighting in case.sightings:
        whole = sum(max(value, 0.0) for value in sighting.blame.values())
        for sensor, value in sighting.blame.items():
            if whole > 0 and value > 0:
                total[sensor] = total.get(sensor, 0.0) + value / whole * math.log2(1 + sighting.n_readings)
    if not total:
        return list(dict.fromkeys(sensor for finding in case.findings for sensor in finding.sensors))[:_MOST_SENSORS]
    ranked = sorted(total, key=lambda sensor: (-total[sensor], sensor))
    whole = sum(total.values())
    return [s for place, s in enumerate(ranked[:_MOST_SENSORS]) if place == 0 or total[s] >= _FEWEST_SHARE * whole]


def alarm_seconds(case: Case, interval_seconds: float) -> float:
    """Return how long the events of a case lasted together; those of several machines at one time count once each."""
    return sum((s.lasted_until - s.started_at).total_seconds() + interval_seconds for s in case.sightings)


def describe_case(
    case: Case, summaries: Mapping[str, str], verdicts: Mapping[str, str], interval_seconds: float
) -> str:
    """Return what a case is about, as a sentence.

    Arguments:
        case: The case.
        summaries: Sentences of its events, by event.
        verdicts: Sentences of its verdicts, by verdict.
        interval_seconds: Usual time between readings.
    """
    said = [verdicts[f.verdict_id] for f in case.findings if f.verdict_id in verdicts]
    if not case.sightings:
        return said[0] if said else "a verdict on drift"
    worst = worst_sighting(case)
    sentence = summaries.get(worst.event_id, f"{worst.machine_id}: unusual readings")
    if len(case.sightings) == 1:
        return sentence
    machines = " and ".join(filter(None, [", ".join(case.machines[:-1]), case.machines[-1]]))
    span = (case.last_seen() - case.since).total_seconds() + interval_seconds
    lasted = write_duration(alarm_seconds(case, interval_seconds))
    return (
        f"{machines}: {', '.join(top_sensors(case)) or 'unusual readings'}, {len(case.sightings):,} events within "
        f"{write_duration(span)}, {lasted} in alarm. The worst: {sentence}"
    )


def worst_sighting(case: Case) -> Sighting:
    """Return the event of a case with the largest anomaly score."""
    return max(case.sightings, key=lambda s: (s.peak, s.n_readings, -s.told_at.timestamp()))


def write_duration(seconds: float) -> str:
    """Write how long something lasted, in its largest sensible unit."""
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{round(seconds / length)} {unit}"
    return f"{round(seconds)} seconds"
