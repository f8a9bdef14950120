"""SQL as text: the one place that quotes names, the reader of `.sql` files beside their modules, and rows by name."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources

import duckdb

__all__ = ["insert_row", "quote_columns", "quote_identifier", "quote_literal", "read_sql"]


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


def insert_row(connection: duckdb.DuckDBPyConnection, table: str, values: dict[str, object]) -> None:
    """Insert one row of named values into one of the warehouse's own tables."""
    named = ", ".join(f"${name} AS {name}" for name in values)
    connection.execute(f"INSERT INTO {table} BY NAME SELECT {named}", values)
