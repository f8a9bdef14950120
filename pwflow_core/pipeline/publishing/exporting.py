"""Exporting: results that a person takes away as a CSV or Parquet file."""

from __future__ import annotations

from pathlib import Path

import duckdb

from pwflow_core.errors import ConfigurationError, first_line
from pwflow_core.storage import explain_full_disk, replacing
from pwflow_core.warehouse import quote_literal

__all__ = ["check_target", "export_query"]

_FORMATS = {".csv": "csv, header", ".parquet": "parquet", ".pq": "parquet"}


def check_target(target: Path) -> None:
    """Check that a file can be written, before anything is computed for it.

    Raises:
        ConfigurationError: Its name ends in neither .csv nor .parquet, or its folder is missing.
    """
    if target.suffix.lower() not in _FORMATS:
        raise ConfigurationError(
            f"Expected a file to write that ends in .csv or .parquet, got {target}: give it another name."
        )
    if not target.absolute().parent.is_dir():
        raise ConfigurationError(f"There is no folder {target.absolute().parent} to write {target.name} to: make it.")


def export_query(connection: duckdb.DuckDBPyConnection, query: str, target: Path) -> None:
    """Write the result of a query to a file, by its ending, and put it in place as a whole; times are UTC.

    Raises:
        ConfigurationError: The file cannot be written.
        StorageFullError: The disk is full.
    """
    check_target(target)
    kind = _FORMATS[target.suffix.lower()]
    folder = target.absolute().parent
    try:
        with replacing(target) as fresh:
            connection.execute(f"COPY ({query}) TO {quote_literal(str(fresh))} (FORMAT {kind})")
    except (duckdb.IOException, OSError) as error:
        raise explain_full_disk(error, folder) or ConfigurationError(
            f"{target} cannot be written: {first_line(error)}. Name another place."
        ) from None
