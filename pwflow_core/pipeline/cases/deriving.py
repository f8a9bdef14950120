"""The step of the cases: what is new since the last run is read into the book, and told once."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import duckdb

from pwflow_core.pipeline.cases.alarm_log import append_entries
from pwflow_core.pipeline.cases.book import CaseBook
from pwflow_core.pipeline.cases.case import Finding, Rules, Sighting
from pwflow_core.pipeline.cases.changes import CaseChange, write_changes
from pwflow_core.pipeline.cases.lifecycle import (
    SEVERITIES,
    Change,
    Record,
    Severity,
    alarm_seconds,
    describe_case,
    top_sensors,
    weigh_case,
    worst_sighting,
)
from pwflow_core.pipeline.cases.moves import HEAD_START
from pwflow_core.pipeline.cases.promise import note_evidence, tell_cases, weigh_events
from pwflow_core.pipeline.cases.similarity import Profile, most_similar
from pwflow_core.pipeline.cases.storage import (
    fetch_rows,
    insert_rows,
    load_records,
    read_clock,
    read_findings,
    to_sighting,
)
from pwflow_core.pipeline.decisions.verdicts import Decider, open_verdicts
from pwflow_core.pipeline.readings.rate import DEFAULT_GAP_INTERVALS, RARE_FACTOR
from pwflow_core.pipeline.readings.timing import read_timing
from pwflow_core.pipeline.scoring.scores import alpha_in_force
from pwflow_core.plant import Plant
from pwflow_core.warehouse import fetch_value, read_sql, run_script, utc_now

__all__ = ["CasesSummary", "derive_cases", "rules_of"]

_log = logging.getLogger("pwflow.cases")

_QUIET_GAPS = 72
_LONGEST_QUIET = timedelta(days=3)
_SHORTEST_QUIET = timedelta(seconds=10)
_COMEBACK = 4
_PARTS_OF_QUIET = 24
_WALL_TIME = 15
"""Running time may be spread over so much more time on the wall."""


@dataclass(frozen=True)
class CasesSummary:
    """What deriving the cases came to.

    Attributes:
        n_cases: Cases, all together.
        n_active: Those of them that go on.
        n_told: Events and verdicts that were told in this run.
        changes: What became of cases in this run.
        flood: How many new cases are a flood.
    """

    n_cases: int
    n_active: int
    n_told: int
    changes: tuple[CaseChange, ...]
    flood: int

    @property
    def n_opened(self) -> int:
        """New cases of this run that go on as cases of their own."""
        merged = {change.case_id for change in self.changes if change.change == "merged"}
        return len({c.case_id for c in self.changes if c.change == "opened"} - merged)

    @property
    def is_flood(self) -> bool:
        """Whether there are more new cases than anybody can look at."""
        return self.n_opened > self.flood


def rules_of(plant: Plant, interval_seconds: float) -> Rules:
    """Return how long things take on a plant: as configured, else by the gap between two events."""
    config = plant.config
    minutes = config.events.max_gap_minutes
    gap = timedelta(seconds=DEFAULT_GAP_INTERVALS * interval_seconds if minutes is None else 60 * minutes)
    if config.cases.quiet_minutes is not None:
        quiet = timedelta(minutes=config.cases.quiet_minutes)
    else:
        quiet = min(max(_QUIET_GAPS * gap, _SHORTEST_QUIET), max(_LONGEST_QUIET, 3 * gap))
    return Rules(quiet, _COMEBACK * quiet, gap)


def derive_cases(plant: Plant, *, by: Decider) -> CasesSummary:
    """Read new events and verdicts into the cases, in one transaction, and append what was raised to the alarm log.

    An event is new if it has readings that no earlier run has seen; what a new model finds in old readings is not
    raised. What was told of an event that goes on is brought up to date; what a new model thinks of an old one is not.
    """
    with plant.warehouse.transaction() as connection:
        timing = read_timing(connection, plant.config)
        interval = timing.interval_seconds if timing else 60.0
        values = {"min_readings": plant.config.events.min_readings, "rare_factor": RARE_FACTOR}
        run_script(connection, read_sql(__package__, "sightings.sql"), values)
        events = {row["event_id"]: row for row in fetch_rows(connection, "FROM fresh_events")}
        grown = _find_grown(connection)
        promise = plant.config.scoring.false_cases
        if promise is not None:
            weigh_events(connection, interval, plant.config.schedule.timezone)
        fresh = [to_sighting(row) for event_id, row in events.items() if event_id not in grown]
        zone = plant.config.schedule.timezone
        findings = read_findings(connection, zone)
        rules = rules_of(plant, interval)
        book = _open_book(connection, rules, [*fresh, *map(to_sighting, events.values())], findings, zone)
        horizon = fetch_value(connection, "SELECT max(ts) FROM mart.anomaly_scores")
        before = {record.case.case_id: record.severity for record in book.records}
        went_on = _bring_up_to_date(book, events, grown)
        book.read(fresh, [finding for finding, _ in findings], went_on, horizon)
        if promise is not None:
            known_events = {s.event_id for record in book.records for s in record.case.sightings}
            note_evidence(connection, grown, known_events)
        made = _write(connection, book, events, before, interval, zone, by, promise, horizon)
        _refresh_found(connection)
        _remember_seen(connection)
        counts: Counter[str] = Counter(
            dict(connection.execute("SELECT state, count(*) FROM mart.cases GROUP BY state").fetchall())
        )
    for change in made:
        if change.change in ("opened", "reopened", "worse") and change.is_active:
            _log.info("%s %s: %s", change.case_id, change.change, change.summary)
    n_active = counts["open"] + counts["acknowledged"] + counts["shelved"]
    n_cases = counts.total() - counts["merged"]
    return CasesSummary(n_cases, n_active, len(book.told), tuple(made), plant.config.cases.flood)


def _find_grown(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """Return which events were told before, by the ids that they have now: they overlap one that was told."""
    rows = connection.execute(
        "SELECT fresh.event_id, arg_max(told.event_id, told.told_at) FROM fresh_events AS fresh "
        "JOIN mart.case_events AS told ON told.machine_id = fresh.machine_id AND told.event_id IS NOT NULL "
        "AND told.started_at <= fresh.ended_at AND told.ended_at >= fresh.started_at GROUP BY fresh.event_id"
    ).fetchall()
    return dict(rows)


def _open_book(
    connection: duckdb.DuckDBPyConnection,
    rules: Rules,
    sightings: Sequence[Sighting],
    findings: Sequence[tuple[Finding, str]],
    timezone: str,
) -> CaseBook:
    """Return the book with the cases that go on, or closed so late that what is new may belong to them.

    Those that were seen since a regime moved belong to them as well: its verdict may explain their events.
    """
    times = [s.started_at for s in sightings] + [finding.since for finding, _ in findings]
    oldest = min(times, default=None)
    moved = min((finding.since - HEAD_START for finding, _ in findings if finding.is_common), default=None)
    rows = connection.execute(
        "SELECT case_id, since FROM mart.cases JOIN core.case_profiles USING (case_id) "
        "WHERE state IN ('open', 'acknowledged', 'shelved') OR (state = 'closed' AND last_seen + to_microseconds("
        "(1e6 * $wall * greatest($comeback, $patience * pause_seconds))::BIGINT) >= $oldest::TIMESTAMP) "
        "OR (state = 'closed' AND last_seen >= $moved::TIMESTAMP)",
        {
            "wall": _WALL_TIME,
            "comeback": rules.comeback.total_seconds(),
            "patience": rules.patience,
            "oldest": oldest,
            "moved": moved,
        },
    ).fetchall()
    every = [finding for finding, _ in read_findings(connection, timezone, with_known=True)]
    records = load_records(connection, [case_id for case_id, _ in rows], every)
    since = min([since for _, since in rows] + times, default=datetime.max)  # noqa: DTZ901 - UTC without saying so
    ids = {row[0] for row in connection.execute("SELECT case_id FROM mart.cases").fetchall()}
    unsettled = {verdict.verdict_id for verdict in open_verdicts(connection)}
    clock = read_clock(connection, rules.quiet / _PARTS_OF_QUIET, since - rules.quiet if rows or times else since)
    return CaseBook(rules, clock, records, ids, unsettled)


def _bring_up_to_date(
    book: CaseBook, events: Mapping[str, Mapping[str, Any]], grown: Mapping[str, str]
) -> list[Sighting]:
    """Return the events that were told and went on, as they are now; what was told of their beginning stays."""
    known = {s.event_id: s for record in book.records for s in record.case.sightings}
    found: dict[str, Sighting] = {}
    for event_id, told_id in grown.items():
        before, now = found.get(told_id, known.get(told_id)), to_sighting(dict(events[event_id]))
        if before is None:
            continue
        found[told_id] = replace(
            now,
            event_id=before.event_id,
            started_at=before.started_at,
            told_at=before.told_at,
            ended_at=max(before.ended_at, now.ended_at),
            lasted_until=max(before.lasted_until, now.lasted_until),
            n_readings=max(before.n_readings, now.n_readings),
            peak=max(before.peak, now.peak),
            head_peak=before.head_peak,
            head_blame=before.head_blame,
            climbs=tuple(c for c in now.climbs if c[0] > before.told_at),
        )
    return list(found.values())


def _write(
    connection: duckdb.DuckDBPyConnection,
    book: CaseBook,
    events: Mapping[str, Mapping[str, Any]],
    before: Mapping[str, Severity],
    interval: float,
    timezone: str,
    by: Decider,
    promise: float | None,
    horizon: datetime | None,
) -> list[CaseChange]:
    now = utc_now()
    alpha = alpha_in_force(connection)
    findings = read_findings(connection, timezone, with_known=True)
    verdicts = {finding.verdict_id: text for finding, text in findings}
    summaries = dict(connection.execute("SELECT event_id, summary FROM mart.case_events").fetchall())
    summaries |= {event_id: row["summary"] for event_id, row in events.items()}
    touched = [record for record in book.records if record.is_touched or not record.is_known]
    for record in touched:
        if record.case.sightings or record.case.findings:
            record.severity = weigh_case(record.case, alpha)
        rank = SEVERITIES.index(record.severity)
        if record.is_known and record.is_active and rank > SEVERITIES.index(before[record.case.case_id]):
            about = Change(record.case.case_id, "worse", record.state, record.state, record.case.last_seen(), "")
            book.changes.append(replace(about, reason=f"it is {record.severity} now"))
    sentences = {
        r.case.case_id: describe_case(r.case, summaries, verdicts, interval)
        for r in touched
        if r.case.sightings or r.case.findings
    }
    records = {record.case.case_id: record for record in book.records}
    _write_cases(connection, touched, sentences, interval, now)
    _write_events(connection, touched, events, verdicts)
    if horizon is not None:
        opened = {c.case_id: c.as_of for c in book.changes if c.change == "opened"}
        told = tell_cases(connection, promise, opened, horizon=horizon, timezone=timezone, by=by, now=now)
        book.changes += told
        gone = [change.case_id for change in told if change.case_id not in records]
        records |= {record.case.case_id: record for record in load_records(connection, gone, [f for f, _ in findings])}
    _write_similar(connection, [record.case.case_id for record in touched])
    append_entries(
        connection,
        book.told,
        book.changes,
        records=records,
        events=events,
        sentences=sentences | verdicts,
        run_id=by.run_id,
        now=now,
    )
    return write_changes(connection, book.changes, records=records, sentences=sentences, by=by, now=now)


def _write_cases(
    connection: duckdb.DuckDBPyConnection,
    records: Sequence[Record],
    sentences: Mapping[str, str],
    interval: float,
    now: datetime,
) -> None:
    gone = {
        row["case_id"]: row
        for row in fetch_rows(
            connection,
            "FROM mart.cases WHERE list_contains($ids, case_id)",
            {"ids": [record.case.case_id for record in records]},
        )
    }
    rows, profiles = [], []
    for record in records:
        case = record.case
        row: dict[str, object] = dict(gone.get(case.case_id) or _empty_row(connection))
        if case.sightings or case.findings:
            worst = worst_sighting(case) if case.sightings else None
            row |= {
                "machine_ids": list(case.machines),
                "sensors": top_sensors(case),
                "segments": sorted(case.segments),
                "cluster_keys": sorted(
                    {s.cluster_key for s in case.sightings} | {k for f in case.findings for k in f.keys}
                ),
                "since": case.since,
                "last_seen": case.last_seen(),
                "n_events": len(case.sightings),
                "n_readings": sum(s.n_readings for s in case.sightings),
                "alarm_seconds": alarm_seconds(case, interval),
                "peak_score": worst.peak if worst else None,
                "worst_event_id": worst.event_id if worst else None,
                "verdict_ids": [f.verdict_id for f in case.findings],
                "summary": sentences[case.case_id],
            }
        elif record.merged_into is not None and not record.is_known:
            target = next(r for r in records if r.case.case_id == _root(record, records))
            row |= {"machine_ids": list(target.case.machines), "since": target.case.since}
            row |= {"last_seen": target.case.last_seen(), "summary": f"one with {record.merged_into}"}
        row |= {
            "case_id": case.case_id,
            "state": record.state,
            "severity": record.severity,
            "label": record.label,
            "label_kind": record.label_kind,
            "n_reopened": record.n_reopened,
            "closed_at": record.closed_at,
            "shelved_until": record.shelved_until,
            "merged_into": record.merged_into,
            "opened_at": record.opened_at or now,
            "updated_at": now,
        }
        rows.append(row)
        profiles.append(
            {
                "case_id": case.case_id,
                "pause_seconds": case.longest_pause.total_seconds(),
                "blame": _total_blame(record),
            }
        )
    ids = [row["case_id"] for row in rows]
    for table in ("mart.cases", "core.case_profiles"):
        connection.execute(f"DELETE FROM {table} WHERE list_contains(?, case_id)", [ids])
    insert_rows(connection, "mart.cases", rows)
    insert_rows(connection, "core.case_profiles", profiles)


def _empty_row(connection: duckdb.DuckDBPyConnection) -> dict[str, object]:
    names = [row[0] for row in connection.execute("DESCRIBE mart.cases").fetchall()]
    lists = {"machine_ids", "sensors", "segments", "cluster_keys", "verdict_ids", "similar_cases"}
    return {name: [] if name in lists else None for name in names} | {"n_events": 0, "n_readings": 0}


def _root(record: Record, records: Sequence[Record]) -> str:
    """Return the case that a merged one is part of at last."""
    known = {other.case.case_id: other for other in records}
    while record.merged_into is not None and record.merged_into in known:
        record = known[record.merged_into]
    return record.case.case_id


def _total_blame(record: Record) -> dict[str, float]:
    total: dict[str, float] = {}
    for sighting in record.case.sightings:
        whole = sum(sighting.blame.values()) or 1.0
        for sensor, value in sighting.blame.items():
            total[sensor] = total.get(sensor, 0.0) + value / whole
    for finding in record.case.findings if not record.case.sightings else ():
        total |= dict.fromkeys(finding.sensors, 1.0)
    return total


def _write_events(
    connection: duckdb.DuckDBPyConnection,
    records: Sequence[Record],
    events: Mapping[str, Mapping[str, Any]],
    verdicts: Mapping[str, str],
) -> None:
    owner = {s.event_id: record.case.case_id for record in records for s in record.case.sightings}
    stored = {
        row["event_id"]: row
        for row in fetch_rows(
            connection,
            "FROM mart.case_events JOIN core.case_evidence USING (event_id) WHERE list_contains($ids, event_id)",
            {"ids": list(owner)},
        )
    }
    rows, evidence = [], []
    for record in records:
        for s in record.case.sightings:
            known = stored.get(s.event_id)
            if known is not None and to_sighting(known) == s and known["case_id"] == owner[s.event_id]:
                continue
            about = known or events[s.event_id]
            rows.append(
                {
                    "case_id": owner[s.event_id],
                    "event_id": s.event_id,
                    "verdict_id": None,
                    "machine_id": s.machine_id,
                    "started_at": s.started_at,
                    "told_at": s.told_at,
                    "ended_at": s.ended_at,
                    "lasted_until": s.lasted_until,
                    "n_readings": s.n_readings,
                    "peak_score": s.peak,
                    "cluster_key": s.cluster_key,
                    "segment": s.segment,
                    "sensors": about["sensors"],
                    "summary": events.get(s.event_id, about)["summary"],
                    "is_found": True,
                }
            )
            climbs = [{"ts": time, "score": score} for time, score in s.climbs]
            evidence.append(
                {
                    "event_id": s.event_id,
                    "head_peak": s.head_peak,
                    "blame": dict(s.blame),
                    "head_blame": dict(s.head_blame),
                    "climbs": climbs,
                    "is_over": s.is_over,
                }
            )
    ids = [row["event_id"] for row in rows]
    for table in ("mart.case_events", "core.case_evidence"):
        connection.execute(f"DELETE FROM {table} WHERE list_contains(?, event_id)", [ids])
    insert_rows(connection, "mart.case_events", rows)
    insert_rows(connection, "core.case_evidence", evidence)
    named = {f.verdict_id: (record.case.case_id, f) for record in records for f in record.case.findings}
    connection.execute("DELETE FROM mart.case_events WHERE list_contains(?, verdict_id)", [list(named)])
    nothing = dict.fromkeys(row[0] for row in connection.execute("DESCRIBE mart.case_events").fetchall())
    insert_rows(
        connection,
        "mart.case_events",
        [
            nothing
            | {"case_id": case_id, "verdict_id": verdict_id, "started_at": f.since, "told_at": f.told_at}
            | {"ended_at": f.told_at, "lasted_until": f.told_at, "sensors": list(f.sensors)}
            | {"summary": verdicts.get(verdict_id), "is_found": True}
            for verdict_id, (case_id, f) in named.items()
        ],
    )


def _write_similar(connection: duckdb.DuckDBPyConnection, case_ids: Sequence[str]) -> None:
    """Write which earlier cases are most like those that changed."""
    rows = connection.execute(
        "SELECT case_id, since, blame, n_events, coalesce(alarm_seconds, 0), coalesce(peak_score, 0) "
        "FROM mart.cases JOIN core.case_profiles USING (case_id) WHERE state <> 'merged' ORDER BY since, case_id"
    ).fetchall()
    profiles = [Profile(*row) for row in rows]
    for profile in profiles:
        if profile.case_id in case_ids:
            connection.execute(
                "UPDATE mart.cases SET similar_cases = ? WHERE case_id = ?",
                [most_similar(profile, profiles), profile.case_id],
            )


def _refresh_found(connection: duckdb.DuckDBPyConnection) -> None:
    """Say of every event that was told whether the scores as they are now still have one there."""
    connection.execute(
        """
        UPDATE mart.case_events AS told
        SET is_found = now.is_found
        FROM (
            SELECT told.event_id, bool_or(event.event_id IS NOT NULL) AS is_found
            FROM mart.case_events AS told
            LEFT JOIN mart.anomaly_events AS event
              ON event.machine_id = told.machine_id
             AND event.started_at <= told.ended_at
             AND event.ended_at >= told.started_at
            WHERE told.event_id IS NOT NULL
            GROUP BY told.event_id
        ) AS now
        WHERE now.event_id = told.event_id AND now.is_found IS DISTINCT FROM told.is_found
        """
    )


def _remember_seen(connection: duckdb.DuckDBPyConnection) -> None:
    """Keep which readings were seen: the last batch by segment, of segments with judged readings."""
    connection.execute("DELETE FROM core.progress WHERE step = 'cases'")
    connection.execute(
        "INSERT INTO core.progress (step, cluster_key, model, batch_id) "
        "SELECT 'cases', segment, '', max(reading.batch_id) FROM core.readings AS reading "
        "WHERE segment IN (SELECT DISTINCT segment FROM mart.anomaly_scores WHERE status = 'scored') "
        "GROUP BY segment ORDER BY segment"
    )
