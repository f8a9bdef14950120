"""Registration: trained flows enter the registry, and those that won their challenge come into use."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import duckdb
import numpy as np

from pwflow_core.modelling.fleet import Fleet
from pwflow_core.pipeline.flows.challenges import Challenge
from pwflow_core.pipeline.flows.fleet import write_fleet
from pwflow_core.pipeline.flows.registry import (
    FlowDecision,
    insert_decision,
    move_pointer,
    version_in_force,
    write_training_history,
)
from pwflow_core.pipeline.flows.training_sets import RegimeRows, TrainingWindow
from pwflow_core.pipeline.regimes.matching import CHANGED
from pwflow_core.pipeline.regimes.model import ClusterModel
from pwflow_core.plant import Plant
from pwflow_core.warehouse import fetch_value, insert_row, utc_now

if TYPE_CHECKING:
    from pwflow_core.modelling import ClusterFlow, FlowSettings

__all__ = ["TrainedFlow", "changed_regimes", "register_flows"]

_log = logging.getLogger("pwflow.flows")

_CHANGED = f"mart.cluster_lineage WHERE relation IN {CHANGED} AND former_key = cluster_key"


@dataclass(frozen=True, eq=False)
class TrainedFlow:
    """A flow behind its training, before it is decided on.

    Attributes:
        flow: The flow.
        version: SHA-256 of its file.
        settings: Its hyperparameters.
        started_from: The flow that its training went on from; None if it began as the Gaussian of its regime.
        window: What it could learn from.
        rows: What it learned from, and what stopped it.
        fleet: The machines that it was trained with; None where they are not told apart.
        held_out_log_density: Mean log-density of the latter, nats; NaN if there were none.
        champion: The flow in use that it was compared with; None if it need not prove itself.
        challenge: How it did.
    """

    flow: ClusterFlow
    version: str
    settings: FlowSettings
    started_from: str | None
    window: TrainingWindow
    rows: RegimeRows
    fleet: Fleet | None
    held_out_log_density: float
    champion: str | None
    challenge: Challenge


def changed_regimes(connection: duckdb.DuckDBPyConnection) -> set[str]:
    """Return the regimes in use whose readings have changed since a flow last came into use for them."""
    rows = connection.execute(
        f"""
        SELECT cluster_key
        FROM (SELECT cluster_key, max(recorded_at) AS changed_at FROM {_CHANGED} GROUP BY cluster_key)
        JOIN (SELECT cluster_key, max(promoted_at) AS promoted_at FROM mart.flow_versions GROUP BY cluster_key)
          USING (cluster_key)
        SEMI JOIN (SELECT cluster_key FROM mart.clusters WHERE status = 'active') AS active USING (cluster_key)
        WHERE changed_at > promoted_at
        """
    ).fetchall()
    return {row[0] for row in rows}


def register_flows(
    plant: Plant,
    model_id: str,
    model: ClusterModel,
    trained: Mapping[str, TrainedFlow],
    reason: str,
    decided_by: str,
    started: datetime,
    run_id: str | None = None,
) -> dict[str, FlowDecision]:
    """Register the flows, and put those in use that won, in one transaction."""
    now = utc_now()
    decisions = {}
    with plant.warehouse.transaction() as connection:
        for key, made in trained.items():
            before = version_in_force(connection, key)
            challenge = made.challenge
            if challenge.is_won and (hindrance := _find_hindrance(connection, key, made, before, started)):
                challenge = Challenge(False, hindrance, challenge.recent, challenge.reference)
            _insert_version(connection, key, model_id, made, plant.config.flow.random_state, reason, now)
            if made.fleet is not None:
                write_fleet(connection, model, key, made.version, made.fleet, made.rows)
            write_training_history(connection, made.version, made.flow.history)
            if challenge.is_won:
                move_pointer(connection, key, made.version, decided_by, now)
            decisions[key] = _describe(key, made.version, challenge, before, reason, decided_by, run_id)
            insert_decision(connection, decisions[key], now)
    for key, decision in decisions.items():
        plant.models.put(trained[key].flow.to_bytes())  # an equal, older file may have been collected meanwhile
        if decision.decision == "refused":
            _log.warning("%s: the new flow is refused, the one in use stays: %s", key, decision.reason)
    return decisions


def _find_hindrance(
    connection: duckdb.DuckDBPyConnection, key: str, made: TrainedFlow, before: str | None, started: datetime
) -> str:
    """Return why a flow cannot come into use whatever it is worth: something moved while it was trained."""
    if made.champion is not None and before != made.champion:
        return "another flow came into use while it was trained"
    is_current = fetch_value(
        connection,
        "SELECT (SELECT status FROM mart.clusters WHERE cluster_key = $key) = 'active' "
        f"AND NOT exists(SELECT 1 FROM {_CHANGED} AND cluster_key = $key AND recorded_at > $started)",
        {"key": key, "started": started},
    )
    return "" if is_current else "the regime changed while it was trained"


def _insert_version(
    connection: duckdb.DuckDBPyConnection,
    key: str,
    model_id: str,
    made: TrainedFlow,
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
    n_again = fetch_value(
        connection,
        f"UPDATE mart.flow_versions SET {changes}, file_deleted_at = NULL "
        "WHERE cluster_key = $key AND flow_version = $version",
        described | {"key": key, "version": made.version},
    )
    if n_again:
        return
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
            "n_rows": made.rows.n_learned,
            "n_held_out": made.rows.n_held_out,
            "held_out_log_density": made.held_out_log_density if made.rows.n_held_out else None,
            "train_seconds": made.flow.history.seconds,
            "is_gaussian": made.flow.is_gaussian,
            "settings": json.dumps(asdict(made.settings) | {"started_from": made.started_from}),
            "data_hash": made.rows.hash,
            "random_state": random_state,
        },
    )


def _describe(
    key: str,
    version: str,
    challenge: Challenge,
    before: str | None,
    reason: str,
    decided_by: str,
    run_id: str | None,
) -> FlowDecision:
    recent, reference = challenge.recent, challenge.reference
    is_compared = recent is not None and recent.is_finite and recent.n_readings > 0
    return FlowDecision(
        cluster_key=key,
        flow_version=version,
        decision="promoted" if challenge.is_won else "refused",
        previous_version=before,
        decided_by=decided_by,
        reason=f"{reason.removesuffix('.')}: {challenge.sentence}" if challenge.sentence else reason,
        run_id=run_id,
        n_recent=recent.n_readings if recent is not None and is_compared else None,
        gain_recent=recent.mean if recent is not None and is_compared else None,
        gain_recent_error=_finite(recent.error) if recent is not None and is_compared else None,
        gain_reference=_finite(reference.mean) if reference is not None else None,
    )


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
