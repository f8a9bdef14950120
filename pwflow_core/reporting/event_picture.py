"""The picture of one event, for a message: what the sensors that caused it read, and the anomaly score above them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pwflow_core.config import Language
from pwflow_core.pipeline.readings.timing import read_timing
from pwflow_core.pipeline.scoring.scores import alpha_in_force
from pwflow_core.pipeline.source.source import Sensor, read_source
from pwflow_core.plant import Plant
from pwflow_core.reporting.drawing.signals import Band, Signal, signals_png
from pwflow_core.reporting.event_facts import read_anomalies, read_traces
from pwflow_core.reporting.texts import Texts

__all__ = ["draw_event"]

_MOST_SIGNALS = 3
_WIDTH = 760


@dataclass(frozen=True)
class _Timing:
    sensors: tuple[Sensor, ...]
    interval_seconds: float


def draw_event(plant: Plant, event_id: str, language: Language) -> bytes | None:
    """Return the picture of an event of `mart.anomaly_events` as a PNG; None if it is not there any more."""
    with plant.warehouse.snapshot() as connection:
        event = connection.execute(
            "SELECT machine_id, started_at, ended_at, top_sensors FROM mart.anomaly_events WHERE event_id = ?",
            [event_id],
        ).fetchone()
        if event is None:
            return None
        machine, started, ended, sensors = event
        timing = read_timing(connection, plant.config)
        known = _Timing(tuple(read_source(connection).sensors), timing.interval_seconds if timing else float("nan"))
        score, traces = read_traces(connection, known, machine, started, ended, (sensors or [])[:_MOST_SIGNALS])
        anomalies = {sensor: read_anomalies(connection, machine, sensor, started, ended) for sensor in traces}
        alpha = alpha_in_force(connection)
    nothing = Band(np.empty(0, "datetime64[us]"), np.empty(0), np.empty(0))
    units = {sensor.name: sensor.unit for sensor in known.sensors}
    signals = [
        Signal(sensor, units.get(sensor, ""), trace, nothing, anomalies[sensor]) for sensor, trace in traces.items()
    ]
    threshold = float(-np.log10(alpha)) if alpha > 0 else float("nan")
    span = np.datetime64(started, "us"), np.datetime64(ended, "us")
    texts = Texts(language, timezone=plant.config.schedule.timezone)
    return signals_png(signals, score, threshold, span, _WIDTH, texts)
