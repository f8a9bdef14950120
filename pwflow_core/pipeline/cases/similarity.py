"""Similar cases: earlier ones that blamed the same sensors in the same shape, for a person may know them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

__all__ = ["Profile", "most_similar"]

_LEAST = 0.4
_MOST = 3


@dataclass(frozen=True)
class Profile:
    """What a case looks like.

    Attributes:
        case_id: The case.
        since: When it began, UTC.
        blame: Blame of each sensor, in any unit.
        n_events: Its events.
        alarm_seconds: How long they lasted together.
        peak: Largest anomaly score.
    """

    case_id: str
    since: datetime
    blame: Mapping[str, float]
    n_events: int
    alarm_seconds: float
    peak: float


def most_similar(profile: Profile, others: Sequence[Profile]) -> list[str]:
    """Return up to three cases that began earlier and are most like one, the most like it first.

    Likeness is the cosine of the blames, less where the shapes differ: events, time in alarm and largest score, each by
    its ratio.
    """
    found = [
        (likeness, other.case_id)
        for other in others
        if (other.since, other.case_id) < (profile.since, profile.case_id)
        and (likeness := _likeness(profile, other)) >= _LEAST
    ]
    return [case_id for _, case_id in sorted(found, key=lambda pair: (-pair[0], pair[1]))[:_MOST]]


def _likeness(one: Profile, other: Profile) -> float:
    lengths = [math.sqrt(sum(value**2 for value in profile.blame.values())) for profile in (one, other)]
    if not all(lengths):
        return 0.0
    dot = sum(value * other.blame.get(sensor, 0.0) for sensor, value in one.blame.items())
    ratios = [
        abs(math.log((a + floor) / (b + floor)))
        for a, b, floor in (
            (one.n_events, other.n_events, 1.0),
            (one.alarm_seconds, other.alarm_seconds, 60.0),
            (one.peak, other.peak, 1.0),
        )
    ]
    return dot / math.prod(lengths) * math.exp(-0.1 * sum(ratios))
