"""The ledger: what the warehouse held after its last commit, kept beside it.

DuckDB opens a warehouse whose write-ahead log was cut short without a word, as of an earlier commit. The ledger is
written after every commit, so that what is missing then can be told.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import duckdb

from pwflow_core.errors import list_few
from pwflow_core.storage import replace_file
from pwflow_core.warehouse.sql import quote_identifier, quote_literal

__all__ = ["Ledger", "count_commits", "describe_losses", "read_ledger", "take_stock", "write_ledger"]

_N_SHOWN = 8


@dataclass(frozen=True)
class Ledger:
    """What a warehouse held after a commit.

    Attributes:
        commit_number: Commits so far.
        rows: Rows by table.
        steps: How far each step had come, by step and cluster.
        flows: Flow version in use by cluster.
    """

    commit_number: int
    rows: dict[str, int]
    steps: dict[str, str]
    flows: dict[str, str]


def count_commits(connection: duckdb.DuckDBPyConnection) -> int:
    """Return how many commits the warehouse holds; 0 if it was never counted."""
    try:
        row = next(iter(connection.execute("SELECT commit_number FROM core.warehouse_state").fetchall()), None)
    except duckdb.CatalogException:
        return 0  # a new warehouse, or one of release 0.1
    return int(row[0]) if row else 0


def take_stock(connection: duckdb.DuckDBPyConnection) -> Ledger:
    """Count what the warehouse holds now."""
    tables = connection.execute(
        "SELECT schema_name, table_name FROM duckdb_tables() "
        "WHERE database_name = current_database() AND NOT temporary ORDER BY ALL"
    ).fetchall()
    counts = " UNION ALL ".join(
        f"SELECT {quote_literal(f'{schema}.{table}')}, count(*) "
        f"FROM {quote_identifier(schema)}.{quote_identifier(table)}"
        for schema, table in tables
    )
    steps = connection.execute("SELECT step, cluster_key, model, batch_id FROM core.progress ORDER BY ALL").fetchall()
    flows = connection.execute(
        "SELECT cluster_key, flow_version FROM mart.flow_versions WHERE in_force ORDER BY ALL"
    ).fetchall()
    return Ledger(
        commit_number=count_commits(connection),
        rows=dict(connection.execute(counts).fetchall()),
        steps={f"{step} {key}".strip(): f"{model} {batch}" for step, key, model, batch in steps},
        flows=dict(flows),
    )


def describe_losses(before: Ledger, now: Ledger) -> str:
    """Return, in words, what was there at the time of an earlier count and is not any more."""
    slices = [name for name, state in before.steps.items() if now.steps.get(name) != state]
    flows = [key for key, version in before.flows.items() if now.flows.get(key) != version]
    tables = [
        f"{table} ({count - now.rows.get(table, 0):,} rows)"
        for table, count in before.rows.items()
        if count > now.rows.get(table, 0)
    ]
    parts = {"steps": slices, "flows put in use": flows, "tables": tables}
    said = "; ".join(f"{name}: {list_few(found, _N_SHOWN)}" for name, found in parts.items() if found)
    return said or "no rows, only changes of rows"


def read_ledger(path: Path) -> Ledger | None:
    """Return what `write_ledger` wrote; None if there is nothing that can be read."""
    try:
        return Ledger(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def write_ledger(path: Path, ledger: Ledger) -> None:
    """Write the ledger as a whole."""
    replace_file(path, json.dumps(asdict(ledger), indent=1).encode())
