"""A warehouse copied into another one, of the same or another backend, table by table, and compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import duckdb

from pwflow_core.errors import ConfigurationError, WarehouseDamagedError
from pwflow_core.storage import working_folder
from pwflow_core.warehouse.base import Warehouse
from pwflow_core.warehouse.sql import fetch_value, quote_columns, quote_identifier, quote_literal
from pwflow_core.warehouse.streaming import copy_out
from pwflow_core.warehouse.tables import Column, describe_table

__all__ = ["CopiedTable", "copy_warehouse"]

_OWN = "core.warehouse_state"


@dataclass(frozen=True)
class CopiedTable:
    """A table that was copied.

    Attributes:
        name: Its name with its schema.
        n_rows: Its rows.
        fingerprint: Sum of the hashes of its rows: the same in both warehouses.
    """

    name: str
    n_rows: int
    fingerprint: str


def copy_warehouse(source: Warehouse, target: Warehouse) -> list[CopiedTable]:
    """Copy all tables and views in one transaction of the target.

    Raises:
        NotFittedError: There is nothing to copy.
        ConfigurationError: The target has rows already.
        WarehouseDamagedError: A table of the target is not what was copied; the target is as it was.
    """
    target.folder.mkdir(parents=True, exist_ok=True)
    with working_folder(target.folder, "copying") as folder:
        with source.snapshot() as connection:
            tables = {name: describe_table(connection, *name.split(".")) for name in _names(connection, "tables")}
            views = _views(connection)
            copied = [_fingerprint(connection, name, columns) for name, columns in tables.items()]
            for name in tables:
                copy_out(connection, f"FROM {name}", {}, _file(folder, name))
        with target.transaction() as connection:
            if any(
                fetch_value(connection, f"SELECT count(*) FROM {name}") for name in ("ingest.files", "core.plant_facts")
            ):
                raise ConfigurationError(
                    f"Expected a new warehouse at {target.location}, but it has rows: give another URL, or remove it."
                )
            for name, columns in tables.items():
                _fill(connection, name, columns, _file(folder, name))
            known = _views(connection)
            for name, statement in views.items():
                if name not in known:
                    connection.execute(statement)
            for before in copied:
                if (after := _fingerprint(connection, before.name, tables[before.name])) != before:
                    raise WarehouseDamagedError(
                        f"Expected {before.name} with {before.n_rows:,} rows, but the copy has {after.n_rows:,}, or "
                        f"other values. Nothing was written to {target.location}: report this."
                    )
    return copied


def _names(connection: duckdb.DuckDBPyConnection, what: str) -> list[str]:
    rows = connection.execute(
        f"SELECT schema_name || '.' || table_name FROM duckdb_{what}() "
        "WHERE database_name = current_database() AND schema_name IN ('ingest', 'core', 'mart') ORDER BY 1"
    ).fetchall()
    return [row[0] for row in rows]


def _views(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """Return the statements that make the views, by name."""
    rows = connection.execute(
        "SELECT schema_name || '.' || view_name, sql FROM duckdb_views() "
        "WHERE database_name = current_database() AND schema_name IN ('ingest', 'core', 'mart')"
    ).fetchall()
    return dict(rows)


def _fingerprint(connection: duckdb.DuckDBPyConnection, name: str, columns: list[Column]) -> CopiedTable:
    listed = quote_columns(column.name for column in columns)
    query = f"SELECT count(*), coalesce(sum(hash({listed})), 0)::VARCHAR FROM {name}"
    ((n_rows, fingerprint),) = connection.execute(query).fetchall()
    return CopiedTable(name, n_rows, fingerprint)


def _fill(connection: duckdb.DuckDBPyConnection, name: str, columns: list[Column], file: Path) -> None:
    known = {column.name for column in describe_table(connection, *name.split("."))}
    if not known:
        listed = ", ".join(f"{quote_identifier(column.name)} {column.type}" for column in columns)
        connection.execute(f"CREATE TABLE {name} ({listed})")
    for column in columns:
        if known and column.name not in known:
            connection.execute(f"ALTER TABLE {name} ADD COLUMN {quote_identifier(column.name)} {column.type}")
        if column.name not in known and column.description:
            connection.execute(
                f"COMMENT ON COLUMN {name}.{quote_identifier(column.name)} IS {quote_literal(column.description)}"
            )
    if name == _OWN:
        connection.execute(f"DELETE FROM {name}")
    connection.execute(f"INSERT INTO {name} BY NAME FROM read_parquet({quote_literal(str(file))})")


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.parquet"
