"""Querying: SQL on the published tables, with no way to anything else, and errors that say what to do."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import duckdb
import pandas as pd

from pwflow_core.config import PlantConfig
from pwflow_core.errors import NotFittedError, QueryError
from pwflow_core.warehouse import fetch_value, quote_identifier, quote_literal

__all__ = ["query_published"]

_Opened = TypeVar("_Opened")

_NOTHING_ELSE = {
    "python_enable_replacements": "false",
    "temp_directory": "",
    "enable_external_access": "false",
    "lock_configuration": "true",
}
"""A query sees the published tables: no file, no extension, no variable of this program, no other settings."""

_NO_TABLE = re.compile(r"Table with name (.+) does not exist")
_NO_COLUMN = re.compile(r'Referenced column "(.+)" not found in FROM clause!(?:\nCandidate bindings: (.+))?')
_SYNTAX = re.compile(r'syntax error at or near "(.+)"')


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
    with _open(path, config.live_path, config.compute.memory_limit) as connection:
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


def _open(path: Path, live: Path, memory_limit: str) -> duckdb.DuckDBPyConnection:
    """Open the published file, with the live scores beside it where there are any, and nothing else."""

    def connect() -> duckdb.DuckDBPyConnection:
        return duckdb.connect(str(path), read_only=True, config={"memory_limit": memory_limit})

    connection = _as_it_is(path, connect, lambda made: made.close())
    if live.exists():
        attached = f"ATTACH {quote_literal(str(live))} AS live (READ_ONLY)"
        _as_it_is(live, lambda: connection.execute(attached), lambda _: connection.execute("DETACH live"))
        own = quote_identifier(fetch_value(connection, "SELECT current_database()"))
        connection.execute(f"SET search_path = {quote_literal(f'{own}.mart,live.mart')}")
    for setting, value in _NOTHING_ELSE.items():
        connection.execute(f"SET {setting} = '{value}'")
    return connection


def _as_it_is(path: Path, opened: Callable[[], _Opened], close: Callable[[_Opened], object]) -> _Opened:
    """Open a file, and once more where another was put in its place meanwhile.

    DuckDB reads the head of a file before it opens the file for good: a head of the old file does not fit the new one.
    """
    while True:
        before = path.stat()
        try:
            found = opened()
        except duckdb.IOException:
            if os.path.samestat(before, path.stat()):
                raise
            continue
        if os.path.samestat(before, path.stat()):
            return found
        close(found)


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
                "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'mart' ORDER BY ALL"
            )
            .fetchall()
        )
        tables = [f"mart.{row[0]}" for row in rows]
        if f"mart.{missing[1].lower()}" in tables:
            return f"there is no table {missing[1]}; write mart.{missing[1].lower()}."
        return f"there is no table {missing[1]}; there are {', '.join(tables)}."
    if missing := _NO_COLUMN.match(text):
        near = f"; did you mean {missing[2]}?" if missing[2] else "."
        return f"there is no column {missing[1]}{near} DESCRIBE mart.anomaly_scores lists those of a table."
    if near_to := _SYNTAX.match(text):
        return f'syntax error near "{near_to[1]}".'
    sentence = " ".join(line.strip().rstrip("!.?") + "." for line in text.splitlines() if line.strip())
    if not sentence:
        return "DuckDB gives no reason."
    return sentence if sentence[:2].isupper() else sentence[0].lower() + sentence[1:]
