"""The sentences of verdicts: what happened, with numbers and units, for people who own the machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pwflow_core.errors import list_few
from pwflow_core.modelling.drift.mix import MixShift
from pwflow_core.modelling.drift.shift import ImprobablePart, Shift
from pwflow_core.modelling.drift.units import Conversion

__all__ = [
    "SensorName",
    "change_of_unit",
    "common_sensor",
    "improbable_sensor",
    "machine_moved",
    "mix_moved",
    "new_regime",
    "outage",
    "regime_moved",
]

Array = NDArray[np.float64]

_MOST_NAMED = 3


@dataclass(frozen=True)
class SensorName:
    """A sensor as people know it."""

    name: str
    unit: str = ""


def regime_moved(
    key: str, shift: Shift, sensors: Sequence[SensorName], named: Sequence[str], machines: Sequence[str]
) -> str:
    """Say how a regime moved on all of its machines."""
    what = _what_moved(shift.raw, shift.sensors.size, sensors, named) or (
        f"its sensors no longer go together as it learned ({_number(shift.effect)} standard deviations)"
    )
    return f"Regime {key} moved: {what}{_on(machines)}, since {day(shift.since)}."


def machine_moved(
    keys: Sequence[str],
    shift: Shift,
    sensors: Sequence[SensorName],
    named: Sequence[str],
    machines: Sequence[str],
    *,
    is_beyond: bool,
) -> str:
    """Say that some machines moved and others did not, or one sensor against all others.

    Where it is beyond a move that all machines made, the others did not hold still.
    """
    rows = [i for i, machine in enumerate(shift.machines) if machine in machines]
    size = shift.machine_sensors.size[rows].mean(axis=0) if rows else shift.sensors.size
    unit = np.where(shift.sensors.size != 0, shift.raw / np.where(shift.sensors.size != 0, shift.sensors.size, 1), 0.0)
    what = _what_moved(size * unit, size, sensors, named) or "the sensors no longer go together as learned"
    still = [machine for machine in shift.machines if machine not in machines]
    hold = "did not move that far" if is_beyond else f"{_hold(still)} still"
    rest = f"; {_list(still)} {hold}" if still else ", while all other sensors hold still"
    return f"{_list(machines)} moved in {_regimes(keys)}: {what}, since {day(shift.since)}{rest}."


def common_sensor(
    sensor: SensorName, raw: float, size: float, n_clusters: int, machines: Sequence[str], since: int
) -> str:
    """Say that one sensor moved in all regimes, with the median shift."""
    return (
        f"{sensor.name} reads {_amount(raw, sensor.unit)} ({_number(size)} standard deviations) {_direction(raw)} "
        f"than learned in all {n_clusters} regimes that can be judged{_on(machines)}, since {day(since)}: "
        f"suspect the sensor, or what all regimes share, such as the weather."
    )


def change_of_unit(sensor: SensorName, conversion: Conversion, machines: Sequence[str], since: int) -> str:
    """Say that a sensor reads in another unit."""
    how = f"{_number(conversion.factor)} times what it did" if not conversion.offset else "on another scale"
    return f"{sensor.name} reads {how}{_on(machines)}, since {day(since)}: {conversion.describe(sensor.unit)}."


def improbable_sensor(
    sensor: SensorName, part: ImprobablePart, keys: Sequence[str], machines: Sequence[str], since: int
) -> str:
    """Say that readings are improbable because of one sensor."""
    return (
        f"{_percent(part.share)} of the readings of {_regimes(keys)} are improbable because of {sensor.name} alone"
        f"{_on(machines)}, since {day(since)}: the sensor is suspected."
    )


def new_regime(
    part: ImprobablePart, keys: Sequence[str], machines: Sequence[str], named: Sequence[str], since: int
) -> str:
    """Say that readings fit no regime but each other."""
    by = f", by {_list(list(named)[:_MOST_NAMED])}" if named else ""
    return (
        f"{_percent(part.share)} of the readings given to {_regimes(keys)} are improbable there{by}{_on(machines)}, "
        f"on {part.n_nights} days since {day(since)}, while its other readings are as before: "
        f"a new regime, or a fault."
    )


def mix_moved(segment: str, keys: Sequence[str], shift: MixShift) -> str:
    """Say which regimes became more and less frequent."""
    change = shift.after - shift.before
    more, less = int(change.argmax()), int(change.argmin())
    of = f" of {segment}" if segment else ""
    return (
        f"The mix{of} changed: regime {keys[more]} has {_percent(shift.after[more])} of the readings instead of "
        f"{_percent(shift.before[more])}, {keys[less]} {_percent(shift.after[less])} instead of "
        f"{_percent(shift.before[less])}, since {day(shift.since)}; no regime moved."
    )


def outage(machine: str, n_readings: int, n_judged: int, usual: int, since: int) -> str:
    """Say what is missing."""
    if n_readings == 0:
        return f"{machine} sent no readings of the usual {usual:,} or more a day, since {day(since)}."
    return (
        f"{machine} sent {n_readings:,} readings, of which {n_judged:,} could be judged, "
        f"of the usual {usual:,} or more a day, since {day(since)}."
    )


def day(night: int) -> str:
    """Write a night as a date."""
    return str(np.datetime64(night, "D"))


def _what_moved(raw: Array, size: Array, sensors: Sequence[SensorName], named: Sequence[str]) -> str:
    places = {sensor.name: i for i, sensor in enumerate(sensors)}
    parts: list[str] = []
    for name in named:
        i = places[name]
        amount = f"{_amount(float(raw[i]), sensors[i].unit)} ({_number(abs(float(size[i])))} standard deviations)"
        parts.append(
            f"{name} reads {amount} {_direction(float(raw[i]))} than it learned"
            if not parts
            else f"{name} {amount} {_direction(float(raw[i]))}"
        )
    return list_few(parts, _MOST_NAMED)


def _direction(raw: float) -> str:
    return "higher" if raw > 0 else "lower"


def _hold(machines: Sequence[str]) -> str:
    return "holds" if len(machines) == 1 else "hold"


def _amount(raw: float, unit: str) -> str:
    return f"{_number(abs(raw))} {unit}".strip()


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2g}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%" if share >= 0.1 else f"{100 * share:.1f}%"


def _regimes(keys: Sequence[str]) -> str:
    return f"regime {keys[0]}" if len(keys) == 1 else f"regimes {_list(keys)}"


def _on(machines: Sequence[str]) -> str:
    return f", on {_list(machines)}" if machines else ""


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
