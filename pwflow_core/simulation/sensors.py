"""What the plant measures: names, units, physical limits and instrument resolutions.

Only the table lives here. How the values come about is in `physics.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SENSORS", "SENSOR_INDEX", "SENSOR_NAMES", "Sensor"]


@dataclass(frozen=True)
class Sensor:
    """One instrument of a machine.

    Attributes:
        name: Column name in the exports.
        unit: Unit of the values and of the limits.
        low: Lowest value that is physically possible.
        high: Highest value that is physically possible.
        resolution: Step of the historian, well below the noise at standstill.
        description: What is measured, for people.
    """

    name: str
    unit: str
    low: float
    high: float
    resolution: float
    description: str


SENSORS = (
    Sensor("spindle_speed", "rpm", -50.0, 14000.0, 0.1, "Speed feedback of the spindle drive"),
    Sensor("feed_rate", "mm/min", -50.0, 6000.0, 0.1, "Path feed of the table, zero when not cutting"),
    Sensor("spindle_current", "A", 0.0, 60.0, 0.001, "Phase current of the spindle motor"),
    Sensor("vibration_rms", "mm/s", 0.0, 25.0, 0.001, "Vibration velocity at the front bearing, RMS"),
    Sensor("bearing_temperature", "°C", -10.0, 110.0, 0.01, "Outer ring of the front spindle bearing"),
    Sensor("coolant_temperature", "°C", 0.0, 60.0, 0.01, "Coolant in the tank, behind the cooler"),
    Sensor("coolant_flow", "l/min", -1.0, 60.0, 0.001, "Coolant through the spindle nozzle"),
    Sensor("coolant_pressure", "bar", 0.0, 40.0, 0.001, "Coolant before the spindle nozzle"),
)
SENSOR_NAMES = tuple(sensor.name for sensor in SENSORS)
SENSOR_INDEX = {name: index for index, name in enumerate(SENSOR_NAMES)}
