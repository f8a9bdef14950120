"""What a person says of a case: that it is seen, that it can wait, or what it was. All of it can be undone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

import duckdb

from pwflow_core.errors import CaseStateError
from pwflow_core.pipeline.cases.lifecycle import LABELS, ChangeKind, Label, State, check_transition
from pwflow_core.pipeline.cases.storage import count_up, insert_rows
from pwflow_core.pipeline.cases.view import find_case
from pwflow_core.pipeline.decisions.verdicts import Decider
from pwflow_core.plant import Plant
from pwflow_core.warehouse import fetch_value, in_utc, utc_now

__all__ = [
    "Decision",
    "acknowledge_case",
    "mark_case",
    "read_label",
    "read_until",
    "shelve_case",
    "undo_decision",
]

_BY_PEOPLE: tuple[ChangeKind, ...] = ("acknowledged", "shelved", "marked")
_LONGEST_KIND = 80


@dataclass(frozen=True)
class Decision:
    """A case after a person decided about it.

    Attributes:
        case_id: The case.
        state: Its state now.
        label: Its label now; None if nobody said what it is.
        label_kind: Kind of a known cause.
        shelved_until: Until when nobody wants to hear of it, in the record of readings, UTC.
        summary: What it is about.
    """

    case_id: str
    state: State
    label: Label | None
    label_kind: str | None
    shelved_until: datetime | None
    summary: str


@dataclass(frozen=True)
class _Row:
    case_id: str
    state: State
    label: Label | None
    label_kind: str | None
    shelved_until: datetime | None
    closed_at: datetime | None
    severity: str
    merged_into: str | None
    summary: str


def read_label(text: str) -> Label:
    """Return a label by its name.

    Raises:
        CaseStateError: The label does not exist.
    """
    for label in LABELS:
        if text.strip().lower() == label:
            return label
    raise CaseStateError(f"Expected a label out of {', '.join(LABELS)}, got {text[:80]!r}.")


def read_until(text: str, timezone: str) -> datetime:
    """Read a day or time, in the time zone of the plant where it names none; a day counts from its beginning.

    Raises:
        CaseStateError: It is neither.
    """
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError:
        raise CaseStateError(
            f"Expected a day or time such as 2026-03-14 or 2026-03-14T06:00, got {text[:80]!r}."
        ) from None
    return in_utc(time if time.tzinfo else time.replace(tzinfo=ZoneInfo(timezone)))


def acknowledge_case(plant: Plant, case_id: str, *, by: Decider, reason: str = "") -> Decision:
    """Record that a person has seen a case; it closes by itself as before.

    Raises:
        UnknownCaseError: The case does not exist, or the first digits fit several.
        CaseStateError: It is closed or merged.
    """
    return _decide(plant, case_id, "acknowledged", by, reason, lambda row, _: ("acknowledged", row.label, None))


def shelve_case(plant: Plant, case_id: str, *, until: datetime, by: Decider, reason: str = "") -> Decision:
    """Put a case aside until a time in the record of readings; then it is open again, if it still goes on.

    Arguments:
        plant: The plant.
        case_id: The case or its first digits.
        until: Time; one without a zone is UTC.
        by: Who shelves it.
        reason: Why.

    Raises:
        UnknownCaseError: The case does not exist, or the first digits fit several.
        CaseStateError: It is closed or merged, or the time is over.
    """
    end = in_utc(until)

    def shelve(row: _Row, now: datetime) -> tuple[State, Label | None, datetime | None]:
        if end <= now:
            raise CaseStateError(
                f"Expected a time after the last reading, {now:%Y-%m-%d %H:%M} UTC, got {end:%Y-%m-%d %H:%M} UTC: "
                f"until then {row.case_id} cannot be shelved. Give a later one."
            )
        return "shelved", row.label, end

    return _decide(plant, case_id, "shelved", by, reason, shelve)


def mark_case(
    plant: Plant, case_id: str, label: Label, *, kind: str | None = None, by: Decider, reason: str = ""
) -> Decision:
    """Record what a case was, which closes it.

    Nothing learns from the readings of a fault; those of a case marked as normal teach and calibrate. What comes back
    of a normal or known case joins it and is not told again; a fault that comes back opens it again.

    Arguments:
        plant: The plant.
        case_id: The case or its first digits.
        label: What it was.
        kind: Kind of a known cause, in the words of the plant; needed for `known` alone.
        by: Who says so.
        reason: Why.

    Raises:
        UnknownCaseError: The case does not exist, or the first digits fit several.
        CaseStateError: It is merged, or the label does not exist, or a kind is missing or given for another label.
    """
    kind = (kind or "").strip() or None
    if (label == "known") != (kind is not None) or len(kind or "") > _LONGEST_KIND:
        raise CaseStateError(
            f"Expected the kind of a known cause, in at most {_LONGEST_KIND} characters, with the label known and no "
            f"other, got {kind!r} with {label}: name it, such as `--known 'filter change'`."
        )
    return _decide(plant, case_id, "marked", by, reason, lambda _, __: ("closed", label, None), kind)


def undo_decision(plant: Plant, case_id: str, *, by: Decider, reason: str = "") -> Decision:
    """Take back the last thing that a person decided about a case: it is as it was before.

    Raises:
        UnknownCaseError: The case does not exist, or the first digits fit several.
        CaseStateError: Nobody decided about it, or what was decided is undone already.
    """
    with plant.warehouse.transaction() as connection:
        row = _read(connection, case_id)
        decided = connection.execute(
            "SELECT change, change_number, from_state, label, label_kind FROM mart.case_changes WHERE case_id = ? "
            "ORDER BY change_number",
            [row.case_id],
        ).fetchall()
        standing: list[tuple[State, Label | None, str | None]] = []
        before: tuple[Label | None, str | None] = (None, None)
        for change, _, from_state, label, label_kind in decided:
            if change in _BY_PEOPLE:
                standing.append((from_state, *before))
            elif change == "undone" and standing:
                standing.pop()
            before = (label, label_kind)
        if not standing:
            raise CaseStateError(f"Nobody has decided about {row.case_id}: there is nothing to undo.")
        state, former_label, former_kind = standing[-1]
        state = "open" if state == "shelved" else state
        closed = row.closed_at if state == "closed" else None
        return _write(connection, row, "undone", state, former_label, former_kind, None, closed, by, reason)


_Choose = Callable[[_Row, datetime], tuple[State, "Label | None", "datetime | None"]]


def _decide(
    plant: Plant,
    case_id: str,
    change: ChangeKind,
    by: Decider,
    reason: str,
    choose: _Choose,
    kind: str | None = None,
) -> Decision:
    with plant.warehouse.transaction() as connection:
        row = _read(connection, case_id)
        now: datetime = fetch_value(connection, "SELECT max(ts) FROM mart.anomaly_scores")
        state, label, until = choose(row, now)
        if row.state == "closed" and change != "marked":
            raise CaseStateError(f"The case {row.case_id} is closed; only one that goes on can be {change}.")
        check_transition(row.case_id, row.state, state, row.merged_into)
        closed = (row.closed_at or now) if state == "closed" else None
        label_kind = kind if change == "marked" else row.label_kind
        return _write(connection, row, change, state, label, label_kind, until, closed, by, reason)


def _read(connection: duckdb.DuckDBPyConnection, case_id: str) -> _Row:
    [row] = connection.execute(
        "SELECT case_id, state, label, label_kind, shelved_until, closed_at, severity, merged_into, summary "
        "FROM mart.cases WHERE case_id = ?",
        [find_case(connection, case_id)],
    ).fetchall()
    return _Row(*row)


def _write(
    connection: duckdb.DuckDBPyConnection,
    row: _Row,
    change: ChangeKind,
    state: State,
    label: Label | None,
    label_kind: str | None,
    until: datetime | None,
    closed_at: datetime | None,
    by: Decider,
    reason: str,
) -> Decision:
    now = utc_now()
    connection.execute(
        "UPDATE mart.cases SET state = $state, label = $label, label_kind = $kind, shelved_until = $until, "
        "closed_at = $closed, updated_at = $now WHERE case_id = $case",
        {
            "state": state,
            "label": label,
            "kind": label_kind,
            "until": until,
            "closed": closed_at,
            "now": now,
            "case": row.case_id,
        },
    )
    insert_rows(
        connection,
        "mart.case_changes",
        [
            {
                "change_number": count_up(connection, "mart.case_changes", "change_number"),
                "case_id": row.case_id,
                "change": change,
                "from_state": row.state,
                "to_state": state,
                "severity": row.severity,
                "label": label,
                "label_kind": label_kind,
                "as_of": fetch_value(connection, "SELECT max(ts) FROM mart.anomaly_scores"),
                "changed_at": now,
                "changed_by": by.name,
                "run_id": by.run_id,
                "reason": reason or None,
            }
        ],
    )
    return Decision(row.case_id, state, label, label_kind, until, row.summary)
