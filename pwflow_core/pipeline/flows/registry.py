"""The registry: which flow of each regime is in use, and every decision about it.

What is in use moves by one pointer, in one transaction, and with it goes a row of `mart.flow_decisions`. Moving the
pointer changes no score: the steps from the slices on do that, for the slice of that regime alone.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import duckdb

from pwflow_core.errors import ModelFileError, PromotionError, UnknownClusterError, UnknownVersionError
from pwflow_core.modelling.serialization import unpack
from pwflow_core.pipeline.readings.features import read_features
from pwflow_core.plant import Plant
from pwflow_core.warehouse import fetch_value, insert_row, utc_now

if TYPE_CHECKING:
    from pwflow_core.modelling import TrainingHistory

__all__ = [
    "FlowDecision",
    "FlowVersion",
    "insert_decision",
    "last_decision",
    "list_versions",
    "move_pointer",
    "promote",
    "read_training_history",
    "rollback",
    "version_in_force",
    "write_training_history",
]

_log = logging.getLogger("pwflow.registry")

_SHOWN = 12
_MOST_LISTED = 5


@dataclass(frozen=True)
class FlowVersion:
    """One trained flow of a regime; times are UTC.

    Attributes:
        cluster_key: The regime.
        flow_version: SHA-256 of the model file.
        in_force: Whether it scores the regime now.
        trained_at: When it was trained.
        trained_from: Time of the first reading that it learned from.
        trained_until: Time of the last.
        held_out_log_density: Mean log-density of the readings that stopped its training, nats; None if there were none.
        promoted_at: When it last came into use; None if it never was.
        promoted_by: Who or what put it in use.
        reason: Why it was trained.
        file_deleted_at: When its model file was deleted; None while it is kept.
    """

    cluster_key: str
    flow_version: str
    in_force: bool
    trained_at: datetime
    trained_from: datetime | None
    trained_until: datetime | None
    held_out_log_density: float | None
    promoted_at: datetime | None
    promoted_by: str | None
    reason: str | None
    file_deleted_at: datetime | None


@dataclass(frozen=True)
class FlowDecision:
    """One decision about a flow, as `mart.flow_decisions` keeps it.

    Attributes:
        cluster_key: The regime.
        flow_version: The flow that it is about.
        decision: `promoted`, `refused` or `rolled_back`.
        previous_version: The flow that was in use before; None for the first one of a regime.
        decided_by: Who or what decided.
        reason: Why.
        run_id: The run in which it was decided; None outside of runs.
        n_recent: Recent held-out readings on which both were compared; None if they were not.
        gain_recent: How much better the new one describes those, nats per reading.
        gain_recent_error: Standard error of that.
        gain_reference: How much better it describes the held-out readings of the old one, nats per reading.
    """

    cluster_key: str
    flow_version: str
    decision: str
    previous_version: str | None
    decided_by: str
    reason: str
    run_id: str | None = None
    n_recent: int | None = None
    gain_recent: float | None = None
    gain_recent_error: float | None = None
    gain_reference: float | None = None


def list_versions(plant: Plant, cluster_key: str) -> list[FlowVersion]:
    """Return every flow ever trained for a regime, the latest first.

    Raises:
        UnknownClusterError: The regime is not in use.
    """
    with plant.warehouse.snapshot() as connection:
        _check_cluster(connection, cluster_key)
        return _read_versions(connection, cluster_key)


def last_decision(plant: Plant, cluster_key: str) -> FlowDecision:
    """Return what was decided last about the flows of a regime.

    Raises:
        UnknownVersionError: Nothing has been decided about it.
    """
    with plant.warehouse.snapshot() as connection:
        row = connection.execute(
            """
            SELECT cluster_key, flow_version, decision, previous_version, decided_by, reason, run_id, n_recent,
                   gain_recent, gain_recent_error, gain_reference
            FROM mart.flow_decisions
            WHERE cluster_key = ?
            ORDER BY decided_at DESC
            LIMIT 1
            """,
            [cluster_key],
        ).fetchone()
    if row is None:
        raise UnknownVersionError(f"Nothing has been decided about the flows of {cluster_key[:80]!r}: train one first.")
    return FlowDecision(*row)


def promote(
    plant: Plant, cluster_key: str, flow_version: str, *, decided_by: str, reason: str, run_id: str | None = None
) -> FlowDecision:
    """Put another version of the flow of a regime in use.

    Arguments:
        plant: The plant.
        cluster_key: The regime.
        flow_version: SHA-256 of the version, or as many of its first digits as make it unique.
        decided_by: Who or what decides.
        reason: Why.
        run_id: The run in which this happens; None outside of runs.

    Raises:
        UnknownClusterError: The regime is not in use.
        UnknownVersionError: No version of this regime is called like that, or several are.
        PromotionError: It is in use already, or was trained on other sensors.
        ModelFileError: Its file is missing, damaged, or was deleted.
    """
    with plant.warehouse.snapshot() as connection:
        _check_cluster(connection, cluster_key)
        version = _find_version(connection, cluster_key, flow_version)
        n_columns = len(read_features(connection).columns)
    return _switch(plant, version, n_columns, "promoted", decided_by, reason, run_id)


def rollback(
    plant: Plant,
    cluster_key: str,
    flow_version: str | None = None,
    *,
    decided_by: str,
    reason: str,
    run_id: str | None = None,
) -> FlowDecision:
    """Return to an earlier version of the flow of a regime.

    Without a version it is the one that was in use when the present one was promoted, so that a second rollback goes
    one further back; see `promote` for the arguments and for what is raised.
    """
    with plant.warehouse.snapshot() as connection:
        _check_cluster(connection, cluster_key)
        wanted = _version_before(connection, cluster_key) if flow_version is None else flow_version
        version = _find_version(connection, cluster_key, wanted)
        n_columns = len(read_features(connection).columns)
    return _switch(plant, version, n_columns, "rolled_back", decided_by, reason, run_id)


def version_in_force(connection: duckdb.DuckDBPyConnection, cluster_key: str) -> str | None:
    """Return the flow version that scores a regime now; None if it has none yet."""
    query = "SELECT flow_version FROM mart.flow_versions WHERE cluster_key = ? AND in_force"
    version: str | None = fetch_value(connection, query, [cluster_key])
    return version


def move_pointer(
    connection: duckdb.DuckDBPyConnection, cluster_key: str, flow_version: str, promoted_by: str, now: datetime
) -> None:
    """Put a registered version in use instead of any other one, in the caller's transaction."""
    connection.execute(
        "UPDATE mart.flow_versions SET in_force = false WHERE cluster_key = ? AND flow_version <> ? AND in_force",
        [cluster_key, flow_version],
    )
    connection.execute(
        "UPDATE mart.flow_versions SET in_force = true, promoted_at = ?, promoted_by = ? "
        "WHERE cluster_key = ? AND flow_version = ?",
        [now, promoted_by, cluster_key, flow_version],
    )


