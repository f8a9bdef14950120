"""Flows: train the density of each cluster on its readings, store it by hash, put it in force."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pwflow_core.config import PlantConfig
from pwflow_core.errors import NotFittedError
from pwflow_core.pipeline.cluster_model import ClusterModel, check_cluster_keys, load_cluster_model
from pwflow_core.pipeline.readings import CALIBRATION_FOLDS, STOPPING_FOLDS
from pwflow_core.pipeline.streaming import fetch_matrix
from pwflow_core.pipeline.training_rows import LARGEST_READING_ID, select_training_rows, training_window
from pwflow_core.plant import Plant
from pwflow_core.warehouse.sql import quote_columns

if TYPE_CHECKING:
    from pwflow_core.modelling import ClusterFlow, FlowSettings, TrainingHistory

__all__ = ["FlowSummary", "clusters_without_flow", "train_cluster_flows"]

_log = logging.getLogger("pwflow.flows")

_MIN_RESPONSIBILITY = 1e-3


@dataclass(frozen=True, eq=False)
class FlowSummary:
    """What training one flow came to.

    Attributes:
        flow_version: SHA-256 of the model file.
        n_rows: Readings that it learned from.
        n_held_out: Readings that stopped the training.
        held_out_log_density: Their mean log-density in nats, raw units; NaN if there were none.
        history: The training curve.
    """

    flow_version: str
    n_rows: int
    n_held_out: int
    held_out_log_density: float
    history: TrainingHistory


@dataclass(frozen=True, eq=False)
class _TrainingSet:
    X: NDArray[np.float64]
    weight: NDArray[np.float64]
    held_out: NDArray[np.bool_]
    first: datetime | None
    last: datetime | None

    @property
    def hash(self) -> str:
        digest = hashlib.sha256()
        for array in (self.X, self.weight, self.held_out):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def clusters_without_flow(plant: Plant) -> list[str]:
    """Return the keys of the regimes in force that no flow in force describes."""
    with plant.warehouse.snapshot() as connection:
        rows = connection.execute(
            "SELECT cluster_key FROM mart.clusters WHERE status = 'active' AND cluster_key NOT IN "
            "(SELECT cluster_key FROM mart.flow_versions WHERE in_force) ORDER BY cluster_key"
        ).fetchall()
    return [row[0] for row in rows]


def train_cluster_flows(
    plant: Plant, keys: list[str] | None = None, *, reason: str, promoted_by: str
) -> dict[str, FlowSummary]:
    """Train the flows of some clusters together and put them in force.

    Arguments:
        plant: The plant.
        keys: Cluster keys; all in force if None.
        reason: Why, for the registry.
        promoted_by: Who or what, for the registry.

    Raises:
        UnknownClusterError: A key is not in force.
        NotFittedError: There are no regimes, or readings have not been assigned to them yet.
    """
    from pwflow_core.modelling import ClusterRows, FlowSettings, train_flows

    model_id, model = load_cluster_model(plant)
    keys = check_cluster_keys(model.keys, keys)
    sets = {key: _training_set(plant, model, key) for key in keys}
    if empty := [key for key, rows in sets.items() if not len(rows.X)]:
        raise NotFittedError(
            f"Cluster {', '.join(empty)} has no readings to learn from: materialize its cluster_assignments "
            "partition first, or widen [training] in pwflow.toml."
        )
    if stray := sorted(set(plant.config.flow.clusters) - set(model.keys)):
        _log.warning("[flow.clusters] names %s, which is no regime in force: nothing follows from it", ", ".join(stray))
    settings = {key: FlowSettings(**_flow_settings(plant.config, key)) for key in keys}
    rows = []
    for key, training in sets.items():
        part, position = model.locate(key)
        learn = ~training.held_out
        rows.append(
            ClusterRows(
                X=training.X[learn],
                weight=training.weight[learn],
                X_held_out=training.X[training.held_out],
                weight_held_out=training.weight[training.held_out],
                mean=part.seeds.means[position],
                covariance=part.seeds.covariances[position],
            )
        )
    _log.info("training %d flows on %s readings", len(keys), f"{sum(len(r.X) for r in rows):,}")
    flows = train_flows(rows, list(settings.values()), random_state=plant.config.flow.random_state)
    summaries = {}
    for key, flow in zip(keys, flows, strict=True):
        summaries[key] = _summarise(flow, plant.models.put(flow.to_bytes()), sets[key])
        _log.info(
            "%s: held-out log-density %.3f nats after %d steps (%s)",
            key,
            summaries[key].held_out_log_density,
            flow.history.best_step,
            flow.history.stopped,
        )
    _put_in_force(plant, model_id, settings, sets, summaries, reason, promoted_by)
    return summaries


def _flow_settings(config: PlantConfig, key: str) -> dict[str, Any]:
    """Return what the configuration says of the flow of a regime, as arguments of `FlowSettings`."""
    common = config.flow.model_dump(include={"kind", "transforms", "hidden", "max_steps", "min_rows"})
    own = config.flow.clusters.get(key)
    return common | (own.model_dump(exclude_none=True) if own else {}) | {"threads": config.compute.threads}


def _training_set(plant: Plant, model: ClusterModel, key: str) -> _TrainingSet:
    window = training_window(plant.config.training)
    eligible = (
        f"({select_training_rows(plant.config.training)}) AS reading "
        "JOIN core.cluster_assignments AS assigned USING (reading_id) "
        f"WHERE assigned.cluster_key = $key AND responsibility > {_MIN_RESPONSIBILITY} "
        f"AND fold NOT IN {CALIBRATION_FOLDS}"
    )
    with plant.warehouse.snapshot() as connection:
        row = connection.execute(f"SELECT count(*) FROM {eligible}", window | {"key": key}).fetchone()
        size, most = int(row[0]) if row else 0, plant.config.flow.max_rows
        bound = LARGEST_READING_ID - 1 if size <= most else int(LARGEST_READING_ID * (most / size))
        X, others = fetch_matrix(
            connection,
            f"SELECT fold, ts, responsibility, {quote_columns(model.sensors)} FROM {eligible} "
            "AND reading_id <= $bound ORDER BY machine_id, ts",
            window | {"key": key, "bound": bound},
            model.sensors,
        )
    times = others["ts"]
    return _TrainingSet(
        X,
        np.asarray(others["responsibility"], dtype=np.float64),
        np.isin(others["fold"], STOPPING_FOLDS),
        times.min().astype("datetime64[us]").item() if len(times) else None,
        times.max().astype("datetime64[us]").item() if len(times) else None,
    )


def _summarise(flow: ClusterFlow, version: str, training: _TrainingSet) -> FlowSummary:
    weight = training.weight[training.held_out]
    held_out = float("nan")
    if weight.sum() > 0:
        held_out = float(np.average(flow.log_prob(training.X[training.held_out]), weights=weight))
    return FlowSummary(version, int((~training.held_out).sum()), int(training.held_out.sum()), held_out, flow.history)


def _put_in_force(
    plant: Plant,
    model_id: str,
    settings: dict[str, FlowSettings],
    sets: dict[str, _TrainingSet],
    summaries: dict[str, FlowSummary],
    reason: str,
    promoted_by: str,
) -> None:
    now = datetime.now(UTC).replace(tzinfo=None)
    with plant.warehouse.transaction() as connection:
        for key, summary in summaries.items():
            connection.execute("UPDATE mart.flow_versions SET in_force = false WHERE cluster_key = ?", [key])
            again = connection.execute(
                "UPDATE mart.flow_versions SET in_force = true, promoted_at = ?, promoted_by = ?, reason = ? "
                "WHERE cluster_key = ? AND flow_version = ?",
                [now, promoted_by, reason, key, summary.flow_version],
            ).fetchone()
            if again is not None and again[0] > 0:
                continue  # the same readings and seed gave the same flow
            values = {
                "flow_version": summary.flow_version,
                "cluster_key": key,
                "cluster_model_id": model_id,
                "in_force": True,
                "trained_at": now,
                "trained_from": sets[key].first,
                "trained_until": sets[key].last,
                "n_rows": summary.n_rows,
                "n_held_out": summary.n_held_out,
                "held_out_log_density": summary.held_out_log_density if summary.n_held_out else None,
                "train_seconds": summary.history.seconds,
                "is_gaussian": summary.history.is_gaussian,
                "settings": json.dumps(asdict(settings[key])),
                "data_hash": sets[key].hash,
                "promoted_at": now,
                "promoted_by": promoted_by,
                "reason": reason,
            }
            named = ", ".join(f"${name} AS {name}" for name in values)
            connection.execute(f"INSERT INTO mart.flow_versions BY NAME SELECT {named}", values)
