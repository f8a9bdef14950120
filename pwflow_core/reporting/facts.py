"""What the report says of the plant as a whole: read from the warehouse in one short look, and counted there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import duckdb
import pandas as pd

from pwflow_core.config import PlantConfig
from pwflow_core.errors import NotFittedError
from pwflow_core.pipeline.source import Sensor, read_source
from pwflow_core.pipeline.timing import read_timing
from pwflow_core.plant import Plant
from pwflow_core.warehouse import quote_identifier, read_sql

__all__ = ["PlantFacts", "read_facts"]

_MOST_EVENTS = 300
_MOST_VERSIONS = 200

_HEALTH = ("night", "cluster_key", "channel", "evidence", "threshold", "verdict", "n_readings")
_VERDICTS = (
    "verdict_id", "night", "verdict", "cluster_keys", "machine_ids", "sensors", "since", "effect_size", "summary",
    "answer", "status", "decided_at", "decided_by", "made_at",
)  # fmt: skip
_VERSIONS = (
    "flow_version", "cluster_key", "in_force", "trained_at", "trained_from", "trained_until", "n_rows", "n_held_out",
    "held_out_log_density", "train_seconds", "is_gaussian", "promoted_at", "promoted_by", "reason",
)  # fmt: skip
_DECISIONS = (
    "decided_at", "cluster_key", "flow_version", "decision", "previous_version", "n_recent", "gain_recent",
    "gain_recent_error", "gain_reference", "decided_by", "reason",
)  # fmt: skip
_EVENTS = (
    "event_id", "machine_id", "started_at", "ended_at", "peak_score", "n_readings", "cluster_key", "top_sensors",
    "segment", "summary", "n_events", "by_peak", "by_time",
)  # fmt: skip
_NIGHTS = (
    "night", "machine_id", "cluster_key", "n_readings", "n_scored", "n_anomalies", "missing", "invalid", "stuck", "thin",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class PlantFacts:
    """What the warehouse knows; every frame is there, and empty where there is nothing or no such table.

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
        interval_seconds: Usual time from one reading to the next; NaN if it is not known.
        alpha: The false-alarm rate per reading in force; NaN before the first scores.
        nights: Readings by night, machine and regime.
        health: `mart.cluster_health` of the time shown.
        verdicts: `mart.drift_verdicts`, the latest first.
        events: The worst and the latest events, the latest first.
        clusters: `mart.clusters`, those in force first.
        versions: `mart.flow_versions`, the latest first.
        decisions: `mart.flow_decisions`, the latest first.
        rejected: What was refused, by reason and sensor.
        gaps: Readings, and missing values per sensor, by machine.
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
    interval_seconds: float
    alpha: float
    nights: pd.DataFrame
    health: pd.DataFrame
    verdicts: pd.DataFrame
    events: pd.DataFrame
    clusters: pd.DataFrame
    versions: pd.DataFrame
    decisions: pd.DataFrame
    rejected: pd.DataFrame
    gaps: pd.DataFrame

    @property
    def n_events(self) -> int:
        """Events of the time shown."""
        return int(self.events["n_events"].iloc[0]) if len(self.events) else 0


