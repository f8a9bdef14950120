"""Model sets: the clusters, weights and flows that a scoring run is pinned to, and its false-alarm rate."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime

import duckdb
import numpy as np
from scipy.optimize import brentq
from scipy.special import binom

from pwflow_core.config import PlantConfig
from pwflow_core.errors import NotFittedError
from pwflow_core.pipeline.budget import affordable_readings
from pwflow_core.pipeline.slices import SCORE_STEP
from pwflow_core.pipeline.timing import read_timing

__all__ = ["FalseAlarmRate", "create_pins", "rate_of_events", "record_model_set"]

DEFAULT_GAP_INTERVALS = 10
"""Anomalies so many usual intervals apart are one event, where the configuration names no gap."""
RARE_FACTOR = 0.01
"""One anomaly is an event of its own if its p-value is at most this times alpha."""
_SMALLEST_LOG_ALPHA, _LARGEST_ALPHA = -600.0, 0.1


@dataclass(frozen=True)
class FalseAlarmRate:
    """How many normal readings may alarm.

    Attributes:
        alpha: A reading is an anomaly if its p-value is at most this.
        alarms_per_week: The budget of false events of the plant that it was converted from; None if alpha was given.
        readings_per_week: Readings of the plant in a week that it was converted with; None if alpha was given.
    """

    alpha: float
    alarms_per_week: float | None = None
    readings_per_week: float | None = None


def create_pins(connection: duckdb.DuckDBPyConnection) -> None:
    """Create the temporary table `pins`: what the slices were scored with, even if another flow is in force by now.

    Flows are numbered in it: joins on a number take half as long as joins on key and version.

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
    row = connection.execute("SELECT count(*) FROM pins").fetchone()
    if row is None or row[0] == 0:
        raise NotFittedError("Nothing has been scored yet: materialize component_log_density, or run `pwflow run`.")


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
            "now": datetime.now(UTC).replace(tzinfo=None),
        },
    )
    return model_set_id, rate


def _false_alarm_rate(connection: duckdb.DuckDBPyConnection, config: PlantConfig) -> FalseAlarmRate:
    """Return the rate in force; a budget is converted once for a cluster model, so that no night changes the rate."""
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
    row = connection.execute(
        "SELECT sum(n_rows * tail_dependence) / sum(n_rows) FROM core.calibration "
        "JOIN pins USING (cluster_key, flow_version) WHERE n_rows > 0"
    ).fetchone()
    return float(row[0]) if row is not None and row[0] is not None else 0.5


def rate_of_events(per_reading: float, min_readings: int, reach: float, tail_dependence: float) -> float:
    r"""Return the alpha at which normal readings make so many false events each.

    An event is `min_readings` anomalies within reach of each other, or one with p at most alpha / 100:

        events per reading = alpha [1/100 + tail_dependence + C(reach, min_readings - 1) alpha^(min_readings - 1)]

    The last term is chance. False alarms come together more often than that, since neighbouring readings are alike:
    how many groups they make is measured on the held-out readings, and each is taken to be enough for an event.

    Arguments:
        per_reading: Budget of false events per reading, above 0 and below 1.
        min_readings: Fewest anomalies of an event.
        reach: Readings after an anomaly that can belong to its event.
        tail_dependence: Groups of false alarms beyond chance, per false alarm, 0 to 0.5.
    """
    if min_readings == 1:
        return per_reading

    def excess(log_alpha: float) -> float:
        alpha = np.exp(log_alpha)
        by_chance = binom(max(reach, min_readings - 1), min_readings - 1) * alpha ** (min_readings - 1)
        return float(log_alpha + np.log(RARE_FACTOR + tail_dependence + by_chance) - np.log(per_reading))

    if excess(np.log(_LARGEST_ALPHA)) <= 0:
        return _LARGEST_ALPHA
    return float(np.exp(brentq(excess, _SMALLEST_LOG_ALPHA, np.log(_LARGEST_ALPHA))))
