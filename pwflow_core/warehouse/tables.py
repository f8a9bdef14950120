"""What the tables look like: the public ones by name, their columns with descriptions, the sensor columns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import duckdb

from pwflow_core.warehouse.sql import quote_identifier, quote_literal, read_sql

__all__ = ["PUBLIC_TABLES", "Column", "add_sensor_columns", "describe_table"]

PUBLIC_TABLES = (
    "plant",
    "latest_day",
    "machines",
    "sensors",
    "regimes",
    "regime_profiles",
    "regime_names",
    "runs",
    "cases",
    "case_events",
    "case_changes",
    "alarm_log",
    "told_cases",
    "event_evidence",
    "promise_days",
    "alarm_precision",
    "anomaly_scores",
    "anomaly_events",
    "unusual_stretches",
    "stretch_changes",
    "detectability",
    "sensor_contributions",
    "cluster_health",
    "drift_verdicts",
    "verdict_changes",
    "clusters",
    "cluster_lineage",
    "flow_versions",
    "flow_decisions",
    "machine_corrections",
    "model_comparison",
    "rejected_readings",
    "source_files",
    "removed_nights",
    "hourly_readings",
    "hourly_scores",
)
"""Tables of schema `mart` that are published; `readings` is published beside them."""

_SENSOR_TABLES = (("ingest", "raw_readings"), ("core", "readings"), ("core", "filled_values"))


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        name: Its name.
        type: Its DuckDB type.
        description: What it holds, with the unit.
    """

    name: str
    type: str
    description: str


def describe_table(connection: duckdb.DuckDBPyConnection, schema: str, table: str) -> list[Column]:
    """Return the columns of a table, in order."""
    rows = connection.execute(
        """
        SELECT column_name, data_type, coalesce(comment, '')
        FROM duckdb_columns()
        WHERE schema_name = ? AND table_name = ? AND database_name = current_database()
        ORDER BY column_index
        """,
        [schema, table],
    ).fetchall()
    return [Column(name, kind, said or _written(schema, table, name)) for name, kind, said in rows]


def _written(schema: str, table: str, column: str) -> str:
    """Return the comment that `schema.sql` has for a column; a lake keeps none of a view."""
    return _comments().get((schema, table, column), "")


@cache
def _comments() -> dict[tuple[str, str, str], str]:
    found = re.findall(
        r"COMMENT ON COLUMN (\w+)\.(\w+)\.\W?(\w+)\W? IS '((?:[^']|'')*)';", read_sql(__package__, "schema.sql")
    )
    return {(schema, table, column): said.replace("''", "'") for schema, table, column, said in found}


def add_sensor_columns(connection: duckdb.DuckDBPyConnection, sensors: Sequence[tuple[str, str]]) -> None:
    """Give the tables of readings a DOUBLE column per sensor, described with its unit.

    Arguments:
        connection: An open transaction.
        sensors: Name and unit of each sensor.
    """
    for schema, table in _SENSOR_TABLES:
        known = {column.name.casefold(): column for column in describe_table(connection, schema, table)}
        for name, unit in sensors:
            column = known.get(name.casefold())
            if column is None:
                connection.execute(f"ALTER TABLE {schema}.{table} ADD COLUMN {quote_identifier(name)} DOUBLE")
            elif column.name != name:
                connection.execute(
                    f"ALTER TABLE {schema}.{table} RENAME COLUMN {quote_identifier(column.name)} "
                    f"TO {quote_identifier(name)}"
                )
            comment = f"Sensor, in {unit}" if unit else "Sensor, in the unit of the source"
            if column is None or column.description != comment:
                connection.execute(
                    f"COMMENT ON COLUMN {schema}.{table}.{quote_identifier(name)} IS {quote_literal(comment)}"
                )
