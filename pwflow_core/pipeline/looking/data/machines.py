"""The machines: how many readings each has, how often one comes, and where none came."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

import duckdb

from pwflow_core.warehouse import quote_columns, read_sql, run_script

__all__ = ["MachineProfile", "draw_stretches", "profile_machines"]

_ROWS_DRAWN = 200_000
_VALUES_DRAWN = 10_000_000
_ROWS_PER_STRETCH = 1_000
_GAP_INTERVALS = 5


@dataclass(frozen=True)
class MachineProfile:
    """The readings of one machine, in time.

    Attributes:
        machine_id: The machine.
        n_readings: Its readings.
        first: Time of the first, UTC.
        last: Time of the last, UTC.
        interval_seconds: Usual time from one to the next; None where there is one alone.
        gap_seconds: A longer time without a reading is a gap.
        n_gaps: Gaps.
        longest_gap_seconds: Length of the longest; None without any.
        longest_gap_at: When it began, UTC.
        n_days: Calendar days from the first to the last reading, in the time zone of the plant.
        n_silent_days: Days among them without any reading.
        gap_days: Days among them that a gap touches.
    """

    machine_id: str
    n_readings: int
    first: datetime
    last: datetime
    interval_seconds: float | None
    gap_seconds: float | None
    n_gaps: int
    longest_gap_seconds: float | None
    longest_gap_at: datetime | None
    n_days: int
    n_silent_days: int
    gap_days: tuple[date, ...]


def draw_stretches(
    connection: duckdb.DuckDBPyConnection,
    readings: str,
    sensors: list[str],
    n_readings: int,
    interval_seconds: float | None,
) -> None:
    """Make the temporary table `stretches`: readings in a row, all of them where they are few.

    Arguments:
        connection: Open for reading.
        readings: The readings, as a relation in SQL.
        sensors: The columns to take along.
        n_readings: How many readings there are.
        interval_seconds: Usual time from one to the next.
    """
    most = min(_ROWS_DRAWN, _VALUES_DRAWN // max(1, len(sensors)))
    every = max(1, -(-n_readings // most))
    seconds = _ROWS_PER_STRETCH * (interval_seconds or 1.0) if every > 1 else 1e12
    script = read_sql(__package__, "stretches.sql", readings=readings, sensors=quote_columns(sensors))
    run_script(connection, script, {"seconds": seconds, "every": every})


def profile_machines(
    connection: duckdb.DuckDBPyConnection, readings: str, timezone: str, gap_seconds: float
) -> tuple[MachineProfile, ...]:
    """Return what is known of each machine; expects `stretches`.

    Arguments:
        connection: Open for reading.
        readings: The readings, as a relation in SQL.
        timezone: Time zone of calendar days.
        gap_seconds: A longer time without a reading is a gap, of a machine with a slow rhythm five of its intervals.
    """
    run_script(
        connection,
        read_sql(__package__, "gaps.sql", readings=readings),
        {"gap_seconds": gap_seconds, "own_gap": _GAP_INTERVALS},
    )
    rows = connection.execute(
        read_sql(__package__, "machines.sql", readings=readings), {"timezone": timezone}
    ).fetchall()
    for table in ("gaps", "rhythms"):
        connection.execute(f"DROP TABLE {table}")
    return tuple(MachineProfile(*(*row[:-1], tuple(row[-1]))) for row in rows)
