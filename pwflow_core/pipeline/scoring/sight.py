"""Sight: what the regimes in use see, as `detectability` found it. Nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

import duckdb

__all__ = ["SensorSight", "blind_sensors", "read_sight"]


@dataclass(frozen=True)
class SensorSight:
    """What a regime sees of a sensor.

    Attributes:
        cluster_key: The regime.
        flow_version: Its flow.
        sensor: The sensor.
        unit: Its unit.
        n_readings: Held-out readings that were probed with.
        alpha: The false-alarm rate per reading.
        min_readings: Anomalies in a row that are an event.
        spread: Its standard deviation in the regime, raw units; None if the regime has too few readings to be probed.
        shift: Smallest lasting shift that alarms with 90% probability, raw units; None if none does.
        shift_sigma: The same over the spread; None likewise, or where the sensor is constant.
        spike: Smallest spike that alarms with 90% probability, raw units; None if none does.
        spike_sigma: The same over the spread.
        is_blind: Whether some lasting shifts of ten times the spread or more raise no alarm.
        reason: Why: few_readings, other_regime, unjudged_regime or calibration; None where it is not blind.
        hidden_by: Regime that shifted readings are taken for; None where it is their own, or that does not matter.
    """

    cluster_key: str
    flow_version: str
    sensor: str
    unit: str
    n_readings: int
    alpha: float
    min_readings: int
    spread: float | None = None
    shift: float | None = None
    shift_sigma: float | None = None
    spike: float | None = None
    spike_sigma: float | None = None
    is_blind: bool = True
    reason: str | None = "few_readings"
    hidden_by: str | None = None


def read_sight(connection: duckdb.DuckDBPyConnection) -> list[SensorSight]:
    """Return what every regime in use sees of every sensor, by regime and sensor."""
    names = ", ".join(field.name for field in fields(SensorSight))
    rows = connection.execute(f"SELECT {names} FROM mart.detectability ORDER BY cluster_key, sensor").fetchall()
    return [SensorSight(*row) for row in rows]


def blind_sensors(sight: Iterable[SensorSight]) -> dict[str, list[SensorSight]]:
    """Return what is blind, by regime."""
    blind: dict[str, list[SensorSight]] = {}
    for of_sensor in sight:
        if of_sensor.is_blind:
            blind.setdefault(of_sensor.cluster_key, []).append(of_sensor)
    return blind
