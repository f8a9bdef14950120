"""SQL as text: the one place that quotes names, the reader of `.sql` files and scripts, and rows in and out by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from typing import Any

import duckdb
import pandas as pd

__all__ = [
    "fetch_value",
    "insert_frame",
    "insert_row",
    "quote_columns",
    "quote_identifier",
    "quote_literal",
    "read_sql",
    "registered",
    "run_script",
]

_NO_VALUES: Mapping[str, object] = {}


def quote_identifier(name: str) -> str:
    """Return `name` as a quoted SQL identifier: what comes from data can never end the quotes."""
    return '"' + name.replace('"', '""') + '"'


def quote_literal(text: str) -> str:
    """Return `text` as a SQL string, for the few statements that take no bound values."""
    return "'" + text.replace("'", "''") + "'"


def quote_columns(names: Iterable[str], prefix: str = "") -> str:
    """Return the names as a comma-separated list of quoted columns, each behind `prefix`."""
    return ", ".join(prefix + quote_identifier(name) for name in names)


def read_sql(package: str, file: str, **parts: str) -> str:
    """Read a SQL file that lies beside a module.

    Arguments:
        package: The package that the file belongs to.
        file: Its name.
        parts: Quoted fragments for the placeholders `/*name*/` of the file.

    Returns:
        The statement text, placeholders filled in.
    """
    text = resources.files(package).joinpath(file).read_text(encoding="utf-8")
    for name, part in parts.items():
        text = text.replace(f"/*{name}*/", part)
    return text


def run_script(connection: duckdb.DuckDBPyConnection, script: str, values: Mapping[str, object] = _NO_VALUES) -> None:
    """Run the statements of a script one after the other, each with those of the values that it names."""
    for statement in duckdb.extract_statements(script):
        connection.execute(statement, {name: values[name] for name in statement.named_parameters})


def fetch_value(
    connection: duckdb.DuckDBPyConnection, query: str, values: Mapping[str, object] | Iterable[object] = ()
) -> Any:  # noqa: ANN401 - of the type that the query selects
    """Return the first value of the first row of a query; None where there is no row."""
    bound = dict(values) if isinstance(values, Mapping) else list(values)
    rows = connection.execute(query, bound).fetchall()  # an unfinished result is in the way of `registered`
    return rows[0][0] if rows else None


@contextmanager
def registered(connection: duckdb.DuckDBPyConnection, **frames: pd.DataFrame) -> Iterator[None]:
    """Let queries in the block read frames as tables of these names."""
    for name, frame in frames.items():
        connection.register(name, frame)
    try:
        yield
    finally:
        for name in frames:
            connection.unregister(name)


def insert_frame(connection: duckdb.DuckDBPyConnection, table: str, rows: pd.DataFrame, **about: object) -> None:
    """Insert the rows of a frame by the names of its columns, with further columns that are the same in all rows."""
    if rows.empty:
        return
    constants = "".join(f", ${name} AS {name}" for name in about)
    with registered(connection, new_rows=rows):
        connection.execute(f"INSERT INTO {table} BY NAME SELECT *{constants} FROM new_rows", about)


def insert_row(connection: duckdb.DuckDBPyConnection, table: str, values: dict[str, object]) -> None:
    """Insert one row of named values into one of the warehouse's own tables."""
    named = ", ".join(f"${name} AS {name}" for name in values)
    connection.execute(f"INSERT INTO {table} BY NAME SELECT {named}", values)
