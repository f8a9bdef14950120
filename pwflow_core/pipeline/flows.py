"""Flows: train the density of each cluster on its readings, store it by hash, put it in force if it proves itself."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np

from pwflow_core.config import PlantConfig
from pwflow_core.errors import ModelFileError, NotFittedError
from pwflow_core.pipeline.challenges import FEWEST_BLOCKS, Challenge, compare_flows, judge_refit, judge_retraining
from pwflow_core.pipeline.cluster_model import ClusterModel, check_cluster_keys, load_cluster_model
from pwflow_core.pipeline.identity import CHANGED
from pwflow_core.pipeline.registry import FlowDecision, insert_decision, insert_row, move_pointer, version_in_force
from pwflow_core.pipeline.training_sets import (
    HELD_OUT_FOLDS,
    LEARNING_FOLDS,
    RegimeRows,
    TrainingWindow,
    count_flagged,
    fetch_rows,
)
from pwflow_core.plant import Plant

if TYPE_CHECKING:
    from pwflow_core.modelling import ClusterFlow, FlowSettings, TrainingHistory

__all__ = ["FlowSummary", "clusters_without_flow", "train_cluster_flows"]

_log = logging.getLogger("pwflow.flows")

_CHANGED = f"mart.cluster_lineage WHERE relation IN {CHANGED} AND former_key = cluster_key"


@dataclass(frozen=True, eq=False)
class FlowSummary:
    """What training one flow came to.

    Attributes:
        flow_version: SHA-256 of the model file.
        n_rows: Readings that it learned from.
        n_held_out: Readings that stopped the training.
        held_out_log_density: Their mean log-density in nats, raw units; NaN if there were none.
        history: The training curve.
        decision: Whether it came into force, and why.
    """

    flow_version: str
    n_rows: int
    n_held_out: int
    held_out_log_density: float
    history: TrainingHistory
    decision: FlowDecision


@dataclass(frozen=True, eq=False)
class _Trained:
    """A flow behind its training, before it is decided on."""

    flow: ClusterFlow
    version: str
    settings: FlowSettings
    window: TrainingWindow
    rows: RegimeRows
    held_out_log_density: float
    champion: str | None
    challenge: Challenge


def clusters_without_flow(plant: Plant) -> list[str]:
    """Return the keys of the regimes in force without a flow, or with one from before their readings changed."""
    with plant.warehouse.snapshot() as connection:
        rows = connection.execute(
            "SELECT cluster_key FROM mart.clusters WHERE status = 'active' AND cluster_key NOT IN "
            "(SELECT cluster_key FROM mart.flow_versions WHERE in_force) ORDER BY cluster_key"
        ).fetchall()
        return sorted({row[0] for row in rows} | _changed_regimes(connection))


def train_cluster_flows(
    plant: Plant,
    keys: list[str] | None = None,
    *,
    reason: str,
    promoted_by: str,
    learn_from: datetime | None = None,
    challenge: bool = True,
) -> dict[str, FlowSummary]:
    """Train the flows of some clusters together and put those in force that prove themselves.

    The first flow of a regime, or the first one since its readings changed, comes into force. Any other one is
    compared with the flow in force on held-out readings, see `challenges`. One that does not come into force is
    registered all the same, and can be promoted by a person.

    Arguments:
        plant: The plant.
        keys: Cluster keys; all in force if None.
        reason: Why, for the registry.
        promoted_by: Who or what, for the registry.
        learn_from: Learn from the readings from this time up to now instead of the window of `[training]`, without the
            anomalies in alarm events that nobody has confirmed as normal; then a new flow has to be better by
            `drift.min_gain`, not only no worse.
        challenge: Whether a flow has to prove itself against the one in force at all.

    Raises:
        UnknownClusterError: A key is not in force.
        NotFittedError: There are no regimes, readings have not been assigned to them yet, or there are too few since
            `learn_from`.
    """
    from pwflow_core.modelling import ClusterRows, FlowSettings, train_flows

    started = _now()
    model_id, model = load_cluster_model(plant)
    keys = check_cluster_keys(model.keys, keys)
    windows = _windows(plant, keys, learn_from)
    sets = {key: _training_set(plant, model, key, windows[key]) for key in keys}
    if empty := [key for key, rows in sets.items() if not len(rows.X)]:
        raise NotFittedError(
            f"Cluster {', '.join(empty)} has no readings to learn from: materialize its cluster_assignments "
            "partition first, or widen [training] in pwflow.toml."
        )
    if learn_from is not None:
        for key in keys:
            _refuse_too_few(plant, model, key, windows[key], sets[key])
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
    champions = _champions(plant, keys) if challenge else {}
    trained = {}
    for key, flow in zip(keys, flows, strict=True):
        held_out = _summarise(flow, sets[key])
        champion = champions.get(key)
        version = plant.models.put(flow.to_bytes())
        trained[key] = _Trained(
            flow,
            version,
            settings[key],
            windows[key],
            sets[key],
            held_out,
            champion,
            _challenge(plant, model, key, flow, version, windows[key], champion, learn_from is not None)
            if np.isfinite(held_out) or not sets[key].weight[sets[key].held_out].any()
            else Challenge(False, "it gives held-out readings no finite log-density"),
        )
        _log.info(
            "%s: held-out log-density %.3f nats after %d steps (%s)",
            key,
            held_out,
            flow.history.best_step,
            flow.history.stopped,
        )
    decisions = _register(plant, model_id, trained, reason, promoted_by, started)
    return {
        key: FlowSummary(
            made.version,
            int((~made.rows.held_out).sum()),
            int(made.rows.held_out.sum()),
            made.held_out_log_density,
            made.flow.history,
            decisions[key],
        )
        for key, made in trained.items()
    }


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def _changed_regimes(connection: duckdb.DuckDBPyConnection) -> set[str]:
    """Return the regimes in force whose readings have changed since a flow was last trained for them."""
    rows = connection.execute(
        f"""
        SELECT cluster_key
        FROM (SELECT cluster_key, max(recorded_at) AS changed_at FROM {_CHANGED} GROUP BY cluster_key)
        JOIN (SELECT cluster_key, max(trained_at) AS trained_at FROM mart.flow_versions GROUP BY cluster_key)
          USING (cluster_key)
        SEMI JOIN (SELECT cluster_key FROM mart.clusters WHERE status = 'active') AS active USING (cluster_key)
        WHERE changed_at > trained_at
        """
    ).fetchall()
    return {row[0] for row in rows}


def _champions(plant: Plant, keys: list[str]) -> dict[str, str]:
    """Return the flow in force of each regime that has one for its readings as they are now."""
    with plant.warehouse.snapshot() as connection:
        changed = _changed_regimes(connection)
        found = {key: version_in_force(connection, key) for key in keys if key not in changed}
    return {key: version for key, version in found.items() if version is not None}


def _windows(plant: Plant, keys: list[str], learn_from: datetime | None) -> dict[str, TrainingWindow]:
    """Return what each regime learns from; one that a person added, from the time on that it was found in."""
    if learn_from is not None:
        return dict.fromkeys(keys, TrainingWindow.since(learn_from, plant.config))
    with plant.warehouse.snapshot() as connection:
        found_from = dict(connection.execute("SELECT cluster_key, found_from FROM mart.clusters").fetchall())
    return {
        key: TrainingWindow.configured(plant.config)
        if found_from.get(key) is None
        else replace(TrainingWindow.since(found_from[key], plant.config), without_events=False)  # a person approved it
        for key in keys
    }


def _flow_settings(config: PlantConfig, key: str) -> dict[str, Any]:
    """Return what the configuration says of the flow of a regime, as arguments of `FlowSettings`."""
    common = config.flow.model_dump(include={"kind", "transforms", "hidden", "max_steps", "min_rows"})
    own = config.flow.clusters.get(key)
    return common | (own.model_dump(exclude_none=True) if own else {}) | {"threads": config.compute.threads}


def _training_set(plant: Plant, model: ClusterModel, key: str, window: TrainingWindow) -> RegimeRows:
    with plant.warehouse.snapshot() as connection:
        return fetch_rows(plant, connection, model, key, window, LEARNING_FOLDS)


def _refuse_too_few(plant: Plant, model: ClusterModel, key: str, window: TrainingWindow, rows: RegimeRows) -> None:
    """Refuse a refit from a time since which there is too little to learn from, to calibrate on or to judge by.

    Raises:
        NotFittedError: Says how many readings are needed.
    """
    with plant.warehouse.snapshot() as connection:
        held_out = fetch_rows(plant, connection, model, key, window, HELD_OUT_FOLDS)
        n_flagged = count_flagged(connection, key, window)
    n_learned, n_held_out = int((~rows.held_out).sum()), len(held_out.X)
    n_blocks = len(np.unique(held_out.block))
    least_learned = plant.config.flow.min_rows
    least_held_out = int(np.ceil(1.5 * plant.config.scoring.min_calibration_rows))
    if n_learned >= least_learned and n_held_out >= least_held_out and n_blocks >= FEWEST_BLOCKS:
        return
    flagged = (
        f" ({n_flagged:,} more are anomalies in alarm events: if they are normal, say so with `pwflow confirm`)"
        if n_flagged
        else ""
    )
    raise NotFittedError(
        f"Cluster {key} has {n_learned:,} readings to learn from and {n_held_out:,} to judge by, in {n_blocks} time "
        f"blocks, since {window.readings.start:%Y-%m-%d %H:%M}{flagged}; {least_learned:,} and {least_held_out:,} in "
        f"{FEWEST_BLOCKS} are needed: wait for more, or learn from an earlier time."
    )


def _summarise(flow: ClusterFlow, training: RegimeRows) -> float:
    """Return the mean log-density of the readings that stopped the training; NaN if there were none."""
    weight = training.weight[training.held_out]
    if not weight.sum() > 0:
        return float("nan")
    return float(np.average(flow.log_prob(training.X[training.held_out]), weights=weight))


def _challenge(
    plant: Plant,
    model: ClusterModel,
    key: str,
    flow: ClusterFlow,
    version: str,
    window: TrainingWindow,
    champion: str | None,
    is_refit: bool,
) -> Challenge:
    """Compare a new flow with the one in force, if there is one that can be compared with."""
    if champion is None:
        return Challenge(True, "")
    if champion == version:
        return Challenge(True, "the same readings and seed gave the flow in force again")
    old = _load_champion(plant, key, champion, flow.n_features)
    if old is None:
        return Challenge(True, "the flow in force cannot be read")
    with plant.warehouse.snapshot() as connection:
        row = connection.execute(
            "SELECT training_window, trained_until FROM mart.flow_versions WHERE cluster_key = ? AND flow_version = ?",
            [key, champion],
        ).fetchone()
        text, last = row or (None, None)
        old_window = TrainingWindow.from_json(text, plant.config).up_to(last)
        recent_rows = fetch_rows(plant, connection, model, key, window, HELD_OUT_FOLDS)
        reference_rows = fetch_rows(plant, connection, model, key, old_window, HELD_OUT_FOLDS)
    recent = compare_flows(old, flow, recent_rows)
    reference = compare_flows(old, flow, reference_rows)
    if is_refit:
        return judge_refit(recent, reference, plant.config.drift.min_gain)
    return judge_retraining(recent, reference)


def _load_champion(plant: Plant, key: str, version: str, n_features: int) -> ClusterFlow | None:
    from pwflow_core.modelling import ClusterFlow

    try:
        flow = ClusterFlow.from_bytes(plant.models.get(version))
    except ModelFileError as error:
        _log.warning("%s: the flow in force cannot be compared with: %s", key, error)
        return None
    return flow if flow.n_features == n_features else None


def _register(
    plant: Plant,
    model_id: str,
    trained: Mapping[str, _Trained],
    reason: str,
    decided_by: str,
    started: datetime,
) -> dict[str, FlowDecision]:
    """Register the flows, and put those in force that won, in one transaction."""
    now = _now()
    decisions = {}
    with plant.warehouse.transaction() as connection:
        for key, made in trained.items():
            before = version_in_force(connection, key)
            challenge = made.challenge
            if hindrance := _find_hindrance(connection, key, made, before, started):
                challenge = Challenge(False, hindrance, challenge.recent, challenge.reference)
            _insert_version(connection, key, model_id, made, plant.config.flow.random_state, reason, now)
            if challenge.is_won:
                move_pointer(connection, key, made.version, decided_by, now)
            decisions[key] = _describe(key, made.version, challenge, before, reason, decided_by)
            insert_decision(connection, decisions[key], now)
    for key, decision in decisions.items():
        plant.models.put(trained[key].flow.to_bytes())  # an equal, older file may have been collected meanwhile
        if decision.decision == "refused":
            _log.warning("%s: the new flow is refused, the one in force stays: %s", key, decision.reason)
    return decisions


def _find_hindrance(
    connection: duckdb.DuckDBPyConnection, key: str, made: _Trained, before: str | None, started: datetime
) -> str:
    """Return why a flow cannot come into force whatever it is worth: something moved while it was trained."""
    if made.champion is not None and before != made.champion:
        return "another flow came into force while it was trained"
    row = connection.execute(
        f"SELECT (SELECT status FROM mart.clusters WHERE cluster_key = $key) = 'active' "
        f"AND NOT exists(SELECT 1 FROM {_CHANGED} AND cluster_key = $key AND recorded_at > $started)",
        {"key": key, "started": started},
    ).fetchone()
    return "" if row and row[0] else "the regime changed while it was trained"


def _insert_version(
    connection: duckdb.DuckDBPyConnection,
    key: str,
    model_id: str,
    made: _Trained,
    random_state: int,
    reason: str,
    now: datetime,
) -> None:
    """Add a version to the registry; one that is there already, from equal readings and seed, was trained again."""
    described: dict[str, object] = {
        "cluster_model_id": model_id,
        "trained_at": now,
        "reason": reason,
        "training_window": made.window.to_json(),
    }
    changes = ", ".join(f"{name} = ${name}" for name in described)
    again = connection.execute(
        f"UPDATE mart.flow_versions SET {changes}, file_deleted_at = NULL "
        "WHERE cluster_key = $key AND flow_version = $version",
        described | {"key": key, "version": made.version},
    ).fetchone()
    if again is not None and again[0] > 0:
        return
    n_held_out = int(made.rows.held_out.sum())
    insert_row(
        connection,
        "mart.flow_versions",
        described
        | {
            "flow_version": made.version,
            "cluster_key": key,
            "in_force": False,
            "trained_from": made.rows.first,
            "trained_until": made.rows.last,
            "n_rows": int((~made.rows.held_out).sum()),
            "n_held_out": n_held_out,
            "held_out_log_density": made.held_out_log_density if n_held_out else None,
            "train_seconds": made.flow.history.seconds,
            "is_gaussian": made.flow.history.is_gaussian,
            "settings": json.dumps(asdict(made.settings)),
            "data_hash": made.rows.hash,
            "random_state": random_state,
        },
    )


def _describe(
    key: str, version: str, challenge: Challenge, before: str | None, reason: str, decided_by: str
) -> FlowDecision:
    recent, reference = challenge.recent, challenge.reference
    is_compared = recent is not None and recent.is_finite and recent.n_readings > 0
    return FlowDecision(
        cluster_key=key,
        flow_version=version,
        decision="promoted" if challenge.is_won else "refused",
        previous_version=before,
        decided_by=decided_by,
        reason=f"{reason}: {challenge.sentence}" if challenge.sentence else reason,
        n_recent=recent.n_readings if recent is not None and is_compared else None,
        gain_recent=recent.mean if recent is not None and is_compared else None,
        gain_recent_error=_finite(recent.error) if recent is not None and is_compared else None,
        gain_reference=_finite(reference.mean) if reference is not None else None,
    )


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
