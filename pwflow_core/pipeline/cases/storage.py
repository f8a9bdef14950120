"""What is kept of the cases: from tables to the book, and back."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import duckdb
import numpy as np

from pwflow_core.pipeline.cases.case import Case, Finding, Sighting
from pwflow_core.pipeline.cases.clock import RunningTime
from pwflow_core.pipeline.cases.lifecycle import Record
from pwflow_core.pipeline.decisions.kinds import find_kind
from pwflow_core.warehouse import fetch_value, read_sql

__all__ = [
    "count_up",
    "fetch_rows",
    "insert_rows",
    "load_records",
    "read_clock",
    "read_findings",
    "to_finding",
    "to_sighting",
]

_ROWS_AT_ONCE = 100
_COLUMNS = (
    "case_id, state, severity, label, label_kind, n_reopened, closed_at, shelved_until, merged_into, opened_at, "
    "pause_seconds"
)


def fetch_rows(
    connection: duckdb.DuckDBPyConnection, query: str, values: dict[str, object] | None = None
) -> list[dict[str, Any]]:
    """Return the rows of a query by the names of its columns."""
    cursor = connection.execute(query, values or {})
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def insert_rows(connection: duckdb.DuckDBPyConnection, table: str, rows: Sequence[dict[str, object]]) -> None:
    """Insert rows of named values, all with the same names, into one of the warehouse's own tables."""
    if not rows:
        return
    names = list(rows[0])
    marks = f"({', '.join('?' for _ in names)})"
    for first in range(0, len(rows), _ROWS_AT_ONCE):
        some = rows[first : first + _ROWS_AT_ONCE]
        connection.execute(
            f"INSERT INTO {table} ({', '.join(names)}) VALUES {', '.join([marks] * len(some))}",
            [row[name] for row in some for name in names],
        )


def count_up(connection: duckdb.DuckDBPyConnection, table: str, column: str) -> int:
    """Return the next number of a table that counts its rows."""
    return int(fetch_value(connection, f"SELECT coalesce(max({column}), 0) + 1 FROM {table}"))


def to_sighting(row: dict[str, Any]) -> Sighting:
    """Return an event as the cases see it, from a row of named values."""
    return Sighting(
        event_id=row["event_id"],
        machine_id=row["machine_id"],
        started_at=row["started_at"],
        told_at=row["told_at"],
        ended_at=row["ended_at"],
        lasted_until=row["lasted_until"] or row["ended_at"],
        n_readings=row["n_readings"],
        peak=row["peak_score"],
        head_peak=row["head_peak"],
        cluster_key=row["cluster_key"] or "",
        segment=row["segment"] or "",
        blame=row["blame"] or {},
        head_blame=row["head_blame"] or {},
        climbs=tuple((climb["ts"], climb["score"]) for climb in row["climbs"] or ()),
        is_over=bool(row.get("is_over")),
    )


def to_finding(row: dict[str, Any]) -> Finding:
    """Return a verdict as the cases see it, from a row of named values."""
    machines = tuple(row["machine_ids"])
    return Finding(
        verdict_id=row["verdict_id"],
        kind=row["verdict"],
        told_at=row["told_at"],
        since=row["since"],
        machines=machines,
        keys=tuple(row["cluster_keys"]),
        segments=tuple(row["segments"]),
        sensors=tuple(row["sensors"]),
        ended_at=row["ended_at"],
        is_common=find_kind(row["verdict"]).answer == "retrain" and len(machines) > 1,
    )


def read_findings(
    connection: duckdb.DuckDBPyConnection, timezone: str, *, with_known: bool = False
) -> list[tuple[Finding, str]]:
    """Return verdicts with their sentences: those that no case has yet, or all."""
    values: dict[str, object] = {"timezone": timezone, "with_known": with_known}
    rows = fetch_rows(connection, read_sql(__package__, "verdicts.sql"), values)
    return [(to_finding(row), row["summary"]) for row in rows]


def load_records(
    connection: duckdb.DuckDBPyConnection, case_ids: Collection[str], findings: Iterable[Finding]
) -> list[Record]:
    """Return cases with everything that belongs to them, the one that began first first.

    Arguments:
        connection: An open snapshot or transaction.
        case_ids: Which.
        findings: All verdicts.
    """
    known = {finding.verdict_id: finding for finding in findings}
    values: dict[str, object] = {"cases": list(case_ids)}
    records = {}
    for row in fetch_rows(
        connection,
        f"SELECT {_COLUMNS} FROM mart.cases JOIN core.case_profiles USING (case_id) "
        "WHERE list_contains($cases, case_id) ORDER BY since, case_id",
        values,
    ):
        case = Case(row.pop("case_id"), longest_pause=timedelta(seconds=row.pop("pause_seconds")))
        records[case.case_id] = Record(case, **row, is_known=True)
    for row in fetch_rows(connection, read_sql(__package__, "stored_sightings.sql"), values):
        records[row["case_id"]].case.sightings.append(to_sighting(row))
    for case_id, verdict_id in connection.execute(
        "SELECT case_id, verdict_id FROM mart.case_events WHERE verdict_id IS NOT NULL "
        "AND list_contains($cases, case_id) ORDER BY told_at, verdict_id",
        values,
    ).fetchall():
        if verdict_id in known:
            records[case_id].case.findings.append(known[verdict_id])
    return list(records.values())


def read_clock(connection: duckdb.DuckDBPyConnection, part: timedelta, since: datetime) -> RunningTime:
    """Return when the machines ran, from a time on."""
    values = {"since": since, "seconds": part.total_seconds()}
    rows = connection.execute(read_sql(__package__, "running_time.sql"), values).fetchall()
    return RunningTime(
        part, {(machine, segment): np.asarray(parts, dtype=np.int64) for machine, segment, parts in rows}
    )
