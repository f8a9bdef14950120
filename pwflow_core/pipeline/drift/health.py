"""Health: what is known about each night and regime, other than the scores themselves; only the nights that changed."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from pwflow_core.errors import NotFittedError
from pwflow_core.plant import Plant
from pwflow_core.warehouse import fetch_value, read_sql, run_script

__all__ = ["HealthSummary", "derive_health"]

_log = logging.getLogger("pwflow.health")


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
        run_script(connection, read_sql(__package__, "health.sql"), {"timezone": plant.config.schedule.timezone})
        n_nights = fetch_value(connection, "SELECT count(*) FROM stale")
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
