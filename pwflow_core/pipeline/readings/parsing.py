"""Rows as they arrived, with their time in UTC: read or refused, also where clocks change or run ahead.

How a text becomes a time is in `pwflow_core/spelling`; what else a row needs to be a reading is in `deriving`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

import duckdb

from pwflow_core.pipeline.source.source import Source
from pwflow_core.spelling import InstantSpelling, read_zones
from pwflow_core.spelling.clocks import find_clock_changes
from pwflow_core.warehouse import fetch_value, read_sql, run_script

__all__ = ["parse_rows"]

_READING_ID = "(md5_number_lower(machine_id || chr(0) || epoch_us({instant})::VARCHAR) >> 1)::BIGINT"
_NO_VALUES: Mapping[str, object] = {}
_WAS_REMOVED = """
    instant < (SELECT max(ended_at) FROM mart.removed_nights) AND EXISTS (
        FROM mart.removed_nights AS removed
        WHERE removed.machine_id = parsed.machine_id
          AND parsed.instant >= removed.started_at AND parsed.instant < removed.ended_at
    )
"""
_FRESH = "ingest.raw_readings WHERE file_id IN (SELECT file_id FROM fresh_files)"


def parse_rows(connection: duckdb.DuckDBPyConnection, source: Source, now: datetime) -> InstantSpelling:
    """Make the temporary tables `parsed` and `row_reasons` of the rows of the fresh files; return how times are read.

    Takes back what was made of files that are gone, see parsing.sql.
    """
    run_script(connection, read_sql(__package__, "parsing.sql"))
    spelling = InstantSpelling(source.timestamp_format, source.timezone)
    spelling = replace(spelling, zones=read_zones(connection, f"(SELECT ts FROM {_FRESH})", "ts", spelling))
    connection.execute(
        f"""
        CREATE TEMP TABLE parsed AS
        SELECT *, {_READING_ID.format(instant="instant")} AS reading_id
        FROM (
            SELECT
                * EXCLUDE (written),
                CASE
                    WHEN written BETWEEN TIMESTAMP '0001-01-01' AND TIMESTAMP '9999-12-31 23:59:59' THEN written
                END AS instant
            FROM (
                SELECT
                    * EXCLUDE (ts, machine_id),
                    ts AS ts_text,
                    nullif(trim(machine_id), '') AS machine_id,
                    try({spelling.instant("ts")}) AS written
                FROM {_FRESH}
            )
        )
        """
    )
    connection.execute("CREATE TEMP TABLE row_reasons (file_id BIGINT, row_number BIGINT, reason VARCHAR)")
    _settle_clock_changes(connection, spelling)
    _refuse(connection, "future_timestamp", "instant > $latest", {"latest": now + timedelta(hours=source.future_hours)})
    _refuse(connection, "beyond_retention", _WAS_REMOVED)
    return spelling


def _settle_clock_changes(connection: duckdb.DuckDBPyConnection, spelling: InstantSpelling) -> None:
    zones = {zone for zone in (spelling.timezone, *spelling.zones.values()) if isinstance(zone, str)} - {"UTC"}
    times = connection.execute("SELECT min(instant), max(instant) FROM parsed").fetchone()
    if not zones or times is None or times[0] is None:
        return
    changes = [change for zone in sorted(zones) for change in find_clock_changes(connection, zone, *times)]
    if not changes:
        return
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE clock_changes "
        "(zone VARCHAR, changed_at TIMESTAMP, first TIMESTAMP, last TIMESTAMP, before BIGINT, after BIGINT)"
    )
    connection.executemany(
        "INSERT INTO clock_changes VALUES (?, ?, ?, ?, ?, ?)",
        [[c.zone, c.at, c.first, c.last, c.before, c.after] for c in changes],
    )
    script = read_sql(
        __package__,
        "clock_changes.sql",
        zone=spelling.zone("ts_text"),
        wall=spelling.wall("ts_text"),
        reading_id=_READING_ID.format(instant="clock_rows.instant"),
    )
    run_script(connection, script)


def _refuse(
    connection: duckdb.DuckDBPyConnection, reason: str, test: str, values: Mapping[str, object] = _NO_VALUES
) -> None:
    """Refuse the rows that pass a test for a reason: their time can be read, but not used."""
    if not fetch_value(connection, f"SELECT count(*) FROM parsed WHERE {test}", values):
        return
    connection.execute(
        f"INSERT INTO row_reasons SELECT file_id, row_number, '{reason}' FROM parsed WHERE {test}", values
    )
    connection.execute(f"UPDATE parsed SET instant = NULL, reading_id = NULL WHERE {test}", values)
