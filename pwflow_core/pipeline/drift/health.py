"""Health: what is known about each night and regime, other than the scores themselves; only the nights that changed."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import duckdb

from pwflow_core.errors import NotFittedError
from pwflow_core.plant import Plant
from pwflow_core.warehouse import fetch_value, read_sql, run_script
from pwflow_core.warehouse.days import FreshDays, find_fresh_days, remember_days
from pwflow_core.warehouse.horizon import read_horizon

__all__ = ["HealthSummary", "derive_health"]

_log = logging.getLogger("pwflow.health")

_STEP = "health"


@dataclass(frozen=True)
class HealthSummary:
    """What deriving the health of the regimes came to.

    Attributes:
        n_nights: Nights that were derived in this run.
        n_rows: Rows of `cluster_health` now.
        n_by_channel: Readings that each channel counts, all nights together.
        exceeded: Regimes and nights, the last first, whose evidence is above its threshold.
    """

    n_nights: int
    n_rows: int
    n_by_channel: dict[str, int]
    exceeded: list[tuple[str, str, str]]


def derive_health(plant: Plant) -> HealthSummary:
    """Count unjudged readings and alarms per night and regime, for the nights whose scores changed.

    A night is a calendar day in the time zone of the schedule. Rows of other channels are left as they are.

    Raises:
        NotFittedError: There are no scores yet.
    """
    with plant.warehouse.transaction() as connection:
        if not connection.execute("SELECT 1 FROM mart.anomaly_scores LIMIT 1").fetchall():
            raise NotFittedError("There are no scores yet: materialize anomaly_scores, or run `pwflow run`.")
        n_nights = _derive(connection, plant.config.schedule.timezone)
        n_rows = fetch_value(connection, "SELECT count(*) FROM mart.cluster_health")
        by_channel = connection.execute(
            "SELECT channel, sum(n_readings)::BIGINT FROM mart.cluster_health GROUP BY channel ORDER BY channel"
        ).fetchall()
        exceeded = connection.execute(
            "SELECT night::VARCHAR, cluster_key, channel FROM mart.cluster_health WHERE verdict = 'exceeded' "
            "ORDER BY night DESC, cluster_key, channel"
        ).fetchall()
    _log.info("%d nights derived, %d regimes and nights above a threshold", n_nights, len(exceeded))
    return HealthSummary(n_nights, n_rows, dict(by_channel), exceeded)


def _derive(connection: duckdb.DuckDBPyConnection, timezone: str) -> int:
    """Derive the nights that changed, and return how many those are; all of them are looked at if any is missing."""
    fresh = find_fresh_days(connection, _STEP, timezone)
    n_nights = _derive_nights(connection, timezone, fresh)
    n_missing = fetch_value(
        connection,
        "SELECT (SELECT count(*) FROM mart.anomaly_scores WHERE ts >= $open_from) - coalesce(sum(n_scores), 0) "
        "FROM core.health_nights WHERE night >= night_of($open_from, $timezone)",
        {"timezone": timezone, "open_from": read_horizon(connection)},
    )
    if n_missing:
        n_nights += _derive_nights(connection, timezone, replace(fresh, are_all=True))
    remember_days(connection, _STEP, fresh)
    return n_nights


def _derive_nights(connection: duckdb.DuckDBPyConnection, timezone: str, fresh: FreshDays) -> int:
    script = read_sql(__package__, "touched_nights.sql") + read_sql(
        __package__,
        "health.sql",
        around=fresh.around("ts"),
        around_score=fresh.around("score.ts"),
        around_reading=fresh.around("reading.ts"),
    )
    values = {"days": list(fresh.days), "are_all": fresh.are_all}
    run_script(connection, script, values | {"timezone": timezone, "open_from": read_horizon(connection)})
    return int(fetch_value(connection, "SELECT count(*) FROM stale"))
