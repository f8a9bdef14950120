"""What was refused of the rows and values that arrived, by reason, with an example of each."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from pwflow_core.warehouse import read_sql

__all__ = ["Rejection", "RepeatedRefusal", "read_rejections", "read_repeated_refusals"]

_REPEATED = 3
_MOST_REPEATED = 50


@dataclass(frozen=True)
class Rejection:
    """What was refused of one sensor, or of whole rows, for one reason.

    Attributes:
        reason: Why, by its code.
        sensor: Whose value; None where it was the whole row.
        n_values: Values, or rows.
        example: The latest one: the value, of a row its time as it was written, or the line.
        detail: The reason in words.
    """

    reason: str
    sensor: str | None
    n_values: int
    example: str | None
    detail: str | None


@dataclass(frozen=True)
class RepeatedRefusal:
    """One value of a sensor that was refused several times: `n_values` times `value`, for one reason."""

    sensor: str
    reason: str
    value: str
    n_values: int


def read_rejections(connection: duckdb.DuckDBPyConnection) -> tuple[Rejection, ...]:
    """Return what was refused, the most frequent first."""
    rows = connection.execute(read_sql(__package__, "rejections.sql")).fetchall()
    return tuple(Rejection(*row) for row in rows)


def read_repeated_refusals(connection: duckdb.DuckDBPyConnection) -> tuple[RepeatedRefusal, ...]:
    """Return the values that were refused again and again, the most frequent first: perhaps they mean "missing"."""
    rows = connection.execute(
        "SELECT sensor, reason, value, count(*) AS n_values FROM mart.rejected_readings "
        "WHERE sensor IS NOT NULL AND reason IN ('not_a_number', 'below_limit', 'above_limit', 'not_physical') "
        "GROUP BY ALL HAVING count(*) >= ? ORDER BY n_values DESC, sensor, value LIMIT ?",
        [_REPEATED, _MOST_REPEATED],
    ).fetchall()
    return tuple(RepeatedRefusal(*row) for row in rows)