def read_facts(plant: Plant, days: int, built_at: datetime) -> PlantFacts:
    """Read what is known of the last `days` days of readings.

    Raises:
        NotFittedError: There are no readings yet.
    """
    config = plant.config
    zone = config.schedule.timezone
    with plant.warehouse.snapshot() as connection:
        tables = _existing_tables(connection)
        first, last, first_night, last_night, n_readings = _read_span(connection, tables, zone, days)
        source = read_source(connection)
        timing = read_timing(connection, config)
        since = {"first": first}

        def read(query: str, table: str, columns: tuple[str, ...], values: Mapping[str, object]) -> pd.DataFrame:
            """Read a table with the columns that are expected of it, whatever release wrote it."""
            if table not in tables:
                return pd.DataFrame(columns=list(columns))
            return connection.execute(query, dict(values)).df().reindex(columns=list(columns))

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
            interval_seconds=timing.interval_seconds if timing else float("nan"),
            alpha=_read_alpha(connection, tables, config),
            nights=_as_days(
                read(
                    read_sql(__package__, "facts_nights.sql"),
                    "mart.anomaly_scores",
                    _NIGHTS,
                    since | {"timezone": zone},
                )
            ),
            health=_as_days(
                read(
                    "FROM mart.cluster_health WHERE night >= $night ORDER BY night, cluster_key, channel",
                    "mart.cluster_health",
                    _HEALTH,
                    {"night": first_night},
                )
            ),
            verdicts=_as_days(
                read(
                    "FROM mart.drift_verdicts WHERE night >= $night OR status IN ('open', 'requested') "
                    "ORDER BY night DESC, verdict_id LIMIT 200",
                    "mart.drift_verdicts",
                    _VERDICTS,
                    {"night": first_night},
                ),
                "since",
            ),
            events=read(
                read_sql(__package__, "facts_events.sql"),
                "mart.anomaly_events",
                _EVENTS,
                since | {"most": _MOST_EVENTS},
            ),
            clusters=read(
                "FROM mart.clusters ORDER BY status, cluster_key",
                "mart.clusters",
                ("cluster_key", "segment", "weight", "status", "minted_at", "retired_at"),
                {},
            ),
            versions=read(
                f"FROM mart.flow_versions ORDER BY in_force DESC, trained_at DESC, cluster_key LIMIT {_MOST_VERSIONS}",
                "mart.flow_versions",
                _VERSIONS,
                {},
            ),
            decisions=read(
                f"FROM mart.flow_decisions ORDER BY decided_at DESC, cluster_key LIMIT {_MOST_VERSIONS}",
                "mart.flow_decisions",
                _DECISIONS,
                {},
            ),
            rejected=read(
                read_sql(__package__, "facts_rejected.sql"),
                "mart.rejected_readings",
                ("reason", "sensor", "n_values", "example", "detail", "n_files"),
                {},
            ),
            gaps=_read_gaps(connection, [sensor.name for sensor in source.sensors], first),
        )


def _existing_tables(connection: duckdb.DuckDBPyConnection) -> frozenset[str]:
    rows = connection.execute("SELECT schema_name || '.' || table_name FROM duckdb_tables()").fetchall()
    return frozenset(row[0] for row in rows)


def _read_span(
    connection: duckdb.DuckDBPyConnection, tables: frozenset[str], zone: str, days: int
) -> tuple[datetime, datetime, date, date, int]:
    """Return start and end of the time shown, its first and last night, and how many readings there are."""
    if "core.readings" in tables:
        row = connection.execute(
            """
            WITH span AS (
                SELECT
                    min(ts) AS oldest,
                    max(ts) AS last,
                    count(*) AS n,
                    (max(ts) AT TIME ZONE 'UTC' AT TIME ZONE $zone)::DATE AS last_night
                FROM core.readings
            )
            SELECT
                greatest(oldest, (last_night - $days)::TIMESTAMP AT TIME ZONE $zone AT TIME ZONE 'UTC') AS first,
                last,
                (first AT TIME ZONE 'UTC' AT TIME ZONE $zone)::DATE,
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


def _read_alpha(connection: duckdb.DuckDBPyConnection, tables: frozenset[str], config: PlantConfig) -> float:
    if "core.model_sets" in tables:
        row = connection.execute("SELECT alpha FROM core.model_sets ORDER BY pinned_at DESC LIMIT 1").fetchone()
        if row is not None:
            return float(row[0])
    return config.scoring.alpha if config.scoring.alarms_per_week is None else float("nan")


def _read_gaps(connection: duckdb.DuckDBPyConnection, sensors: list[str], first: datetime) -> pd.DataFrame:
    """Count the values that each machine misses; columns are `machine_id`, `n_readings` and one per sensor."""
    counts = ", ".join(f"count(*) - count({quote_identifier(sensor)})" for sensor in sensors)
    rows = connection.execute(
        f"SELECT machine_id, count(*), {counts} FROM core.readings WHERE ts >= ? GROUP BY machine_id ORDER BY machine_id",
        [first],
    ).fetchall()
    return pd.DataFrame(rows, columns=["machine_id", "n_readings", *range(len(sensors))]).set_axis(
        ["machine_id", "n_readings", *sensors], axis=1
    )


def _as_days(frame: pd.DataFrame, *more: str) -> pd.DataFrame:
    """Turn the calendar days of a frame into `date`: a day has no hour and no time zone."""
    for column in ("night", *more):
        days = [None if pd.isna(day) else pd.Timestamp(day).date() for day in frame[column]]
        frame[column] = pd.Series(days, index=frame.index, dtype=object)
    return frame


def nights_between(first: date, last: date) -> list[date]:
    """Return every calendar day from the first to the last."""
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]
