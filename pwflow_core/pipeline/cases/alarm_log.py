"""The alarm log: what was raised, when, by which flow and calibration. Only ever added to.

Nothing else writes `mart.alarm_log`, and nothing changes a row of it: a refit, a rollback and new regimes leave what
people were told as it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import duckdb

from pwflow_core.pipeline.cases.book import Told
from pwflow_core.pipeline.cases.lifecycle import Change, Record, top_sensors
from pwflow_core.pipeline.cases.storage import count_up, insert_rows

__all__ = ["LOGGED", "append_entries"]

LOGGED = ("opened", "told", "worse", "closed", "reopened", "merged")
"""What becomes of a case without a person, and is logged."""
_ABOUT_EVENTS = ("event_id", "verdict_id", "started_at", "ended_at", "n_readings", "peak_score", "cluster_key")
_ABOUT_MODELS = ("flow_version", "calibrated_at", "model_set_id", "alpha")
_NOTHING: dict[str, object] = dict.fromkeys((*_ABOUT_EVENTS, *_ABOUT_MODELS))


def append_entries(
    connection: duckdb.DuckDBPyConnection,
    told: Sequence[Told],
    changes: Sequence[Change],
    *,
    records: Mapping[str, Record],
    events: Mapping[str, Mapping[str, Any]],
    sentences: Mapping[str, str],
    run_id: str | None,
    now: datetime,
) -> None:
    """Append what a run raised, in the order of the record of readings.

    Arguments:
        connection: The caller's transaction.
        told: Events and verdicts.
        changes: What became of cases.
        records: The cases, by id.
        events: Rows of the events, by their ids, with the models that scored them.
        sentences: What was said, by case or verdict.
        run_id: Run that raised it.
        now: When, UTC.
    """
    calibrated = {
        version: at
        for version, at in connection.execute("SELECT flow_version, calibrated_at FROM core.calibration").fetchall()
    }
    rows: list[dict[str, object]] = []
    for item in {(t.sighting.event_id if t.sighting else t.finding): t for t in told}.values():
        severity = records[item.case_id].severity
        if item.sighting is not None:
            event = events[item.sighting.event_id]
            row = {name: event[name] for name in ("event_id", "started_at", "ended_at", "n_readings", "peak_score")}
            row |= {name: event[name] for name in ("cluster_key", "flow_version", "model_set_id", "alpha", "sensors")}
            row |= {"calibrated_at": calibrated.get(event["flow_version"]), "machine_ids": [event["machine_id"]]}
            row |= {"entry": "event", "as_of": event["told_at"], "sentence": event["summary"]}
        elif item.finding is not None:
            finding = item.finding
            row = {"entry": "verdict", "verdict_id": finding.verdict_id, "as_of": finding.told_at}
            row |= {"started_at": finding.since, "sensors": list(finding.sensors)}
            row |= {"machine_ids": list(finding.machines), "sentence": sentences.get(finding.verdict_id)}
        rows.append(_NOTHING | row | {"case_id": item.case_id, "severity": severity})
    for change in changes:
        if change.change not in LOGGED:
            continue
        record = records[change.case_id]
        about = {"machine_ids": list(record.case.machines) if record.case.sightings or record.case.findings else []}
        about |= {"sensors": top_sensors(record.case)}
        row = {"case_id": change.case_id, "entry": change.change, "as_of": change.as_of, "severity": record.severity}
        rows.append(_NOTHING | row | about | {"sentence": change.reason or sentences.get(change.case_id)})
    rows.sort(key=lambda row: (row["as_of"], row["entry"] != "opened", str(row["case_id"]), str(row["event_id"])))
    first = count_up(connection, "mart.alarm_log", "entry_number")
    columns = [row[0] for row in connection.execute("DESCRIBE mart.alarm_log").fetchall()]
    numbered = [
        {**row, "entry_number": first + place, "raised_at": now, "run_id": run_id} for place, row in enumerate(rows)
    ]
    insert_rows(connection, "mart.alarm_log", [{name: row[name] for name in columns} for row in numbered])
