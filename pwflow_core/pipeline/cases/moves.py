"""Moves: which case a verdict on drift belongs to, and which cases and events it explains.

A verdict joins the case whose events explain it; one that finds the same move on all machines joins their cases to one,
and takes from others what it explains.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta

from pwflow_core.pipeline.cases.case import Case, Finding, Sighting, cosine, ranked_blame, ratio
from pwflow_core.pipeline.cases.grouping import ENOUGH_ALIKE, MUCH_ALIKE, PART, SUDDEN, explained_share

__all__ = ["HEAD_START", "explain_finding", "explained_before", "same_move"]

_UNLIKE = 0.3
"""Cosine of the sensors of a verdict and the blame of a case below which they are about different things."""
HEAD_START = timedelta(days=3)
"""So long before a verdict has it its first alarms may come."""


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
        alike = cosine(case.blame, ranked_blame(finding.sensors)) if finding.sensors else 0.0
        if finding.sensors and alike < _UNLIKE and not same:
            continue
        score = (n / n_all if n_all else 0.0) + alike + (1.0 if same else 0.0)
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
        and case.since >= begun - HEAD_START
        and (not common.sightings or ratio(case.usual_peak, common.usual_peak) <= SUDDEN)
    ]
    found = []
    for case in likely:
        own = case.blame
        if common.sightings:
            is_one = cosine(own, common.blame) >= MUCH_ALIKE
            is_one = is_one or all(explained_share(s, common) >= ENOUGH_ALIKE for s in case.sightings)
        else:
            is_one = any(
                other.machines != case.machines
                and cosine(own, other.blame) >= MUCH_ALIKE
                and ratio(case.usual_peak, other.usual_peak) <= SUDDEN
                for other in likely
            )
        if is_one or (sensors and _share_of(case, sensors) >= MUCH_ALIKE):
            found.append(case)
    return found


def explained_before(common: Case, since: datetime, case: Case) -> list[Sighting]:
    """Return the events of another case that a move explains since it began, UTC, told before its verdict.

    Those stay that are like the rest of their case, if there is a rest. Of a case without one, what the move has a part
    in suffices, as for an event that fits no other case.
    """
    if all(s.told_at >= since and explained_share(s, common) >= PART for s in case.sightings):
        return list(case.sightings)
    begun = since - HEAD_START
    found = [s for s in case.sightings if s.told_at >= begun and explained_share(s, common) >= ENOUGH_ALIKE]
    rest = Case(case.case_id, [s for s in case.sightings if s not in found])
    return [s for s in found if not rest.sightings or cosine(s.known_shares, rest.blame) < MUCH_ALIKE]


def _share_of(case: Case, sensors: Collection[str]) -> float:
    """Return the share that some sensors have in the cause of a case, 0 to 1."""
    shares = case.blame
    return sum(shares.get(sensor, 0.0) for sensor in sensors)


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
    """Tell whether two verdicts are about one fact.

    They are about the same machines, and blame the same sensors; where neither names any, the same segments.
    """
    if not set(one.machines) & set(other.machines) and (one.machines or other.machines):
        return False
    if one.sensors and other.sensors:
        return cosine(ranked_blame(one.sensors), ranked_blame(other.sensors)) >= ENOUGH_ALIKE
    if not one.sensors and not other.sensors and set(one.segments) & set(other.segments):
        return True
    return one.kind == other.kind and (not one.keys or bool(set(one.keys) & set(other.keys)))
