"""Scoring a file: what the models in use say of readings that are not, or not yet, in the warehouse.

The steps of the pipeline run in a warehouse of their own, thrown away afterwards, which holds the file and what the
plant has settled: columns, stuck limits, regimes, flows, calibration. So every rule is the pipeline's own, and nothing
is learned from the file. What depends on earlier readings sees those in the file alone.
"""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path

import duckdb

from pwflow_core.errors import NotFittedError, SourceError
from pwflow_core.pipeline.publishing.exporting import check_target, export_query
from pwflow_core.pipeline.readings.deriving import derive_readings
from pwflow_core.pipeline.readings.features import restore_features
from pwflow_core.pipeline.readings.quality import QUALITY_FACT, quality_settings
from pwflow_core.pipeline.regimes.assigning import assign_readings
from pwflow_core.pipeline.regimes.finding import needs_cluster_model
from pwflow_core.pipeline.scoring.densities import score_slices
from pwflow_core.pipeline.scoring.scores import derive_scores
from pwflow_core.pipeline.source.settling import settle_source
from pwflow_core.pipeline.source.source import (
    SOURCE_FACT,
    Source,
    label_files,
    look_at_file,
    read_source,
)
from pwflow_core.pipeline.source.staging import stage_file
from pwflow_core.pipeline.using.apart import open_apart
from pwflow_core.plant import Plant
from pwflow_core.warehouse.progress import write_fact
from pwflow_core.warehouse.streaming import copy_out
from pwflow_core.warehouse.tables import add_sensor_columns

__all__ = ["SCORE_COLUMNS", "ScoredFile", "score_file"]

_log = logging.getLogger("pwflow.score")

SCORE_COLUMNS = (
    "machine_id",
    "ts",
    "segment",
    "cluster_key",
    "log_density",
    "p_value",
    "anomaly_score",
    "is_anomaly",
    "status",
    "reason",
)
"""Columns of a scored file; they mean what they mean in `mart.anomaly_scores`."""

_SETTLED = (
    "core.plant_facts",
    "core.stuck_limits",
    "core.cluster_models",
    "core.model_sets",
    "core.calibration",
    "core.calibration_steps",
    "core.level_steps",
    "core.merged_steps",
    "core.known_states",
    "core.fleets",
    "mart.machine_corrections",
    "mart.clusters",
    "mart.flow_versions",
)


@dataclass(frozen=True)
class ScoredFile:
    """What scoring a file came to.

    Attributes:
        path: The file with the scores.
        n_rows: Rows of the file that was scored.
        n_by_status: Readings by status.
        n_anomalies: Readings that are anomalies.
        alpha: The false-alarm rate per reading that they were judged by.
        refused: Rows and values that were refused, by reason.
        model_set_id: The clusters, weights and flows that judged.
    """

    path: Path
    n_rows: int
    n_by_status: dict[str, int]
    n_anomalies: int
    alpha: float
    refused: dict[str, int]
    model_set_id: str


def score_file(plant: Plant, file: Path, target: Path) -> ScoredFile:
    """Score the readings of a CSV or Parquet file with the models in use; the warehouse stays as it is.

    A reading gets what the pipeline would give it, as long as that does not depend on readings before the first of the
    file: a stuck sensor, a bridged gap and a feature over time need those.

    Arguments:
        plant: The plant.
        file: A file with the columns of the source.
        target: CSV or Parquet file to write, with `SCORE_COLUMNS`, by machine and time.

    Raises:
        NotFittedError: There are no calibrated models, or the configuration changed since they were learned.
        SourceError: The file cannot be read, or lacks a column of the source.
        ConfigurationError: The target cannot be written.
    """
    check_target(target)
    if not file.is_file():
        raise SourceError(f"There is no file {file}: name a CSV or Parquet file with readings of the plant.")
    if needs_cluster_model(plant):
        raise _not_learned()
    source = settle_source(plant, [])
    with tempfile.TemporaryDirectory(prefix="pwflow-score-") as name:
        folder = Path(name)
        with plant.warehouse.snapshot() as connection:
            _check_settled(plant, connection, source)
            for table in _SETTLED:
                copy_out(connection, f"FROM {table}", {}, _parquet(folder, table))
        apart = open_apart(plant, folder)
        n_rows = _fill(apart, folder, file, source)
        refused = derive_readings(apart).rejected
        n_regimes = len(assign_readings(apart))
        _log.info("scoring by %d regimes", n_regimes, extra={"job": "score", "n_steps": n_regimes})
        for key, _ in score_slices(apart, learn_machines=False):
            _log.info("%s has scored", key, extra={"is_step_end": True})
        summary = derive_scores(apart)
        with apart.warehouse.snapshot() as connection:
            query = f"SELECT {', '.join(SCORE_COLUMNS)} FROM mart.anomaly_scores ORDER BY machine_id, ts"
            export_query(connection, query, target)
    _log.info("%s: %s rows scored", file, f"{n_rows:,}")
    return ScoredFile(
        target,
        n_rows,
        summary.n_by_status,
        summary.n_anomalies,
        summary.rate.alpha,
        refused,
        summary.model_set_id,
    )


