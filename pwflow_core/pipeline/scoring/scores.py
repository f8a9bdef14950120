"""Scores: from the slices to calibrated probabilities, derived in SQL; only what changed."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import duckdb

from pwflow_core.errors import list_few
from pwflow_core.modelling.calibration import SMALLEST_P
from pwflow_core.modelling.levels import OWN_WEIGHT
from pwflow_core.pipeline.readings.rate import FalseAlarmRate
from pwflow_core.pipeline.scoring.calibration import calibrate_flows
from pwflow_core.pipeline.scoring.levels import measure_levels, write_levels
from pwflow_core.pipeline.scoring.model_sets import create_pins, record_model_set
from pwflow_core.pipeline.scoring.states import mark_new_states, measure_states, write_states
from pwflow_core.plant import Plant
from pwflow_core.warehouse import fetch_value, read_sql, run_script, utc_now
from pwflow_core.warehouse.days import note_changed_days
from pwflow_core.warehouse.progress import ASSIGN_STEP, Progress, read_progress, write_progress

__all__ = ["SCORES_STEP", "ClusterCalibration", "ScoresSummary", "alpha_in_force", "derive_scores"]

_log = logging.getLogger("pwflow.scores")

SCORES_STEP = "scores"


@dataclass(frozen=True)
class ClusterCalibration:
    """What stands behind the p-values of one regime.

    Attributes:
        n_rows: Held-out readings.
        n_effective: Independent readings that they are worth.
        n_set_aside: Readings that were left out as gross outliers.
        tail_scale: Scale of the tail of the surprise, nats; None without readings.
        tail_shape: Its shape.
    """

    n_rows: int
    n_effective: float
    n_set_aside: int
    tail_scale: float | None
    tail_shape: float | None


@dataclass(frozen=True)
class ScoresSummary:
    """What deriving the scores came to.

    Attributes:
        model_set_id: The model set that the run was pinned to.
        rate: The false-alarm rate in use.
        n_derived: Readings whose score was made in this run.
        n_by_status: Readings by status, all together.
        n_anomalies: Anomalies, all together.
        calibration: What stands behind the p-values, by cluster.
        silent: Clusters with too few held-out readings to be judged: they cannot alarm.
        extrapolated: Clusters whose held-out readings are worth too few for p-values as small as alpha: there an
            alarm rests on the tail that was fitted to them.
    """

    model_set_id: str
    rate: FalseAlarmRate
    n_derived: int
    n_by_status: dict[str, int]
    n_anomalies: int
    calibration: dict[str, ClusterCalibration]
    silent: list[str]
    extrapolated: list[str]


def derive_scores(plant: Plant) -> ScoresSummary:
    """Derive `anomaly_scores` for readings that are new, or that have a cluster whose flow changed.

    The run is pinned to the flow versions that the slices were scored with. The scores of all other readings
    stay as they are, byte by byte.

    Raises:
        NotFittedError: No slice has been scored yet.
        ConfigurationError: The budget of alarms is more than the plant has readings.
    """
    calibrate_flows(plant)
    scoring, levels, states = plant.config.scoring, measure_levels(plant), measure_states(plant)
    with plant.warehouse.transaction() as connection:
        create_pins(connection)
        _drop_uncalibrated_pins(connection)
        model_set_id, rate = record_model_set(connection, plant.config)
        before = read_progress(connection, SCORES_STEP)
        is_new = [write_levels(connection, levels), write_states(connection, states)]
        latest = _find_affected(connection, before, model_set_id, everything=any(is_new))
        mark_new_states(connection)
        values = {
            "alpha": rate.alpha,
            "min_calibration_rows": scoring.min_calibration_rows,
            "smallest_p": SMALLEST_P,
            "own_weight": OWN_WEIGHT,
            "model_set_id": model_set_id,
            "now": utc_now(),
        }
        run_script(connection, read_sql(__package__, "scores.sql"), values)
        note_changed_days(connection, "SELECT ts FROM core.readings SEMI JOIN affected USING (reading_id)")
        write_progress(connection, SCORES_STEP, Progress(model_set_id, latest))
        summary = _summarise(connection, model_set_id, rate, scoring.min_calibration_rows)
    _log_summary(summary, scoring.min_calibration_rows)
    return summary


def alpha_in_force(connection: duckdb.DuckDBPyConnection) -> float:
    """Return the false-alarm rate per reading that the scores were judged by; NaN before the first ones."""
    model_set_id = read_progress(connection, SCORES_STEP).model
    alpha = fetch_value(connection, "SELECT alpha FROM core.model_sets WHERE model_set_id = ? LIMIT 1", [model_set_id])
    return float("nan") if alpha is None else float(alpha)


def _drop_uncalibrated_pins(connection: duckdb.DuckDBPyConnection) -> None:
    """Leave out flows that scored their slice after the calibration of this run; the next run takes them up."""
    connection.execute(
        "DELETE FROM pins WHERE (cluster_key, flow_version) NOT IN "
        "(SELECT (cluster_key, flow_version) FROM core.calibration)"
    )


def _find_affected(
    connection: duckdb.DuckDBPyConnection, before: Progress, model_set_id: str, *, everything: bool
) -> int:
    """Fill `affected`; return the last batch of readings that every regime and every slice has seen."""
    latest: int = fetch_value(
        connection,
        """
        SELECT least((SELECT min(batch_id) FROM pins), min(coalesce(progress.batch_id, 0)))
        FROM mart.clusters
        LEFT JOIN core.progress ON clusters.cluster_key = progress.cluster_key AND progress.step = ?
        WHERE status = 'active'
        """,
        [ASSIGN_STEP],
    )
    is_shared = fetch_value(
        connection,
        """
        SELECT count(*) FROM
            (SELECT DISTINCT cluster_model_id, alpha, min_calibration_rows FROM core.model_sets WHERE model_set_id = ?
             INTERSECT
             SELECT DISTINCT cluster_model_id, alpha, min_calibration_rows FROM core.model_sets WHERE model_set_id = ?)
        """,
        [before.model, model_set_id],
    )
    since = before.batch_id if is_shared and not everything else 0
    connection.execute(
        "CREATE TEMP TABLE affected AS SELECT reading_id FROM core.readings WHERE batch_id > ? AND batch_id <= ?",
        [since, latest],
    )
    if since:
        connection.execute(
            """
            INSERT INTO affected
            SELECT DISTINCT assigned.reading_id
            FROM core.cluster_assignments AS assigned
            JOIN core.readings AS reading USING (reading_id)
            WHERE reading.batch_id <= $since
              AND assigned.cluster_key IN (
                SELECT cluster_key FROM core.model_sets WHERE model_set_id = $now
                  AND (cluster_key, flow_version) NOT IN
                      (SELECT (cluster_key, flow_version) FROM core.model_sets WHERE model_set_id = $before))
            """,
            {"since": since, "now": model_set_id, "before": before.model},
        )
        connection.execute(
            """
            INSERT INTO affected
            SELECT DISTINCT reading_id
            FROM mart.machine_corrections AS learned
            JOIN pins USING (cluster_key, flow_version)
            JOIN core.readings AS reading USING (machine_id)
            SEMI JOIN core.cluster_assignments AS assigned
              ON assigned.reading_id = reading.reading_id AND assigned.cluster_key = learned.cluster_key
            JOIN mart.anomaly_scores AS score USING (reading_id)
            WHERE score.scored_at < learned.decided_at AND reading.batch_id <= ?
              AND reading_id NOT IN (SELECT reading_id FROM affected)
            """,
            [since],
        )
    return max(latest, since)


def _summarise(
    connection: duckdb.DuckDBPyConnection, model_set_id: str, rate: FalseAlarmRate, min_rows: int
) -> ScoresSummary:
    statuses = connection.execute(
        "SELECT status, count(*) FROM mart.anomaly_scores GROUP BY status ORDER BY status"
    ).fetchall()
    rows = connection.execute(
        "SELECT cluster_key, n_rows, n_effective, coalesce(n_set_aside, 0), tail_scale, tail_shape "
        "FROM core.calibration JOIN pins USING (cluster_key, flow_version) ORDER BY cluster_key"
    ).fetchall()
    calibration = {key: ClusterCalibration(*values) for key, *values in rows}
    return ScoresSummary(
        model_set_id,
        rate,
        fetch_value(connection, "SELECT count(*) FROM affected"),
        dict(statuses),
        fetch_value(connection, "SELECT count(*) FROM mart.anomaly_scores WHERE is_anomaly"),
        calibration,
        [key for key, made in calibration.items() if made.n_rows < min_rows],
        [
            key
            for key, made in calibration.items()
            if made.n_rows >= min_rows and 1 / (1 + made.n_effective) > rate.alpha
        ],
    )


def _log_summary(summary: ScoresSummary, min_rows: int) -> None:
    rate = summary.rate
    if rate.alarms_per_week is not None:
        _log.info(
            "%g false events per week among %s readings are alpha = %.3g, by how held-out readings come together",
            rate.alarms_per_week,
            f"{rate.readings_per_week:,.0f}",
            rate.alpha,
        )
    if summary.silent:
        _log.warning(
            "%d of %d regimes (%s) have fewer than %d held-out readings: nothing there is judged or can alarm; give "
            "more training readings or fewer regimes, or lower scoring.min_calibration_rows",
            len(summary.silent),
            len(summary.calibration),
            list_few(summary.silent),
            min_rows,
        )
    if summary.extrapolated:
        _log.info(
            "%d of %d regimes (%s) have too few held-out readings to count alarms at alpha = %.3g: p-values that small "
            "follow a fitted tail there",
            len(summary.extrapolated),
            len(summary.calibration),
            list_few(summary.extrapolated),
            rate.alpha,
        )
    _log.info("%s readings derived, %s anomalies in all", f"{summary.n_derived:,}", f"{summary.n_anomalies:,}")
