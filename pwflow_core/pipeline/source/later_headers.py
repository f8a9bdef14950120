"""Headers that come again inside a file, as where exports were put one behind the other.

One that is as the first is a row that is refused. Behind one with other columns, values would be read under the wrong
names, so such a file is refused as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

import duckdb

from pwflow_core.errors import SourceError
from pwflow_core.marks import SEGMENT_JOINT
from pwflow_core.pipeline.source.source import Source
from pwflow_core.warehouse import quote_identifier, quote_literal

__all__ = ["check_later_headers", "check_later_headers_of_long"]

_AROUND = ' \t\ufeff"'
_MOST_HEADERS = 1_000


def check_later_headers(
    scratch: duckdb.DuckDBPyConnection, rows: str, types: Collection[str], path: str, source: Source
) -> None:
    """Raise if a row of a wide export is a header with other columns than the first one, or in another order.

    Arguments:
        scratch: Where the rows can be read.
        rows: The staged rows, as the SQL of a table.
        types: The columns of the file.
        path: The file, for the message.
        source: What the columns mean.

    Raises:
        SourceError: There is one; the message says where, and what is in which place.
    """
    cells: dict[str, str] = {}
    if source.machine and source.machine in types:
        cells["machine_id"] = source.machine
    if source.segments and all(column in types for column in source.segments):
        cells["segment"] = SEGMENT_JOINT.join(source.segments)
    for sensor in source.sensors:
        name = quote_literal(sensor.name)
        text = f"coalesce(refused_values[{name}], bad_quality[{name}], {quote_identifier(sensor.name)}::VARCHAR)"
        cells[text] = f"{sensor.column} ({sensor.quality})" if sensor.quality else sensor.column
    times = dict.fromkeys(sensor.timestamp or source.timestamp for sensor in source.sensors)
    _check(scratch, rows, cells, [" ".join([time] if isinstance(time, str) else time) for time in times], types, path)


def check_later_headers_of_long(
    scratch: duckdb.DuckDBPyConnection, values: str, types: Collection[str], path: str, source: Source
) -> None:
    """Raise if a row of a long export is a header with other columns than the first one, or in another order.

    Arguments and errors are those of `check_later_headers`, but for `values`: the rows before they are made wide.
    """
    value = source.value[0] if len(source.value) == 1 else None
    cells: dict[str, str] = {}
    if source.tag and source.tag in types:
        cells["tag"] = source.tag
    if source.machine and source.machine in types:
        cells["machine_id"] = source.machine
    if value:
        cells["coalesce(text, bad, value::VARCHAR)"] = f"{value} ({source.quality})" if source.quality else value
    _check(scratch, values, cells, [" ".join(source.timestamp_columns)], types, path)


def _check(
    scratch: duckdb.DuckDBPyConnection,
    rows: str,
    cells: Mapping[str, str],
    times: Collection[str],
    names: Collection[str],
    path: str,
) -> None:
    texts = sorted({_plain(name) for name in (*names, *times)})
    around = quote_literal(_AROUND)
    is_header = f"lower(trim(ts, {around})) IN ({', '.join(map(quote_literal, texts))})"
    shown = ", ".join(f"{cell} AS cell_{i}" for i, cell in enumerate(cells))
    found = scratch.execute(
        f"SELECT min(row_number) AS place, ts, {shown} FROM {rows} WHERE {is_header} GROUP BY ALL "
        f"ORDER BY place LIMIT {_MOST_HEADERS}"
    ).fetchall()
    for place, time, *got in found:
        expected = [*zip(got, cells.values(), strict=True)]
        if _plain(time) not in map(_plain, times):
            expected.insert(0, (time, next(iter(times))))
        others = [(text, column) for text, column in expected if text is not None and not _is_named(text, column)]
        if others and any(text and (_plain(text) in texts or _is_named(text, column)) for text, column in expected):
            text, column = others[0]
            row = -(-place // len(times))  # sensors with a time of their own have rows of their own
            raise SourceError(
                f"Expected the columns of {path} in one order, but row {row:,} is a header with "
                f"{text.strip(_AROUND)!r} in the place of {column!r}: split the file there, or export it again."
            )


def _is_named(text: str, column: str) -> bool:
    """Whether a cell says the name of its column; DuckDB numbers those that have the same name."""
    text, column = _plain(text), _plain(column)
    if text == column or re.sub(r"_\d+$", "", column) == text:
        return True
    try:
        return float(text) == float(column)
    except ValueError:
        return False


def _plain(text: str) -> str:
    return text.strip(_AROUND).lower()
