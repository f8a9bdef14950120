"""What has to be told of cases, drawn from the record of their changes."""

from __future__ import annotations

import duckdb

from pwflow_core.notifying.notices import Notice, NoticeKind, identify
from pwflow_core.warehouse import read_sql

__all__ = ["cases_of_verdicts", "name_case", "read_cases"]

_KINDS: dict[str, NoticeKind] = {
    "opened": "opened",
    "worse": "worse",
    "reopened": "reopened",
    "closed": "closed",
    "merged": "closed",
    "marked": "closed",
}
"""Changes of a case that people are told; the others are what they decided themselves."""


def name_case(case_id: str) -> str:
    """Return the subject of what is told about a case."""
    return f"case {case_id}"


def cases_of_verdicts(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """Return the case of each verdict on drift that is in one, by the id of the verdict."""
    return dict(
        connection.execute(
            "SELECT verdict_id, min(case_id) FROM mart.cases CROSS JOIN unnest(verdict_ids) AS verdicts (verdict_id) "
            "WHERE state <> 'merged' GROUP BY verdict_id"
        ).fetchall()
    )


def read_cases(connection: duckdb.DuckDBPyConnection, *, is_first: bool) -> list[Notice]:
    """Return what became of cases with events; a case of verdicts alone is told by its verdicts.

    Arguments:
        connection: An open snapshot.
        is_first: Whether nobody was told of this plant before: then what was over already is history.
    """
    notices = []
    for row in connection.execute(read_sql(__package__, "case_changes.sql"), {"changes": list(_KINDS)}).fetchall():
        case_id, change, as_of, severity, state, reason, machines, sensors, regimes, since, event, summary, told = row
        kind = _KINDS[change]
        is_over = kind == "closed" or state == "merged" or (is_first and state == "closed")
        notices.append(
            Notice(
                identify(case_id, change, as_of, reason or ""),
                kind,
                name_case(case_id),
                severity,
                max(as_of, told) if kind == "opened" else as_of,
                _say(summary, reason if kind == "closed" else None),
                is_over=is_over,
                machines=tuple(machines or ()),
                sensors=tuple(sensors or ()),
                regimes=tuple(regimes or ()),
                since=since,
                next_step="" if is_over else f"`pwflow cases {case_id}`, then `pwflow mark {case_id}` says what it was",
                event=event,
            )
        )
    return notices


def _say(summary: str, reason: str | None) -> str:
    return f"{summary} ({reason.rstrip('.')})" if reason else summary
