"""Coarseness: sensors that come in larger steps than those that the models learned from.

Models learn relations between sensors as finely as their readings tell them. Where an export suddenly has fewer
decimals, rounding alone moves readings out of such a relation, and they alarm.
"""

from __future__ import annotations

from dataclasses import dataclass

import duckdb
import numpy as np
from numpy.typing import NDArray

from pwflow_core.modelling.alarms.resolution import Resolution, step_of
from pwflow_core.pipeline.readings.training_rows import LARGEST_READING_ID
from pwflow_core.pipeline.source.source import read_source
from pwflow_core.warehouse import quote_columns, read_sql
from pwflow_core.warehouse.streaming import fetch_matrix

__all__ = ["CoarserSensor", "find_coarser"]

_MOST_READINGS = 20_000
_FEWEST_VALUES = 20
"""With fewer values of a machine, such as those of one that stood still, a step says nothing."""


@dataclass(frozen=True)
class CoarserSensor:
    """A sensor of a machine that comes in larger steps than were learned from.

    Attributes:
        machine_id: The machine.
        sensor: The sensor.
        unit: Its unit.
        step: Its step in the readings that the last run scored.
        learned: Its step in the readings that were learned from; 0 if they are finer than can be told.
    """

    machine_id: str
    sensor: str
    unit: str
    step: float
    learned: float


def find_coarser(connection: duckdb.DuckDBPyConnection) -> list[CoarserSensor]:
    """Compare what the last run scored, as far as nothing learned from it, with what was learned from.

    At most 20,000 readings of each are looked at, and no machine that had fewer than 20 values of the sensor.
    """
    sensors = read_source(connection).sensors
    names = [sensor.name for sensor in sensors]
    learned, _ = _fetch(connection, names, "NOT is_new")
    fresh, others = _fetch(connection, names, "is_new")
    if not len(learned) or not len(fresh):
        return []
    machines = np.asarray(others["machine_id"])
    found = []
    for place, sensor in enumerate(sensors):
        if sensor.state:
            continue
        before = _seen(learned[:, place])
        if len(before) < _FEWEST_VALUES:
            continue
        resolution = Resolution.fit(before[:, None])
        for machine in np.unique(machines):
            values = _seen(fresh[machines == machine, place])
            if len(np.unique(values)) >= _FEWEST_VALUES and resolution.coarser(values[:, None])[0]:
                steps = (step_of(values), float(resolution.step[0]))
                found.append(CoarserSensor(str(machine), sensor.name, sensor.unit, *steps))
    return found


def _seen(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values[np.isfinite(values)]


def _fetch(
    connection: duckdb.DuckDBPyConnection, sensors: list[str], condition: str
) -> tuple[NDArray[np.float64], dict[str, NDArray[np.generic]]]:
    """Fetch readings in the order of machine and time; of more than enough a fixed sample."""
    query = read_sql(__package__, "coarseness.sql", condition=condition, columns=quote_columns(sensors, "reading."))
    values = {"most": _MOST_READINGS, "largest": LARGEST_READING_ID}
    return fetch_matrix(connection, query, values, sensors)
