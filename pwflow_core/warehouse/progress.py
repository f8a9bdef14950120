"""How far each step has come, kept in the warehouse so that a step does only what is missing."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from pwflow_core.warehouse.sql import fetch_value

__all__ = ["ASSIGN_STEP", "Progress", "read_fact", "read_progress", "write_fact", "write_progress"]

ASSIGN_STEP = "assign"


@dataclass(frozen=True)
class Progress:
    """What a step has done for one cluster (or, with an empty key, for the plant).

    Attributes:
        model: The model that it worked with.
        batch_id: The last batch that it has seen; 0 if none.
    """

    model: str = ""
    batch_id: int = 0


def read_progress(connection: duckdb.DuckDBPyConnection, step: str, cluster_key: str = "") -> Progress:
    """Return how far a step has come."""
    row = connection.execute(
        "SELECT model, batch_id FROM core.progress WHERE step = ? AND cluster_key = ?", [step, cluster_key]
    ).fetchone()
    return Progress(*row) if row else Progress()


def write_progress(connection: duckdb.DuckDBPyConnection, step: str, progress: Progress, cluster_key: str = "") -> None:
    """Record how far a step has come, in the caller's transaction."""
    connection.execute("DELETE FROM core.progress WHERE step = ? AND cluster_key = ?", [step, cluster_key])
    connection.execute(
        "INSERT INTO core.progress (step, cluster_key, model, batch_id) VALUES (?, ?, ?, ?)",
        [step, cluster_key, progress.model, progress.batch_id],
    )


def read_fact(connection: duckdb.DuckDBPyConnection, fact: str) -> str | None:
    """Return something about the plant that was settled by an earlier run."""
    value: str | None = fetch_value(connection, "SELECT value FROM core.plant_facts WHERE fact = ?", [fact])
    return value


def write_fact(connection: duckdb.DuckDBPyConnection, fact: str, value: str) -> None:
    """Settle something about the plant for later runs."""
    connection.execute("DELETE FROM core.plant_facts WHERE fact = ?", [fact])
    connection.execute("INSERT INTO core.plant_facts (fact, value) VALUES (?, ?)", [fact, value])
