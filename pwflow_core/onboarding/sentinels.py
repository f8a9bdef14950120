"""Numbers that stand for a missing value: the edges of types and their like, far from everything else in a column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import duckdb

__all__ = ["are_far", "find_sentinels", "is_mark"]

_EDGES = (
    *(2.0**n - 1 for n in (15, 16, 31, 32, 63)), *(-(2.0**n) for n in (15, 16, 31, 32, 63)),
    *(1 - 2.0**n for n in (15, 31)), 2.0**15, 2.0**16, 2.0**31, 2.0**32, 2.0**63,
)  # fmt: skip
_NINES = tuple(sign * (10.0**n - 1) for n in range(4, 11) for sign in (1.0, -1.0))
_CERTAIN = frozenset((*_EDGES, *_NINES, -999.0, -9999.9))
"""One of these, far from all else, is enough."""
_LIKELY = frozenset(
    (
        *(round(edge * scale, 6) for edge in (*_EDGES, *_NINES) for scale in (0.1, 0.01)),
        *(999.0, -999.25, -99.0, -99.9, 9.96921e36, -1e3, -1e4, -1e5, 1e9, -1e9, -77777.0, 7777.0, 8888.0, -8888.0),
    )
)
"""These have to come twice."""
_LARGE = 1e29
"""From here on nothing is measured: 1e30, 3.4e38, the largest double."""
_FAR = 5.0
"""Ranges of the middle of the other values (1st to 99th percentile) between these and a mark."""
_FEWEST_OTHERS = 20


def find_sentinels(
    connection: duckdb.DuckDBPyConnection, table: str, columns: Sequence[str]
) -> dict[str, dict[float, int]]:
    """Return the numbers that stand for a missing value and how often they come, by column.

    A mark is a value such as -9999, 32767 or 1e30 beyond all other values of its column and far from them.

    Arguments:
        connection: Where the table is.
        table: Its name.
        columns: Columns of numbers, NULL where there is none; those without a mark are left out of what is returned.
    """
    found = {}
    for column in columns:
        marks = connection.execute(
            f"SELECT {column}, count(*) FROM {table} WHERE isfinite({column}) AND {is_mark(column)} "
            "GROUP BY ALL ORDER BY 1"
        ).fetchall()
        if not marks:
            continue
        [(n, low, high, middle)] = connection.execute(
            f"SELECT count(*), min({column}), max({column}), quantile_cont({column}, [0.01, 0.99]) FROM {table} "
            f"WHERE isfinite({column}) AND NOT {is_mark(column)}"
        ).fetchall()  # one left open stands in the way of relations
        if middle is not None and (far := are_far(dict(marks), n, low, high, middle)):
            found[column] = far
    return found


def is_mark(value: str) -> str:
    """Return the SQL that tells whether a number may be a mark."""
    known = ", ".join(f"{mark!r}::DOUBLE" for mark in sorted(_CERTAIN | _LIKELY))
    return f"({value} IN ({known}) OR abs({value}) >= {_LARGE!r})"


def are_far(marks: Mapping[float, int], n: int, low: float, high: float, middle: Sequence[float]) -> dict[float, int]:
    """Return those of the marks that are beyond all other values and far from them.

    Arguments:
        marks: How often each comes.
        n: Other values.
        low: Lowest of these.
        high: Highest of these.
        middle: Between which two numbers most of these are.
    """
    if n < _FEWEST_OTHERS:
        return {}
    reach = _FAR * max(middle[1] - middle[0], 1e-9 * max(abs(low), abs(high), 1e-9))
    return {
        value: count
        for value, count in marks.items()
        if not low <= value <= high
        and (value < middle[0] - reach or value > middle[1] + reach)
        and (count > 1 or value in _CERTAIN or abs(value) >= _LARGE)
    }
