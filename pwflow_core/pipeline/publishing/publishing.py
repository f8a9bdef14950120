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

from pwflow_core.errors import NotFittedError, WarehouseDamagedError
from pwflow_core.pipeline.publishing.contents import (
    DAILY,
    Contents,
    Manifest,
    identify,
    read_contents,
    read_manifest,
    take_stock,
    write_manifest,
)
from pwflow_core.pipeline.publishing.overview import update_overview
from pwflow_core.pipeline.publishing.parquet import one_writer, swap_in, write_version
from pwflow_core.pipeline.scoring.check_list import SCHEMA_CHECK
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
    What is copied is checked first, in the same snapshot, so that no other run comes in between. The copy is compared
    with it as a whole; if it began with a file that was not what the warehouse held, it is written from nothing.

    Raises:
        NotFittedError: There are no scores to publish yet.
        ChecksFailedError: A blocking check failed; the copy in use stays as it is.
        WarehouseDamagedError: The new copy lacks what was written into it; the copy in use stays as it is.
    """
    with plant.warehouse.transaction() as connection:
        _check_scored(connection)
        refuse_failed_checks(plant, connection, [SCHEMA_CHECK])
        update_overview(connection, plant.config)
    target = plant.config.published_path
    target.parent.mkdir(parents=True, exist_ok=True)
    link = plant.config.published_folder
    with working_folder(target.parent, "publishing") as folder, one_writer(link):
        fresh, files = folder / target.name, folder / "parquet"
        n_rows = _write_copy(plant, fresh, files, link, _copy_before(target, fresh, link))
        if n_rows is None:  # the file that it began with was not what the warehouse held
            fresh.unlink()
            n_rows = _write_copy(plant, fresh, files, link, Manifest())
        if n_rows is None:
            raise WarehouseDamagedError(
                f"Expected a copy with the rows of {plant.warehouse.location}, got others. Nothing was published: look "
                f"at the disk of {target.parent}, then run again."
            )
        fresh.replace(target)
        swap_in(files, link)
    return PublishedSummary(target, link, target.stat().st_size, n_rows)


def _write_copy(plant: Plant, fresh: Path, files: Path, link: Path, before: Manifest) -> dict[str, int] | None:
    """Write the file and the Parquet files; return how many rows each table has, or None if some are not the same."""
    with plant.warehouse.snapshot() as connection:
        _check_scored(connection)
        refuse_failed_checks(plant, connection)
        contents = read_contents(connection, before)
        _write_tables(connection, contents, fresh)
        copied = {table: f"SELECT * FROM published.mart.{quote_identifier(table)}" for table in contents.sources}
        is_same = take_stock(connection, copied) == contents.stock
        connection.commit()  # of the snapshot's transaction: all tables and comments at once
        if is_same:
            files.mkdir()
            write_version(connection, contents, files, link)
        is_compact = _is_compact(connection)
        connection.execute("DETACH published")
    if not is_same:
        return None
    flush(fresh)
    flush(write_manifest(files, replace(contents.manifest, file=identify(fresh) if is_compact else "")))
    flush(files)
    return {table: n_rows for table, (n_rows, _) in contents.stock.items()}


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


def _write_tables(connection: duckdb.DuckDBPyConnection, contents: Contents, fresh: Path) -> None:
    """Write the parts that changed into the file."""
    connection.execute("DETACH DATABASE IF EXISTS published")  # of a run of this process that failed
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


def _is_compact(connection: duckdb.DuckDBPyConnection) -> bool:
    """Return whether the next night may begin with a copy of the file; if not, it is written as a whole."""
    connection.execute("CHECKPOINT published")
    return bool(
        fetch_value(
            connection,
            "SELECT free_blocks <= $most * total_blocks FROM pragma_database_size() WHERE database_name = 'published'",
            {"most": _MOST_FREE},
        )
    )


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
