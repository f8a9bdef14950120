"""The ledger of verdicts on drift: what was found, how far its answer has come, and every change of that.

Nothing else writes `mart.drift_verdicts` or `mart.verdict_changes`. A verdict changes its status only as `TRANSITIONS`
allows, and each change is a row with who, when, in which run, and why. What its kind means is in `kinds`; what the
evidence means is judged in `drift`, above this.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Literal

import duckdb

from pwflow_core.errors import UnknownVerdictError, VerdictStatusError
from pwflow_core.pipeline.decisions.kinds import KINDS, RUN_ANSWERS, find_kind, kinds_where
from pwflow_core.pipeline.readings.nights import begin_of
from pwflow_core.plant import Plant
from pwflow_core.warehouse import fetch_value, insert_row, quote_literal, read_sql, utc_now

__all__ = [
    "ALL_CHANNELS",
    "OPEN",
    "TRANSITIONS",
    "Decider",
    "Status",
    "StoredVerdict",
    "change_status",
    "claim_verdicts",
    "close_ended",
    "close_outdated",
    "dismiss_verdict",
    "find_verdict",
    "give_up_verdicts",
    "identify_verdict",
    "moved_since",
    "open_verdicts",
    "pending_verdicts",
    "read_verdict",
    "recent_verdicts",
    "record_verdicts",
    "restore_verdict",
    "select_suspects",
    "settle_answered",
]

Status = Literal["open", "requested", "done", "failed", "dismissed"]

TRANSITIONS: Mapping[Status, frozenset[Status]] = {
    "open": frozenset({"requested", "done", "failed", "dismissed"}),
    "requested": frozenset({"requested", "done", "failed"}),
    "failed": frozenset({"done", "dismissed"}),
    "done": frozenset(),
    "dismissed": frozenset({"open"}),
}
"""What a verdict of each status may become. A run that died has its verdict taken on by another: requested again; a
person who dismissed one may take that back: open again."""

OPEN: tuple[Status, ...] = ("open", "requested")
"""Statuses of a verdict that still wants its answer."""

ALL_CHANNELS = "drift"
"""Channel of `mart.cluster_health` for the evidence of all channels of a regime together."""

_QUIET_NIGHTS = 30
"""Nights for which what a person dismissed is not found again."""
_LISTS = ("cluster_keys", "machine_ids", "sensors")
_COLUMNS = (
    "verdict_id, night, verdict, cluster_keys, machine_ids, sensors, since, effect_size, summary, answer, status, "
    "decided_by, run_id"
)


@dataclass(frozen=True)
class StoredVerdict:
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
    status: Status = "open"
    decided_by: str | None = None
    run_id: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether it still wants its answer."""
        return self.status in OPEN


@dataclass(frozen=True)
class Decider:
    """Who or what changes a verdict.

    Attributes:
        name: A person, a run or a step, as people are to read it.
        run_id: The run in which it happens; None outside of runs.
    """

    name: str
    run_id: str | None = None


def identify_verdict(night: date, kind: str, about: Sequence[str], versions: Sequence[str]) -> str:
    """Return the id of a verdict: the same when the same night is replayed on the same flows."""
    named = json.dumps([night.isoformat(), kind, sorted(about), sorted(versions)])
    return hashlib.sha256(named.encode()).hexdigest()[:12]


def record_verdicts(
    connection: duckdb.DuckDBPyConnection, verdicts: Sequence[StoredVerdict], *, by: Decider
) -> list[StoredVerdict]:
    """Record open verdicts that are not known yet, in the caller's transaction; return those.

    What is open, or was dismissed by a person within thirty nights, is not recorded again: it is the same if its kind
    is about the same, see `Kind.identity`. What was found in a night that is replayed has the same id.
    """
    now = utc_now()
    known = read_sql(__package__, "known_verdicts.sql")
    new = []
    for verdict in verdicts:
        values = asdict(verdict) | {name: list(getattr(verdict, name)) for name in _LISTS}
        asked = {name: values[name] for name in ("verdict_id", "verdict", "night", *_LISTS)}
        asked |= {"identity": find_kind(verdict.verdict).identity, "open": list(OPEN), "quiet_nights": _QUIET_NIGHTS}
        if connection.execute(known, asked).fetchone() is not None:
            continue
        insert_row(connection, "mart.drift_verdicts", values | {"status": "open", "made_at": now})
        _insert_change(connection, verdict.verdict_id, None, "open", by, "the evidence sufficed", now)
        new.append(verdict)
    return new


