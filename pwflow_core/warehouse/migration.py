"""The layout of a warehouse: made for a new one, brought up to date for an older one, refused if it is newer.

A change that `schema.sql` cannot make by itself (a column of a table that may be there already, data that move) is a
statement in `_STEPS` under the next number, and `SCHEMA_VERSION` is that number.
"""

from __future__ import annotations

import duckdb

from pwflow_core.errors import WarehouseVersionError
from pwflow_core.warehouse.sql import read_sql

__all__ = ["SCHEMA_VERSION", "find_version", "migrate"]

SCHEMA_VERSION = 2
_UNNUMBERED = 1
"""Release 0.1 did not number its layout."""

_STEPS: dict[int, str] = {
    2: """
        ALTER TABLE core.readings ADD COLUMN IF NOT EXISTS reason VARCHAR;
        ALTER TABLE core.cluster_models ADD COLUMN IF NOT EXISTS made_by VARCHAR;
        ALTER TABLE core.cluster_models ADD COLUMN IF NOT EXISTS reason VARCHAR;
        ALTER TABLE mart.clusters ADD COLUMN IF NOT EXISTS found_from TIMESTAMP;
        ALTER TABLE mart.flow_versions ADD COLUMN IF NOT EXISTS training_window VARCHAR;
        ALTER TABLE mart.flow_versions ADD COLUMN IF NOT EXISTS random_state BIGINT;
        ALTER TABLE mart.flow_versions ADD COLUMN IF NOT EXISTS file_deleted_at TIMESTAMP;
    """,
}


def find_version(connection: duckdb.DuckDBPyConnection) -> int:
    """Return the number of the layout; 0 if there are no tables yet. To be asked outside a transaction.

    Raises:
        WarehouseVersionError: A newer release wrote the warehouse.
    """
    try:
        row = next(iter(connection.execute("SELECT schema_version FROM core.warehouse_state").fetchall()), None)
    except duckdb.CatalogException:
        known = connection.execute("SELECT 1 FROM duckdb_tables() WHERE schema_name = 'core'").fetchall()
        return _UNNUMBERED if known else 0
    found = int(row[0]) if row else _UNNUMBERED
    if found > SCHEMA_VERSION:
        raise WarehouseVersionError(
            f"The warehouse has layout {found}, but this release of pwflow knows layouts up to {SCHEMA_VERSION}: "
            "install the release that wrote it, or restore a backup from before. Nothing was changed."
        )
    return found


def migrate(connection: duckdb.DuckDBPyConnection, found: int) -> None:
    """Make the tables, or bring those of layout `found` up to date, in the caller's transaction."""
    for version in range(max(found, _UNNUMBERED) + 1, SCHEMA_VERSION + 1) if found else ():
        connection.execute(_STEPS[version])
    connection.execute(read_sql(__package__, "schema.sql"))
    connection.execute("UPDATE core.warehouse_state SET schema_version = ?", [SCHEMA_VERSION])
