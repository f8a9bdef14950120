"""Slices: log p_k(x) of every candidate reading of a cluster, by the flow in use; only what is missing."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import numpy as np
from numpy.typing import NDArray

from pwflow_core.errors import ModelFileError
from pwflow_core.modelling.completion import complete_rows
from pwflow_core.pace import Pace
from pwflow_core.pipeline.flows.fleet import meet_machines, read_fleet
from pwflow_core.pipeline.readings.features import check_columns
from pwflow_core.pipeline.regimes.model import ClusterModel, check_cluster_keys, load_cluster_model
from pwflow_core.plant import Plant
from pwflow_core.storage import working_folder
from pwflow_core.warehouse import fetch_value, quote_columns, utc_now
from pwflow_core.warehouse.progress import ASSIGN_STEP, Progress, read_progress, write_progress
from pwflow_core.warehouse.streaming import Spool, copy_out, read_chunks_of_machines

if TYPE_CHECKING:
    from pwflow_core.modelling import ClusterFlow

__all__ = ["UNREADABLE_STEP", "SliceSummary", "load_flow", "score_slices"]

_log = logging.getLogger("pwflow.slices")

SCORE_STEP = "score"
_SPOOLED = ("reading_id", "log_density", "conformity", "log_volume")
UNREADABLE_STEP = "unreadable"
"""Marks a cluster whose flow in use cannot be read: until it can be, its readings are not judged."""


@dataclass(frozen=True)
class SliceSummary:
    """What scoring one slice came to.

    Attributes:
        flow_version: The flow that scored it; None if the cluster has none yet.
        n_new: Readings scored in this run.
        n_readings: Readings in the slice now.
        rows_per_second: Speed of the model on the readings of this run; NaN if there were none.
        problem: Why the flow cannot be used; None if it can. What it scored before stays.
    """

    flow_version: str | None
    n_new: int
    n_readings: int
    rows_per_second: float
    problem: str | None = None


def score_slices(
    plant: Plant, keys: list[str] | None = None, *, learn_machines: bool = True
) -> Iterator[tuple[str, SliceSummary]]:
    """Score the readings of each cluster that its flow in use has not scored yet.

    The flow versions are pinned when the run starts: one that is promoted meanwhile waits for the next run.
    Each slice is written in one transaction. A cluster whose model file is missing, damaged or that of another one is
    left out: nothing is scored with it, its new readings are not judged, and the others go on.

    Arguments:
        plant: The plant.
        keys: Cluster keys; all in use if None.
        learn_machines: Whether machines that are new are learned, see `flows.fleet`.

    Yields:
        Each cluster key with what was done for it, as soon as its slice is written.

    Raises:
        UnknownClusterError: A key is not in use.
        ModelFileError: No model file of these clusters can be used.
    """
    _, model = load_cluster_model(plant)
    keys = check_cluster_keys(model.keys, keys)
    with plant.warehouse.snapshot() as connection:
        check_columns(connection, model.columns)
        pinned = dict(
            connection.execute("SELECT cluster_key, flow_version FROM mart.flow_versions WHERE in_force").fetchall()
        )
        assigned_by = {key: read_progress(connection, ASSIGN_STEP, key).model for key in keys}
        done = {key: read_progress(connection, SCORE_STEP, key) for key in keys if key in pinned}
    if learn_machines:
        _meet_machines(plant, model, pinned, done)
    problems = []
    for key in keys:
        if key in pinned:
            try:
                summary = _score_slice(plant, key, pinned[key], assigned_by[key], model)
            except ModelFileError as error:
                summary = _leave_out(plant, key, pinned[key], error)
                problems.append(str(error))
            yield key, summary
        else:
            _log.warning("%s has no flow yet: its readings stay unjudged", key)
            yield key, SliceSummary(None, 0, 0, float("nan"))
    if problems and len(problems) == len(keys):
        raise ModelFileError(problems[0])


def _meet_machines(plant: Plant, model: ClusterModel, pinned: Mapping[str, str], done: Mapping[str, Progress]) -> None:
    """Learn the machines that came since, in regimes whose machines differ."""

    def open_flow(key: str, version: str) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
        return load_flow(plant, key, version, len(model.columns)).log_prob

    flows = {key: (pinned[key], p.batch_id if p.model == pinned[key] else 0) for key, p in done.items()}
    with plant.threads():
        meet_machines(plant, model, flows, open_flow)


def _leave_out(plant: Plant, key: str, version: str, error: ModelFileError) -> SliceSummary:
    """Take a cluster out of the model set until its flow can be read."""
    _log.warning("%s is not judged: %s", key, error)
    with plant.warehouse.transaction() as connection:
        connection.execute("DELETE FROM core.progress WHERE step = ? AND cluster_key = ?", [SCORE_STEP, key])
        write_progress(connection, UNREADABLE_STEP, Progress(version), key)
        n_readings = _count_slice(connection, key)
    return SliceSummary(version, 0, n_readings, float("nan"), str(error))


def _score_slice(plant: Plant, key: str, version: str, assigned_by: str, model: ClusterModel) -> SliceSummary:
    part, position = model.locate(key)
    mean, covariance = part.seeds.means[position], part.seeds.covariances[position]
    with plant.threads(), working_folder(plant.warehouse.folder, "score") as folder:
        rows, results = folder / "rows.parquet", folder / "results.parquet"
        with plant.warehouse.snapshot() as connection:
            latest = read_progress(connection, ASSIGN_STEP, key).batch_id
            n_missing = _copy_missing(connection, key, version, model.columns, rows)
            fleet = read_fleet(connection, key, version)
        if not n_missing:
            plant.models.get(version)  # raises if it cannot be used any more
            n_readings = _write_slice(plant, key, Progress(version, latest), assigned_by, None)
            return SliceSummary(version, 0, n_readings, float("nan"))
        flow = load_flow(plant, key, version, len(model.columns))
        n_new, seconds = 0, 0.0
        with plant.warehouse.scratch() as scratch:
            spool = Spool(scratch, dict.fromkeys(_SPOOLED, "DOUBLE") | {"reading_id": "BIGINT"})
            pace = Pace(_log, f"readings of {key} scored", n_missing)
            chunks = read_chunks_of_machines(scratch, rows, model.columns, plant.config.compute.chunk_rows)
            for reading_id, X, machine in chunks:
                started = time.perf_counter()
                log_volume, is_known = np.zeros(len(X)), np.ones(len(X), dtype=np.bool_)
                if fleet is not None:
                    X, log_volume = fleet.correct(X, machine)
                    is_known = fleet.knows(machine)
                found = flow.evaluate(complete_rows(X, mean, covariance))
                spool.append(
                    reading_id=reading_id,
                    log_density=found.log_prob + log_volume,
                    conformity=np.where(is_known, found.conformity, np.nan),
                    log_volume=log_volume,
                )
                seconds += time.perf_counter() - started
                n_new += len(X)
                pace.advance(len(X))
            spool.close(results)
        n_readings = _write_slice(plant, key, Progress(version, latest), assigned_by, results)
    speed = n_new / seconds if seconds else float("nan")
    _log.info("%s: %s readings scored, %s in the slice", key, f"{n_new:,}", f"{n_readings:,}")
    return SliceSummary(version, n_new, n_readings, speed)


def _copy_missing(
    connection: duckdb.DuckDBPyConnection, key: str, version: str, sensors: tuple[str, ...], target: Path
) -> int:
    """Copy out the readings that a flow has not scored, and return how many those are.

    They are looked for among those that arrived since the slice was written, and among all if these are not what the
    slice lacks, by their number and the sum of their hashes.
    """
    about = {"key": key, "version": version}
    n_missing, total = connection.execute(
        """
        SELECT assigned.n - scored.n, assigned.total - scored.total
        FROM (
            SELECT count(*) AS n, coalesce(sum(hash(reading_id)), 0) AS total
            FROM core.cluster_assignments
            WHERE cluster_key = $key
        ) AS assigned
        CROSS JOIN (
            SELECT count(*) AS n, coalesce(sum(hash(reading_id)), 0) AS total
            FROM core.component_log_density
            WHERE cluster_key = $key AND flow_version = $version
        ) AS scored
        """,
        about,
    ).fetchall()[0]
    if not n_missing and not total:
        return 0
    done = read_progress(connection, SCORE_STEP, key)
    for since in (done.batch_id if done.model == version else 0, 0):
        connection.execute(
            """
            CREATE OR REPLACE TEMP TABLE missing AS
            SELECT assigned.reading_id
            FROM core.cluster_assignments AS assigned
            SEMI JOIN (SELECT reading_id FROM core.readings WHERE batch_id > $since) AS recent USING (reading_id)
            ANTI JOIN (
                SELECT reading_id FROM core.component_log_density WHERE cluster_key = $key AND flow_version = $version
            ) AS scored USING (reading_id)
            WHERE cluster_key = $key
            """,
            about | {"since": since},
        )
        found = connection.execute("SELECT count(*), coalesce(sum(hash(reading_id)), 0) FROM missing").fetchall()[0]
        if found == (n_missing, total):
            break
    if found[0]:
        copy_out(
            connection,
            f"SELECT reading_id, machine_id, {quote_columns(sensors)} FROM core.model_readings "
            "SEMI JOIN missing USING (reading_id) WHERE batch_id > $since",
            {"since": since},
            target,
        )
    return int(found[0])


def load_flow(plant: Plant, key: str, version: str, n_features: int) -> ClusterFlow:
    """Return a flow of a cluster from the model store.

    Raises:
        ModelFileError: Its file is missing or damaged, or it is for another number of columns.
    """
    from pwflow_core.modelling import ClusterFlow

    flow = ClusterFlow.from_bytes(plant.models.get(version))
    if flow.n_features != n_features:
        raise ModelFileError(
            f"The flow {version[:12]}… of cluster {key} was trained on {flow.n_features} sensors, but the plant "
            f"has {n_features}: materialize cluster_model and cluster_flow again."
        )
    return flow


def _write_slice(plant: Plant, key: str, done: Progress, assigned_by: str, results: Path | None) -> int:
    """Write what is still missing; readings that changed, or that another run scored meanwhile, are left out.

    Nothing is written if the regimes were found again since the run began, which its assignments by the cluster model
    `assigned_by` tell: the key may stand for another regime now.
    """
    with plant.warehouse.transaction() as connection:
        if read_progress(connection, ASSIGN_STEP, key).model != assigned_by:
            _log.warning("%s: the regimes were found again meanwhile; its slice is left for the next run", key)
            return _count_slice(connection, key)
        connection.execute(
            "DELETE FROM core.component_log_density WHERE cluster_key = ? AND flow_version <> ?",
            [key, done.model],
        )
        if results is not None:
            _insert_results(connection, key, done, results)
        write_progress(connection, SCORE_STEP, done, key)
        connection.execute("DELETE FROM core.progress WHERE step = ? AND cluster_key = ?", [UNREADABLE_STEP, key])
        return _count_slice(connection, key)


def _insert_results(connection: duckdb.DuckDBPyConnection, key: str, done: Progress, results: Path) -> None:
    connection.execute(
        """
        INSERT INTO core.component_log_density BY NAME
        SELECT $key AS cluster_key, reading_id, log_density,
               CASE WHEN NOT isnan(conformity) THEN conformity END AS conformity,
               $version AS flow_version, $now AS scored_at, log_volume
        FROM read_parquet($results)
        SEMI JOIN (SELECT reading_id FROM core.readings WHERE batch_id <= $latest) USING (reading_id)
        ANTI JOIN (SELECT reading_id FROM core.component_log_density WHERE cluster_key = $key) USING (reading_id)
        """,
        {
            "key": key,
            "version": done.model,
            "now": utc_now(),
            "results": str(results),
            "latest": done.batch_id,
        },
    )


def _count_slice(connection: duckdb.DuckDBPyConnection, key: str) -> int:
    return int(fetch_value(connection, "SELECT count(*) FROM core.component_log_density WHERE cluster_key = ?", [key]))