def change_status(
    connection: duckdb.DuckDBPyConnection, ids: Sequence[str], status: Status, *, by: Decider, reason: str
) -> None:
    """Change the status of verdicts in the caller's transaction, each with a row in `mart.verdict_changes`.

    A verdict keeps the run that took it on where the change is made outside of a run.

    Raises:
        UnknownVerdictError: There is none with one of these ids.
        VerdictStatusError: `TRANSITIONS` does not allow the change for one of them.
    """
    now = utc_now()
    for verdict in [read_verdict(connection, verdict_id) for verdict_id in ids]:
        _check_transition(verdict, status)
        if (verdict.status, verdict.decided_by, verdict.run_id) == (status, by.name, by.run_id):
            continue
        connection.execute(
            "UPDATE mart.drift_verdicts SET status = $status, decided_by = $by, decided_at = $now, "
            "run_id = coalesce($run_id, run_id) WHERE verdict_id = $id",
            {"status": status, "by": by.name, "run_id": by.run_id, "now": now, "id": verdict.verdict_id},
        )
        _insert_change(connection, verdict.verdict_id, verdict.status, status, by, reason, now)


def _check_transition(verdict: StoredVerdict, status: Status) -> None:
    if status in TRANSITIONS[verdict.status]:
        return
    if verdict.status == "requested":
        raise VerdictStatusError(
            f"{verdict.decided_by} is answering the verdict {verdict.verdict_id}: wait for that run to end."
        )
    before = " or ".join(known for known, allowed in TRANSITIONS.items() if status in allowed)
    raise VerdictStatusError(
        f"The verdict {verdict.verdict_id} is {verdict.status} already; only one that is {before} can become {status}: "
        "there is nothing left to do about it."
    )


def _insert_change(
    connection: duckdb.DuckDBPyConnection,
    verdict_id: str,
    before: Status | None,
    after: Status,
    by: Decider,
    reason: str,
    now: datetime,
) -> None:
    values: dict[str, object] = {"verdict_id": verdict_id, "from_status": before, "to_status": after, "changed_at": now}
    values |= {"changed_by": by.name, "run_id": by.run_id, "reason": reason or None}
    insert_row(connection, "mart.verdict_changes", values)


def claim_verdicts(
    plant: Plant, ids: Sequence[str], *, by: Decider, given_up: Sequence[str] = ()
) -> list[StoredVerdict]:
    """Take on verdicts to answer them, so that no other run does; return those that were still to be had.

    Arguments:
        plant: The plant.
        ids: The verdicts.
        by: The run that takes them on.
        given_up: Earlier runs that are known to have ended without an answer.
    """
    with plant.warehouse.transaction() as connection:
        found = _select(
            connection,
            "list_contains($ids, verdict_id) AND (status = 'open' OR (status = 'requested' AND "
            "list_contains($free, run_id)))",
            {"ids": list(ids), "free": [by.run_id, *given_up]},
        )
        change_status(connection, _ids(found), "requested", by=by, reason="a run is to answer it")
    return found


def settle_answered(plant: Plant, *, by: Decider) -> None:
    """Record as done what a run took on, where it has decided upon a flow of every regime that the verdict names."""
    with plant.warehouse.transaction() as connection:
        found = _select(
            connection,
            "status = 'requested' AND answer = 'retrain' AND run_id = $run_id AND list_has_all("
            "(SELECT coalesce(list(cluster_key), []) FROM mart.flow_decisions WHERE run_id = $run_id), cluster_keys)",
            {"run_id": by.run_id},
        )
        change_status(connection, _ids(found), "done", by=by, reason="its regimes were trained again")


