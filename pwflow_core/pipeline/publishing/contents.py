"""What is published, table by table and day by day, and what of it changed since the version in use was published.

A table with readings has a part for each day (UTC), each of the others is one part. A part has a fingerprint: of a day,
when it last changed; of a whole table, a sum over its rows. Both hold the columns, so that all parts of a table change
with these. The manifest of a version keeps them, with the state of the file that was published with it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path

import duckdb

from pwflow_core.pipeline.source.source import read_source
from pwflow_core.warehouse import PUBLIC_TABLES, READING_ID, fetch_value, quote_columns, quote_identifier
from pwflow_core.warehouse.days import on_days

__all__ = [
    "DAILY",
    "WHOLE",
    "Contents",
    "Manifest",
    "identify",
    "read_contents",
    "read_manifest",
    "take_stock",
    "write_manifest",
]

DAILY = ("readings", "anomaly_scores", "sensor_contributions")
"""Tables with a part per day of `ts`, UTC."""
WHOLE = ""
"""The one part of any other table."""
_MANIFEST = "manifest.json"
_READING_COLUMNS = ("reading_id", "machine_id", "ts", "segment", "quality", "reason")


@dataclass(frozen=True)
class Manifest:
    """What a version that was published has.

    Attributes:
        file: State of the DuckDB file that was published with it, see `identify`.
        days: When each day had last changed.
        tables: Fingerprint by table and part: a day, or `WHOLE`.
    """

    file: str = ""
    days: dict[str, str] = field(default_factory=dict)
    tables: dict[str, dict[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Contents:
    """What is to be published.

    Attributes:
        manifest: What the version will have, without the state of the file.
        sources: Query by table.
        stale: Parts by table that are new or others than in the version before.
        changed: The days that changed, as they are bound to queries.
        stock: What each table will hold, see `take_stock`.
    """

    manifest: Manifest
    sources: dict[str, str]
    stale: dict[str, list[str]]
    changed: tuple[date, ...]
    stock: dict[str, tuple[int, int]]


def read_contents(connection: duckdb.DuckDBPyConnection, before: Manifest) -> Contents:
    """Return what is to be published, and what of it is not in a version that was published before."""
    sensors = [sensor.name for sensor in read_source(connection).sensors]
    sources = {"readings": f"SELECT {quote_columns([*_READING_COLUMNS, *sensors])} FROM core.readings"}
    sources |= {table: f"SELECT * FROM mart.{quote_identifier(table)}" for table in PUBLIC_TABLES}
    sources |= {table: f"SELECT * REPLACE ({READING_ID} AS reading_id) FROM ({sources[table]})" for table in DAILY}
    sources |= {view: _compute(connection, view, sources[view]) for view in _views(connection)}
    days = dict(connection.execute("SELECT day::VARCHAR, changed_at::VARCHAR FROM core.changed_days").fetchall())
    changed = sorted(
        date.fromisoformat(day) for day in before.days.keys() | days.keys() if before.days.get(day) != days.get(day)
    )
    stock = take_stock(connection, sources)
    tables: dict[str, dict[str, str]] = {}
    for table, query in sources.items():
        columns = _columns(connection, table, query)
        if table in DAILY:
            is_same = next(iter(before.tables.get(table, {}).values()), "").startswith(columns)
            tables[table] = _daily(connection, query, columns, days, changed, before.tables[table] if is_same else None)
        else:
            n_rows, total = stock[table]
            tables[table] = {WHOLE: f"{columns}-{n_rows}-{total}"}
    stale = {
        table: [part for part, state in parts.items() if before.tables.get(table, {}).get(part) != state]
        for table, parts in tables.items()
    }
    return Contents(Manifest(days=days, tables=tables), sources, stale, tuple(changed), stock)


def take_stock(connection: duckdb.DuckDBPyConnection, sources: Mapping[str, str]) -> dict[str, tuple[int, int]]:
    """Return how many rows each query has, and the sum of their hashes."""
    return {
        table: connection.execute(f"SELECT count(*), sum(hash(t)) FROM ({query}) AS t").fetchall()[0]
        for table, query in sources.items()
    }


def _views(connection: duckdb.DuckDBPyConnection) -> list[str]:
    rows = connection.execute(
        "SELECT view_name FROM duckdb_views() WHERE database_name = current_database() AND schema_name = 'mart' "
        "AND list_contains(?, view_name)",
        [list(PUBLIC_TABLES)],
    ).fetchall()
    return [name for (name,) in rows]


def _compute(connection: duckdb.DuckDBPyConnection, view: str, query: str) -> str:
    """Compute a view, which is read several times; return the query that reads what came out."""
    computed = quote_identifier(f"computed_{view}")
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {computed} AS {query}")
    return f"SELECT * FROM temp.{computed}"


def _columns(connection: duckdb.DuckDBPyConnection, table: str, query: str) -> str:
    """Return what changes with the columns of a table, their types and what is said of them."""
    described = connection.execute(f"DESCRIBE {query}").fetchall()
    comments = connection.execute(
        "SELECT string_agg(column_name || coalesce(comment, ''), ';' ORDER BY column_index) FROM duckdb_columns() "
        "WHERE database_name = current_database() AND schema_name = ? AND table_name = ?",
        ["core" if table == "readings" else "mart", table],
    ).fetchall()
    text = json.dumps([[row[:2] for row in described], comments])
    return str(fetch_value(connection, "SELECT md5(?)", [text]))


def _daily(
    connection: duckdb.DuckDBPyConnection,
    query: str,
    columns: str,
    days: dict[str, str],
    changed: list[date],
    known: dict[str, str] | None,
) -> dict[str, str]:
    """Return the fingerprints of the days of a table; it has not every day that changed, nor those that went."""
    looked_at = "true" if known is None else on_days("ts", changed)
    rows = connection.execute(
        f"SELECT DISTINCT ts::DATE::VARCHAR FROM ({query}) WHERE {looked_at} ORDER BY ALL"
    ).fetchall()
    kept = {day: state for day, state in (known or {}).items() if date.fromisoformat(day) not in set(changed)}
    return kept | {day: f"{columns}-{days.get(day, '')}" for (day,) in rows}


def identify(file: Path) -> str:
    """Return what changes when a file is written or replaced; empty if it is not there."""
    try:
        state = file.stat()
    except FileNotFoundError:
        return ""
    return f"{state.st_ino}-{state.st_size}-{state.st_mtime_ns}"


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a version; an empty one if it has none that can be read."""
    try:
        return Manifest(**json.loads((folder / _MANIFEST).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return Manifest()


def write_manifest(folder: Path, manifest: Manifest) -> Path:
    """Write the manifest of a version; return its file."""
    file = folder / _MANIFEST
    file.write_text(json.dumps(asdict(manifest)), encoding="utf-8")
    return file