def insert_decision(connection: duckdb.DuckDBPyConnection, decision: FlowDecision, now: datetime) -> None:
    """Record a decision, in the caller's transaction."""
    insert_row(connection, "mart.flow_decisions", {"decided_at": now} | vars(decision))


def write_training_history(connection: duckdb.DuckDBPyConnection, flow_version: str, history: TrainingHistory) -> None:
    """Keep how a flow was trained, in the caller's transaction; of two equal flows the last training is kept."""
    connection.execute("DELETE FROM core.training_histories WHERE flow_version = ?", [flow_version])
    connection.execute(
        "INSERT INTO core.training_histories (flow_version, history) VALUES (?, ?)",
        [flow_version, json.dumps(history.document())],
    )


def read_training_history(connection: duckdb.DuckDBPyConnection, flow_version: str) -> TrainingHistory | None:
    """Return how a flow was trained; None of one from before histories were kept apart from the model file."""
    from pwflow_core.modelling import TrainingHistory

    text = fetch_value(connection, "SELECT history FROM core.training_histories WHERE flow_version = ?", [flow_version])
    return TrainingHistory(**json.loads(text)) if text else None


def _switch(
    plant: Plant,
    version: FlowVersion,
    n_columns: int,
    decision: str,
    decided_by: str,
    reason: str,
    run_id: str | None,
) -> FlowDecision:
    """Check the file of a version, then move the pointer to it."""
    _refuse_if_in_force(version)
    _check_file(plant, version, n_columns)
    now = utc_now()
    key, wanted = version.cluster_key, version.flow_version
    with plant.warehouse.transaction() as connection:
        _check_cluster(connection, key)
        _refuse_if_in_force(_find_version(connection, key, wanted))
        made = FlowDecision(key, wanted, decision, version_in_force(connection, key), decided_by, reason, run_id)
        move_pointer(connection, key, wanted, decided_by, now)
        insert_decision(connection, made, now)
    _log.info("%s: flow %s… %s by %s (%s)", key, wanted[:_SHOWN], decision.replace("_", " "), decided_by, reason)
    return made


