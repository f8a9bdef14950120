"""What became of cases: every change is a row, and whoever has to be told reads them from here.

A delivery asks for the changes after the last one that it has handled, see `read_changes`: numbers only ever grow, and
none is used twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import duckdb

from pwflow_core.pipeline.cases.lifecycle import ACTIVE, Change, Record
from pwflow_core.pipeline.cases.storage import count_up, insert_rows
from pwflow_core.pipeline.decisions.verdicts import Decider

__all__ = ["CaseChange", "read_changes", "write_changes"]


@dataclass(frozen=True)
class CaseChange:
    """A row of `mart.case_changes` with the case as it is now, for whoever tells people of it.

    Attributes:
        change_number: Its number.
        case_id: The case.
        change: What became of it: opened, worse, closed, reopened, merged, … see `mart.case_changes`.
        as_of: Time in the record of readings that it is about, UTC.
        severity: Severity of the case then.
        state: State of the case now.
        machine_ids: Its machines.
        summary: What the case is about, as a sentence.
        run_id: Run in which it changed.
    """

    change_number: int
    case_id: str
    change: str
    as_of: datetime
    severity: str
    state: str
    machine_ids: tuple[str, ...]
    summary: str
    run_id: str | None

    @property
    def is_active(self) -> bool:
        """Whether the case goes on now."""
        return self.state in ACTIVE


def write_changes(
    connection: duckdb.DuckDBPyConnection,
    changes: Sequence[Change],
    *,
    records: Mapping[str, Record],
    sentences: Mapping[str, str],
    by: Decider,
    now: datetime,
) -> list[CaseChange]:
    """Append changes in the caller's transaction, in the order of the record of readings; return them."""
    first = count_up(connection, "mart.case_changes", "change_number")
    made, rows = [], []
    for number, change in enumerate(sorted(changes, key=lambda c: (c.as_of, c.change != "opened")), start=first):
        record = records[change.case_id]
        rows.append(
            {
                "change_number": number,
                "case_id": change.case_id,
                "change": change.change,
                "from_state": change.before,
                "to_state": change.after,
                "severity": record.severity,
                "label": record.label,
                "label_kind": record.label_kind,
                "as_of": change.as_of,
                "changed_at": now,
                "changed_by": by.name,
                "run_id": by.run_id,
                "reason": change.reason or None,
            }
        )
        machines = record.case.machines if record.case.sightings or record.case.findings else ()
        summary = sentences.get(change.case_id, change.reason)
        made.append(
            CaseChange(
                number,
                change.case_id,
                change.change,
                change.as_of,
                record.severity,
                record.state,
                machines,
                summary,
                by.run_id,
            )
        )
    insert_rows(connection, "mart.case_changes", rows)
    return made


def read_changes(
    connection: duckdb.DuckDBPyConnection, *, after: int = 0, run_id: str | None = None
) -> list[CaseChange]:
    """Return what became of cases, in the order of the numbers.

    Arguments:
        connection: An open snapshot.
        after: Only changes with a larger number.
        run_id: Only those of this run.
    """
    rows = connection.execute(
        "SELECT change.change_number, change.case_id, change.change, change.as_of, change.severity, cases.state, "
        "cases.machine_ids, cases.summary, change.run_id FROM mart.case_changes AS change "
        "JOIN mart.cases USING (case_id) WHERE change.change_number > $after "
        "AND ($run_id::VARCHAR IS NULL OR change.run_id = $run_id) ORDER BY change.change_number",
        {"after": after, "run_id": run_id},
    ).fetchall()
    return [
        CaseChange(number, case_id, change, as_of, severity, state, tuple(machines or ()), summary or "", run)
        for number, case_id, change, as_of, severity, state, machines, summary, run in rows
    ]