def give_up_verdicts(plant: Plant, ids: Sequence[str], *, by: Decider, reason: str) -> None:
    """Record that the answer to verdicts failed for good: their regimes keep their flows, and the health says so."""
    with plant.warehouse.transaction() as connection:
        change_status(connection, ids, "failed", by=by, reason=reason)
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


def dismiss_verdict(plant: Plant, verdict_id: str, *, by: Decider, reason: str = "") -> StoredVerdict:
    """Record that a person has found a verdict to be neither a fault nor a lasting change; return it as it was.

    Raises:
        UnknownVerdictError: There is none with this id.
        VerdictStatusError: It has been answered or dismissed already, or a run is answering it.
    """
    with plant.warehouse.transaction() as connection:
        verdict = read_verdict(connection, verdict_id)
        change_status(connection, [verdict_id], "dismissed", by=by, reason=reason)
    return verdict


def restore_verdict(plant: Plant, verdict_id: str, *, by: Decider, reason: str = "") -> StoredVerdict:
    """Take back that a verdict was dismissed: it is as it was before; return it so.

    Raises:
        UnknownVerdictError: There is none with this id.
        VerdictStatusError: It was not dismissed.
    """
    with plant.warehouse.transaction() as connection:
        verdict = read_verdict(connection, verdict_id)
        if verdict.status != "dismissed":
            raise VerdictStatusError(
                f"The verdict {verdict_id} is {verdict.status}; only one that was dismissed can be undone."
            )
        before: Status = fetch_value(
            connection,
            "SELECT arg_max(from_status, changed_at) FROM mart.verdict_changes "
            "WHERE verdict_id = ? AND to_status = 'dismissed'",
            [verdict_id],
        )
        reason = reason or "dismissed by mistake"
        change_status(connection, [verdict_id], "open", by=by, reason=reason)
        if before == "failed":
            change_status(connection, [verdict_id], before, by=by, reason=reason)
        return read_verdict(connection, verdict_id)


def close_ended(connection: duckdb.DuckDBPyConnection, night: date, ended: Mapping[str, str], *, by: Decider) -> None:
    """Record open verdicts as done because what they tell of is over.

    Arguments:
        connection: The caller's transaction.
        night: The night after which it is over.
        ended: Ids of the verdicts, and how that shows.
        by: Who closes them.
    """
    for verdict_id, reason in ended.items():
        change_status(connection, [verdict_id], "done", by=by, reason=reason)
        connection.execute(
            "UPDATE mart.drift_verdicts SET ended = $night WHERE verdict_id = $id", {"night": night, "id": verdict_id}
        )


def close_outdated(connection: duckdb.DuckDBPyConnection, *, by: Decider) -> None:
    """Close verdicts about regimes that are retired, or that a person or another run has trained again since."""
    retired = _select(
        connection,
        "status = 'open' AND len(cluster_keys) > 0 AND NOT list_has_any(cluster_keys, "
        "(SELECT coalesce(list(cluster_key), []) FROM mart.clusters WHERE status = 'active'))",
    )
    change_status(connection, _ids(retired), "done", by=by, reason="the regimes were found again")
    trained = _select(
        connection,
        "status = 'open' AND answer = 'retrain' AND NOT EXISTS (FROM mart.flow_versions AS flow WHERE flow.in_force "
        "AND list_contains(cluster_keys, flow.cluster_key) AND flow.promoted_at <= made_at)",
    )
    change_status(connection, _ids(trained), "done", by=by, reason="another flow came into use")


def find_verdict(plant: Plant, verdict_id: str) -> StoredVerdict:
    """Return a verdict by its id, see `read_verdict`."""
    with plant.warehouse.snapshot() as connection:
        return read_verdict(connection, verdict_id)


