"""Publishing: the read-only copy for analysts, made beside the one in force and swapped in as a whole."""

from __future__ import annotations

import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pandas as pd

from pwflow_core.config import PlantConfig
from pwflow_core.errors import NotFittedError, QueryError
from pwflow_core.pipeline.checks import refuse_failed_checks
from pwflow_core.pipeline.source import read_source
from pwflow_core.plant import Plant
from pwflow_core.storage import working_folder
from pwflow_core.warehouse import PUBLIC_TABLES, describe_table, quote_identifier, quote_literal
from pwflow_core.warehouse.sql import quote_columns

__all__ = ["PublishedSummary", "publish_warehouse", "query_published"]

_NOTHING_ELSE = {
    "enable_external_access": "false",
    "python_enable_replacements": "false",
    "temp_directory": "",
    "lock_configuration": "true",
}
"""A query sees the published tables: no file, no extension, no variable of this program, no other settings."""
_READING_COLUMNS = ("reading_id", "machine_id", "ts", "segment", "quality", "reason")
_IN_TIME_ORDER = {
    "anomaly_scores": " ORDER BY machine_id, ts",
    "anomaly_events": " ORDER BY machine_id, started_at",
    "sensor_contributions": " ORDER BY machine_id, ts, sensor",
    "cluster_health": " ORDER BY night",
}

_NO_TABLE = re.compile(r"Table with name (.+) does not exist")
_NO_COLUMN = re.compile(r'Referenced column "(.+)" not found in FROM clause!(?:\nCandidate bindings: (.+))?')
_SYNTAX = re.compile(r'syntax error at or near "(.+)"')


@dataclass(frozen=True)
class PublishedSummary:
    """What was published: the file, its size in bytes, and the rows of each table."""

    path: Path
    size_bytes: int
    n_rows: dict[str, int]


def publish_warehouse(plant: Plant) -> PublishedSummary:
    """Write the public tables to a new DuckDB file and move it into the place of the one in force.

    A reader that has the old file open goes on reading it; one that opens the path afresh gets the new one.
    What is copied is checked first, in the same snapshot, so that no other run comes in between.

    Raises:
        NotFittedError: There are no scores to publish yet.
        ChecksFailedError: A blocking check failed; the copy in force stays as it is.
    """
    target = plant.config.published_path
    target.parent.mkdir(parents=True, exist_ok=True)
    with working_folder(target.parent, "publishing") as folder:
        fresh = folder / target.name
        with plant.warehouse.snapshot() as connection:
            _check_scored(connection)
            refuse_failed_checks(plant, connection)
            n_rows = _copy_tables(connection, fresh)
        with fresh.open("rb") as file:
            os.fsync(file.fileno())
        fresh.replace(target)
    return PublishedSummary(target, target.stat().st_size, n_rows)


def query_published(config: PlantConfig, query: str, *, timeout_seconds: float = 60.0) -> pd.DataFrame:
    """Run a query on the published tables, with no way to anything else on this machine.

    Arguments:
        config: The plant.
        query: SQL.
        timeout_seconds: A query that takes longer is stopped.

    Raises:
        NotFittedError: Nothing has been published yet.
        QueryError: The query cannot be answered (the message says what is wrong with it), it takes too long, or its
            result takes more memory than `compute.memory_limit`.
    """
    path = config.published_path
    if not path.exists():
        raise NotFittedError(f"Nothing has been published at {path} yet: run `pwflow run` first.")
    with duckdb.connect(
        str(path), read_only=True, config={"memory_limit": config.compute.memory_limit, **_NOTHING_ELSE}
    ) as connection:
        alarm = threading.Timer(timeout_seconds, connection.interrupt)
        alarm.start()
        try:
            answer = connection.execute(query)
            if answer is None or answer.description is None:
                raise QueryError("Expected a query such as SELECT * FROM mart.anomaly_events LIMIT 20, got none.")
            return _fetch_bounded(answer, config.compute.memory_bytes)
        except duckdb.InterruptException:
            raise QueryError(
                f"The query was stopped after {timeout_seconds:g} s: narrow it, or allow it more time with --timeout."
            ) from None
        except duckdb.Error as error:
            raise QueryError(f"The query cannot be answered: {_explain(connection, error)}") from None
        finally:
            alarm.cancel()


