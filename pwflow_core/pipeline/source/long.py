"""Long exports, with a row per value, made wide: a row per machine and time, a column per sensor.

Not all of a file fits into memory. So its rows are first written as narrow as they can be, and then made wide in parts,
each of which holds all rows of a machine and time.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from pwflow_core.errors import list_few
from pwflow_core.pipeline.source.expressions import (
    Context,
    column_sql,
    is_good_sql,
    machine_sql,
    number_sql,
    refused_sql,
    segment_sql,
    timestamp_sql,
)
from pwflow_core.pipeline.source.later_headers import check_later_headers_of_long
from pwflow_core.pipeline.source.source import Source
from pwflow_core.warehouse import fetch_value, quote_identifier, quote_literal

__all__ = ["Staged", "stage_long"]

_log = logging.getLogger("pwflow.ingest")

_ROWS_PER_PART = 6_000_000
_KEY = "machine_id, ts, segment"


@dataclass(frozen=True)
class Staged:
    """A file that was read: where its rows wait, how many, and the lines that are not rows.

    Where it was read together with others, `place` says which of the rows are its own.
    """

    rows_file: Path
    n_rows: int
    malformed: list[tuple[int, str, str]] = field(default_factory=list)
    place: int | None = None


def stage_long(
    scratch: duckdb.DuckDBPyConnection,
    reader: str,
    types: Mapping[str, str],
    source: Source,
    context: Context,
    target: Path,
    path: str,
) -> Staged:
    """Make the rows that `reader` gives wide, into a folder of Parquet files beside `target`.

    Of two values of one sensor, machine and time the first makes the row, and the other a row of its own, which the
    readings step refuses. Rows of tags that are not sensors are left out, and named in the log. `path` is the file, for
    messages.
    """
    folder = target.with_suffix("")
    folder.mkdir()
    file = target.with_name(f"{folder.name}-values.parquet")
    scratch.execute("CREATE OR REPLACE TEMP TABLE tags (tag VARCHAR, number SMALLINT, name VARCHAR)")
    scratch.executemany(
        "INSERT INTO tags VALUES (?, ?, ?)", [[s.column.strip(), i, s.name] for i, s in enumerate(source.sensors)]
    )
    select = _select_values(reader, types, source, context)
    scratch.execute(f"COPY ({select}) TO {quote_literal(str(file))} (FORMAT parquet)")
    values = f"read_parquet({quote_literal(str(file))})"
    check_later_headers_of_long(scratch, values, types, path, source)
    n_values = fetch_value(scratch, f"SELECT count(number) FROM {values}")
    n_parts = max(1, -(-n_values // _ROWS_PER_PART))
    for part in range(n_parts):
        test = f"number IS NOT NULL AND hash({_KEY}) % {n_parts} = {part}" if n_parts > 1 else "number IS NOT NULL"
        _stage_part(scratch, f"(FROM {values} WHERE {test})", source, folder / f"{part}.parquet")
    malformed = _without_sensor(scratch, values)
    file.unlink()
    rows = folder / "*.parquet"
    return Staged(rows, fetch_value(scratch, "SELECT count(*) FROM read_parquet(?)", [str(rows)]), malformed)


def _select_values(reader: str, types: Mapping[str, str], source: Source, context: Context) -> str:
    """Return the query of (row_number, ts, machine_id, segment, number of the sensor, tag if it is none, value, …)."""
    number = _first_of([number_sql(types, column, source) for column in source.value])
    text = _first_of([f"nullif(trim({quote_identifier(column)}::VARCHAR), '')" for column in source.value])
    quality = f"trim({quote_identifier(source.quality)}::VARCHAR)" if source.quality else "NULL::VARCHAR"
    columns = [
        "row_number() OVER () AS row_number",
        f"{timestamp_sql(types, source, source.timestamp)} AS ts",
        f"{machine_sql(source, context)} AS machine_id",
        f"{segment_sql(source, context)} AS segment",
        f"nullif(trim({column_sql(source.tag or '', context)}), '') AS tag",
        f"{number} AS value",
        f"{text} AS text",
        f"{_first_of([refused_sql(column, source) for column in source.value])} AS refused",
        f"{is_good_sql(source.quality, source) if source.quality else 'true'} AS good",
        f"{quality} AS quality",
    ]
    return f"""
        SELECT
            row_number, ts, machine_id, segment, tags.number,
            CASE WHEN tags.number IS NULL THEN rows.tag END AS tag,
            CASE WHEN good THEN value END AS value,
            CASE WHEN good AND value IS NULL THEN refused END AS text,
            CASE WHEN NOT good AND text IS NOT NULL THEN text || ' (' || quality || ')' END AS bad
        FROM (SELECT {", ".join(columns)} FROM {reader}) AS rows
        LEFT JOIN tags ON rows.tag = tags.tag
    """


def _stage_part(scratch: duckdb.DuckDBPyConnection, values: str, source: Source, target: Path) -> None:
    """Make one part wide."""
    names = [quote_identifier(sensor.name) for sensor in source.sensors]
    numbers = ", ".join(map(str, range(len(names))))
    n_numbers, n_texts = scratch.execute(f"SELECT count(value), count(text) + count(bad) FROM {values}").fetchall()[0]
    scratch.execute(
        f"CREATE OR REPLACE TEMP TABLE wide AS FROM (PIVOT (SELECT {_KEY}, number, value, row_number FROM {values}) "
        f"ON number IN ({numbers}) USING arg_min(value, row_number) GROUP BY {_KEY})"
    )
    scratch.execute(
        f"CREATE OR REPLACE TEMP TABLE first_rows AS SELECT {_KEY}, min(row_number) AS row_number "
        f"FROM {values} GROUP BY {_KEY}"
    )
    texts = _select_texts(values) if n_texts else _NO_TEXTS
    as_named = ", ".join(f'wide."{i}" AS {name}' for i, name in enumerate(names))
    select = f"""
        SELECT first.row_number, wide.ts, wide.machine_id, wide.segment, refused_values, bad_quality, {as_named}
        FROM wide
        JOIN first_rows AS first ON {_same("wide", "first")}
        LEFT JOIN ({texts}) AS texts ON {_same("wide", "texts")}
    """
    counts = " + ".join(f'count("{i}")' for i in range(len(names)))
    n_kept = fetch_value(scratch, f"SELECT {counts} FROM wide")
    if n_numbers > n_kept:
        select += f" UNION ALL BY NAME ({_select_repeated(values, names, numbers)})"
    scratch.execute(f"COPY ({select}) TO {quote_literal(str(target))} (FORMAT parquet)")
    for table in ("wide", "first_rows"):
        scratch.execute(f"DROP TABLE {table}")


def _select_texts(values: str) -> str:
    """Return the query of what is there instead of numbers, by machine and time, for sensors without a number there."""
    return f"""
        SELECT
            {_KEY},
            map_from_entries(list({{'k': name, 'v': text}}) FILTER (text IS NOT NULL)) AS refused_values,
            map_from_entries(list({{'k': name, 'v': bad}}) FILTER (bad IS NOT NULL)) AS bad_quality
        FROM (
            SELECT {_KEY}, name, arg_min(text, row_number) AS text, arg_min(bad, row_number) AS bad
            FROM {values}
            JOIN tags USING (number)
            GROUP BY {_KEY}, name
            HAVING count(value) = 0 AND count(text) + count(bad) > 0
        )
        GROUP BY {_KEY}
    """


def _select_repeated(values: str, names: list[str], numbers: str) -> str:
    """Return the query of the second and later values of a sensor at a time, each in a row with others of its place."""
    as_named = ", ".join(f'repeated."{i}" AS {name}' for i, name in enumerate(names))
    return f"""
        WITH placed AS (
            SELECT {_KEY}, number, value, row_number,
                row_number() OVER (PARTITION BY {_KEY}, number ORDER BY row_number) AS place
            FROM {values}
            WHERE value IS NOT NULL
        ), later AS (
            FROM placed WHERE place > 1
        ), firsts AS (
            SELECT {_KEY}, place, min(row_number) AS row_number FROM later GROUP BY {_KEY}, place
        ), repeated AS (
            FROM (PIVOT later ON number IN ({numbers}) USING arg_min(value, row_number) GROUP BY {_KEY}, place)
        )
        SELECT firsts.row_number, repeated.ts, repeated.machine_id, repeated.segment, {as_named}
        FROM repeated
        JOIN firsts ON {_same("repeated", "firsts")} AND repeated.place = firsts.place
    """


_NO_TEXTS = """
    SELECT NULL::VARCHAR AS machine_id, NULL::VARCHAR AS ts, NULL::VARCHAR AS segment,
        NULL::MAP(VARCHAR, VARCHAR) AS refused_values, NULL::MAP(VARCHAR, VARCHAR) AS bad_quality
    WHERE false
"""


def _same(one: str, other: str) -> str:
    return " AND ".join(f"{one}.{name} IS NOT DISTINCT FROM {other}.{name}" for name in _KEY.split(", "))


def _without_sensor(scratch: duckdb.DuckDBPyConnection, values: str) -> list[tuple[int, str, str]]:
    """Name the tags that are not sensors in the log; return the rows that name none."""
    others = scratch.execute(
        f"SELECT tag, count(*) FROM {values} WHERE number IS NULL AND tag IS NOT NULL GROUP BY tag ORDER BY tag"
    ).fetchall()
    if others:
        shown = list_few([repr(tag) for tag, _ in others], 5)
        _log.info(
            "%d rows of %d tags that are not sensors are left out: %s", sum(n for _, n in others), len(others), shown
        )
    return scratch.execute(
        f"SELECT row_number, coalesce(ts, ''), 'Expected the name of a sensor, got none' FROM {values} "
        "WHERE number IS NULL AND tag IS NULL ORDER BY row_number"
    ).fetchall()


def _first_of(expressions: list[str]) -> str:
    return expressions[0] if len(expressions) == 1 else f"coalesce({', '.join(expressions)})"
