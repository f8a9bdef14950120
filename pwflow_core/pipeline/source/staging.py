"""One file of the source, read outside the warehouse: columns found, text kept, damage named.

The staged file has the columns of `ingest.raw_readings`. Reading happens in a scratch database, so that the
warehouse is held only for the insert.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from pwflow_core.errors import MissingColumnError, SourceError, first_line
from pwflow_core.files import escape_glob, is_number_type, is_parquet
from pwflow_core.pipeline.source.source import FILE_NAME_COLUMN, Source
from pwflow_core.storage import explain_full_disk
from pwflow_core.warehouse import fetch_value, quote_identifier, quote_literal

__all__ = ["QUERY_PATH", "Staged", "stage_file", "stage_query"]

SEGMENT_JOINT = " / "
ONLY_MACHINE = "machine"
NO_SEGMENT = "all"
QUERY_PATH = "source.sql"


@dataclass(frozen=True)
class Staged:
    """A file that was read: where its rows wait, how many, and the lines that are no rows."""

    rows_file: Path
    n_rows: int
    malformed: list[tuple[int, str, str]] = field(default_factory=list)


def stage_file(scratch: duckdb.DuckDBPyConnection, path: str, label: str, source: Source, target: Path) -> Staged:
    """Read one CSV or Parquet file into `target`, a Parquet file of raw readings.

    Arguments:
        scratch: An in-memory database.
        path: The file.
        label: Its name for readers, used where a segment is the file name.
        source: What its columns mean.
        target: File to write.

    Raises:
        SourceError: The file cannot be read, is empty, or lacks a column; the message says which.
    """
    where = quote_literal(escape_glob(path))
    if is_parquet(path):
        return _stage(scratch, f"read_parquet({where})", path, label, source, target)
    for table in ("rejected_scans", "rejected_lines"):
        scratch.execute(f"DROP TABLE IF EXISTS {table}")
    delimiter = f", delim = {quote_literal(source.delimiter)}" if source.delimiter else ""
    reader = (
        f"read_csv({where}, all_varchar = true, header = true, skip = 0, store_rejects = true, "
        f"rejects_scan = 'rejected_scans', rejects_table = 'rejected_lines'{delimiter})"
    )
    staged = _stage(scratch, reader, path, label, source, target)
    malformed = scratch.execute(
        "SELECT line, any_value(csv_line), string_agg(DISTINCT error_message, '; ') "
        "FROM rejected_lines GROUP BY line ORDER BY line"
    ).fetchall()
    return Staged(staged.rows_file, staged.n_rows, malformed)


def stage_query(scratch: duckdb.DuckDBPyConnection, query: str, source: Source, target: Path) -> Staged:
    """Read the result of `source.sql` into `target`, like a file."""
    return _stage(scratch, f"({query.rstrip().rstrip(';')}\n)", QUERY_PATH, QUERY_PATH, source, target)


def _stage(
    scratch: duckdb.DuckDBPyConnection, reader: str, path: str, label: str, source: Source, target: Path
) -> Staged:
    try:
        types = {row[0]: row[1] for row in scratch.execute(f"DESCRIBE SELECT * FROM {reader}").fetchall()}
        _check_columns(types, path, source)
        select = _select(reader, types, label, source)
        scratch.execute(f"COPY ({select}) TO {quote_literal(str(target))} (FORMAT parquet)")
        n_rows = fetch_value(scratch, "SELECT count(*) FROM read_parquet(?)", [str(target)])
    except duckdb.Error as error:
        if full := explain_full_disk(error, target.parent):
            raise full from None
        what, remedy = "a readable CSV or Parquet file", "Export it again, or leave it out of source.path."
        if path == QUERY_PATH:
            what, remedy = "a query that DuckDB runs", "Correct source.sql in pwflow.toml."
        raise SourceError(f"Expected {what}, but {path} cannot be read: {first_line(error)}. {remedy}") from None
    if not n_rows:
        raise SourceError(f"Expected rows in {path}, got none: export it again, or remove the empty file.")
    return Staged(target, n_rows)


def _check_columns(types: dict[str, str], path: str, source: Source) -> None:
    wanted = [source.timestamp, *(sensor.column for sensor in source.sensors)]
    wanted += [column for column in source.segments if column != FILE_NAME_COLUMN]
    wanted += [source.machine] if source.machine not in (None, FILE_NAME_COLUMN) else []
    missing = [column for column in wanted if column not in types]
    if missing:
        raise MissingColumnError(
            f"{path} has no column {', '.join(map(repr, missing))}; it has {', '.join(map(repr, types))}. "
            "Map the columns in pwflow.toml, or export the file again.",
            tuple(types),
        )


def _select(reader: str, types: dict[str, str], label: str, source: Source) -> str:
    columns = [
        "row_number() OVER () AS row_number",
        f"{quote_identifier(source.timestamp)}::VARCHAR AS ts",
        f"{_machine(source, label)} AS machine_id",
        f"{_segment(source, label)} AS segment",
        f"{_refused_values(types, source)} AS refused_values",
        *(f"{_number(types, sensor.column, source)} AS {quote_identifier(sensor.name)}" for sensor in source.sensors),
    ]
    return f"SELECT {', '.join(columns)} FROM {reader}"


def _machine(source: Source, label: str) -> str:
    if source.machine is None:
        return quote_literal(ONLY_MACHINE)
    if source.machine == FILE_NAME_COLUMN:
        return quote_literal(label)
    return f"{quote_identifier(source.machine)}::VARCHAR"


def _segment(source: Source, label: str) -> str:
    if not source.segments:
        return quote_literal(NO_SEGMENT)
    parts = [
        quote_literal(label)
        if column == FILE_NAME_COLUMN
        else f"coalesce(nullif(trim({quote_identifier(column)}::VARCHAR), ''), 'unknown')"
        for column in source.segments
    ]
    return f"concat_ws({quote_literal(SEGMENT_JOINT)}, {', '.join(parts)})"


def _number(types: dict[str, str], column: str, source: Source) -> str:
    name = quote_identifier(column)
    if is_number_type(types[column]):
        return f"{name}::DOUBLE"
    text = f"trim({name}::VARCHAR)"
    if source.decimal == ",":
        text = f"replace({text}, ',', '.')"
    return f"TRY_CAST({text} AS DOUBLE)"


def _refused_values(types: dict[str, str], source: Source) -> str:
    entries = [
        f"{{'k': {quote_literal(sensor.name)}, "
        f"'v': CASE WHEN {_number(types, sensor.column, source)} IS NULL THEN "
        f" nullif(trim({quote_identifier(sensor.column)}::VARCHAR), '') END}}"
        for sensor in source.sensors
        if not is_number_type(types[sensor.column])
    ]
    if not entries:
        return "NULL::MAP(VARCHAR, VARCHAR)"
    refused = f"list_filter([{', '.join(entries)}], lambda entry: entry.v IS NOT NULL)"
    return f"CASE WHEN len({refused}) > 0 THEN map_from_entries({refused}) END"
