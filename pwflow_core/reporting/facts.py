"""What the report says of the plant as a whole: read from the warehouse in one short look, and counted there."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta

import duckdb
import pandas as pd

from pwflow_core.errors import NotFittedError
from pwflow_core.pipeline.cases.view import CaseView, read_cases
from pwflow_core.pipeline.decisions.verdicts import StoredVerdict, recent_verdicts
from pwflow_core.pipeline.looking.data.doubts import Doubt, find_doubts
from pwflow_core.pipeline.looking.data.profile import DataProfile, profile_data
from pwflow_core.pipeline.readings.timing import read_timing
from pwflow_core.pipeline.regimes.naming import RegimeNames, read_names
from pwflow_core.pipeline.scoring.scores import alpha_in_force
from pwflow_core.pipeline.scoring.sight import SensorSight, read_sight
from pwflow_core.pipeline.source.source import Sensor, read_source
from pwflow_core.plant import Plant
from pwflow_core.reporting.records import (
    CaseChange,
    ClusterRow,
    Decision,
    EventRow,
    HealthRow,
    Record,
    ScoreRow,
    StretchRow,
    Version,
    fetch_records,
)
from pwflow_core.warehouse import quote_identifier, read_sql

__all__ = ["PlantFacts", "nights_between", "read_facts"]

_MOST_EVENTS, _MOST_ROWS, _MOST_SCORES = 300, 200, 10


@dataclass(frozen=True, eq=False)
class PlantFacts:
    """What the warehouse knows; everything is there, and empty where there is nothing.

    Attributes:
        name: Of the plant.
        built_at: When this was read, UTC.
        first: Start of the time shown, UTC.
        last: Time of the last reading, UTC.
        first_night: First calendar day shown, in the time zone of the schedule.
        last_night: Last one.
        timezone: That time zone.
        n_readings: Readings in the warehouse.
        sensors: The sensors, with their units.
        segment_columns: Columns whose values make a segment, such as `recipe`.
        interval_seconds: Usual time from one reading to the next; NaN if it is not known.
        alpha: The false-alarm rate per reading in use; NaN before the first scores.
        nights: Readings by night, machine and regime, and what became of them.
        health: `mart.cluster_health` of the time shown.
        verdicts: `mart.drift_verdicts`, the latest first.
        events: The worst and the latest events, the latest first.
        highest_scores: Where there are no events, the highest score of a machine and day, the highest first.
        cases: The cases: to decide, going on, and closed ones of the time shown.
        case_changes: `mart.case_changes` of the cases to decide, in their order.
        stretches: `mart.unusual_stretches`, those that wait for a decision first, then the longest.
        clusters: `mart.clusters`, those in use first.
        versions: `mart.flow_versions`, those in use first.
        decisions: `mart.flow_decisions`, the latest first.
        data: The readings of the time shown, and what was refused since the beginning.
        doubts: What a person should look at in the data, the most doubtful first.
        sight: What each regime in use sees, by regime and sensor.
        missing: Missing values of each sensor, by machine.
        names: What people call the regimes, by key.
    """

    name: str
    built_at: datetime
    first: datetime
    last: datetime
    first_night: date
    last_night: date
    timezone: str
    n_readings: int
    sensors: tuple[Sensor, ...]
    segment_columns: tuple[str, ...]
    interval_seconds: float
    alpha: float
    nights: pd.DataFrame
    health: tuple[HealthRow, ...]
    verdicts: tuple[StoredVerdict, ...]
    events: tuple[EventRow, ...]
    highest_scores: tuple[ScoreRow, ...]
    cases: CaseView
    case_changes: tuple[CaseChange, ...]
    stretches: tuple[StretchRow, ...]
    clusters: tuple[ClusterRow, ...]
    versions: tuple[Version, ...]
    decisions: tuple[Decision, ...]
    data: DataProfile
    doubts: tuple[Doubt, ...]
    sight: tuple[SensorSight, ...]
    missing: dict[str, tuple[int, ...]]
    names: RegimeNames

    @property
    def n_events(self) -> int:
        """Events of the time shown."""
        return self.events[0].n_events if self.events else 0

    @property
    def active(self) -> tuple[ClusterRow, ...]:
        """The regimes in use, by their keys."""
        return tuple(cluster for cluster in self.clusters if cluster.status == "active")

    @property
    def in_force(self) -> dict[str, Version]:
        """The flows in use, by cluster key."""
        return {version.cluster_key: version for version in self.versions if version.in_force}


def read_facts(plant: Plant, days: int, built_at: datetime) -> PlantFacts:
    """Read what is known of the last `days` days of readings.

    Raises:
        NotFittedError: There are no readings yet.
    """
    config = plant.config
    zone = config.schedule.timezone
    with plant.warehouse.snapshot() as connection:
        first, last, first_night, last_night, n_readings = _read_span(connection, zone, days)
        source = read_source(connection)
        timing = read_timing(connection, config)

        def read(kind: type[Record], query: str, **values: object) -> tuple[Record, ...]:
            return fetch_records(connection, kind, query, values)

        data = profile_data(connection, config, since=first)
        cases = read_cases(connection, zone, since=first)
        events = read(EventRow, read_sql(__package__, "facts_events.sql"), first=first, most=_MOST_EVENTS)
        return PlantFacts(
            name=config.plant.name,
            built_at=built_at,
            first=first,
            last=last,
            first_night=first_night,
            last_night=last_night,
            timezone=zone,
            n_readings=n_readings,
            sensors=source.sensors,
            segment_columns=tuple(source.segments),
            interval_seconds=timing.interval_seconds if timing else float("nan"),
            alpha=alpha_in_force(connection),
            nights=_read_nights(connection, zone, first),
            health=read(
                HealthRow,
                "FROM mart.cluster_health WHERE night >= $night ORDER BY night, cluster_key, channel",
                night=first_night,
            ),
            verdicts=tuple(recent_verdicts(connection, first_night, _MOST_ROWS)),
            events=events,
            highest_scores=()
            if events
            else read(
                ScoreRow,
                "FROM mart.anomaly_scores WHERE status = 'scored' AND ts >= $first "
                "QUALIFY row_number() OVER (PARTITION BY machine_id, ts::DATE ORDER BY anomaly_score DESC, ts) = 1 "
                "ORDER BY anomaly_score DESC, ts LIMIT $most",
                first=first,
                most=_MOST_SCORES,
            ),
            cases=cases,
            case_changes=read(
                CaseChange,
                "FROM mart.case_changes WHERE case_id IN (SELECT unnest($cases::VARCHAR[])) ORDER BY change_number",
                cases=[case.case_id for case in cases.to_decide],
            ),
            stretches=read(
                StretchRow,
                "FROM mart.unusual_stretches ORDER BY status <> 'open', n_readings DESC, started_at LIMIT $most",
                most=_MOST_ROWS,
            ),
            clusters=read(ClusterRow, "FROM mart.clusters ORDER BY status, cluster_key"),
            versions=read(
                Version,
                "FROM mart.flow_versions QUALIFY in_force OR row_number() OVER (ORDER BY trained_at DESC) <= $most "
                "ORDER BY in_force DESC, trained_at DESC, cluster_key",
                most=_MOST_ROWS,
            ),
            decisions=read(
                Decision,
                "FROM mart.flow_decisions ORDER BY decided_at DESC, cluster_key LIMIT $most",
                most=_MOST_ROWS,
            ),
            data=data,
            doubts=find_doubts(data, config),
            sight=tuple(read_sight(connection)),
            missing=_read_missing(connection, [sensor.name for sensor in source.sensors], first),
            names=read_names(connection),
        )


def _read_span(
    connection: duckdb.DuckDBPyConnection, zone: str, days: int
) -> tuple[datetime, datetime, date, date, int]:
    """Return start and end of the time shown, its first and last night, and how many readings there are."""
    row = connection.execute(
        """
        WITH span AS (
            SELECT
                min(ts) AS oldest,
                max(ts) AS last,
                count(*) AS n,
                night_of(max(ts), $zone) AS last_night
            FROM core.readings
        )
        SELECT
            greatest(oldest, (last_night - $days)::TIMESTAMP AT TIME ZONE $zone AT TIME ZONE 'UTC') AS first,
            last,
            night_of(first, $zone),
            last_night,
            n
        FROM span
        WHERE n > 0
        """,
        {"zone": zone, "days": days - 1},
    ).fetchone()
    if row is not None:
        return row[0], row[1], row[2], row[3], int(row[4])
    raise NotFittedError("There are no readings to report on yet: run `pwflow run` to ingest, learn and score.")


def _read_nights(connection: duckdb.DuckDBPyConnection, zone: str, first: datetime) -> pd.DataFrame:
    """Count readings by night, machine and regime; nights are `date`, as they have no hour and no time zone."""
    query = read_sql(__package__, "facts_nights.sql")
    nights = connection.execute(query, {"timezone": zone, "first": first}).df()
    days = pd.Series([pd.Timestamp(night).date() for night in nights["night"]], index=nights.index, dtype=object)
    return nights.assign(night=days)


def _read_missing(
    connection: duckdb.DuckDBPyConnection, sensors: list[str], first: datetime
) -> dict[str, tuple[int, ...]]:
    """Count the values that each machine misses, in the order of the sensors."""
    counts = ", ".join(f"count(*) - count({quote_identifier(sensor)})" for sensor in sensors)
    query = f"SELECT machine_id, {counts} FROM core.readings WHERE ts >= ? GROUP BY machine_id ORDER BY machine_id"
    return {row[0]: row[1:] for row in connection.execute(query, [first]).fetchall()}


def nights_between(first: date, last: date) -> list[date]:
    """Return every calendar day from the first to the last."""
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]
