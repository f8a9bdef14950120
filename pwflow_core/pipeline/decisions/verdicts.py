"""Verdicts on drift: what was found, what is to be done about it, and how far that has come."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime

import duckdb

from pwflow_core.errors import RegimeError, UnknownVerdictError
from pwflow_core.pipeline.readings.nights import begin_of
from pwflow_core.plant import Plant
from pwflow_core.warehouse.sql import insert_row

__all__ = [
    "ALL_CHANNELS",
    "OPEN",
    "Finding",
    "claim_findings",
    "dismiss_finding",
    "find_finding",
    "give_up_findings",
    "identify_finding",
    "insert_findings",
    "open_findings",
    "open_since",
    "pending_findings",
    "read_finding",
    "settle_answered",
    "show_evidence",
    "write_status",
]

ALL_CHANNELS = "drift"
"""Channel of `mart.cluster_health` for the evidence of all channels of a regime together."""
OPEN = ("open", "requested")
"""Statuses of a finding that still wants its answer."""

_COLUMNS = (
    "verdict_id, night, verdict, cluster_keys, machine_ids, sensors, since, effect_size, summary, answer, status, "
    "decided_by"
)


@dataclass(frozen=True)
class Finding:
    """One row of `mart.drift_verdicts`; see there for what each column means."""

    verdict_id: str
    night: date
    verdict: str
    cluster_keys: tuple[str, ...]
    machine_ids: tuple[str, ...]
    sensors: tuple[str, ...]
    since: date | None
    effect_size: float | None
    summary: str
    answer: str
    status: str = "open"
    decided_by: str | None = None


def show_evidence(log_evidence: float) -> float:
    """Return evidence as `mart.cluster_health` has it: log10, and nothing below −1, where it is none at all."""
    return max(log_evidence / math.log(10), -1.0)


def identify_finding(night: date, verdict: str, about: Sequence[str], versions: Sequence[str]) -> str:
    """Return the id of a finding: the same when the same night is replayed on the same flows."""
    named = json.dumps([night.isoformat(), verdict, sorted(about), sorted(versions)])
    return hashlib.sha256(named.encode()).hexdigest()[:12]


def insert_findings(connection: duckdb.DuckDBPyConnection, findings: Sequence[Finding]) -> list[Finding]:
    """Record findings that are not known yet, in the caller's transaction; return those.

    What is open, or was dismissed by a person within thirty nights, is not found again: a sensor by its name and
    machine, an outage by its machine, anything else by its regimes. What was found in a night that is replayed has the
    same id.
    """
    new = []
    for finding in findings:
        known = connection.execute(
            """
            SELECT 1 FROM mart.drift_verdicts
            WHERE verdict_id = $id OR (
                verdict = $verdict
                AND CASE
                    WHEN verdict = 'sensor_suspected' THEN sensors[1] = $sensors[1]
                        AND list_has_any(machine_ids, $machines)
                    WHEN verdict = 'outage' THEN list_has_any(machine_ids, $machines)
                    ELSE list_has_any(cluster_keys, $keys)
                END
                AND (status IN ('open', 'requested')
                     OR (status = 'dismissed' AND $night BETWEEN night AND night + INTERVAL 30 DAY))
            )
            """,
            {
                "id": finding.verdict_id,
                "verdict": finding.verdict,
                "keys": list(finding.cluster_keys),
                "machines": list(finding.machine_ids),
                "sensors": list(finding.sensors),
                "night": finding.night,
            },
        ).fetchone()
        if known is not None:
            continue
        values = asdict(finding) | {"made_at": datetime.now(UTC).replace(tzinfo=None)}
        values |= {name: list(values[name]) for name in ("cluster_keys", "machine_ids", "sensors")}
        insert_row(connection, "mart.drift_verdicts", values)
        new.append(finding)
    return new


def pending_findings(plant: Plant) -> list[Finding]:
    """Return the findings that a run can answer and none has yet, the first night first."""
    with plant.warehouse.snapshot() as connection:
        return _select(
            connection,
            f"status IN {OPEN} AND answer IN ('retrain', 'update_weights') ORDER BY night, verdict_id",
        )


def open_findings(connection: duckdb.DuckDBPyConnection) -> list[Finding]:
    """Return the findings that want an answer, or whose answer failed, the first night first."""
    return _select(connection, f"status IN {(*OPEN, 'failed')} ORDER BY night, verdict_id")


def open_since(plant: Plant, keys: Sequence[str]) -> dict[str, datetime]:
    """Return since when the regimes moved of which an open verdict says so: the beginning of that night, UTC."""
    with plant.warehouse.snapshot() as connection:
        rows = connection.execute(
            f"""
            SELECT cluster_key, min(since)
            FROM mart.drift_verdicts CROSS JOIN unnest(cluster_keys) AS regimes (cluster_key)
            WHERE answer = 'retrain' AND status IN {OPEN} AND list_contains(?, cluster_key)
            GROUP BY cluster_key
            """,
            [list(keys)],
        ).fetchall()
    return {key: begin_of(since, plant.config.schedule.timezone) for key, since in rows}


def find_finding(plant: Plant, verdict_id: str) -> Finding:
    """Return a finding by its id, see `read_finding`."""
    with plant.warehouse.snapshot() as connection:
        return read_finding(connection, verdict_id)


def read_finding(connection: duckdb.DuckDBPyConnection, verdict_id: str, kind: str | None = None) -> Finding:
    """Return a finding by its id, of one kind if that matters.

    Raises:
        UnknownVerdictError: There is none with this id, or it is of another kind.
    """
    found = _select(connection, "verdict_id = $id", {"id": verdict_id})
    if not found:
        wanted = [finding for finding in open_findings(connection) if kind in (None, finding.verdict)]
        ids = ", ".join(finding.verdict_id for finding in wanted) or "there is none"
        raise UnknownVerdictError(
            f"Expected the id of an open verdict in mart.drift_verdicts ({ids}), got {verdict_id[:80]!r}: "
            "name one of those."
        )
    if kind not in (None, found[0].verdict):
        raise UnknownVerdictError(
            f"Expected a verdict of kind {kind}, got {verdict_id!r} of kind {found[0].verdict}: `pwflow status` says "
            "what its answer is."
        )
    return found[0]


def claim_findings(plant: Plant, ids: Sequence[str], *, claimed_by: str, given_up: Sequence[str] = ()) -> list[Finding]:
    """Take on findings to answer them, so that no other run does; return those that were still to be had.

    Arguments:
        plant: The plant.
        ids: The findings.
        claimed_by: Who takes them on.
        given_up: Earlier claimants that are known to have ended without an answer.
    """
    with plant.warehouse.transaction() as connection:
        found = _select(
            connection,
            "list_contains($ids, verdict_id) AND (status = 'open' OR (status = 'requested' AND "
            "list_contains($free, decided_by))) ORDER BY night, verdict_id",
            {"ids": list(ids), "free": [claimed_by, *given_up]},
        )
        write_status(connection, [finding.verdict_id for finding in found], "requested", decided_by=claimed_by)
    return found


def dismiss_finding(plant: Plant, verdict_id: str, *, decided_by: str, reason: str = "") -> Finding:
    """Record that a person has found a verdict to be no fault and no lasting change; return it as it was.

    Raises:
        UnknownVerdictError: There is none with this id.
        RegimeError: It has been answered or dismissed already, or a run is answering it.
    """
    by = f"{decided_by}: {reason}" if reason else decided_by
    with plant.warehouse.transaction() as connection:
        finding = read_finding(connection, verdict_id)
        if finding.status == "requested":
            raise RegimeError(f"{finding.decided_by} is answering the verdict {verdict_id}: wait for that run to end.")
        if finding.status not in ("open", "failed"):
            raise RegimeError(
                f"The verdict {verdict_id} is {finding.status} already: there is nothing left to dismiss."
            )
        write_status(connection, [verdict_id], "dismissed", decided_by=by)
    return finding


def settle_answered(plant: Plant, answered_by: str) -> None:
    """Record as done what a run took on, where it has decided upon a flow of every regime that the finding names."""
    with plant.warehouse.transaction() as connection:
        found = _select(
            connection,
            "status = 'requested' AND answer = 'retrain' AND decided_by = $by AND list_has_all("
            "(SELECT coalesce(list(cluster_key), []) FROM mart.flow_decisions WHERE decided_by = $by), cluster_keys)",
            {"by": answered_by},
        )
        write_status(connection, [finding.verdict_id for finding in found], "done", decided_by=answered_by)


def write_status(connection: duckdb.DuckDBPyConnection, ids: Sequence[str], status: str, *, decided_by: str) -> None:
    """Record how far findings have come, in the caller's transaction: requested, done, failed or dismissed."""
    connection.execute(
        "UPDATE mart.drift_verdicts SET status = $status, decided_by = $by, decided_at = $now "
        "WHERE list_contains($ids, verdict_id)",
        {"status": status, "by": decided_by, "now": datetime.now(UTC).replace(tzinfo=None), "ids": list(ids)},
    )


def give_up_findings(plant: Plant, ids: Sequence[str], *, decided_by: str) -> None:
    """Record that the answer to findings failed for good: their regimes keep their flows, and the health says so."""
    with plant.warehouse.transaction() as connection:
        write_status(connection, ids, "failed", decided_by=decided_by)
        connection.execute(
            """
            UPDATE mart.cluster_health AS health
            SET verdict = 'refit_failed'
            FROM mart.drift_verdicts AS found
            WHERE list_contains($ids, found.verdict_id)
              AND health.night = found.night
              AND health.channel = $channel
              AND list_contains(found.cluster_keys, health.cluster_key)
            """,
            {"ids": list(ids), "channel": ALL_CHANNELS},
        )


def _select(
    connection: duckdb.DuckDBPyConnection, condition: str, values: dict[str, object] | None = None
) -> list[Finding]:
    rows = connection.execute(f"SELECT {_COLUMNS} FROM mart.drift_verdicts WHERE {condition}", values or {}).fetchall()
    return [
        Finding(night_id, night, verdict, tuple(keys or ()), tuple(machines or ()), tuple(sensors or ()), *others)
        for night_id, night, verdict, keys, machines, sensors, *others in rows
    ]
