"""The cases as people look at them: what is to be decided today, what is new, what still goes on, and the rest."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb

from pwflow_core.errors import UnknownCaseError, list_few
from pwflow_core.pipeline.cases.storage import fetch_rows
from pwflow_core.pipeline.decisions.event_ids import find_event, is_event_id
from pwflow_core.pipeline.readings.nights import begin_of
from pwflow_core.warehouse import fetch_value

__all__ = ["CaseHistory", "CaseRow", "CaseView", "next_step_of", "read_case", "read_cases"]

_MOST = 500
_ID = re.compile(r"(?:[Kk]-)?([0-9a-fA-F]+)")


@dataclass(frozen=True)
class CaseRow:
    """A row of `mart.cases`, for people; times are UTC.

    Attributes:
        similar: Earlier cases that are most like it, each with its label, or its state where nobody said what it was.
        waiting: Verdicts on drift in it that wait for an answer.
        is_new: Whether it opened, or came back, on the last day of readings.
    """

    case_id: str
    state: str
    severity: str
    label: str | None
    label_kind: str | None
    machine_ids: tuple[str, ...]
    sensors: tuple[str, ...]
    segments: tuple[str, ...]
    cluster_keys: tuple[str, ...]
    since: datetime
    last_seen: datetime
    n_events: int
    n_readings: int
    alarm_seconds: float
    peak_score: float | None
    worst_event_id: str | None
    verdict_ids: tuple[str, ...]
    n_reopened: int
    closed_at: datetime | None
    shelved_until: datetime | None
    merged_into: str | None
    summary: str
    told_as_of: datetime | None = None
    similar: tuple[tuple[str, str], ...] = ()
    waiting: tuple[str, ...] = ()
    is_new: bool = False

    @property
    def is_active(self) -> bool:
        """Whether it goes on."""
        return self.state in ("open", "acknowledged", "shelved")

    @property
    def wants_decision(self) -> bool:
        """Whether a person has to decide: it is open, or new and closed by itself, and nobody said what it was."""
        return self.is_told and (
            self.state == "open" or (self.is_new and self.state == "closed" and self.label is None)
        )

    @property
    def is_told(self) -> bool:
        """Whether people are told of it, or somebody has decided about it; see `scoring.false_cases`."""
        return self.told_as_of is not None or self.label is not None or self.state in ("acknowledged", "shelved")


@dataclass(frozen=True)
class CaseView:
    """All cases of a time, each once.

    Attributes:
        to_decide: Those that a person has to decide about, the gravest first.
        going_on: The others that go on: acknowledged or shelved.
        not_told: Those that go on and cannot be told from chance yet, see `scoring.false_cases`.
        rest: The closed ones, the latest first.
        n_cases: How many there are, merged ones left out.
        day: Begin of the last day of readings, UTC; None before the first.
        precision: Rows of `mart.alarm_precision` of the months in which a case was marked, in their order.
    """

    to_decide: tuple[CaseRow, ...]
    going_on: tuple[CaseRow, ...]
    rest: tuple[CaseRow, ...]
    n_cases: int
    day: datetime | None
    precision: tuple[dict[str, Any], ...] = ()
    not_told: tuple[CaseRow, ...] = ()

    @property
    def new(self) -> tuple[CaseRow, ...]:
        """What opened or came back on the last day, the gravest first."""
        return tuple(case for case in self.all if case.is_new and case.is_told)

    @property
    def n_rest(self) -> int:
        """How many are closed, those that were not read among them."""
        return self.n_cases - len(self.to_decide) - len(self.going_on) - len(self.not_told)

    @property
    def all(self) -> tuple[CaseRow, ...]:
        """All of them."""
        return (*self.to_decide, *self.going_on, *self.not_told, *self.rest)


def read_cases(
    connection: duckdb.DuckDBPyConnection, timezone: str, *, since: datetime | None = None, most: int = _MOST
) -> CaseView:
    """Read the cases that go on, and those that were seen since a time.

    Arguments:
        connection: An open snapshot.
        timezone: Time zone of the plant's days.
        since: Closed cases that were last seen before are left out; UTC.
        most: Most closed cases.
    """
    last = fetch_value(connection, "SELECT night_of(max(ts), ?) FROM mart.anomaly_scores", [timezone])
    day = None if last is None else begin_of(last, timezone)
    condition = (
        "state <> 'merged' AND (state <> 'closed' OR $since::TIMESTAMP IS NULL OR last_seen >= $since::TIMESTAMP)"
    )
    cases = _read_rows(connection, day, condition, {"since": since}, most=most)
    decide = tuple(case for case in cases if case.wants_decision)
    going_on = tuple(case for case in cases if case.is_active and case.is_told and not case.wants_decision)
    not_told = tuple(case for case in cases if case.is_active and not case.is_told)
    rest = sorted(
        (case for case in cases if not case.is_active and not case.wants_decision),
        key=lambda case: (case.last_seen, case.case_id),
        reverse=True,
    )
    n_cases = fetch_value(connection, "SELECT count(*) FROM mart.cases WHERE state <> 'merged'")
    precision = fetch_rows(connection, "FROM mart.alarm_precision WHERE n_marked > 0 ORDER BY month")
    return CaseView(decide, going_on, tuple(rest), n_cases, day, tuple(precision), not_told)


def _read_rows(
    connection: duckdb.DuckDBPyConnection, day: datetime | None, condition: str, values: dict[str, object], *, most: int
) -> list[CaseRow]:
    rows = fetch_rows(
        connection,
        f"""
        SELECT cases.* EXCLUDE (similar_cases, opened_at, updated_at),
               similar_cases,
               (SELECT list(verdict_id ORDER BY night, verdict_id) FROM mart.drift_verdicts AS verdict
                WHERE verdict.status IN ('open', 'failed') AND list_contains(cases.verdict_ids, verdict_id)) AS waiting,
               coalesce(told.last_told >= $day::TIMESTAMP, false) AS is_new
        FROM mart.cases
        LEFT JOIN (
            SELECT case_id, max(as_of) AS last_told FROM mart.case_changes
            WHERE change IN ('opened', 'reopened') GROUP BY case_id
        ) AS told USING (case_id)
        WHERE {condition}
        QUALIFY state <> 'closed' OR row_number() OVER (PARTITION BY state ORDER BY last_seen DESC, case_id) <= $most
        ORDER BY state = 'closed', list_position(['high', 'medium', 'low'], severity), last_seen DESC, case_id
        """,
        values | {"day": day, "most": most},
    )
    labels = {
        case_id: label or state
        for case_id, label, state in connection.execute(
            "SELECT case_id, coalesce(label_kind, label), state FROM mart.cases"
        ).fetchall()
    }
    lists = ("machine_ids", "sensors", "segments", "cluster_keys", "verdict_ids", "waiting")
    cases = []
    for row in rows:
        similar = tuple((case_id, labels[case_id]) for case_id in row.pop("similar_cases") or () if case_id in labels)
        row |= {name: tuple(row[name] or ()) for name in lists}
        cases.append(CaseRow(**row | {"alarm_seconds": row["alarm_seconds"] or 0.0}, similar=similar))
    return cases


@dataclass(frozen=True)
class CaseHistory:
    """One case with everything that belongs to it.

    Attributes:
        case: The case.
        events: Rows of `mart.case_events`, in the order in which they were told.
        changes: Rows of `mart.case_changes`, in their order.
    """

    case: CaseRow
    events: tuple[dict[str, Any], ...]
    changes: tuple[dict[str, Any], ...]


def read_case(connection: duckdb.DuckDBPyConnection, case_id: str) -> CaseHistory:
    """Read one case, by its id or its first digits.

    Raises:
        UnknownCaseError: The case does not exist, or the first digits fit several.
    """
    found = find_case(connection, case_id)
    cases = _read_rows(connection, None, "case_id = $case", {"case": found}, most=1)
    values: dict[str, object] = {"case": found}
    events = fetch_rows(connection, "FROM mart.case_events WHERE case_id = $case ORDER BY told_at, event_id", values)
    changes = fetch_rows(connection, "FROM mart.case_changes WHERE case_id = $case ORDER BY change_number", values)
    return CaseHistory(cases[0], tuple(events), tuple(changes))


def find_case(connection: duckdb.DuckDBPyConnection, case_id: str) -> str:
    """Return the whole id of a case by its first digits, with or without the K in front, or by one of its events.

    Raises:
        UnknownCaseError: The case does not exist, or the first digits fit several.
        UnknownEventError: The event does not exist, or the first digits fit several.
    """
    if is_event_id(case_id):
        return _find_case_of(connection, find_event(connection, case_id))
    match = _ID.fullmatch(case_id.strip())
    rows = connection.execute(
        "SELECT case_id FROM mart.cases WHERE starts_with(case_id, $start) ORDER BY case_id",
        {"start": f"K-{match[1].lower()}" if match else None},
    ).fetchall()
    names = [row[0] for row in rows]
    if len(names) == 1:
        return str(names[0])
    if names:
        raise UnknownCaseError(f"{case_id[:80]!r} matches {len(names)} cases ({list_few(names)}): give more digits.")
    known = connection.execute(
        "SELECT case_id FROM mart.cases WHERE state NOT IN ('closed', 'merged') ORDER BY last_seen DESC, case_id"
    ).fetchall()
    raise UnknownCaseError(
        f"Expected the id of a case in mart.cases ({list_few([row[0] for row in known]) or 'none goes on'}), got "
        f"{case_id[:80]!r}: `pwflow cases` lists them."
    )


def _find_case_of(connection: duckdb.DuckDBPyConnection, event_id: str) -> str:
    found = fetch_value(connection, "SELECT case_id FROM mart.case_events WHERE event_id = ?", [event_id])
    if found is None:
        raise UnknownCaseError(f"{event_id} is in no case yet: the next `pwflow run` puts it into one.")
    return str(found)


def next_step_of(case: CaseRow) -> str:
    """Return what a person does about a case, as commands."""
    if case.state == "shelved":
        return f"`pwflow mark {case.case_id}` says what it was"
    mark = f"`pwflow mark {case.case_id} --fault`, `--normal` or `--known KIND`"
    if not case.is_active:
        return f"{mark} says what it was"
    seen = "" if case.state == "acknowledged" else f"`pwflow acknowledge {case.case_id}` if somebody looks at it; "
    waiting = f"verdict{'s' if case.waiting[1:] else ''} {list_few(case.waiting)}"
    answer = f"for {waiting} in it see `pwflow status`; " if case.waiting else ""
    return f"{answer}{seen}{mark} says what it was"
