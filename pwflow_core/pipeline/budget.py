"""The budget of alarms against what the plant delivers: one that makes no sense is refused before anything learns."""

from __future__ import annotations

import duckdb

from pwflow_core.errors import ConfigurationError

__all__ = ["SCORABLE_READINGS", "affordable_readings", "readings_per_week"]

_FEWEST_DAYS = 3

SCORABLE_READINGS = "core.readings WHERE quality IN ('ok', 'filled', 'partial')"
"""Where readings that can be scored are, as SQL."""


def affordable_readings(connection: duckdb.DuckDBPyConnection, alarms_per_week: float) -> float:
    """Return how many readings that can be scored the plant delivers in a week.

    Raises:
        ConfigurationError: The budget is no less than that.
    """
    readings = readings_per_week(connection)
    if alarms_per_week >= readings:
        raise ConfigurationError(
            f"Expected scoring.alarms_per_week below the {readings:,.0f} readings that the plant delivers in a week, "
            f"got {alarms_per_week:g}: lower it, or give scoring.alpha instead."
        )
    return readings


def readings_per_week(connection: duckdb.DuckDBPyConnection) -> float:
    """Measure how many readings that can be scored the plant delivers in a week in which it runs.

    Seven times those of the median day with any; with fewer than three such days, what all machines would deliver
    if they ran through the week.
    """
    row = connection.execute(
        f"SELECT count(*), 7 * median(n) FROM (SELECT count(*) AS n FROM {SCORABLE_READINGS} GROUP BY ts::DATE)"
    ).fetchone()
    if row is not None and row[0] >= _FEWEST_DAYS:
        return float(row[1])
    row = connection.execute(
        f"""
        SELECT sum(7 * 86400 / gap) FROM (
            SELECT median(gap) AS gap FROM (
                SELECT machine_id, epoch(ts - lag(ts) OVER (PARTITION BY machine_id ORDER BY ts)) AS gap
                FROM {SCORABLE_READINGS}
            ) WHERE gap > 0 GROUP BY machine_id
        )
        """
    ).fetchone()
    return float(row[0]) if row is not None and row[0] else 1.0
