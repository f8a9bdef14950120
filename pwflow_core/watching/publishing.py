"""Publishing: the live scores as a DuckDB file beside the published one, made beside it and moved in as a whole.

Nobody who reads it holds anything up, and the nightly job writes another file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import duckdb

from pwflow_core.storage import replacing
from pwflow_core.warehouse import READING_ID, quote_literal
from pwflow_core.watching.live_tables import CONTRIBUTIONS, SCORES, copy_rows
from pwflow_core.watching.store import LiveStore

__all__ = ["publish_live"]

_STORAGE_VERSION = "v1.2.0"
_EVENTS: Mapping[str, str] = {
    "event_id": "VARCHAR",
    "case_id": "VARCHAR",
    "machine_id": "VARCHAR",
    "started_at": "TIMESTAMP",
    "ended_at": "TIMESTAMP",
    "peak_score": "DOUBLE",
    "n_readings": "BIGINT",
    "cluster_key": "VARCHAR",
    "segment": "VARCHAR",
    "top_sensors": "VARCHAR[]",
    "summary": "VARCHAR",
    "lasted_until": "TIMESTAMP",
}
_TABLES = {
    "live_scores": (SCORES, "Provisional scores of readings since the last night, as mart.anomaly_scores has them."),
    "live_contributions": (CONTRIBUTIONS, "Contributions of sensors to live anomalies, as mart.sensor_contributions."),
    "live_events": (_EVENTS, "Events with live readings, as mart.anomaly_events has them, each with its case."),
}


def publish_live(store: LiveStore, target: Path, memory_limit: str) -> None:
    """Write the live scores, contributions and events to a DuckDB file, in place of the one before."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        replacing(target) as fresh,
        duckdb.connect(config={"memory_limit": memory_limit}) as connection,
        store.session() as session,
    ):
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(
            f"ATTACH {quote_literal(str(fresh))} AS live (READ_WRITE, STORAGE_VERSION '{_STORAGE_VERSION}')"
        )
        connection.execute("BEGIN")
        connection.execute("CREATE SCHEMA live.mart")
        for table, (columns, about) in _TABLES.items():
            kinds = {name: "VARCHAR" if name == "reading_id" else kind for name, kind in columns.items()}
            named = ", ".join(f"{name} {kind}" for name, kind in kinds.items())
            connection.execute(f"CREATE TABLE live.mart.{table} ({named})")
            connection.execute(f"COMMENT ON TABLE live.mart.{table} IS {quote_literal(about)}")
        with session.snapshot():
            for table in ("live_scores", "live_contributions"):
                copy_rows(connection, session, table, f"live.mart.{table}", READING_ID)
            events = json.dumps(session.events(), ensure_ascii=False)
        connection.execute(
            f"INSERT INTO live.mart.live_events SELECT unnest(from_json(?, {_structure()}), max_depth := 2)", [events]
        )
        connection.execute("COMMIT")
        connection.execute("DETACH live")


def _structure() -> str:
    fields = {name: kind if not kind.endswith("[]") else [kind.removesuffix("[]")] for name, kind in _EVENTS.items()}
    return quote_literal(json.dumps([fields]))
