"""Which days of the readings changed, and when, so that a step looks at those and at no others.

A day is one of `ts`, UTC. It changes when a reading, a score or what explains one is written, changed or removed.
Whoever writes says so in the same transaction; a step keeps in `core.progress` up to where it has seen the changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import duckdb

from pwflow_core.warehouse.progress import Progress, read_progress, write_progress
from pwflow_core.warehouse.sql import fetch_value
from pwflow_core.warehouse.times import utc_now

__all__ = ["FreshDays", "find_fresh_days", "note_changed_days", "on_days", "remember_days", "with_neighbours"]

_NO_VALUES: Mapping[str, object] = {}
_TICK = timedelta(microseconds=1)
_DAY = timedelta(days=1)
_MOST_RANGES = 50


@dataclass(frozen=True)
class FreshDays:
    """The days that a step has to look at.

    Attributes:
        days: The days that changed since the step last looked, sorted.
        are_all: Whether it looks at all days, also those of which nothing is known.
        mark: What there is now, for `remember_days`.
    """

    days: tuple[date, ...]
    are_all: bool
    mark: str

    def having(self, column: str) -> str:
        """Return the SQL that tells whether a time lies in one of these days."""
        return "true" if self.are_all else on_days(column, self.days)

    def around(self, column: str) -> str:
        """Return the SQL that tells whether a time lies in one of these days or in one beside it.

        Of every zone, a calendar day that shares a moment with one of these days lies wholly in those.
        """
        return "true" if self.are_all else on_days(column, with_neighbours(self.days))


def with_neighbours(days: Iterable[date]) -> list[date]:
    """Return days with the day before and the day after each, sorted."""
    return sorted({day + shift * _DAY for day in days for shift in (-1, 0, 1)})


def note_changed_days(
    connection: duckdb.DuckDBPyConnection, times: str, values: Mapping[str, object] = _NO_VALUES
) -> None:
    """Record that the days of some readings changed, in the caller's transaction.

    Arguments:
        connection: An open transaction.
        times: Query whose column `ts` has the times of the readings.
        values: What the query binds.
    """
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE noted_days AS SELECT DISTINCT ts::DATE AS day FROM ({times})", values
    )
    last: datetime | None = fetch_value(connection, "SELECT max(changed_at) FROM core.changed_days")
    now = utc_now() if last is None else max(utc_now(), last + _TICK)  # a clock may be put back
    connection.execute("DELETE FROM core.changed_days WHERE day IN (SELECT day FROM noted_days)")
    connection.execute("INSERT INTO core.changed_days SELECT day, $now AS changed_at FROM noted_days", {"now": now})


def find_fresh_days(connection: duckdb.DuckDBPyConnection, step: str, given: str = "") -> FreshDays:
    """Return the days that changed since a step last looked; all days if it has not yet, or under another `given`.

    Arguments:
        connection: An open connection.
        step: The step.
        given: What else its results follow from, such as the zone of the schedule.
    """
    seen, _, seen_given = read_progress(connection, step).model.partition(" given ")
    are_all = not seen or seen_given != given
    days = connection.execute(
        "SELECT day FROM core.changed_days WHERE $are_all OR changed_at > try_cast($seen AS TIMESTAMP) ORDER BY day",
        {"are_all": are_all, "seen": seen},
    ).fetchall()
    last = fetch_value(connection, "SELECT coalesce(max(changed_at), '1970-01-01')::VARCHAR FROM core.changed_days")
    return FreshDays(tuple(day for (day,) in days), are_all, f"{last} given {given}")


def remember_days(connection: duckdb.DuckDBPyConnection, step: str, fresh: FreshDays) -> None:
    """Record up to where a step has seen the changes, in the caller's transaction."""
    write_progress(connection, step, Progress(fresh.mark))


def on_days(column: str, days: Iterable[date]) -> str:
    """Return the SQL that tells whether a time lies in one of some days, as ranges: DuckDB skips what is outside.

    Arguments:
        column: SQL of a time, UTC.
        days: The days, sorted.
    """
    ranges = list(_ranges(days))
    if not ranges:
        return "false"
    parts = [f"({column} >= TIMESTAMP '{first}' AND {column} < TIMESTAMP '{end}')" for first, end in ranges]
    if len(parts) <= _MOST_RANGES:
        return f"({' OR '.join(parts)})"
    bounds = f"{column} >= TIMESTAMP '{ranges[0][0]}' AND {column} < TIMESTAMP '{ranges[-1][1]}'"
    listed = ", ".join(f"DATE '{first + place * _DAY}'" for first, end in ranges for place in range((end - first).days))
    return f"({bounds} AND {column}::DATE IN ({listed}))"


def _ranges(days: Iterable[date]) -> Iterator[tuple[date, date]]:
    """Yield the first day of each run of days, and the day after its last."""
    first = end = None
    for day in days:
        if first is not None and end is not None and day != end:
            yield first, end
            first = day
        first, end = first or day, day + _DAY
    if first is not None and end is not None:
        yield first, end
