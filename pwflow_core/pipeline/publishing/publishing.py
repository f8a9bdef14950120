"""Publishing: the read-only copy for analysts, made beside the one in use and swapped in as a whole.

It is a DuckDB file, in a storage format that readers of early 2025 open, and the same tables as Parquet (`parquet`). A
night begins with a copy of the file in use and writes the days that changed; see `contents`.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from pwflow_core.errors import NotFittedError
from pwflow_core.pipeline.publishing.contents import (
    DAILY,
    Contents,
    Manifest,
    identify,
    read_contents,
    read_manifest,
    write_manifest,
)
from pwflow_core.pipeline.publishing.overview import update_overview
from pwflow_core.pipeline.publishing.parquet import one_writer, swap_in, write_version
from pwflow_core.pipeline.scoring.check_list import CHECKS
from pwflow_core.pipeline.scoring.checks import refuse_failed_checks
from pwflow_core.plant import Plant
from pwflow_core.storage import flush, working_folder
from pwflow_core.warehouse import describe_table, fetch_value, quote_identifier, quote_literal
from pwflow_core.warehouse.days import on_days

__all__ = ["PublishedSummary", "publish_warehouse"]

_STORAGE_VERSION = "v1.2.0"
"""Drivers and tools take years to follow a new format of DuckDB; this one is read by all since January 2025."""
_MOST_FREE = 0.5
"""A file with a larger share of free blocks is not copied in the next night."""
_IN_TIME_ORDER = {
    "readings": " ORDER BY machine_id, ts",
    "sensors": " ORDER BY position",
    "regime_names": " ORDER BY change_number",
    "runs": " ORDER BY started_at, run_id",
    "cases": " ORDER BY since, case_id",
    "case_events": " ORDER BY case_id, started_at, event_id, verdict_id",
    "case_changes": " ORDER BY change_number",
    "alarm_log": " ORDER BY entry_number",
    "anomaly_scores": " ORDER BY machine_id, ts",
    "anomaly_events": " ORDER BY machine_id, started_at",
    "sensor_contributions": " ORDER BY machine_id, ts, sensor",
    "cluster_health": " ORDER BY night",
}


@dataclass(frozen=True)
class PublishedSummary:
    """What was published.

    Attributes:
        path: The DuckDB file.
        parquet: The folder with the same tables as Parquet.
        size_bytes: Size of the file.
        n_rows: Rows of each table.
    """

    path: Path
    parquet: Path
    size_bytes: int
    n_rows: dict[str, int]


def publish_warehouse(plant: Plant) -> PublishedSummary:
    """Write the public tables to a new DuckDB file and move it into the place of the one in use.

    A reader that has the old file open goes on reading it; one that opens the path again gets the new one.
    What is copied is checked first, in the same snapshot, so that no other run comes in between.

    Raises:
        NotFittedError: There are no scores to publish yet.
        ChecksFailedError: A blocking check failed; the copy in use stays as it is.
    """
    with plant.warehouse.transaction() as connection:
        _check_scored(connection)
        refuse_failed_checks(plant, connection, CHECKS[:1])
        update_overview(connection, plant.config)
    target = plant.config.published_path
    target.parent.mkdir(parents=True, exist_ok=True)
    link = plant.config.published_folder
    with working_folder(target.parent, "publishing") as folder, one_writer(link):
        fresh, files = folder / target.name, folder / "parquet"
        files.mkdir()
        with plant.warehouse.snapshot() as connection:
            _check_scored(connection)
            refuse_failed_checks(plant, connection)
            contents = read_contents(connection, _copy_before(target, fresh, link))
            n_rows = _write_tables(connection, contents, fresh)
            write_version(connection, contents, files, link)
            is_full = _is_full(connection)
            connection.execute("DETACH published")
        flush(fresh)
        flush(write_manifest(files, replace(contents.manifest, file=identify(fresh) if is_full else "")))
        flush(files)
        fresh.replace(target)
        swap_in(files, link)
    return PublishedSummary(target, link, target.stat().st_size, n_rows)


def _check_scored(connection: duckdb.DuckDBPyConnection) -> None:
    if not connection.execute("SELECT 1 FROM mart.anomaly_scores LIMIT 1").fetchall():
        raise NotFittedError("There are no scores to publish yet: materialize anomaly_scores, or run `pwflow run`.")


def _copy_before(target: Path, fresh: Path, link: Path) -> Manifest:
    """Copy the file in use if it is as it was published; return what it has, or that there is nothing to begin with."""
    before = read_manifest(link)
    if not before.file or before.file != identify(target):
        return Manifest()
    with target.open("rb") as old, fresh.open("wb") as new:
        size = target.stat().st_size
        try:  # a file system that can share blocks between files does so here
            while (done := new.tell()) < size and os.copy_file_range(old.fileno(), new.fileno(), size - done):
                new.seek(0, os.SEEK_END)
        except (OSError, AttributeError):
            shutil.copyfile(target, fresh)
    return before


def _write_tables(connection: duckdb.DuckDBPyConnection, contents: Contents, fresh: Path) -> dict[str, int]:
    """Write the parts that changed into the file; return how many rows each of its tables has then."""
    connection.execute(
        f"ATTACH {quote_literal(str(fresh))} AS published (READ_WRITE, STORAGE_VERSION '{_STORAGE_VERSION}')"
    )
    connection.execute("CREATE SCHEMA IF NOT EXISTS published.mart")
    for table, query in contents.sources.items():
        stale, order = contents.stale[table], _IN_TIME_ORDER.get(table, "")
        name = f"published.mart.{quote_identifier(table)}"
        if table in DAILY and len(stale) < len(contents.manifest.tables[table]):
            changed = on_days("ts", contents.changed)
            connection.execute(f"DELETE FROM {name} WHERE {changed}")
            connection.execute(f"INSERT INTO {name} {query} WHERE {changed}{order}")
        elif stale or not contents.manifest.tables[table]:
            connection.execute(f"CREATE OR REPLACE TABLE {name} AS {query}{order}")
            _copy_comments(connection, "core" if table == "readings" else "mart", table)
    connection.commit()  # of the snapshot's transaction: all tables and comments at once
    return {
        table: fetch_value(connection, f"SELECT count(*) FROM published.mart.{quote_identifier(table)}")
        for table in contents.sources
    }


def _is_full(connection: duckdb.DuckDBPyConnection) -> bool:
    """Return whether the next night may begin with a copy of the file; if not, it is written as a whole."""
    connection.execute("CHECKPOINT published")
    free = fetch_value(
        connection, "SELECT free_blocks / total_blocks FROM pragma_database_size() WHERE database_name = 'published'"
    )
    return bool(free <= _MOST_FREE)


def _copy_comments(connection: duckdb.DuckDBPyConnection, schema: str, table: str) -> None:
    about = connection.execute(
        "SELECT comment FROM (FROM duckdb_tables() UNION ALL BY NAME SELECT * RENAME (view_name AS table_name) "
        "FROM duckdb_views()) WHERE database_name = current_database() AND schema_name = ? AND table_name = ?",
        [schema, table],
    ).fetchone()
    if about and about[0]:
        connection.execute(f"COMMENT ON TABLE published.mart.{table} IS {quote_literal(about[0])}")
    published = {
        row[0]
        for row in connection.execute(
            "SELECT column_name FROM duckdb_columns() WHERE database_name = 'published' AND table_name = ?",
            [table],
        ).fetchall()
    }
    for column in describe_table(connection, schema, table):
        if column.name in published and column.description:
            connection.execute(
                f"COMMENT ON COLUMN published.mart.{table}.{quote_identifier(column.name)} "
                f"IS {quote_literal(column.description)}"
            )
