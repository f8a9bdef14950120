"""Grouping: which case an event belongs to.

What is decided about an event when it is told is decided by its head: its anomalies up to the one that made it an
event. Once it is over it is judged as a whole, and may change its case. Both happen at times of the record, so that in
however many runs the history is read, the same event ends in the same case.

An event joins a case of its machine that blames the same sensors, unless it is far stronger than all before it, which
is something new, or comes later than the rhythm of the case allows. What a verdict explains is in `moves`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median

from pwflow_core.pipeline.cases.case import FAINTEST, Case, Rules, Sighting, cosine, ratio
from pwflow_core.pipeline.cases.clock import RunningTime

__all__ = [
    "ENOUGH_ALIKE",
    "MUCH_ALIKE",
    "PART",
    "SUDDEN",
    "choose_case",
    "explained_share",
    "find_climb",
    "find_twin",
    "measure_likeness",
    "measure_pause",
    "rate_case",
    "sudden_peak",
]

ENOUGH_ALIKE = 0.5
"""Cosine of two blames from which they overlap."""
MUCH_ALIKE = 0.9
"""The same of the cases themselves, from which they are one, and of what comes back after its case was over."""
SUDDEN = 4.0
"""An event this many times as strong as the strongest of a case is none of its own."""
_FAINT = 2.0
"""An event at most this many times as strong as the usual one of a regime that moved is explained by the move."""
_FEWEST_TURNS = 4
"""Events of two cases that change so often from one to the other take turns."""
_SHORT = 4.0
"""The same of its number of anomalies, once it is over."""
PART = 0.05
"""Share of the causes of a move, or of an event, from which a sensor has a part in it."""


def choose_case(sighting: Sighting, cases: Iterable[Case], rules: Rules, clock: RunningTime) -> Case | None:
    """Return the case that an event belongs to, out of those of the plant that may still go on; None if to none."""
    rated = [(rate_case(sighting, case, rules, clock), case) for case in cases]
    best: tuple[float, Case] | None = None
    for rating, case in rated:
        if rating is not None and (best is None or rating > best[0] + 1e-9):
            best = (rating, case)
    return None if best is None else best[1]


def rate_case(sighting: Sighting, case: Case, rules: Rules, clock: RunningTime) -> float | None:
    """Return how well an event fits into a case that it is not part of; None if not at all."""
    if sighting.machine_id not in case.machines:
        return None
    pause = measure_pause(sighting, case, clock)
    allowed = case.comes_back_until(rules)
    alike = measure_likeness(sighting, case)
    needed = ENOUGH_ALIKE if pause <= case.lasts_until(rules) else MUCH_ALIKE
    if pause > allowed or alike < needed:
        return None
    if _is_sudden(sighting, case) or _is_elsewhere(sighting, case, rules, clock):
        return None
    return alike - 0.2 * (pause / allowed) - 0.05 * _distance(sighting, case)


def measure_likeness(sighting: Sighting, case: Case) -> float:
    """Return how much an event blames what a case does, 0 to 1; more if it is one of a regime that moved.

    A regime that moved shows in many ways: an event that the move explains belongs to it rather than to another case
    that blames the same, and need not be much like the others.
    """
    alike = cosine(sighting.known_shares, case.blame)
    if not case.is_common:
        return alike
    if sighting.segment not in case.segments:
        return 0.0
    explained = explained_share(sighting, case)
    if explained >= ENOUGH_ALIKE:
        return 1.0 + explained
    return max(alike, ENOUGH_ALIKE) if explained >= PART else alike


def explained_share(sighting: Sighting, case: Case) -> float:
    """Return which share of the causes of an event a verdict of a case on a regime that moved explains, 0 to 1.

    It is what sensors have that the move blames. An event of another regime or machine is not explained, nor one that
    is stronger or longer than usual.
    """
    found = [
        f for f in case.findings if f.is_common and sighting.machine_id in f.machines and sighting.cluster_key in f.keys
    ]
    if not found or sighting.known_peak > _FAINT * max(case.usual_peak, FAINTEST):
        return 0.0
    if sighting.is_over and sighting.n_readings > _SHORT * case.usual_size:
        return 0.0
    moved = {sensor for finding in found for sensor in finding.sensors}
    if case.sightings:
        moved |= {sensor for sensor, share in case.blame.items() if share >= PART}
    return sum(sighting.known_shares.get(sensor, 0.0) for sensor in moved) if moved else 1.0


def measure_pause(sighting: Sighting, case: Case, clock: RunningTime) -> timedelta:
    """Return how long the machine of an event ran since its case was last seen."""
    segments = case.segments | {sighting.segment}
    return clock.between([sighting.machine_id], segments, case.last_seen(sighting.told_at), sighting.told_at)


def _is_sudden(sighting: Sighting, case: Case) -> bool:
    return sighting.known_peak > sudden_peak(sighting, case)


def sudden_peak(sighting: Sighting, case: Case) -> float:
    """Return the anomaly score above which an event is none of a case: far more than its others; inf without any."""
    others = [s for s in case.sightings if s.event_id != sighting.event_id and s.told_at <= sighting.told_at]
    if not others:
        return math.inf
    peaks = [s.known_peak for s in others]
    return SUDDEN * max(median(peaks) if case.is_common else max(peaks), FAINTEST)


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
    return abs(math.log2(max(sighting.known_peak, 1e-9) / max(last.known_peak, 1e-9)))


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
        if ratio(case.usual_peak, other.usual_peak) > SUDDEN:
            continue
        alike = cosine(case.blame, other.blame)
        idle = clock.between([machine], case.segments | other.segments, other.last_seen(now), now)
        needed = ENOUGH_ALIKE if _take_turns(case, other) else MUCH_ALIKE
        if alike >= needed and idle <= rules.quiet and (best is None or alike > best[0]):
            best = (alike, other)
    return None if best is None else best[1]


def _take_turns(one: Case, other: Case) -> bool:
    """Tell whether events of two cases follow each other in turn: one cause that shows in two ways, by the regime."""
    told = sorted([(s.told_at, 0) for s in one.sightings] + [(s.told_at, 1) for s in other.sightings])
    changes = sum(before != after for (_, before), (_, after) in pairwise(told))
    return changes >= _FEWEST_TURNS
