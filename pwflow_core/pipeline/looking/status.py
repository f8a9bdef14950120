"""What a person wants to know of a plant before anything else, or after a run, read in one look at the warehouse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

import duckdb

from pwflow_core.errors import list_few
from pwflow_core.pipeline.cases.view import CaseView, read_cases
from pwflow_core.pipeline.decisions.kinds import find_kind
from pwflow_core.pipeline.decisions.verdicts import ALL_CHANNELS, StoredVerdict, open_verdicts
from pwflow_core.pipeline.readings.recurrence import Stretch, open_stretches
from pwflow_core.pipeline.regimes.naming import RegimeNames, read_names
from pwflow_core.pipeline.scoring.events import Event, worst_events
from pwflow_core.pipeline.scoring.scores import alpha_in_force
from pwflow_core.pipeline.scoring.sight import SensorSight, blind_sensors, read_sight
from pwflow_core.plant import Plant
from pwflow_core.warehouse import fetch_value, read_sql

__all__ = [
    "Night",
    "PlantOverview",
    "PlantStatus",
    "RegimeStatus",
    "explain_blindness",
    "next_step",
    "read_status",
    "summarise_plant",
]

_REMEDIES = {
    "few_readings": (
        "raises no alarms: it has too few held-out readings",
        "learn from a longer time ([training]), or from fewer regimes (clustering.n_clusters)",
    ),
    "other_regime": (
        "raises no alarm on some lasting shifts of {sensors}: shifted readings look normal in {regime}",
        "look at {regime} in `pwflow report`; if it holds transitions or a fault, leave their time out of [training], "
        "or use fewer regimes (clustering.n_clusters)",
    ),
    "unjudged_regime": (
        "raises no alarm on some lasting shifts of {sensors}: shifted readings are taken for {regime}, which judges "
        "nothing yet",
        "give {regime} a flow (`pwflow retrain {regime}`), or use fewer regimes (clustering.n_clusters)",
    ),
    "calibration": (
        "raises no alarm on lasting shifts of {sensors}: held-out readings are as improbable",
        "look for a fault in its readings in `pwflow report` and leave its time out of [training]; or learn from a "
        "longer time, or allow more alarms (scoring.alpha)",
    ),
}


_MOST_CLOSED = 20


@dataclass(frozen=True)
class Night:
    """The last calendar day with readings, in the time zone of the schedule.

    Attributes:
        night: The day.
        n_readings: Readings in it.
        n_unjudged: Those of them without a score.
        n_anomalies: Those of them that are anomalies.
        n_events: Events that began in it or went on into it.
        summaries: Sentences of the worst three of them.
    """

    night: date
    n_readings: int
    n_unjudged: int
    n_anomalies: int
    n_events: int
    summaries: tuple[str, ...]


@dataclass(frozen=True)
class RegimeStatus:
    """One regime in use.

    Attributes:
        cluster_key: Its key.
        segment: Its process condition.
        weight: Its share of the readings of the segment.
        flow_version: The flow in use; None if there is none yet.
        trained_at: When that was trained, UTC.
        reason: Why.
        evidence: Evidence of drift after the last night that was followed, log10 of the e-value; None if there is none.
        threshold: Evidence from which the regime has moved.
        night: The night of the evidence.
        can_be_followed: Whether its flow has enough held-out readings to compare nights with, as far as is known.
        name: What people call it; None if nobody named it.
    """

    cluster_key: str
    segment: str
    weight: float
    flow_version: str | None
    trained_at: datetime | None
    reason: str | None
    evidence: float | None
    threshold: float | None
    night: date | None
    can_be_followed: bool
    name: str | None = None

    @property
    def has_moved(self) -> bool:
        """Whether the evidence is above its threshold."""
        return self.evidence is not None and self.threshold is not None and self.evidence >= self.threshold


@dataclass(frozen=True)
class _PlantSize:
    """What there is.

    Attributes:
        n_readings: Readings in the warehouse.
        n_machines: Machines that they come from.
        first: Time of the first, UTC; None if there are none.
        last: Time of the last, UTC; None if there are none.
        n_removed: Readings that were removed by `retention.readings_days`.
    """

    n_readings: int
    n_machines: int
    first: datetime | None
    last: datetime | None
    n_removed: int


@dataclass(frozen=True)
class PlantStatus(_PlantSize):
    """How a plant is: its size, and what changes by the night.

    Attributes:
        cases: The cases: to decide, going on, and closed.
        last_night: The last day with scores; None before the first.
        regimes: The regimes in use, by key.
        findings: Verdicts on drift that wait for an answer, the first night first.
        blind: What the regimes do not see: sensors whose lasting shifts of ten standard deviations raise no alarm.
        stretches: Stretches of the history unlike the rest that nobody has decided about, the longest first.
        names: What people call the regimes, by key.
    """

    cases: CaseView
    last_night: Night | None
    regimes: tuple[RegimeStatus, ...]
    findings: tuple[StoredVerdict, ...]
    blind: tuple[SensorSight, ...]
    stretches: tuple[Stretch, ...]
    names: RegimeNames


@dataclass(frozen=True)
class PlantOverview(_PlantSize):
    """The plant in a few numbers, for people who just ran it: its size, regimes and alarms.

    Attributes:
        n_segments: Segments with regimes.
        n_clusters: Regimes in use.
        n_scored: Readings with a score.
        n_unjudged: Readings without one, by status.
        n_anomalies: Readings that are anomalies.
        alpha: The false-alarm rate per reading that they were judged by; NaN before the first scores.
        n_alarm_days: Days of a machine with at least one anomaly.
        n_events: Events that they make.
        n_unusual: Readings in stretches of the history unlike the rest, which nothing learned from.
        stretches: Those of these stretches that nobody has decided about, the longest first.
        worst: The three with the largest peak scores.
    """

    n_segments: int
    n_clusters: int
    n_scored: int
    n_unjudged: dict[str, int]
    n_anomalies: int
    alpha: float
    n_alarm_days: int
    n_events: int
    n_unusual: int
    stretches: tuple[Stretch, ...]
    worst: list[Event]


def read_status(plant: Plant) -> PlantStatus:
    """Read how a plant is.

    Raises:
        NotFittedError: The plant has not been run yet.
    """
    with plant.warehouse.snapshot() as connection:
        size = _read_size(connection)
        regimes = connection.execute(read_sql(__package__, "status_regimes.sql"), {"channel": ALL_CHANNELS}).fetchall()
        findings = open_verdicts(connection)
        blind = blind_sensors(read_sight(connection))
        stretches = open_stretches(connection)
        night = _read_night(connection, plant.config.schedule.timezone)
        cases = read_cases(connection, plant.config.schedule.timezone, most=_MOST_CLOSED)
        names = read_names(connection)
    return PlantStatus(
        *size,
        cases,
        night,
        tuple(replace(RegimeStatus(*row), name=names.of.get(row[0])) for row in regimes),
        tuple(findings),
        tuple(seen for sensors in blind.values() for seen in sensors),
        tuple(stretches),
        names,
    )


def summarise_plant(plant: Plant) -> PlantOverview:
    """Count what is in the warehouse.

    Raises:
        NotFittedError: The plant has not been run yet.
    """
    with plant.warehouse.snapshot() as connection:
        stretches = open_stretches(connection)
        [(n_segments, n_clusters)] = connection.execute(
            "SELECT count(DISTINCT segment), count(*) FROM mart.clusters WHERE status = 'active'"
        ).fetchall()
        statuses = dict(
            connection.execute(
                "SELECT status, count(*) FROM mart.anomaly_scores GROUP BY status ORDER BY status"
            ).fetchall()
        )
        [(n_anomalies, n_alarm_days)] = connection.execute(
            "SELECT count(*), count(DISTINCT (machine_id, ts::DATE)) FROM mart.anomaly_scores WHERE is_anomaly"
        ).fetchall()
        return PlantOverview(
            *_read_size(connection),
            n_segments,
            n_clusters,
            statuses.pop("scored", 0),
            statuses,
            n_anomalies,
            alpha_in_force(connection),
            n_alarm_days,
            fetch_value(connection, "SELECT count(*) FROM mart.anomaly_events"),
            sum(stretch.n_readings for stretch in stretches),
            tuple(stretches),
            worst_events(connection, 3),
        )


def next_step(verdict: StoredVerdict, policy: str) -> str:
    """Return what a person does about a verdict, under a policy of `[drift]`."""
    dismiss = f"`pwflow dismiss {verdict.verdict_id}`"
    if verdict.status == "requested":
        return "a run is answering it; nothing to do"
    if verdict.status == "failed":
        return f"no run could answer it: look at the last one in `pwflow ui`, then {dismiss}"
    return find_kind(verdict.verdict).next_step.format(
        id=verdict.verdict_id,
        dismiss=dismiss,
        where=f"{list_few(verdict.sensors) or 'the readings'} of {list_few(verdict.machine_ids)}",
        by_itself="the drift sensor answers it while `pwflow ui` runs; or now: " if policy == "retrain" else "",
    )


def explain_blindness(blind: Sequence[SensorSight]) -> list[tuple[str, str]]:
    """Return what each regime does not see and why, as a sentence, behind it what a person does about it."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for seen in blind:
        size = "" if seen.shift is None else f" (below {seen.shift:.3g} {seen.unit}".rstrip() + ")"
        groups.setdefault((seen.cluster_key, seen.reason or "", seen.hidden_by or ""), []).append(seen.sensor + size)
    return [
        (f"{key} {what}".format(sensors=list_few(sensors), regime=regime), remedy.format(regime=regime))
        for (key, reason, regime), sensors in groups.items()
        for what, remedy in [_REMEDIES[reason]]
    ]


def _read_night(connection: duckdb.DuckDBPyConnection, timezone: str) -> Night | None:
    row = connection.execute(read_sql(__package__, "status_night.sql"), {"timezone": timezone}).fetchone()
    if row is None or row[0] is None:
        return None
    night, n_readings, n_unjudged, n_anomalies, n_events, summaries = row
    return Night(night, n_readings, n_unjudged, n_anomalies, n_events, tuple(summaries or ()))


def _read_size(connection: duckdb.DuckDBPyConnection) -> tuple[int, int, datetime | None, datetime | None, int]:
    """Return the fields of `_PlantSize`."""
    [size] = connection.execute(
        "SELECT count(*), count(DISTINCT machine_id), min(ts), max(ts), "
        "(SELECT coalesce(sum(n_readings), 0)::BIGINT FROM mart.removed_nights) FROM core.readings"
    ).fetchall()
    return size
