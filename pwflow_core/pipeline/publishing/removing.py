"""Retention: readings that are older than `retention.readings_days` are removed; what they came to by the hour stays.

They go by machine and night (a calendar day in the zone of the schedule), with everything that was made from them. A
night stays where a flow in use learned from it, an event or a case is there, a case or verdict that is open goes back
to it, or a person decided about it. What went is a row of `mart.removed_nights`, and does not come back: a file of
which nothing is left is not read again, and rows of such a night are refused.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import duckdb

from pwflow_core.pipeline.readings.nights import begin_of
from pwflow_core.pipeline.scoring.checks import refuse_failed_checks
from pwflow_core.pipeline.scoring.scores import SCORES_STEP
from pwflow_core.pipeline.source.source import read_source
from pwflow_core.plant import Plant
from pwflow_core.warehouse import fetch_value, quote_identifier, quote_literal, read_sql, run_script, utc_now
from pwflow_core.warehouse.days import note_changed_days
from pwflow_core.warehouse.horizon import NEVER, read_horizon, write_horizon
from pwflow_core.warehouse.progress import read_progress

__all__ = ["Removal", "remove_old_readings"]

_log = logging.getLogger("pwflow.retention")

_BY_READING = (
    "mart.sensor_contributions",
    "mart.anomaly_scores",
    "core.component_log_density",
    "core.cluster_assignments",
    "core.filled_values",
    "core.features",
    "core.merged_rows",
    "core.readings",
)


@dataclass(frozen=True)
class Removal:
    """What one run removed.

    Attributes:
        n_readings: Readings.
        n_nights: Nights of a machine.
        before: What lies before this time, UTC, went, but for what something refers to.
    """

    n_readings: int
    n_nights: int
    before: datetime


@dataclass(frozen=True)
class _Bounds:
    """What decides which nights go, as it is bound to queries; times are UTC.

    Attributes:
        cutoff: When the first night begins that is kept whole.
        horizon: The cutoff of the last time.
        derived: The last batch that has scores.
        timezone: Zone of the schedule.
        now: The time now.
    """

    cutoff: datetime
    horizon: datetime
    derived: int
    timezone: str
    now: datetime


def remove_old_readings(plant: Plant) -> Removal:
    """Remove the readings that are older than `retention.readings_days`, in one transaction; nothing without that.

    What was not scored yet stays for the next run. Nothing goes while a blocking check of the scores fails.

    Raises:
        NotFittedError: The plant has not been run yet.
        ChecksFailedError: A blocking check failed.
    """
    with plant.warehouse.snapshot() as connection:
        bounds = _read_bounds(plant, connection)
        if plant.config.retention.readings_days is None or not _find_nights(connection, bounds):
            return Removal(0, 0, bounds.horizon)
    with plant.warehouse.transaction() as connection:
        refuse_failed_checks(plant, connection)
        bounds = _read_bounds(plant, connection)  # another run may have removed something since
        n_nights = _find_nights(connection, bounds)
        n_readings = _remove(connection, bounds)
        before = max(bounds.cutoff, bounds.horizon)
        write_horizon(connection, before)
    _log.info(
        "%s readings of %d nights of a machine before %s were removed (retention.readings_days = %d); their means by "
        "the hour stay in mart.hourly_readings",
        f"{n_readings:,}",
        n_nights,
        f"{bounds.cutoff:%Y-%m-%d %H:%M}",
        plant.config.retention.readings_days,
    )
    return Removal(n_readings, n_nights, before)


def _read_bounds(plant: Plant, connection: duckdb.DuckDBPyConnection) -> _Bounds:
    days, timezone = plant.config.retention.readings_days, plant.config.schedule.timezone
    query = "SELECT night_of(max(ts), $timezone) FROM mart.anomaly_scores"
    last: date | None = fetch_value(connection, query, {"timezone": timezone})
    return _Bounds(
        cutoff=NEVER if days is None or last is None else begin_of(last - timedelta(days=days - 1), timezone),
        horizon=read_horizon(connection),
        derived=read_progress(connection, SCORES_STEP).batch_id,
        timezone=timezone,
        now=utc_now(),
    )


def _find_nights(connection: duckdb.DuckDBPyConnection, bounds: _Bounds) -> int:
    """Fill the temporary table `leaving`, and return how many nights of a machine it has."""
    run_script(connection, read_sql(__package__, "leaving.sql"), vars(bounds))
    return int(fetch_value(connection, "SELECT count(*) FROM leaving"))


def _remove(connection: duckdb.DuckDBPyConnection, bounds: _Bounds) -> int:
    names = [sensor.name for sensor in read_source(connection).sensors]
    means = " UNION ALL BY NAME ".join(
        f"SELECT machine_id, date_trunc('hour', ts) AS hour, {quote_literal(name)} AS sensor, "
        f"count({column}) AS n_values, avg({column}) AS mean, min({column}) AS low, max({column}) AS high "
        "FROM gone GROUP BY machine_id, hour"
        for name, column in ((name, quote_identifier(name)) for name in names)
    )
    run_script(connection, read_sql(__package__, "removing.sql", means=means), vars(bounds))
    note_changed_days(connection, "SELECT ts FROM gone")
    for table in _BY_READING:
        if table != "core.features" or _has_features(connection):
            connection.execute(f"DELETE FROM {table} WHERE reading_id IN (SELECT reading_id FROM gone)")
    connection.execute(
        "UPDATE ingest.files SET removed_at = $now WHERE status = 'ingested' AND removed_at IS NULL "
        "AND file_id IN (SELECT file_id FROM core.removed_rows) AND file_id NOT IN (SELECT file_id FROM core.readings) "
        "AND file_id NOT IN (SELECT file_id FROM core.merged_rows)",
        {"now": bounds.now},
    )
    return int(fetch_value(connection, "SELECT count(*) FROM gone"))


def _has_features(connection: duckdb.DuckDBPyConnection) -> bool:
    return bool(
        connection.execute(
            "SELECT 1 FROM duckdb_tables() WHERE database_name = current_database() AND schema_name = 'core' "
            "AND table_name = 'features'"
        ).fetchall()
    )
