"""Scores: from the slices to calibrated probabilities, derived in SQL; only what changed."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime

import duckdb

from pwflow_core.errors import NotFittedError
from pwflow_core.pipeline.clusters import ASSIGN_STEP
from pwflow_core.pipeline.progress import Progress, read_progress, write_progress
from pwflow_core.pipeline.readings import CALIBRATION_FOLDS
from pwflow_core.pipeline.slices import SCORE_STEP
from pwflow_core.pipeline.training_rows import select_training_rows, training_window
from pwflow_core.plant import Plant
from pwflow_core.warehouse import read_sql

__all__ = ["SCORES_STEP", "ScoresSummary", "derive_scores"]

_log = logging.getLogger("pwflow.scores")

SCORES_STEP = "scores"


@dataclass(frozen=True)
class ScoresSummary:
    """What deriving the scores came to.

    Attributes:
        model_set_id: The model set that the run was pinned to.
        n_derived: Readings whose score was made in this run.
        n_by_status: Readings by status, all together.
        n_anomalies: Anomalies, all together.
        calibration_rows: Held-out readings behind the p-values, by cluster.
        silent: Clusters with too few of them for any p-value as small as alpha: they cannot alarm yet.
    """

    model_set_id: str
    n_derived: int
    n_by_status: dict[str, int]
    n_anomalies: int
    calibration_rows: dict[str, int]
    silent: list[str]


def derive_scores(plant: Plant) -> ScoresSummary:
    """Derive `anomaly_scores` for readings that are new, or that have a cluster whose flow changed.

    The run is pinned to the flow versions that the slices were scored with. The scores of all other readings
    stay as they are, to the byte.

    Raises:
        NotFittedError: No slice has been scored yet.
    """
    scoring = plant.config.scoring
    with plant.warehouse.transaction() as connection:
        _pin(connection)
        model_set_id = _record_model_set(connection, scoring.alpha, scoring.min_calibration_rows)
        before = read_progress(connection, SCORES_STEP)
        latest = _find_affected(connection, before, model_set_id)
        script = read_sql(
            __package__,
            "scores.sql",
            training_rows=select_training_rows(plant.config.training),
            calibration_folds=str(CALIBRATION_FOLDS),
        )
        values = training_window(plant.config.training) | {
            "alpha": scoring.alpha,
            "min_calibration_rows": scoring.min_calibration_rows,
            "model_set_id": model_set_id,
            "now": datetime.now(UTC).replace(tzinfo=None),
        }
        for statement in duckdb.extract_statements(script):
            connection.execute(statement, {name: values[name] for name in statement.named_parameters})
        write_progress(connection, SCORES_STEP, Progress(model_set_id, latest))
        summary = _summarise(connection, model_set_id, scoring.alpha)
    if summary.silent:
        _log.warning(
            "%d of %d regimes (%s) have fewer than %d held-out readings: no p-value there can be as small as alpha = "
            "%g, and nothing there can alarm; give more training readings, fewer regimes, or raise scoring.alpha",
            len(summary.silent),
            len(summary.calibration_rows),
            ", ".join(summary.silent[:3]) + (", …" if len(summary.silent) > 3 else ""),
            round(1 / scoring.alpha) - 1,
            scoring.alpha,
        )
    _log.info("%s readings derived, %d anomalies in all", f"{summary.n_derived:,}", summary.n_anomalies)
    return summary


def _pin(connection: duckdb.DuckDBPyConnection) -> None:
    """Pin the run to what the slices were scored with, even if another flow is in force by now."""
    connection.execute(
        """
        CREATE TEMP TABLE pins AS
        SELECT cluster_key, segment, weight, cluster_model_id, progress.model AS flow_version, progress.batch_id
        FROM mart.clusters
        JOIN core.progress AS progress USING (cluster_key)
        WHERE status = 'active' AND progress.step = ?
        """,
        [SCORE_STEP],
    )
    row = connection.execute("SELECT count(*) FROM pins").fetchone()
    if row is None or row[0] == 0:
        raise NotFittedError("Nothing has been scored yet: materialize component_log_density, or run `pwflow run`.")


def _record_model_set(connection: duckdb.DuckDBPyConnection, alpha: float, min_rows: int) -> str:
    pins = connection.execute(
        "SELECT cluster_model_id, cluster_key, weight, flow_version FROM pins ORDER BY cluster_key"
    ).fetchall()
    model_set_id = hashlib.sha256(json.dumps([pins, alpha, min_rows]).encode()).hexdigest()[:16]
    connection.execute(
        """
        INSERT INTO core.model_sets BY NAME
        SELECT $id AS model_set_id, cluster_model_id, cluster_key, segment, weight, flow_version,
               $alpha AS alpha, $min_rows AS min_calibration_rows, $now AS pinned_at
        FROM pins
        WHERE $id NOT IN (SELECT model_set_id FROM core.model_sets)
        """,
        {
            "id": model_set_id,
            "alpha": alpha,
            "min_rows": min_rows,
            "now": datetime.now(UTC).replace(tzinfo=None),
        },
    )
    return model_set_id


def _find_affected(connection: duckdb.DuckDBPyConnection, before: Progress, model_set_id: str) -> int:
    """Fill `affected`; return the last batch of readings that every regime and every slice has seen."""
    row = connection.execute(
        """
        SELECT least((SELECT min(batch_id) FROM pins), min(coalesce(progress.batch_id, 0)))
        FROM mart.clusters
        LEFT JOIN core.progress ON clusters.cluster_key = progress.cluster_key AND progress.step = ?
        WHERE status = 'active'
        """,
        [ASSIGN_STEP],
    ).fetchone()
    latest = int(row[0]) if row else 0
    shared = connection.execute(
        """
        SELECT count(*) FROM
            (SELECT DISTINCT cluster_model_id, alpha, min_calibration_rows FROM core.model_sets WHERE model_set_id = ?
             INTERSECT
             SELECT DISTINCT cluster_model_id, alpha, min_calibration_rows FROM core.model_sets WHERE model_set_id = ?)
        """,
        [before.model, model_set_id],
    ).fetchone()
    since = before.batch_id if shared and shared[0] else 0
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
    return max(latest, since)


def _summarise(connection: duckdb.DuckDBPyConnection, model_set_id: str, alpha: float) -> ScoresSummary:
    derived = connection.execute("SELECT count(*) FROM affected").fetchone()
    statuses = connection.execute(
        "SELECT status, count(*) FROM mart.anomaly_scores GROUP BY status ORDER BY status"
    ).fetchall()
    anomalies = connection.execute("SELECT count(*) FROM mart.anomaly_scores WHERE is_anomaly").fetchone()
    calibration = connection.execute(
        "SELECT cluster_key, max(n_total) FROM core.calibration JOIN pins USING (cluster_key, flow_version) "
        "GROUP BY cluster_key ORDER BY cluster_key"
    ).fetchall()
    return ScoresSummary(
        model_set_id,
        int(derived[0]) if derived else 0,
        dict(statuses),
        int(anomalies[0]) if anomalies else 0,
        dict(calibration),
        [key for key, n_total in calibration if 1 / (1 + n_total) > alpha],
    )
