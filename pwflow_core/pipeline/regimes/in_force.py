"""The cluster model in use: one takes the place of another in one transaction, and what stays valid stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import count

import duckdb

from pwflow_core.errors import RegimeError
from pwflow_core.pipeline.decisions.verdicts import Decider, change_status
from pwflow_core.pipeline.regimes.matching import Relation
from pwflow_core.pipeline.regimes.model import ClusterModel, SegmentClusters, active_cluster_keys, model_id_in_force
from pwflow_core.plant import Plant
from pwflow_core.warehouse import fetch_value, insert_row, utc_now
from pwflow_core.warehouse.progress import ASSIGN_STEP

__all__ = ["ModelChange", "minted_keys", "put_model_in_force", "regimes_to_assign"]


@dataclass(frozen=True, eq=False)
class ModelChange:
    """A cluster model that is to come into use.

    Attributes:
        model: The model.
        replaced: Id of the model that it was made from and replaces; None for the first one.
        to_assign: Regimes whose candidate readings have to be found again; those of the others stay.
        relations: What became of the regimes before.
        settings: What decides, other than the data, what the regimes are; see `cluster_settings`.
        n_rows: Readings that it was learned from.
        made_by: Who or what made it.
        reason: Why.
        found_from: Time from which regimes that a person added are learned, by key.
        verdict_id: The verdict of drift that it answers; None if it answers none.
        run_id: The run in which it was made; None outside of runs.
        settle: Records what else is settled by it, in the same transaction.
    """

    model: ClusterModel
    replaced: str | None
    to_assign: frozenset[str]
    relations: Sequence[Relation]
    settings: str
    n_rows: int
    made_by: str
    reason: str
    found_from: dict[str, datetime]
    verdict_id: str | None = None
    run_id: str | None = None
    settle: Callable[[duckdb.DuckDBPyConnection], None] | None = None


def minted_keys(used: Sequence[str]) -> Iterator[str]:
    """Yield cluster keys that never were in use."""
    numbers = [int(key[1:]) for key in used if key[:1] == "c" and key[1:].isdecimal()]
    for number in count(max(numbers, default=0) + 1):
        yield f"c{number:04d}"


def regimes_to_assign(before: ClusterModel | None, now: ClusterModel) -> frozenset[str]:
    """Return the keys of the segments in which anything differs: candidates depend on all regimes of a segment."""
    known = {part.segment: part for part in before.segments} if before and before.columns == now.columns else {}
    return frozenset(key for part in now.segments if not _is_same(known.get(part.segment), part) for key in part.keys)


def put_model_in_force(plant: Plant, change: ModelChange) -> tuple[str, list[str]]:
    """Store a cluster model and put it in use; return its id and the keys of the regimes that it retires.

    Retired regimes are kept in `mart.clusters`. The slices of the others stay: log p_k(x) is a matter of the flow, and
    only which readings have k as a candidate is one of the cluster model.

    Raises:
        RegimeError: Another model came into use since this one was made.
        VerdictStatusError: The verdict that it answers was answered or dismissed meanwhile.
    """
    model_id = plant.models.put(change.model.to_bytes())
    now = utc_now()
    with plant.warehouse.transaction() as connection:
        in_force = model_id_in_force(connection)
        if in_force != change.replaced:
            raise RegimeError(
                "The regimes of the plant were changed by another run while this one worked on them: start it again."
            )
        retired = sorted(set(active_cluster_keys(connection)) - set(change.model.keys))
        if in_force != model_id:
            _forget(connection, [*retired, *change.to_assign])
            connection.execute("UPDATE core.progress SET model = ? WHERE step = ?", [model_id, ASSIGN_STEP])
            for relation in change.relations:
                values = {"cluster_model_id": model_id, "recorded_at": now}
                insert_row(connection, "mart.cluster_lineage", values | vars(relation))
        _record_model(connection, model_id, change, now)
        for key in retired:
            connection.execute(
                "UPDATE mart.clusters SET status = 'retired', retired_at = ? WHERE cluster_key = ?", [now, key]
            )
            connection.execute("UPDATE mart.flow_versions SET in_force = false WHERE cluster_key = ?", [key])
            connection.execute("DELETE FROM core.component_log_density WHERE cluster_key = ?", [key])
        for part in change.model.segments:
            _record_regimes(connection, part, model_id, change.found_from, now)
        if change.verdict_id is not None:
            by = Decider(change.made_by, change.run_id)
            change_status(connection, [change.verdict_id], "done", by=by, reason=change.reason)
        if change.settle is not None:
            change.settle(connection)
    return model_id, retired


def _is_same(before: SegmentClusters | None, now: SegmentClusters) -> bool:
    if before is None or before.keys != now.keys or before.seeds.method != now.seeds.method:
        return False
    arrays = before.seeds.tensors()
    return all(arrays[name].tobytes() == array.tobytes() for name, array in now.seeds.tensors().items())


def _forget(connection: duckdb.DuckDBPyConnection, keys: Sequence[str]) -> None:
    """Take back which readings have a regime as a candidate, and how far its steps have come."""
    for key in keys:
        connection.execute("DELETE FROM core.cluster_assignments WHERE cluster_key = ?", [key])
        connection.execute("DELETE FROM core.progress WHERE cluster_key = ?", [key])


def _record_model(connection: duckdb.DuckDBPyConnection, model_id: str, change: ModelChange, now: datetime) -> None:
    connection.execute("UPDATE core.cluster_models SET in_force = false")
    connection.execute("DELETE FROM core.cluster_models WHERE cluster_model_id = ?", [model_id])
    values = {
        "cluster_model_id": model_id,
        "fitted_at": now,
        "n_rows": change.n_rows,
        "settings": change.settings,
        "in_force": True,
        "made_by": change.made_by,
        "reason": change.reason,
    }
    insert_row(connection, "core.cluster_models", values)


def _record_regimes(
    connection: duckdb.DuckDBPyConnection,
    part: SegmentClusters,
    model_id: str,
    found_from: dict[str, datetime],
    now: datetime,
) -> None:
    for key, weight in zip(part.keys, part.seeds.weights, strict=True):
        n_known = fetch_value(
            connection,
            "UPDATE mart.clusters SET weight = ?, cluster_model_id = ?, segment = ? WHERE cluster_key = ?",
            [float(weight), model_id, part.segment, key],
        )
        if not n_known:
            values = {
                "cluster_key": key,
                "segment": part.segment,
                "weight": float(weight),
                "status": "active",
                "cluster_model_id": model_id,
                "minted_at": now,
                "found_from": found_from.get(key),
            }
            insert_row(connection, "mart.clusters", values)
