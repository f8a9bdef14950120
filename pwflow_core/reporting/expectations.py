"""What the models in use expect of the sensors around an event, given the other sensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from pwflow_core.pipeline.readings.features import features_by_sensor
from pwflow_core.pipeline.regimes.model import ClusterModel
from pwflow_core.reporting.drawing.signals import Band
from pwflow_core.reporting.event_facts import EventReadings

if TYPE_CHECKING:
    from pwflow_core.modelling import ClusterFlow, SensorAttributor

__all__ = ["Expectations"]


class Expectations:
    """The expected band of each sensor, by the regimes in use.

    Arguments:
        model: The regimes.
        flows: Their flows, by cluster key; those that there are.
        sensors: Names of the sensors.
    """

    def __init__(self, model: ClusterModel, flows: Mapping[str, ClusterFlow], sensors: list[str]) -> None:
        self._model, self._flows = model, flows
        self._groups = features_by_sensor(model.columns, sensors)
        self._attributors: dict[str, SensorAttributor | None] = {}

    def bands(self, readings: EventReadings) -> dict[str, Band]:
        """Return between which values each sensor should have read, by sensor: one reading in ten lies outside."""
        shape = (len(readings.X), len(self._groups))
        low, high = np.full(shape, np.nan), np.full(shape, np.nan)
        X = readings.winners.see(readings.X)
        for segment in dict.fromkeys(readings.segments.tolist()):
            rows = np.flatnonzero(readings.segments == segment)
            attributor = self._attributor(segment)
            if attributor is not None:
                found = attributor.attribute(X[rows])
                low[rows], high[rows] = found.low, found.high
        own = np.array([group[0] for group in self._groups.values()], dtype=np.intp)
        low, high = (readings.winners.tell_values(values, own) for values in (low, high))
        return {
            sensor: Band(readings.times, low[:, place], high[:, place]) for place, sensor in enumerate(self._groups)
        }

    def _attributor(self, segment: str) -> SensorAttributor | None:
        from pwflow_core.modelling import SensorAttributor

        if segment not in self._attributors:
            part = next((part for part in self._model.segments if part.segment == segment), None)
            keys = [key for key in part.keys if key in self._flows] if part else []
            if part is None or not keys:
                self._attributors[segment] = None
            else:
                weights = np.array([part.seeds.weights[part.keys.index(key)] for key in keys])
                flows = [self._flows[key] for key in keys]
                self._attributors[segment] = SensorAttributor(weights, flows, list(self._groups.values()))
        return self._attributors[segment]
