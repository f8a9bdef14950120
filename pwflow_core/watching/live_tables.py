"""The live tables in DuckDB: the rows of the store in the types of the published tables."""

from __future__ import annotations

from collections.abc import Mapping

import duckdb
import pandas as pd

from pwflow_core.warehouse import registered
from pwflow_core.watching.store import Session

__all__ = ["CONTRIBUTIONS", "SCORES", "copy_rows"]

_ROWS_AT_ONCE = 50_000

SCORES: Mapping[str, str] = {
    "reading_id": "BIGINT",
    "machine_id": "VARCHAR",
    "ts": "TIMESTAMP",
    "segment": "VARCHAR",
    "cluster_key": "VARCHAR",
    "log_density": "DOUBLE",
    "p_value": "DOUBLE",
    "anomaly_score": "DOUBLE",
    "is_anomaly": "BOOLEAN",
    "status": "VARCHAR",
    "reason": "VARCHAR",
    "flow_version": "VARCHAR",
    "model_set_id": "VARCHAR",
    "scored_at": "TIMESTAMP",
}
"""Columns of `mart.live_scores`, which are those of `mart.anomaly_scores`."""
CONTRIBUTIONS: Mapping[str, str] = {
    "reading_id": "BIGINT",
    "machine_id": "VARCHAR",
    "ts": "TIMESTAMP",
    "sensor": "VARCHAR",
    "contribution": "DOUBLE",
    "expected": "DOUBLE",
    "observed": "DOUBLE",
    "expected_low": "DOUBLE",
    "expected_high": "DOUBLE",
    "unit": "VARCHAR",
    "cluster_key": "VARCHAR",
    "scored_at": "TIMESTAMP",
}
"""Columns of `mart.live_contributions`, which are those of `mart.sensor_contributions`."""


def copy_rows(
    connection: duckdb.DuckDBPyConnection, session: Session, source: str, target: str, reading_id: str = "reading_id"
) -> None:
    """Insert the rows of a table of the store, `live_scores` or `live_contributions`, into a table.

    Arguments:
        connection: Has the table.
        session: The store.
        source: Which table of the store.
        target: The table.
        reading_id: What the table has as ids of readings, in SQL.
    """
    columns = SCORES if source == "live_scores" else CONTRIBUTIONS
    selected = ", ".join(
        f"make_timestamp({name}) AS {name}" if kind == "TIMESTAMP" else f"{name}::{kind} AS {name}"
        for name, kind in columns.items()
    )
    selected = f"* REPLACE ({reading_id} AS reading_id) FROM (SELECT {selected} FROM live_rows)"
    for names, rows in session.rows(source, _ROWS_AT_ONCE):
        with registered(connection, live_rows=pd.DataFrame(rows, columns=names)):
            connection.execute(f"INSERT INTO {target} BY NAME SELECT {selected}")
