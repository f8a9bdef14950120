"""Time between readings: the usual interval of a plant, the gap that nothing reaches across, what a change touches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import duckdb

from pwflow_core.config import PlantConfig
from pwflow_core.errors import NotFittedError
from pwflow_core.warehouse import fetch_value, read_sql, run_script
from pwflow_core.warehouse.progress import read_fact, write_fact

__all__ = [
    "BLOCK_READINGS",
    "Timing",
    "Touched",
    "pin_interval",
    "read_block_seconds",
    "read_timing",
    "touched_chunks",
]

_BLOCK_FACT = "block_seconds"
BLOCK_READINGS = 32
_GAP_INTERVALS = 5
_ROWS_PER_CHUNK = 200_000
"""Windows over wide rows take much memory; what they need is cut by machine and time."""
_BYTES_PER_VALUE = 1024
"""Memory that the windows over one value may take, which DuckDB does not spill; 570 were measured."""


@dataclass(frozen=True)
class Timing:
    """How far apart the readings of a machine usually are.

    Attributes:
        interval_seconds: The usual time from one reading to the next.
        gap_seconds: A longer time without a reading is a gap.
    """

    interval_seconds: float
    gap_seconds: float


@dataclass(frozen=True)
class Touched:
    """Some of the readings that a change touches, as queries on `core.readings`.

    Attributes:
        readings: The readings themselves.
        with_context: The same, with the earlier ones that they depend on.
    """

    readings: str
    with_context: str


def pin_interval(connection: duckdb.DuckDBPyConnection) -> float:
    """Settle the usual interval from the first readings, and with it the time blocks that the folds are made of.

    Returns:
        The length of a block in seconds; infinite as long as no machine has two readings.
    """
    if (known := read_fact(connection, _BLOCK_FACT)) is not None:
        return float(known)
    gap = fetch_value(
        connection,
        """
        SELECT median(gap) FROM (
            SELECT epoch(ts - lag(ts) OVER (PARTITION BY machine_id ORDER BY ts)) AS gap
            FROM (SELECT machine_id, ts FROM accepted ORDER BY machine_id, ts LIMIT 200000)
        ) WHERE gap > 0
        """,
    )
    if not gap:
        return float("inf")
    block_seconds = max(float(gap) * BLOCK_READINGS, 1e-3)
    write_fact(connection, _BLOCK_FACT, repr(block_seconds))
    return block_seconds


def read_block_seconds(connection: duckdb.DuckDBPyConnection) -> float:
    """Return how long the time blocks are that the folds are made of.

    Raises:
        NotFittedError: No machine has two readings yet.
    """
    block_seconds = read_fact(connection, _BLOCK_FACT)
    if block_seconds is None:
        raise NotFittedError(
            "Expected two readings of some machine, got one of each: name another column with source.machine, or "
            "wait for more readings."
        )
    return float(block_seconds)


def read_timing(connection: duckdb.DuckDBPyConnection, config: PlantConfig) -> Timing | None:
    """Return the timing of the plant; None while no machine has two readings."""
    block_seconds = read_fact(connection, _BLOCK_FACT)
    if block_seconds is None:
        return None
    interval = float(block_seconds) / BLOCK_READINGS
    return Timing(interval, config.features.gap_seconds or _GAP_INTERVALS * interval)


def touched_chunks(
    connection: duckdb.DuckDBPyConnection, config: PlantConfig, reach_seconds: float, n_columns: int
) -> Iterator[Touched]:
    """Cut the readings that a change of those in `changed` (reading_id, machine_id, ts) can touch into chunks.

    Arguments:
        connection: An open transaction.
        config: Of the plant.
        reach_seconds: The longest reach of anything that is computed from earlier readings.
        n_columns: How many columns are looked at: a chunk of many has fewer readings, so that it fits the memory limit.
    """
    seconds = max(reach_seconds, 1e-3)
    affordable = config.compute.memory_bytes // (_BYTES_PER_VALUE * n_columns)
    rows_per_chunk = max(1, min(_ROWS_PER_CHUNK, affordable))
    values = {"reach_seconds": seconds, "rows_per_chunk": rows_per_chunk}
    run_script(connection, read_sql(__package__, "timing.sql"), values)
    spans = connection.execute(
        "SELECT chunk, min(bucket), max(bucket) FROM touched_buckets GROUP BY chunk ORDER BY chunk"
    ).fetchall()
    for chunk, first, last in spans:
        yield Touched(*(_select_chunk(chunk, first - before, last, before, seconds) for before in (0, 1)))


def _select_chunk(chunk: int, first: float, last: float, before: int, seconds: float) -> str:
    """Return the query of the readings in the buckets of a chunk, and in those up to `before` buckets earlier."""
    return f"""
        SELECT reading.* FROM core.readings AS reading
        SEMI JOIN (
            SELECT machine_id, bucket - shift AS bucket
            FROM touched_buckets
            CROSS JOIN range({before + 1:d}) AS shifts (shift)
            WHERE chunk = {chunk:d}
        ) AS near ON reading.machine_id = near.machine_id AND floor(epoch(reading.ts) / {seconds!r}) = near.bucket
        WHERE epoch(reading.ts) BETWEEN {(first - 1) * seconds!r} AND {(last + 2) * seconds!r}
    """
