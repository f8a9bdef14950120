"""When the clocks of a time zone are changed: the hours that they show twice, and those that they never show."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import duckdb

__all__ = ["ClockChange", "find_clock_changes"]

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class ClockChange:
    """A change of the clocks of one zone.

    Attributes:
        zone: The time zone.
        at: When, in UTC.
        before: Seconds east of UTC until then.
        after: Seconds east of UTC from then on.
    """

    zone: str
    at: datetime
    before: int
    after: int

    @property
    def is_back(self) -> bool:
        """Whether clocks are put back, so that a time is shown twice."""
        return self.after < self.before

    @property
    def first(self) -> datetime:
        """First time of the clock that is shown twice, or never."""
        return self.at + timedelta(seconds=min(self.before, self.after))

    @property
    def last(self) -> datetime:
        """Time of the clock that ends what is shown twice, or never; not part of it."""
        return self.at + timedelta(seconds=max(self.before, self.after))


def find_clock_changes(
    connection: duckdb.DuckDBPyConnection, zone: str, first: datetime, last: datetime
) -> list[ClockChange]:
    """Return the changes of the clocks of a zone between two times (UTC), as DuckDB itself converts times.

    They are looked for day by day, then to the minute.
    """
    start = first.replace(hour=0, minute=0, second=0, microsecond=0)
    days = _changes(connection, zone, start - 2 * _DAY, last + 2 * _DAY, "1 day")
    found = []
    for day in days:
        found += _changes(connection, zone, day.at - _DAY, day.at, "1 minute")
    return found


def _changes(
    connection: duckdb.DuckDBPyConnection, zone: str, first: datetime, last: datetime, step: str
) -> list[ClockChange]:
    rows = connection.execute(
        """
        SELECT moment, before, after
        FROM (
            SELECT moment, after, lag(after) OVER (ORDER BY moment) AS before
            FROM (
                SELECT moment, (epoch((moment AT TIME ZONE 'UTC') AT TIME ZONE $zone) - epoch(moment))::BIGINT AS after
                FROM generate_series($first::TIMESTAMP, $last::TIMESTAMP, $step::INTERVAL) AS moments (moment)
            )
        )
        WHERE before <> after
        ORDER BY moment
        """,
        {"zone": zone, "first": first, "last": last, "step": step},
    ).fetchall()
    return [ClockChange(zone, *row) for row in rows]