def _not_learned() -> NotFittedError:
    return NotFittedError(
        "The models were not learned under this configuration, or not at all: run `pwflow run` first, then score."
    )


def _check_settled(plant: Plant, connection: duckdb.DuckDBPyConnection, source: Source) -> None:
    """Check that the models fit the configuration, and that a score would need nothing from the file but readings."""
    settled = read_source(connection)
    names, settled_names = ((of.measured, of.states) for of in (source, settled))
    if (names, source.segments) != (settled_names, settled.segments):
        raise _not_learned()
    uncalibrated = connection.execute(
        "SELECT cluster_key FROM mart.flow_versions JOIN mart.clusters USING (cluster_key) "
        "ANTI JOIN core.calibration USING (cluster_key, flow_version) "
        "WHERE in_force AND status = 'active' ORDER BY cluster_key"
    ).fetchall()
    if uncalibrated:
        raise NotFittedError(
            f"The flow in use of {uncalibrated[0][0]} is not calibrated yet: run `pwflow run` first, then score."
        )
    budget = plant.config.scoring.alarms_per_week
    if (
        budget is not None
        and not connection.execute(
            "SELECT 1 FROM core.model_sets WHERE alarms_per_week = ? AND cluster_model_id IN "
            "(SELECT cluster_model_id FROM core.cluster_models WHERE in_force)",
            [budget],
        ).fetchone()
    ):
        raise NotFittedError(
            f"scoring.alarms_per_week = {budget:g} has not been converted yet: run `pwflow run` first, then score."
        )


def _parquet(folder: Path, table: str) -> Path:
    return folder / f"{table}.parquet"


def _fill(apart: Plant, folder: Path, file: Path, source: Source) -> int:
    """Put what the plant has settled and the rows of the file into the warehouse; return the number of rows."""
    state = look_at_file(str(file.absolute()))
    label = label_files(apart.config, [state])[state.path]
    if label == state.path.lstrip("/"):  # not below the folder of the source
        label = file.name
    with apart.warehouse.scratch() as scratch:
        staged = stage_file(scratch, state.path, label, source, folder / "rows.parquet")
    with apart.warehouse.transaction() as connection:
        add_sensor_columns(connection, [(sensor.name, sensor.unit) for sensor in source.sensors])
        for table in _SETTLED:
            connection.execute(f"INSERT INTO {table} BY NAME FROM read_parquet(?)", [str(_parquet(folder, table))])
        write_fact(connection, SOURCE_FACT, source.to_json())
        write_fact(connection, QUALITY_FACT, quality_settings(apart.config))  # limits stay as they were learned
        restore_features(connection)
        connection.execute(
            "INSERT INTO ingest.files BY NAME SELECT 1 AS file_id, ? AS path, ? AS n_rows, 'ingested' AS status, "
            "1 AS arrived_in",
            [state.path, staged.n_rows],
        )
        connection.execute(
            "INSERT INTO ingest.raw_readings BY NAME SELECT 1::BIGINT AS file_id, * FROM read_parquet(?)",
            [str(staged.rows_file)],
        )
        if staged.malformed:
            connection.executemany(
                "INSERT INTO ingest.malformed_lines VALUES (1, ?, ?, ?)", [list(line) for line in staged.malformed]
            )
    return staged.n_rows
