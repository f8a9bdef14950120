"""Assigning: the readings that each regime could have produced, with its responsibility for them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np

from pwflow_core.modelling.completion import share_among_clusters
from pwflow_core.pipeline.readings.features import check_columns
from pwflow_core.pipeline.readings.quality import JUDGED
from pwflow_core.pipeline.regimes.model import ClusterModel, SegmentClusters, check_cluster_keys, load_cluster_model
from pwflow_core.plant import Plant
from pwflow_core.storage import working_folder
from pwflow_core.warehouse import quote_columns
from pwflow_core.warehouse.progress import ASSIGN_STEP, Progress, read_progress, write_progress
from pwflow_core.warehouse.streaming import Spool, copy_out, read_chunks

__all__ = ["AssignmentSummary", "assign_readings"]


@dataclass(frozen=True)
class AssignmentSummary:
    """Readings that were given to one cluster.

    Attributes:
        n_new: Readings that became candidates of it in this run.
        n_readings: Readings that have it as a candidate now.
        batch_id: The last batch of readings that was looked at.
    """

    n_new: int
    n_readings: int
    batch_id: int


def assign_readings(plant: Plant, keys: list[str] | None = None) -> dict[str, AssignmentSummary]:
    """Give every new reading to the clusters that could have produced it.

    Arguments:
        plant: The plant.
        keys: Cluster keys; all in use if None.

    Raises:
        UnknownClusterError: A key is not in use.
        NotFittedError: There are no regimes yet.
    """
    model_id, model = load_cluster_model(plant)
    keys = check_cluster_keys(model.keys, keys)
    with plant.warehouse.snapshot() as connection:
        check_columns(connection, model.columns)
        latest = read_progress(connection, "readings").batch_id
        done = {key: read_progress(connection, ASSIGN_STEP, key) for key in keys}
    since = {key: p.batch_id if p.model == model_id else 0 for key, p in done.items()}
    summaries: dict[str, AssignmentSummary] = {}
    for part in model.segments:
        wanted = [key for key in part.keys if key in since]
        for batch_id in sorted({since[key] for key in wanted}):
            group = [key for key in wanted if since[key] == batch_id]
            summaries |= _assign_segment(
                plant, model_id, model, part, {key: done[key] for key in group}, batch_id, latest
            )
    return {key: summaries[key] for key in keys}


def _assign_segment(
    plant: Plant,
    model_id: str,
    model: ClusterModel,
    part: SegmentClusters,
    done: dict[str, Progress],
    since: int,
    latest: int,
) -> dict[str, AssignmentSummary]:
    """Assign the readings of one segment that arrived after batch `since` to some of its clusters."""
    wanted = np.isin(part.keys, list(done))
    with working_folder(plant.warehouse.folder, "assign") as folder:
        rows, results = folder / "rows.parquet", folder / "results.parquet"
        with plant.warehouse.snapshot() as connection:
            copy_out(
                connection,
                f"SELECT reading_id, {quote_columns(model.columns)} FROM core.model_readings "
                f"WHERE quality IN {JUDGED} AND segment = $segment AND batch_id > $since AND batch_id <= $latest",
                {"segment": part.segment, "since": since, "latest": latest},
                rows,
            )
        with plant.warehouse.scratch() as scratch:
            spool = Spool(scratch, {"position": "SMALLINT", "reading_id": "BIGINT", "responsibility": "DOUBLE"})
            for reading_id, X in read_chunks(scratch, rows, model.columns, plant.config.compute.chunk_rows):
                candidates, shares = share_among_clusters(part.seeds, X)
                given = candidates & wanted
                if since == 0:  # the others share the readings of a regime that is assigned again with it
                    given |= given.any(axis=1, keepdims=True) & ~wanted
                row, position = np.nonzero(given)
                spool.append(position=position, reading_id=reading_id[row], responsibility=shares[row, position])
            spool.close(results)
        with plant.warehouse.transaction() as connection:
            if since == 0:
                _share_anew(connection, model_id, part, list(done), results)
            for key, before in done.items():
                if read_progress(connection, ASSIGN_STEP, key) == before:  # else another run has assigned them
                    _write_assignments(connection, key, part.keys.index(key), since == 0, latest, results)
                    write_progress(connection, ASSIGN_STEP, Progress(model_id, latest), key)
            counted = connection.execute(
                "SELECT cluster_key, count(*) FROM core.cluster_assignments GROUP BY cluster_key"
            ).fetchall()
            new = connection.execute(
                "SELECT position, count(*) FROM read_parquet(?) GROUP BY position", [str(results)]
            ).fetchall()
    totals, fresh = dict(counted), {part.keys[position]: count for position, count in new}
    return {key: AssignmentSummary(fresh.get(key, 0), totals.get(key, 0), latest) for key in done}


def _share_anew(
    connection: duckdb.DuckDBPyConnection, model_id: str, part: SegmentClusters, afresh: list[str], results: Path
) -> None:
    """Renew the responsibilities that the other regimes of a segment have in readings of those assigned again."""
    for position, key in enumerate(part.keys):
        if key not in afresh and read_progress(connection, ASSIGN_STEP, key).model == model_id:
            connection.execute(
                "UPDATE core.cluster_assignments AS assigned SET responsibility = result.responsibility "
                "FROM read_parquet($results) AS result WHERE assigned.cluster_key = $key "
                "AND result.position = $position AND result.reading_id = assigned.reading_id",
                {"results": str(results), "key": key, "position": position},
            )


def _write_assignments(
    connection: duckdb.DuckDBPyConnection, key: str, position: int, is_afresh: bool, latest: int, results: Path
) -> None:
    """Write the candidates of one cluster; readings that changed since they were copied out wait for the next run."""
    if is_afresh:
        connection.execute("DELETE FROM core.cluster_assignments WHERE cluster_key = ?", [key])
    connection.execute(
        "INSERT INTO core.cluster_assignments BY NAME "
        "SELECT $key AS cluster_key, reading_id, responsibility FROM read_parquet($results) "
        "SEMI JOIN (SELECT reading_id FROM core.readings WHERE batch_id <= $latest) USING (reading_id) "
        "WHERE position = $position",
        {"key": key, "results": str(results), "latest": latest, "position": position},
    )
    if is_afresh:
        connection.execute(
            "DELETE FROM core.component_log_density WHERE cluster_key = $key AND reading_id NOT IN "
            "(SELECT reading_id FROM core.cluster_assignments WHERE cluster_key = $key)",
            {"key": key},
        )
