"""The layout of a warehouse: made for a new one, brought up to date for an older one, refused if it is newer.

`schema.sql` runs on a warehouse that has a lower number than `SCHEMA_VERSION`, and only then: any change of that file,
be it a comment, needs the next number. A change that it cannot make by itself (a column of a table that may be there
already, data that move) is a step under that number in `_STEPS`.
"""

from __future__ import annotations

from collections.abc import Callable

import duckdb

from pwflow_core.errors import WarehouseVersionError
from pwflow_core.warehouse.sql import quote_identifier, read_sql

__all__ = ["SCHEMA_VERSION", "find_version", "migrate"]

SCHEMA_VERSION = 4
_UNNUMBERED = 1
"""Release 0.1 did not number its layout."""

_NEW_COLUMNS = """
    ALTER TABLE core.readings ADD COLUMN IF NOT EXISTS reason VARCHAR;
    ALTER TABLE core.cluster_models ADD COLUMN IF NOT EXISTS made_by VARCHAR;
    ALTER TABLE core.cluster_models ADD COLUMN IF NOT EXISTS reason VARCHAR;
    ALTER TABLE mart.clusters ADD COLUMN IF NOT EXISTS found_from TIMESTAMP;
    ALTER TABLE mart.flow_versions ADD COLUMN IF NOT EXISTS training_window VARCHAR;
    ALTER TABLE mart.flow_versions ADD COLUMN IF NOT EXISTS random_state BIGINT;
    ALTER TABLE mart.flow_versions ADD COLUMN IF NOT EXISTS file_deleted_at TIMESTAMP;
"""


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
        if version in _STEPS:
            _STEPS[version](connection)
    connection.execute(read_sql(__package__, "schema.sql"))
    connection.execute("UPDATE core.warehouse_state SET schema_version = ?", [SCHEMA_VERSION])


def _add_columns(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(_NEW_COLUMNS)


def _name_calibration_anew(connection: duckdb.DuckDBPyConnection) -> None:
    """Give two columns of the calibration the names that they have since; one of them has another scale.

    Release 0.1 kept the share of the rare readings that come together, 0 to 1; what is kept now is how many groups
    those make for each rare reading. A group has at least two of them, so that half of the share is the most that it
    can be: it errs towards fewer false alarms. A calibration is not made anew, for the scores that it gave are there.
    """
    if _rename_column(connection, "calibration", "company", "tail_dependence"):
        connection.execute("UPDATE core.calibration SET tail_dependence = tail_dependence / 2")
    _rename_column(connection, "calibration_steps", "log_density", "conformity")


def _rename_column(connection: duckdb.DuckDBPyConnection, table: str, old: str, new: str) -> bool:
    """Rename a column of a table of `core`, if it is there."""
    found = connection.execute(
        "SELECT 1 FROM duckdb_columns() WHERE database_name = current_database() AND schema_name = 'core' "
        "AND table_name = ? AND column_name = ?",
        [table, old],
    ).fetchone()
    if found:
        names = quote_identifier(table), quote_identifier(old), quote_identifier(new)
        connection.execute("ALTER TABLE core.{} RENAME {} TO {}".format(*names))
    return found is not None


_STEPS: dict[int, Callable[[duckdb.DuckDBPyConnection], None]] = {2: _add_columns, 3: _name_calibration_anew}
