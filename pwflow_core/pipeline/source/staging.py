"""One file of the source, read outside the warehouse: columns found, text kept, damage named.

The staged file has the columns of `ingest.raw_readings`. Reading happens in a scratch database, so that the
warehouse is held only for the insert.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import duckdb

from pwflow_core.errors import MissingColumnError, SourceError, first_line, list_few
from pwflow_core.files import escape_glob, is_number_type, is_parquet, is_remote
from pwflow_core.onboarding.layout import CsvLayout, find_layout, layout_without_header
from pwflow_core.opening import open_bytes, plain_file
from pwflow_core.pipeline.source.expressions import (
    Context,
    bad_quality_sql,
    columns_of,
    is_good_sql,
    machine_sql,
    number_sql,
    path_values,
    refused_sql,
    segment_sql,
    timestamp_sql,
)
from pwflow_core.pipeline.source.later_headers import check_later_headers
from pwflow_core.pipeline.source.long import Staged, stage_long
from pwflow_core.pipeline.source.source import Sensor, Source
from pwflow_core.storage import explain_full_disk
from pwflow_core.warehouse import fetch_value, quote_identifier, quote_literal

__all__ = [
    "QUERY_PATH",
    "Staged",
    "check_columns",
    "select_rows",
    "stage_file",
    "stage_query",
]

QUERY_PATH = "source.sql"
_HEAD_BYTES = 1 << 16
_LONGEST_SHOWN = 60


def stage_file(scratch: duckdb.DuckDBPyConnection, path: str, label: str, source: Source, target: Path) -> Staged:
    """Read one export into `target`, a Parquet file (or a folder of them) of raw readings.

    Arguments:
        scratch: An in-memory database.
        path: The file.
        label: Its name for readers, used where a segment is the file name.
        source: What its columns mean.
        target: File to write.

    Raises:
        SourceError: The file cannot be read, is empty, or lacks a column; the message says which.
    """
    known = path_values(source, label)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="plain") as folder:
        plain = plain_file(path, Path(folder), source.encoding)
        where = quote_literal(escape_glob(plain))
        if is_parquet(plain):
            return _stage(scratch, f"read_parquet({where}, hive_partitioning = false)", path, label, source, target)
        for table in ("rejected_scans", "rejected_lines"):
            scratch.execute(f"DROP TABLE IF EXISTS {table}")
        reader = (
            f"read_csv({where}, all_varchar = true, store_rejects = true, rejects_scan = 'rejected_scans', "
            f"rejects_table = 'rejected_lines', hive_partitioning = false, {_layout(plain, source, known)})"
        )
        staged = _stage(scratch, reader, path, label, source, target)
        malformed = scratch.execute(
            "SELECT line, any_value(csv_line), string_agg(DISTINCT error_message, '; ') "
            "FROM rejected_lines GROUP BY line ORDER BY line"
        ).fetchall()
        return Staged(staged.rows_file, staged.n_rows, [*malformed, *staged.malformed])


def stage_query(scratch: duckdb.DuckDBPyConnection, query: str, source: Source, target: Path) -> Staged:
    """Read the result of `source.sql` into `target`, like a file."""
    return _stage(scratch, f"({query.rstrip().rstrip(';')}\n)", QUERY_PATH, QUERY_PATH, source, target)


def _layout(plain: str, source: Source, known: Mapping[str, str]) -> str:
    """Return the options of `read_csv` that say where the header is and what is between the columns."""
    delimiter = f", delim = {quote_literal(source.delimiter)}" if source.delimiter else ""
    ordinary = f"header = true, skip = 0{delimiter}"
    if not source.delimiter or is_remote(plain) or plain.lower().endswith(".zst"):
        return ordinary
    with open_bytes(plain) as stream:
        head = stream.read(_HEAD_BYTES)
    layout: CsvLayout | None
    if source.header:
        layout = find_layout(head, source.delimiter, columns_of(source, known))
    else:
        layout = layout_without_header(head, source.delimiter)
    if layout is None:
        return ordinary
    names = ", ".join(map(quote_literal, layout.names))
    return f"header = false, skip = {layout.skip_lines:d}, names = [{names}]{delimiter}"


def _stage(
    scratch: duckdb.DuckDBPyConnection, reader: str, path: str, label: str, source: Source, target: Path
) -> Staged:
    try:
        types = {row[0]: row[1] for row in scratch.execute(f"DESCRIBE SELECT * FROM {reader}").fetchall()}
        known = path_values(source, label)
        check_columns(types, path, source, known)
        if source.layout == "long":
            staged = stage_long(scratch, reader, types, source, Context(label, known), target, path)
        else:
            select = select_rows(reader, types, Context(label, known), source, "row_number() OVER ()")
            scratch.execute(f"COPY ({select}) TO {quote_literal(str(target))} (FORMAT parquet)")
            check_later_headers(scratch, f"read_parquet({quote_literal(str(target))})", types, path, source)
            staged = Staged(target, fetch_value(scratch, "SELECT count(*) FROM read_parquet(?)", [str(target)]))
    except duckdb.Error as error:
        if full := explain_full_disk(error, target.parent):
            raise full from None
        what, remedy = "a readable CSV or Parquet file", "Export it again, or leave it out of source.path."
        if path == QUERY_PATH:
            what, remedy = "a query that DuckDB runs", "Correct source.sql in pwflow.toml."
        raise SourceError(f"Expected {what}, but {path} cannot be read: {first_line(error)}. {remedy}") from None
    if not staged.n_rows:
        raise SourceError(f"Expected rows in {path}, got none: export it again, or remove the empty file.")
    return staged


def check_columns(types: Mapping[str, str], path: str, source: Source, known: Mapping[str, str]) -> None:
    """Raise if a column is missing.

    Raises:
        MissingColumnError: Which, and what there is instead.
    """
    missing = [column for column in columns_of(source, known) if column not in types]
    if missing:
        found = list_few([repr(name[:_LONGEST_SHOWN]) for name in types], 12)
        raise MissingColumnError(
            f"{path} has no column {', '.join(map(repr, missing))}; it has {found}. Map the columns in pwflow.toml, or "
            "export the file again.",
            tuple(types),
        )


def select_rows(
    reader: str, types: Mapping[str, str], context: Context, source: Source, place: str, beside: str = ""
) -> str:
    """Return the query of raw readings; sensors with a time column of their own have rows of their own.

    Arguments:
        reader: What is read.
        types: Its columns.
        context: What else is known of it.
        source: What the columns mean.
        place: SQL of the number of a row.
        beside: Further columns.
    """
    times = dict.fromkeys(sensor.timestamp or source.timestamp for sensor in source.sensors)
    if len(times) == 1:
        return _select_at(next(iter(times)), reader, types, context, source, place, beside)
    parts = []
    for i, time in enumerate(times, start=1 - len(times)):
        rows = _select_at(time, reader, types, context, source, f"{len(times)} * {place} + {i}", beside)
        parts.append(f"SELECT * FROM ({rows}) WHERE nullif(trim(ts), '') IS NOT NULL")
    return " UNION ALL ".join(parts)


def _select_at(
    time: str | tuple[str, ...],
    reader: str,
    types: Mapping[str, str],
    context: Context,
    source: Source,
    place: str,
    beside: str,
) -> str:
    own = [sensor for sensor in source.sensors if (sensor.timestamp or source.timestamp) == time]
    columns = [
        f"{beside}{place} AS row_number",
        f"{timestamp_sql(types, source, time)} AS ts",
        f"{machine_sql(source, context)} AS machine_id",
        f"{segment_sql(source, context)} AS segment",
        f"{_texts([_refused(s, source) for s in own if not is_number_type(types[s.column])])} AS refused_values",
        f"{_texts([_bad(s, source) for s in own if s.quality])} AS bad_quality",
    ]
    for sensor in source.sensors:
        number = _good_number(types, sensor, source) if sensor in own else "NULL::DOUBLE"
        columns.append(f"{number} AS {quote_identifier(sensor.name)}")
    return f"SELECT {', '.join(columns)} FROM {reader}"


def _good_number(types: Mapping[str, str], sensor: Sensor, source: Source) -> str:
    number = number_sql(types, sensor.column, source, sensor.unit)
    if not sensor.quality:
        return number
    return f"CASE WHEN {is_good_sql(sensor.quality, source)} THEN {number} END"


def _refused(sensor: Sensor, source: Source) -> str:
    text = refused_sql(sensor.column, source, sensor.unit)
    if sensor.quality:
        text = f"CASE WHEN {is_good_sql(sensor.quality, source)} THEN {text} END"
    return f"{{'k': {quote_literal(sensor.name)}, 'v': {text}}}"


def _bad(sensor: Sensor, source: Source) -> str:
    return (
        f"{{'k': {quote_literal(sensor.name)}, "
        f"'v': {bad_quality_sql(quote_identifier(sensor.column), sensor.quality or '', source)}}}"
    )


def _texts(entries: list[str]) -> str:
    if not entries:
        return "NULL::MAP(VARCHAR, VARCHAR)"
    given = f"list_filter([{', '.join(entries)}], lambda entry: entry.v IS NOT NULL)"
    return f"CASE WHEN len({given}) > 0 THEN map_from_entries({given}) END"
