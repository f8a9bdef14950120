"""The warehouse: one DuckDB file, opened for one short transaction at a time.

How the file is opened, locked and laid out lives here. What is written into it lives in `pipeline`.
"""

from pwflow_core.warehouse.connection import Warehouse
from pwflow_core.warehouse.sql import quote_identifier, quote_literal, read_sql
from pwflow_core.warehouse.tables import PUBLIC_TABLES, Column, describe_table

__all__ = [
    "PUBLIC_TABLES",
    "Column",
    "Warehouse",
    "describe_table",
    "quote_identifier",
    "quote_literal",
    "read_sql",
]
