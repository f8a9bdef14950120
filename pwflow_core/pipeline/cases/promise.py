"""The promise on false cases: which cases people are told of, so that few of these are false.

A bound on the share of false cases among those that were told, at any time, for readings of any dependence. It is the
online e-BH procedure on compound e-values:

- A reading with a p-value p of at most alpha has the e-value of `e_value.sql`, any other has 0. If the machine is
  normal and P(p <= x) is at most the root of alpha x, its expectation is at most 1. That is less than p-values promise,
  because those far below alpha follow a tail that was fitted to the held-out readings: half of their decades count.
- Each day has a share of the promise, its readings share it alike, and all shares add up to at most 1. So the evidence
  of all normal readings, e-value times share, adds up to at most 1 on average, however they depend on each other. That
  pays for looking at all of them and raising only those that stand out.
- A case has the evidence of its anomalies; none counts for two cases. With the promise q, the k cases with the most
  evidence are told if each has at least 1 / (q k). Of those that are false each adds 1 / k to their share, which is at
  most q times its evidence; the sum of that is at most q on average.

Evidence only grows, and the more cases are told the less is needed: what was told stays told, and what was not may be
told later. What people marked as normal no longer counts among the k, so that labels can only ask for more evidence.

References:
    Online e-BH, and cases that are told later: Fischer, Xu, Ramdas (2024), arXiv:2407.20683. Compound e-values:
    Ignatiadis, Wang, Ramdas (2024), arXiv:2409.19812. e-LOND: Xu, Ramdas (2023), arXiv:2311.06412. E-values from
    p-values: Vovk, Wang (2021), arXiv:1912.06116.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from datetime import date, datetime, timedelta

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from pwflow_core.pipeline.cases.lifecycle import Change, State
from pwflow_core.pipeline.cases.storage import insert_rows
from pwflow_core.pipeline.decisions.verdicts import Decider
from pwflow_core.pipeline.readings.nights import begin_of
from pwflow_core.warehouse import fetch_value, read_sql, registered, run_script

__all__ = ["choose_told", "e_values", "note_evidence", "share_of_day", "tell_cases", "weigh_events"]

_DAYS = 365
"""Half of the promise is for the first 365 days, the other half for all later ones."""
_DAY_SECONDS = 86_400


def share_of_day(number: int) -> float:
    """Return the share of the promise that a day has, by its number from 1 on; the first n add up to n / (n + 365)."""
    return _DAYS / ((number + _DAYS - 1) * (number + _DAYS))


def choose_told(evidence: Mapping[str, float], promise: float, n_told: int) -> list[str]:
    """Return the cases to be told now, the one with the most evidence first.

    Arguments:
        evidence: Evidence of each case that was not told yet.
        promise: Largest share of false cases.
        n_told: How many were told before.
    """
    ranked = sorted(evidence, key=lambda case_id: (-evidence[case_id], case_id))
    enough = [n for n, case_id in enumerate(ranked, start=1) if evidence[case_id] * promise * (n_told + n) >= 1]
    return ranked[: max(enough, default=0)]


def e_values(p_value: ArrayLike, alpha: float) -> NDArray[np.float64]:
    """Return the e-value of each reading, by the formula of the tables; shape (n,).

    Arguments:
        p_value: Of each reading, shape (n,).
        alpha: The false-alarm rate per reading.
    """
    readings = pd.DataFrame({"p_value": np.asarray(p_value, dtype=np.float64)})
    with duckdb.connect() as connection, registered(connection, readings=readings):
        run_script(connection, read_sql(__package__, "e_value.sql"))
        found = connection.execute("SELECT e_value(p_value, ?)::DOUBLE AS e FROM readings", [alpha]).fetchnumpy()
    return np.asarray(found["e"], dtype=np.float64)


def weigh_events(connection: duckdb.DuckDBPyConnection, interval_seconds: float, timezone: str) -> None:
    """Make the table `fresh_evidence` of the events with new readings, and give new days their share of the promise.

    Expects the tables of `sightings.sql`.
    """
    _open_days(connection, interval_seconds, timezone)
    script = read_sql(__package__, "e_value.sql") + read_sql(__package__, "evidence.sql")
    run_script(connection, script, {"timezone": timezone})


def _open_days(connection: duckdb.DuckDBPyConnection, interval_seconds: float, timezone: str) -> None:
    """Give days a share when their first readings are seen, in their order; count the readings of days that go on."""
    counted = connection.execute(
        """
        SELECT night_of(ts, $timezone) AS day, count(*), count(DISTINCT machine_id)
        FROM mart.anomaly_scores
        WHERE status = 'scored'
          AND night_of(ts, $timezone) IN (SELECT DISTINCT night_of(ts, $timezone) FROM new_readings)
        GROUP BY day
        ORDER BY day
        """,
        {"timezone": timezone},
    ).fetchall()
    known = dict(connection.execute("SELECT day, n_readings FROM mart.promise_days").fetchall())
    most: float | None = fetch_value(connection, "SELECT max(greatest(n_expected, n_readings)) FROM mart.promise_days")
    number, rows = len(known), []
    for day, n_readings, n_machines in counted:
        if day in known:
            connection.execute(
                "UPDATE mart.promise_days SET n_readings = greatest(n_readings, ?) WHERE day = ?", [n_readings, day]
            )
        else:
            number += 1
            expected = n_machines * _DAY_SECONDS / interval_seconds if most is None else most
            rows.append(
                {
                    "day": day,
                    "day_number": number,
                    "share": share_of_day(number),
                    "n_expected": expected,
                    "n_readings": n_readings,
                }
            )
            most = expected
        most = max(most or 0.0, float(n_readings))
    insert_rows(connection, "mart.promise_days", rows)


def note_evidence(connection: duckdb.DuckDBPyConnection, names: Mapping[str, str], known: Collection[str]) -> None:
    """Keep the fresh evidence of events that are in a case, under the ids that they were told by.

    Arguments:
        connection: The caller's transaction.
        names: Ids that events were told by, by the ids that they have now, where these differ.
        known: Ids of the events that the cases of this run have.
    """
    rows = connection.execute("SELECT event_id, day, e_value FROM fresh_evidence").fetchall()
    insert_rows(
        connection,
        "mart.event_evidence",
        [
            {"event_id": told, "day": day, "e_value": value, "counted_for": None}
            for event_id, day, value in rows
            if (told := names.get(event_id, event_id)) in known
        ],
    )


def tell_cases(
    connection: duckdb.DuckDBPyConnection,
    promise: float | None,
    opened: Mapping[str, datetime],
    *,
    horizon: datetime,
    timezone: str,
    by: Decider,
    now: datetime,
) -> list[Change]:
    """Decide which cases people are told of; return the changes of those that are told now.

    Without a promise, all are told when they open. What has a verdict on drift is told because of it, and does not
    count for the promise: how often verdicts are false is promised elsewhere. A case that another one joined after
    people were told of that is told.

    Arguments:
        connection: The caller's transaction.
        promise: Largest share of false cases; None if there is none.
        opened: Cases that opened in this run, and when in the record of readings, UTC.
        horizon: Time of the last reading, UTC.
        timezone: Time zone of the plant's days.
        by: Who tells.
        now: When, UTC.
    """
    changes = [] if promise is None else _tell_by_evidence(connection, promise, horizon, timezone, by, now)
    if promise is None:
        changes += _tell_others(connection, "true", "all cases are told", opened, horizon)
    found_at = _read_verdict_times(connection)
    changes += _tell_others(connection, "len(verdict_ids) > 0", "a verdict says so", opened, horizon, found_at)
    joined = "case_id IN (SELECT merged_into FROM mart.cases WHERE told_as_of IS NOT NULL)"
    while _count_untold(connection, joined):
        changes += _tell_others(connection, joined, "one with a case that was told", opened, horizon)
    return changes


def _count_untold(connection: duckdb.DuckDBPyConnection, condition: str) -> int:
    query = f"SELECT count(*) FROM mart.cases WHERE told_as_of IS NULL AND {condition}"
    return int(fetch_value(connection, query))


def _tell_others(
    connection: duckdb.DuckDBPyConnection,
    condition: str,
    reason: str,
    opened: Mapping[str, datetime],
    horizon: datetime,
    since: Mapping[str, datetime] | None = None,
) -> list[Change]:
    """Tell cases for another reason than their evidence, if need be since a time: as they open, others as a change."""
    rows = connection.execute(
        f"SELECT case_id, state FROM mart.cases WHERE told_as_of IS NULL AND {condition} ORDER BY since, case_id"
    ).fetchall()
    changes = []
    for case_id, state in rows:
        start = opened.get(case_id, horizon)
        as_of = start if since is None else max(since[case_id], opened.get(case_id, since[case_id]))
        connection.execute("UPDATE mart.cases SET told_as_of = ? WHERE case_id = ?", [as_of, case_id])
        if case_id not in opened or as_of > start:
            changes.append(Change(case_id, "told", state, state, as_of, reason))
    return changes


def _tell_by_evidence(
    connection: duckdb.DuckDBPyConnection, promise: float, horizon: datetime, timezone: str, by: Decider, now: datetime
) -> list[Change]:
    """Tell the cases whose evidence suffices, day by day from the first day with fresh evidence on."""
    evidence, states = _read_evidence(connection)
    found_at = _read_verdict_times(connection)
    fresh: date | None = fetch_value(connection, "SELECT min(day) FROM fresh_evidence")
    n_told = _count_told(connection)
    sums: dict[str, float] = {}
    told: set[str] = set()
    changes = []
    for place, day in enumerate(days := sorted(evidence), start=1):
        for case_id, value in evidence[day].items():
            if case_id not in told:
                sums[case_id] = sums.get(case_id, 0.0) + value
        if place < len(days) and (fresh is None or day < fresh):
            continue  # the nights before have judged it
        as_of = horizon if fresh is None else min(begin_of(day + timedelta(days=1), timezone), horizon)
        by_verdict = {case_id for case_id, at in found_at.items() if at <= as_of}
        found = choose_told({c: value for c, value in sums.items() if c not in by_verdict}, promise, n_told)
        needed = 1 / (promise * (n_told + len(found))) if found else 0.0
        rows: list[dict[str, object]] = []
        for case_id in found:
            told.add(case_id)
            value = sums.pop(case_id)
            about = {"case_id": case_id, "as_of": as_of, "told_at": now, "run_id": by.run_id, "promise": promise}
            rows.append(about | {"place": n_told + len(rows) + 1, "evidence": value, "needed": needed})
            reason = f"its evidence is {value:.3g}, and {needed:.3g} is needed"
            changes.append(Change(case_id, "told", states[case_id], states[case_id], as_of, reason))
            _spend(connection, case_id, day, as_of)
        n_told += len(found)
        insert_rows(connection, "mart.told_cases", rows)
    return changes


def _read_evidence(
    connection: duckdb.DuckDBPyConnection,
) -> tuple[dict[date, dict[str, float]], dict[str, State]]:
    """Return the evidence of the cases that nobody was told of, by day and case, and their states."""
    evidence: dict[date, dict[str, float]] = defaultdict(dict)
    states: dict[str, State] = {}
    for day, case_id, state, value in connection.execute(
        """
        SELECT of_event.day, cases.case_id, any_value(cases.state), sum(of_event.e_value * days.share ORDER BY event_id)
        FROM mart.event_evidence AS of_event
        JOIN mart.promise_days AS days USING (day)
        JOIN mart.case_events AS event USING (event_id)
        JOIN mart.cases AS cases USING (case_id)
        WHERE of_event.counted_for IS NULL AND cases.told_as_of IS NULL AND cases.label IS NULL
          AND cases.state <> 'merged'
        GROUP BY of_event.day, cases.case_id
        ORDER BY of_event.day, cases.case_id
        """
    ).fetchall():
        evidence[day][case_id], states[case_id] = value, state
    return evidence, states


def _read_verdict_times(connection: duckdb.DuckDBPyConnection) -> dict[str, datetime]:
    """Return since when cases have a verdict."""
    query = "SELECT case_id, min(told_at) FROM mart.case_events WHERE verdict_id IS NOT NULL GROUP BY case_id"
    return dict(connection.execute(query).fetchall())


def _count_told(connection: duckdb.DuckDBPyConnection) -> int:
    """Return how many cases were told by their evidence, without those that turned out to be normal."""
    query = (
        "SELECT count(*) FROM mart.told_cases LEFT JOIN mart.cases USING (case_id) "
        "WHERE label IS DISTINCT FROM 'normal'"
    )
    return int(fetch_value(connection, query))


def _spend(connection: duckdb.DuckDBPyConnection, case_id: str, day: date, as_of: datetime) -> None:
    """Note that a case was told, and that its evidence up to a day counts for no other."""
    connection.execute("UPDATE mart.cases SET told_as_of = ? WHERE case_id = ?", [as_of, case_id])
    connection.execute(
        "UPDATE mart.event_evidence SET counted_for = $case WHERE counted_for IS NULL AND day <= $day "
        "AND event_id IN (SELECT event_id FROM mart.case_events WHERE case_id = $case)",
        {"case": case_id, "day": day},
    )
