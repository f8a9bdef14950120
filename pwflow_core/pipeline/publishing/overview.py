"""The overview: what the sensors read, on the whole and in each regime, in a few numbers for people who ask in SQL."""

from __future__ import annotations

import hashlib

import duckdb
import pandas as pd

from pwflow_core.config import PlantConfig
from pwflow_core.pipeline.source.source import read_source
from pwflow_core.warehouse import insert_frame, quote_columns, read_sql, run_script
from pwflow_core.warehouse.days import find_fresh_days, remember_days
from pwflow_core.warehouse.progress import write_fact

__all__ = ["update_overview"]

_STEP = "overview"
_MOST_READINGS = 20_000
"""Readings of a regime that its profile is drawn from: a quantile of that many is right to a percent of the spread."""


def update_overview(connection: duckdb.DuckDBPyConnection, config: PlantConfig) -> None:
    """Replace `mart.sensors` and `mart.regime_profiles`, in the caller's transaction, by what the readings are now.

    Profiles leave out anomalies: they say what a regime is when nothing is wrong. Where no day changed since the last
    time, and the plant and its sensors are called the same, everything stays as it is.
    """
    sensors = read_source(connection).sensors
    given = repr((config.plant.name, config.schedule.timezone, sensors))
    fresh = find_fresh_days(connection, _STEP, hashlib.sha256(given.encode()).hexdigest())
    if not fresh.are_all and not fresh.days:
        return
    write_fact(connection, "plant.name", config.plant.name)
    write_fact(connection, "plant.timezone", config.schedule.timezone)
    named = pd.DataFrame(
        {
            "sensor": [sensor.name for sensor in sensors],
            "position": range(1, len(sensors) + 1),
            "unit": [sensor.unit for sensor in sensors],
            "low_limit": pd.array([sensor.low for sensor in sensors], dtype="Float64"),
            "high_limit": pd.array([sensor.high for sensor in sensors], dtype="Float64"),
        }
    )
    connection.execute("DELETE FROM mart.sensors")
    insert_frame(connection, "mart.sensors", named)
    columns = quote_columns(sensor.name for sensor in sensors)
    run_script(connection, read_sql(__package__, "overview.sql", sensors=columns), {"most": _MOST_READINGS})
    remember_days(connection, _STEP, fresh)
