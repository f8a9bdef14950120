"""Ids as people and programs read them: text, for JavaScript and Excel lose digits of numbers beyond 2^53."""

from __future__ import annotations

from dataclasses import replace

import duckdb

from pwflow_core.warehouse.sql import read_sql
from pwflow_core.warehouse.tables import Column, describe_table

__all__ = ["READING_ID", "describe_published", "mint_event_ids"]

READING_ID = "'R-' || lower(to_base(reading_id, 16, 16))"
"""The id of a reading as it is published, in SQL: all 63 bits, so that no two are the same."""


def describe_published(connection: duckdb.DuckDBPyConnection, table: str) -> list[Column]:
    """Return the columns of a table as it is published, in order."""
    columns = describe_table(connection, "core" if table == "readings" else "mart", table)
    return [replace(column, type="VARCHAR") if column.name == "reading_id" else column for column in columns]


def mint_event_ids() -> str:
    """Return the statement that gives new events their ids, see event_ids.sql."""
    return read_sql(__package__, "event_ids.sql")
