"""The warehouse: opened for one short transaction at a time.

How it is opened, locked and laid out lives here. What is written into it lives in `pipeline`.
"""

from pwflow_core.warehouse.backends import open_warehouse
from pwflow_core.warehouse.base import Warehouse
from pwflow_core.warehouse.copying import copy_warehouse
from pwflow_core.warehouse.file import FileWarehouse
from pwflow_core.warehouse.ids import READING_ID, describe_published, mint_event_ids
from pwflow_core.warehouse.sql import (
    fetch_value,
    insert_frame,
    insert_row,
    quote_columns,
    quote_identifier,
    quote_literal,
    read_sql,
    registered,
    run_script,
)
from pwflow_core.warehouse.tables import PUBLIC_TABLES, Column, describe_table
from pwflow_core.warehouse.times import in_utc, utc_now

__all__ = [
    "PUBLIC_TABLES",
    "READING_ID",
    "Column",
    "FileWarehouse",
    "Warehouse",
    "copy_warehouse",
    "describe_published",
    "describe_table",
    "fetch_value",
    "in_utc",
    "insert_frame",
    "insert_row",
    "mint_event_ids",
    "open_warehouse",
    "quote_columns",
    "quote_identifier",
    "quote_literal",
    "read_sql",
    "registered",
    "run_script",
    "utc_now",
]
