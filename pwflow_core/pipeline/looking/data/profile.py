"""The profile of the readings in a warehouse: machines, sensors, and what was refused before they became readings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import duckdb

from pwflow_core.config import PlantConfig
from pwflow_core.pipeline.looking.data.machines import MachineProfile, draw_stretches, profile_machines
from pwflow_core.pipeline.looking.data.rejections import (
    Rejection,
    RepeatedRefusal,
    read_rejections,
    read_repeated_refusals,
)
from pwflow_core.pipeline.looking.data.sensors import SensorProfile, profile_sensors
from pwflow_core.pipeline.looking.data.units import UnitJump, find_unit_jumps
from pwflow_core.pipeline.readings.timing import read_timing
from pwflow_core.pipeline.source.source import Sensor, read_source
from pwflow_core.warehouse import fetch_value, quote_literal

__all__ = ["DataProfile", "profile_channels", "profile_data"]


@dataclass(frozen=True)
class DataProfile:
    """What the readings of a plant are like; times in UTC, days in the time zone of the plant.

    Attributes:
        n_files: Files of the source.
        refused_files: Files among them that cannot be read, with the reason.
        n_rows: Rows of the files that are read, and lines that are not rows.
        n_readings: Readings that were looked at.
        by_quality: Those readings by whether they can be judged.
        rejections: What was refused, by reason and sensor.
        repeated_refusals: Values that were refused again and again.
        machines: The machines.
        sensors: The sensors.
        unit_jumps: Levels that jump by the factor between two units.
    """

    n_files: int
    refused_files: dict[str, str]
    n_rows: int
    n_readings: int
    by_quality: dict[str, int]
    rejections: tuple[Rejection, ...]
    repeated_refusals: tuple[RepeatedRefusal, ...]
    machines: tuple[MachineProfile, ...]
    sensors: tuple[SensorProfile, ...]
    unit_jumps: tuple[UnitJump, ...]

    @property
    def n_refused_rows(self) -> int:
        """Whole rows that were refused."""
        return sum(row.n_values for row in self.rejections if row.sensor is None)


def profile_data(
    connection: duckdb.DuckDBPyConnection, config: PlantConfig, *, since: datetime | None = None
) -> DataProfile:
    """Return the profile of the readings.

    Everything is counted in DuckDB, one sensor after the other, so that the memory does not grow with the readings
    beyond what DuckDB may use.

    Arguments:
        connection: Open for reading.
        config: Of the plant.
        since: Look at readings from then on, UTC; at all where it is not given. What was refused is counted in full.
    """
    sensors = read_source(connection).sensors
    timing = read_timing(connection, config)
    by_quality = dict(
        connection.execute(
            f"SELECT quality, count(*) FROM {_readings(since)} GROUP BY quality ORDER BY quality"
        ).fetchall()
    )
    n_readings = sum(by_quality.values())
    interval_seconds = timing.interval_seconds if timing else None
    with _stretches(connection, _readings(since), sensors, n_readings, interval_seconds):
        gap_seconds = timing.gap_seconds if timing else float("inf")
        machines = profile_machines(connection, _readings(since), config.schedule.timezone, gap_seconds)
        found, levels = profile_sensors(connection, _readings(since), sensors, n_readings)
    refused = "SELECT path, reason FROM ingest.files WHERE superseded_in IS NULL AND status = 'refused' ORDER BY path"
    return DataProfile(
        fetch_value(connection, "SELECT count(*) FROM ingest.files WHERE superseded_in IS NULL"),
        dict(connection.execute(refused).fetchall()),
        fetch_value(connection, "SELECT coalesce(sum(n_rows), 0)::BIGINT FROM mart.source_files"),
        n_readings,
        by_quality,
        read_rejections(connection),
        read_repeated_refusals(connection),
        machines,
        found,
        find_unit_jumps(levels, {sensor.name: sensor.unit for sensor in sensors}),
    )


def profile_channels(
    connection: duckdb.DuckDBPyConnection, rows: str, sensors: Sequence[Sensor], interval_seconds: float | None
) -> tuple[SensorProfile, ...]:
    """Return what is known of channels alone.

    Arguments:
        connection: Open for reading.
        rows: Their values, by `machine_id` and `ts`, as a relation in SQL.
        sensors: The channels.
        interval_seconds: Usual time from one row of a machine to the next; None if it is not known.
    """
    n_rows = fetch_value(connection, f"SELECT count(*) FROM {rows}")
    with _stretches(connection, rows, sensors, n_rows, interval_seconds):
        return profile_sensors(connection, rows, sensors, n_rows)[0]


def _readings(since: datetime | None) -> str:
    """Return the readings from a time on as a relation in SQL."""
    from_then = "" if since is None else f" WHERE ts >= {quote_literal(since.isoformat(sep=' '))}::TIMESTAMP"
    return f"(SELECT * FROM core.readings{from_then})"


@contextmanager
def _stretches(
    connection: duckdb.DuckDBPyConnection,
    readings: str,
    sensors: Sequence[Sensor],
    n_readings: int,
    interval_seconds: float | None,
) -> Iterator[None]:
    draw_stretches(connection, readings, [sensor.name for sensor in sensors], n_readings, interval_seconds)
    try:
        yield
    finally:
        connection.execute("DROP TABLE IF EXISTS stretches")