def _refuse_if_in_force(version: FlowVersion) -> None:
    if version.in_force:
        raise PromotionError(
            f"The flow {version.flow_version[:_SHOWN]}… of {version.cluster_key} is in use already: name another "
            "version, or run `pwflow run` if its readings have not been scored by it yet."
        )


def _check_file(plant: Plant, version: FlowVersion, n_columns: int) -> None:
    name = f"The flow {version.flow_version[:_SHOWN]}… of {version.cluster_key}"
    if version.file_deleted_at is not None:
        raise ModelFileError(
            f"{name} cannot come back: its file was deleted on {version.file_deleted_at:%Y-%m-%d}, after it had been "
            "out of force for longer than models.keep_days. Name a later version, or materialize its cluster_flow "
            "partition to train a new one."
        )
    arrays, _ = unpack(plant.models.get(version.flow_version), "cluster_flow")
    if len(arrays["centre"]) != n_columns:
        raise PromotionError(
            f"{name} was trained on {len(arrays['centre'])} columns, but the models see {n_columns} now: materialize "
            "its cluster_flow partition to train a new one."
        )


def _check_cluster(connection: duckdb.DuckDBPyConnection, cluster_key: str) -> None:
    known = dict(connection.execute("SELECT cluster_key, status FROM mart.clusters ORDER BY cluster_key").fetchall())
    if known.get(cluster_key) == "active":
        return
    in_force = ", ".join(key for key, status in known.items() if status == "active") or "there is none yet"
    got = f"the retired regime {cluster_key}" if cluster_key in known else repr(cluster_key[:80])
    raise UnknownClusterError(f"Expected the key of a regime in use ({in_force}), got {got}: name one of those.")


def _find_version(connection: duckdb.DuckDBPyConnection, cluster_key: str, wanted: str) -> FlowVersion:
    """Return the one version of a regime whose hash begins with `wanted`."""
    versions = _read_versions(connection, cluster_key)
    found = [version for version in versions if wanted and version.flow_version.startswith(wanted.lower())]
    if len(found) == 1:
        return found[0]
    if found:
        raise UnknownVersionError(
            f"{wanted!r} fits {len(found)} flows of {cluster_key} ({_listed(found)}): give more digits."
        )
    row = connection.execute(
        "SELECT cluster_key, flow_version FROM mart.flow_versions WHERE flow_version = ? ORDER BY cluster_key",
        [wanted.lower()],
    ).fetchone()
    known = _listed(versions) or "it has none yet"
    if row is not None:
        raise UnknownVersionError(
            f"The flow {wanted[:_SHOWN]}… is one of {row[0]}, not of {cluster_key}: name one of its own ({known})."
        )
    raise UnknownVersionError(
        f"Expected a flow version of {cluster_key} ({known}), got {wanted[:80]!r}: name one of those, or the first "
        "digits of it."
    )


def _version_before(connection: duckdb.DuckDBPyConnection, cluster_key: str) -> str:
    row = connection.execute(
        """
        SELECT made.previous_version
        FROM mart.flow_decisions AS made
        JOIN mart.flow_versions AS flow USING (cluster_key, flow_version)
        WHERE cluster_key = ? AND flow.in_force AND made.decision = 'promoted'
          AND made.previous_version <> made.flow_version
        ORDER BY made.decided_at DESC
        LIMIT 1
        """,
        [cluster_key],
    ).fetchone()
    if row is None:
        raise UnknownVersionError(
            f"No flow of {cluster_key} was in use before the present one: name the version to return to "
            f"({_listed(_read_versions(connection, cluster_key)) or 'it has none yet'})."
        )
    return str(row[0])


def _read_versions(connection: duckdb.DuckDBPyConnection, cluster_key: str) -> list[FlowVersion]:
    rows = connection.execute(
        """
        SELECT cluster_key, flow_version, in_force, trained_at, trained_from, trained_until, held_out_log_density,
               promoted_at, promoted_by, reason, file_deleted_at
        FROM mart.flow_versions
        WHERE cluster_key = ?
        ORDER BY trained_at DESC, flow_version
        """,
        [cluster_key],
    ).fetchall()
    return [FlowVersion(*row) for row in rows]


def _listed(versions: list[FlowVersion]) -> str:
    more = f" and {len(versions) - _MOST_LISTED} earlier ones" if len(versions) > _MOST_LISTED else ""
    return ", ".join(f"{version.flow_version[:_SHOWN]}…" for version in versions[:_MOST_LISTED]) + more
