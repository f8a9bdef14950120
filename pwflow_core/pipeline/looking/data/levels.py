"""Where the values of a sensor lie: on the whole, and by machine and period of time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import duckdb

from pwflow_core.warehouse import quote_identifier, read_sql

__all__ = ["PeriodLevel", "SensorLevels", "read_levels"]

_MOST_PERIODS = 120
_COUNTED_EXACTLY = 50_000_000
"""A median keeps all its values: of more than these it is estimated."""


@dataclass(frozen=True)
class PeriodLevel:
    """The values of one sensor of one machine in one period of time.

    Attributes:
        machine_id: The machine.
        n: Values.
        first: Time of the first, UTC.
        levels: Quantiles 1%, 25%, 50%, 75% and 99%.
    """

    machine_id: str
    n: int
    first: datetime
    levels: tuple[float, ...]


@dataclass(frozen=True)
class SensorLevels:
    """All values of a sensor: quartiles in `middle`, and the `periods` in order of machine and time."""

    middle: tuple[float, float, float]
    periods: list[PeriodLevel]


def read_levels(connection: duckdb.DuckDBPyConnection, readings: str, sensor: str) -> SensorLevels:
    """Return where the values of a sensor lie; one sensor at a time, as its values have to fit the memory.

    Arguments:
        connection: Open for reading.
        readings: The readings, as a relation in SQL.
        sensor: A sensor with at least one value.
    """
    column = quote_identifier(sensor)
    rows = connection.execute(
        read_sql(__package__, "levels.sql", readings=readings, sensor=column), {"most": _MOST_PERIODS}
    ).fetchall()
    periods = [PeriodLevel(machine, n, first, tuple(levels)) for machine, _, n, first, levels in rows]
    quantile = "quantile_cont" if sum(period.n for period in periods) <= _COUNTED_EXACTLY else "approx_quantile"
    [[middle]] = connection.execute(f"SELECT {quantile}({column}, [0.25, 0.5, 0.75]) FROM {readings}").fetchall()
    return SensorLevels((middle[0], middle[1], middle[2]), periods)