def _fetch_bounded(found: duckdb.DuckDBPyConnection, most_bytes: int) -> pd.DataFrame:
    """Fetch a result in parts, so that one that is too large is refused before it fills the memory."""
    parts, n_bytes = [found.fetch_df_chunk()], 0
    while len(parts[-1]):
        n_bytes += int(parts[-1].memory_usage(deep=True).sum())
        if n_bytes > most_bytes:
            raise QueryError(
                f"The result of the query takes more memory than compute.memory_limit allows ({most_bytes:,} bytes): "
                "add a LIMIT, aggregate, or open the published file with a DuckDB client of your own."
            )
        parts.append(found.fetch_df_chunk())
    return pd.concat(parts[:-1] or parts, ignore_index=True)


def _explain(connection: duckdb.DuckDBPyConnection, error: duckdb.Error) -> str:
    """Return what is wrong with a query, and how to go on, as a sentence."""
    text = str(error).split("\n\nLINE ")[0].split("Error: ", 1)[-1]
    if isinstance(error, duckdb.PermissionException) or "configuration has been locked" in text:
        return "it can read the published tables and nothing else; for files, open them in DuckDB yourself."
    if "read-only mode" in text:
        return "the published tables are read-only; ask with SELECT."
    if missing := _NO_TABLE.match(text):
        rows = (
            connection.cursor()
            .execute(  # of its own, for the query may have left a transaction that is aborted
                "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'mart' ORDER BY table_name"
            )
            .fetchall()
        )
        tables = [f"mart.{row[0]}" for row in rows]
        if f"mart.{missing[1].lower()}" in tables:
            return f"there is no table {missing[1]}; write mart.{missing[1].lower()}."
        return f"there is no table {missing[1]}; there are {', '.join(tables)}."
    if missing := _NO_COLUMN.match(text):
        near = f"; near to it are {missing[2]}" if missing[2] else ""
        return f"there is no column {missing[1]}{near}. DESCRIBE mart.anomaly_scores lists those of a table."
    if near_to := _SYNTAX.match(text):
        return f'it is no SQL at "{near_to[1]}"; correct it there.'
    sentence = " ".join(line.strip().rstrip("!.?") + "." for line in text.splitlines() if line.strip())
    if not sentence:
        return "DuckDB gives no reason."
    return sentence if sentence[:2].isupper() else sentence[0].lower() + sentence[1:]


def _check_scored(connection: duckdb.DuckDBPyConnection) -> None:
    row = connection.execute("SELECT count(*) FROM mart.anomaly_scores").fetchone()
    if row is None or row[0] == 0:
        raise NotFittedError("There are no scores to publish yet: materialize anomaly_scores, or run `pwflow run`.")


def _copy_tables(connection: duckdb.DuckDBPyConnection, fresh: Path) -> dict[str, int]:
    sensors = [sensor.name for sensor in read_source(connection).sensors]
    connection.execute(f"ATTACH {quote_literal(str(fresh))} AS published (READ_WRITE)")
    connection.execute("CREATE SCHEMA published.mart")
    connection.execute(
        f"CREATE TABLE published.mart.readings AS SELECT {quote_columns([*_READING_COLUMNS, *sensors])} "
        "FROM core.readings ORDER BY machine_id, ts"
    )
    _copy_comments(connection, "core", "readings")
    for table in PUBLIC_TABLES:
        connection.execute(f"CREATE TABLE published.mart.{table} AS FROM mart.{table}{_IN_TIME_ORDER.get(table, '')}")
        _copy_comments(connection, "mart", table)
    counts = {}
    for table in ("readings", *PUBLIC_TABLES):
        row = connection.execute(f"SELECT count(*) FROM published.mart.{table}").fetchone()
        counts[table] = int(row[0]) if row else 0
    connection.execute("DETACH published")
    return counts


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
