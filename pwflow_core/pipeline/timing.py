"""Time between readings: the usual interval of a plant, the gap that nothing reaches across, what a change touches."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from pwflow_core.config import PlantConfig
from pwflow_core.pipeline.progress import read_fact, write_fact

__all__ = ["BLOCK_FACT", "Timing", "pin_interval", "read_timing", "select_touched"]

BLOCK_FACT = "block_seconds"
_BLOCK_READINGS = 32
_GAP_INTERVALS = 5


@dataclass(frozen=True)
class Timing:
    """How far apart the readings of a machine usually are.

    Attributes:
        interval_seconds: The usual time from one reading to the next.
        gap_seconds: A longer time without a reading is a gap.
    """

    interval_seconds: float
    gap_seconds: float


def pin_interval(connection: duckdb.DuckDBPyConnection) -> None:
    """Settle the usual interval from the first readings, and with it the time blocks that the folds are made of."""
    if read_fact(connection, BLOCK_FACT) is not None:
        return
    row = connection.execute(
        """
        SELECT median(gap) FROM (
            SELECT epoch(ts - lag(ts) OVER (PARTITION BY machine_id ORDER BY ts)) AS gap
            FROM (SELECT machine_id, ts FROM accepted ORDER BY machine_id, ts LIMIT 200000)
        ) WHERE gap > 0
        """
    ).fetchone()
    if row and row[0]:
        write_fact(connection, BLOCK_FACT, repr(max(float(row[0]) * _BLOCK_READINGS, 1e-3)))


def read_timing(connection: duckdb.DuckDBPyConnection, config: PlantConfig) -> Timing | None:
    """Return the timing of the plant; None while no machine has two readings."""
    block_seconds = read_fact(connection, BLOCK_FACT)
    if block_seconds is None:
        return None
    interval = float(block_seconds) / _BLOCK_READINGS
    return Timing(interval, config.features.gap_seconds or _GAP_INTERVALS * interval)


def select_touched(reach_seconds: float, *, is_context: bool) -> str:
    """Return the query of the readings that a change of those in `changed` (reading_id, machine_id, ts) can touch.

    A change reaches forward over at most `reach_seconds`. Time is cut into buckets of that length, so that what
    follows a change lies in its bucket or the next, and what that depends on starts one bucket earlier.

    Arguments:
        reach_seconds: The longest reach of anything that is computed from earlier readings.
        is_context: Whether to take the bucket before too, that the computation needs to look back on.
    """
    bucket = f"floor(epoch({{}}) / {max(reach_seconds, 1e-3)!r})"
    shifts = "(0), (1), (-1)" if is_context else "(0), (1)"
    return f"""
        SELECT reading.* FROM core.readings AS reading
        SEMI JOIN (
            SELECT DISTINCT machine_id, {bucket.format("ts")} + shift AS bucket
            FROM changed
            CROSS JOIN (VALUES {shifts}) AS shifts (shift)
        ) AS near ON reading.machine_id = near.machine_id AND {bucket.format("reading.ts")} = near.bucket
    """
