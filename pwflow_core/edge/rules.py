"""The rules that turn values into what the models see: sensors, quality, features over time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Feature", "Limits", "Rules", "Sensor"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sensor:
    """One sensor: see `pipeline/source/source.py`; `hold_seconds` says how long its last value holds."""

    name: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    period: float | None = None
    cut: float = 0.0
    missing: tuple[float, ...] = ()
    hold_seconds: float | None = None
    state: bool = False


@dataclass(frozen=True)
class Feature:
    """One feature over time, see `pipeline/readings/features.py`; the sensor is its position among all."""

    sensor: int
    kind: str
    n_readings: int


@dataclass(frozen=True, eq=False)
class Limits:
    """When the sensors of a machine are stuck.

    Attributes:
        longest: Readings without a change from which on a sensor is stuck, inf for never, shape (S,).
        resting: Values at which it never is, NaN where there are fewer, shape (S, R).

    """

    longest: Array
    resting: Array


@dataclass(frozen=True, eq=False)
class Rules:
    """How values become what the models see.

    Attributes:
        sensors: The sensors, in order.
        features: The features over time, in order.
        columns: Positions of the columns of the models among the sensors and then the features.
        gap_seconds: A longer time without a reading is a gap.
        fill_readings: Gaps of at most this many readings are filled.
        fill_seconds: How old the value before may be; None for any age.
        max_missing: Most sensors that a judged reading may miss.
        limits: When the sensors are stuck, by machine.
        future_hours: How far ahead of the present a reading may be.

    """

    sensors: tuple[Sensor, ...]
    features: tuple[Feature, ...]
    columns: tuple[int, ...]
    gap_seconds: float
    fill_readings: int
    fill_seconds: float | None
    max_missing: int
    limits: Mapping[str, Limits]
    future_hours: float

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Rules:
        """Build from the part `readings` of the rules of a bundle."""
        sensors = tuple(Sensor(**{**sensor, "missing": tuple(sensor["missing"])}) for sensor in document["sensors"])
        names = [sensor.name for sensor in sensors]
        features = tuple(Feature(names.index(f["sensor"]), f["kind"], f["n_readings"]) for f in document["features"])
        every = [*names, *(f["name"] for f in document["features"])]
        limits: dict[str, Limits] = {}
        for machine, by_sensor in document["stuck"].items():
            width = max([1, *(len(known["resting"]) for known in by_sensor.values())])
            found = Limits(np.full(len(names), np.inf), np.full((len(names), width), np.nan))
            for sensor, known in by_sensor.items():
                place = names.index(sensor)
                found.longest[place] = known["max_readings"]
                found.resting[place, : len(known["resting"])] = known["resting"]
            limits[machine] = found
        return cls(
            sensors,
            features,
            tuple(every.index(column) for column in document["columns"]),
            document["gap_seconds"],
            document["fill_readings"],
            document["fill_seconds"],
            document["max_missing"],
            limits,
            document["future_hours"],
        )

    @property
    def states(self) -> tuple[int, ...]:
        """Positions of the sensors that are states."""
        return tuple(place for place, sensor in enumerate(self.sensors) if sensor.state)

    @property
    def reach(self) -> int:
        """How many readings before its own the longest feature looks back on."""
        return max((f.n_readings - (f.kind not in ("lag", "difference")) for f in self.features), default=0)
