"""Model sets: the clusters, weights and flows that a scoring run is pinned to, and its false-alarm rate."""

from __future__ import annotations

import hashlib
import json

import duckdb

from pwflow_core.config import PlantConfig
from pwflow_core.errors import NotFittedError
from pwflow_core.pipeline.readings.rate import (
    DEFAULT_GAP_INTERVALS,
    FalseAlarmRate,
    affordable_readings,
    rate_of_events,
)
from pwflow_core.pipeline.readings.timing import read_timing
from pwflow_core.pipeline.scoring.densities import SCORE_STEP
from pwflow_core.warehouse import fetch_value, utc_now

__all__ = ["create_pins", "record_model_set"]


def create_pins(connection: duckdb.DuckDBPyConnection) -> None:
    """Create the temporary table `pins`: what the slices were scored with, even if another flow is in use by now.

    Flows are numbered in it: joins on a number take half as long as joins on key and version. Beside it comes
    `complete_segments`: those whose regimes have all scored.

    Raises:
        NotFittedError: No slice has been scored yet.
    """
    connection.execute(
        """
        CREATE TEMP TABLE pins AS
        SELECT row_number() OVER (ORDER BY cluster_key)::SMALLINT AS flow, cluster_key, segment, weight,
               cluster_model_id, progress.model AS flow_version, progress.batch_id
        FROM mart.clusters
        JOIN core.progress AS progress USING (cluster_key)
        WHERE status = 'active' AND progress.step = ?
        """,
        [SCORE_STEP],
    )
    if not fetch_value(connection, "SELECT count(*) FROM pins"):
        raise NotFittedError("Nothing has been scored yet: materialize component_log_density, or run `pwflow run`.")
    connection.execute(
        """
        CREATE TEMP TABLE complete_segments AS
        SELECT clusters.segment
        FROM mart.clusters
        LEFT JOIN pins USING (cluster_key)
        WHERE clusters.status = 'active'
        GROUP BY clusters.segment
        HAVING count(*) = count(pins.cluster_key)
        """
    )


def record_model_set(connection: duckdb.DuckDBPyConnection, config: PlantConfig) -> tuple[str, FalseAlarmRate]:
    """Record the pinned clusters, weights and flows with the rules of judging; return their id and those rules.

    Raises:
        ConfigurationError: The budget of alarms is more than the plant has readings.
    """
    pins = connection.execute(
        "SELECT cluster_model_id, cluster_key, weight, flow_version FROM pins ORDER BY cluster_key"
    ).fetchall()
    rate, scoring = _false_alarm_rate(connection, config), config.scoring
    rules = [rate.alpha, scoring.min_calibration_rows]
    model_set_id = hashlib.sha256(json.dumps([pins, *rules]).encode()).hexdigest()[:16]
    connection.execute(
        """
        INSERT INTO core.model_sets BY NAME
        SELECT $id AS model_set_id, cluster_model_id, cluster_key, segment, weight, flow_version,
               $alpha AS alpha, $alarms AS alarms_per_week, $readings AS readings_per_week,
               $min_rows AS min_calibration_rows, $now AS pinned_at
        FROM pins
        WHERE $id NOT IN (SELECT model_set_id FROM core.model_sets)
        """,
        {
            "id": model_set_id,
            "alpha": rate.alpha,
            "alarms": rate.alarms_per_week,
            "readings": rate.readings_per_week,
            "min_rows": scoring.min_calibration_rows,
            "now": utc_now(),
        },
    )
    return model_set_id, rate


def _false_alarm_rate(connection: duckdb.DuckDBPyConnection, config: PlantConfig) -> FalseAlarmRate:
    """Return the rate in use; a budget is converted once for a cluster model, so that no night changes the rate."""
    budget = config.scoring.alarms_per_week
    if budget is None:
        return FalseAlarmRate(config.scoring.alpha)
    settled = connection.execute(
        """
        SELECT alpha, alarms_per_week, readings_per_week
        FROM core.model_sets
        WHERE alarms_per_week = ? AND cluster_model_id IN (SELECT cluster_model_id FROM pins)
        ORDER BY pinned_at DESC
        LIMIT 1
        """,
        [budget],
    ).fetchone()
    if settled is not None:
        return FalseAlarmRate(*settled)
    readings = affordable_readings(connection, budget)
    timing, gap_minutes = read_timing(connection, config), config.events.max_gap_minutes
    reach = (
        DEFAULT_GAP_INTERVALS if gap_minutes is None or timing is None else 60 * gap_minutes / timing.interval_seconds
    )
    alpha = rate_of_events(budget / readings, config.events.min_readings, reach, _tail_dependence(connection))
    return FalseAlarmRate(alpha, budget, readings)


def _tail_dependence(connection: duckdb.DuckDBPyConnection) -> float:
    """Return how many groups rare readings make, each, over all regimes."""
    found = fetch_value(
        connection,
        "SELECT sum(n_rows * tail_dependence) / sum(n_rows) FROM core.calibration "
        "JOIN pins USING (cluster_key, flow_version) WHERE n_rows > 0",
    )
    return 0.5 if found is None else float(found)
