"""The time before which readings were removed: nights before it are not derived again, for they are no longer whole."""

from __future__ import annotations

from datetime import datetime

import duckdb

from pwflow_core.warehouse.progress import read_fact, write_fact

__all__ = ["NEVER", "read_horizon", "write_horizon"]

NEVER = datetime(1, 1, 2)  # noqa: DTZ001 - UTC without saying so, with a day of every zone
"""Before any reading."""
_FACT = "removed_before"


def read_horizon(connection: duckdb.DuckDBPyConnection) -> datetime:
    """Return the time before which readings were removed, UTC; `NEVER` if none were."""
    text = read_fact(connection, _FACT)
    return NEVER if text is None else datetime.fromisoformat(text)


def write_horizon(connection: duckdb.DuckDBPyConnection, moment: datetime) -> None:
    """Record the time before which readings were removed, UTC."""
    write_fact(connection, _FACT, moment.isoformat())