def read_verdict(
    connection: duckdb.DuckDBPyConnection, verdict_id: str, kinds: Sequence[str] | None = None
) -> StoredVerdict:
    """Return a verdict by its id, of some kinds if that matters.

    Raises:
        UnknownVerdictError: There is none with this id, or it is of another kind.
    """
    found = _select(connection, "verdict_id = $id", {"id": verdict_id})
    if not found:
        wanted = [verdict for verdict in open_verdicts(connection) if kinds is None or verdict.verdict in kinds]
        ids = ", ".join(_ids(wanted)) or "there is none"
        raise UnknownVerdictError(
            f"Expected the id of an open verdict in mart.drift_verdicts ({ids}), got {verdict_id[:80]!r}: "
            "name one of those."
        )
    if kinds is not None and found[0].verdict not in kinds:
        raise UnknownVerdictError(
            f"Expected a verdict of kind {' or '.join(kinds)}, got {verdict_id!r} of kind {found[0].verdict}: "
            "`pwflow status` says what its answer is."
        )
    return found[0]


def pending_verdicts(plant: Plant) -> list[StoredVerdict]:
    """Return the verdicts that a run can answer and none has yet, the first night first."""
    with plant.warehouse.snapshot() as connection:
        return _select(
            connection,
            "list_contains($open, status) AND list_contains($answers, answer)",
            {"open": list(OPEN), "answers": list(RUN_ANSWERS)},
        )


def open_verdicts(connection: duckdb.DuckDBPyConnection) -> list[StoredVerdict]:
    """Return the verdicts that wait for an answer, or whose answer failed, the first night first."""
    return _select(connection, "list_contains($open, status)", {"open": [*OPEN, "failed"]})


def recent_verdicts(connection: duckdb.DuckDBPyConnection, since: date, most: int) -> list[StoredVerdict]:
    """Return the verdicts from a night on and those that still wait for an answer, the last night first."""
    found = _select(connection, "night >= $since OR list_contains($open, status)", {"since": since, "open": list(OPEN)})
    return sorted(found, key=lambda verdict: verdict.night, reverse=True)[:most]


def moved_since(plant: Plant, keys: Sequence[str]) -> dict[str, datetime]:
    """Return since when the regimes moved of which an open verdict says so: the beginning of that night, UTC."""
    with plant.warehouse.snapshot() as connection:
        rows = connection.execute(
            "SELECT cluster_key, min(since) "
            "FROM mart.drift_verdicts CROSS JOIN unnest(cluster_keys) AS regimes (cluster_key) "
            "WHERE answer = 'retrain' AND list_contains($open, status) AND list_contains($keys, cluster_key) "
            "GROUP BY cluster_key ORDER BY cluster_key",
            {"open": list(OPEN), "keys": list(keys)},
        ).fetchall()
    return {key: begin_of(since, plant.config.schedule.timezone) for key, since in rows}


def select_suspects() -> str:
    """Return the query of the machines and regimes whose readings are held back: machine_id, cluster_key, since.

    They moved while others held still: a fault, until a person dismisses the verdict.
    """
    kinds = ", ".join(quote_literal(name) for name in kinds_where("holds_back"))
    return read_sql(__package__, "suspects.sql", kinds=kinds)


def _ids(verdicts: Sequence[StoredVerdict]) -> list[str]:
    return [verdict.verdict_id for verdict in verdicts]


def _select(
    connection: duckdb.DuckDBPyConnection, condition: str, values: Mapping[str, object] | None = None
) -> list[StoredVerdict]:
    """Return the verdicts that meet a condition: the first night first, those of one night in the order of kinds."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM mart.drift_verdicts WHERE {condition} "
        "ORDER BY night, list_position($kinds, verdict), verdict_id",
        {"kinds": [kind.name for kind in KINDS]} | dict(values or {}),
    ).fetchall()
    return [
        StoredVerdict(verdict_id, night, verdict, tuple(keys or ()), tuple(machines or ()), tuple(sensors or ()), *rest)
        for verdict_id, night, verdict, keys, machines, sensors, *rest in rows
    ]
