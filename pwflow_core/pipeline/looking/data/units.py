"""Suspected units: a sensor whose level jumps by the factor between two units, between machines or in time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from statistics import median

from pwflow_core.pipeline.looking.data.levels import PeriodLevel

__all__ = ["UnitJump", "find_unit_jumps"]

_CONVERSIONS = (
    ("°C", "K", 1.0, 273.15), ("°C", "°F", 1.8, 32.0), ("bar", "kPa", 100.0, 0.0), ("bar", "mbar", 1000.0, 0.0),
    ("bar", "psi", 14.5038, 0.0), ("MPa", "bar", 10.0, 0.0), ("MPa", "kPa", 1000.0, 0.0), ("kPa", "Pa", 1000.0, 0.0),
    ("kPa", "hPa", 10.0, 0.0), ("psi", "kPa", 6.89476, 0.0), ("m³/h", "l/min", 16.6667, 0.0),
    ("m³/h", "l/h", 1000.0, 0.0), ("l/min", "l/h", 60.0, 0.0), ("l/s", "l/min", 60.0, 0.0), ("l/s", "m³/h", 3.6, 0.0),
    ("kW", "W", 1000.0, 0.0), ("MW", "kW", 1000.0, 0.0), ("Hz", "1/min", 60.0, 0.0), ("m/s", "km/h", 3.6, 0.0),
    ("m/s", "mm/s", 1000.0, 0.0), ("m", "mm", 1000.0, 0.0), ("in", "mm", 25.4, 0.0), ("1", "%", 100.0, 0.0),
    ("A", "mA", 1000.0, 0.0), ("V", "mV", 1000.0, 0.0), ("kg", "g", 1000.0, 0.0), ("t", "kg", 1000.0, 0.0),
    ("kg", "lb", 2.20462, 0.0), ("h", "min", 60.0, 0.0), ("s", "ms", 1000.0, 0.0), ("kWh", "Wh", 1000.0, 0.0),
)  # fmt: skip
"""Two units, and the factor and offset that make the second of the first."""
_SAME = {
    "L/min": "l/min",
    "m3/h": "m³/h",
    "degC": "°C",
    "C": "°C",
    "degF": "°F",
    "F": "°F",
    "rpm": "1/min",
    "U/min": "1/min",
}
_FEWEST = 20
_NEAR, _SPREAD_NEAR = 0.05, 0.35
_STEADY = 0.3
_TELLING = 9.0
"""A smaller factor is looked for only where the unit of the sensor is known: machines differ by such factors."""
_MOST_JUMPS = 3


@dataclass(frozen=True)
class UnitJump:
    """A level that is another one by the factor between two units.

    Attributes:
        sensor: The sensor.
        machine_id: Where it reads in another unit than before, or than the other machines.
        smaller: The unit of the smaller numbers, by what was found.
        larger: The unit of the larger numbers.
        since: When the level jumped, UTC; None if it is between machines.
        usual: Median before, or of the other machines.
        there: Median after, or of this machine.
    """

    sensor: str
    machine_id: str
    smaller: str
    larger: str
    since: datetime | None
    usual: float
    there: float


def find_unit_jumps(levels: Mapping[str, Sequence[PeriodLevel]], units: Mapping[str, str]) -> tuple[UnitJump, ...]:
    """Return the jumps of level that a change of the unit would make; at most one of each machine and sensor.

    Median and spread have to go together as the unit asks, and values before and after must not overlap.

    Arguments:
        levels: The levels of each sensor, by machine and time.
        units: The unit of each sensor; empty where it is not known.
    """
    found: list[UnitJump] = []
    for sensor, periods in levels.items():
        by_machine = {
            machine: [period for period in group if period.n >= _FEWEST]
            for machine, group in groupby(periods, lambda period: period.machine_id)
        }
        unit = _SAME.get(units.get(sensor, ""), units.get(sensor, ""))
        jumped = [jump for machine, own in by_machine.items() if (jump := _in_time(sensor, machine, own, unit))]
        found += jumped
        steady = {m: own for m, own in by_machine.items() if own and m not in {jump.machine_id for jump in jumped}}
        found += _between_machines(sensor, steady, unit)
    return tuple(found)


def _in_time(sensor: str, machine: str, periods: Sequence[PeriodLevel], unit: str) -> UnitJump | None:
    """Return the first jump of a machine that lasts; none if it goes back and forth, as a process does."""
    jumps: list[tuple[int, UnitJump]] = []
    for place in range(1, len(periods)):
        for back in (1, 2):  # the day on which it jumped may have both
            if back > place or (jumps and place - jumps[-1][0] <= 2):
                continue
            before, after = periods[place - back], periods[place]
            units = _conversion(before.levels, after.levels, unit, is_same_machine=True)
            lasts = place + 1 == len(periods) or _is_steady(after.levels, periods[place + 1].levels)
            lasted = place - back == 0 or _is_steady(periods[place - back - 1].levels, before.levels)
            if units and lasts and lasted:
                first = after.first if back == 1 else periods[place - 1].first
                usual, there = before.levels[2], after.levels[2]
                jumps.append((place, UnitJump(sensor, machine, *units, first, usual, there)))
    return jumps[0][1] if 1 <= len(jumps) <= _MOST_JUMPS else None


def _between_machines(sensor: str, by_machine: Mapping[str, Sequence[PeriodLevel]], unit: str) -> list[UnitJump]:
    """Return the machines that differ from the middle one by a unit."""
    if len(by_machine) < 2:
        return []
    whole = {
        machine: tuple(median(period.levels[i] for period in own) for i in range(5))
        for machine, own in by_machine.items()
    }
    ordered = sorted(whole, key=lambda machine: whole[machine][2])
    usual = whole[ordered[(len(ordered) - 1) // 2]]
    return [
        UnitJump(sensor, machine, *units, None, usual[2], whole[machine][2])
        for machine in whole
        if (units := _conversion(usual, whole[machine], unit, is_same_machine=False))
    ]


def _conversion(
    one: Sequence[float], other: Sequence[float], unit: str, *, is_same_machine: bool
) -> tuple[str, str] | None:
    """Return the two units that one level would be the other in, the one with the smaller numbers first."""
    low, high = sorted((one, other), key=lambda levels: abs(levels[2]))
    spreads = low[3] - low[1], high[3] - high[1]
    apart = low[4] < high[0] or high[4] < low[0]
    if not apart or min(spreads) <= 0:
        return None
    for smaller, larger, factor, offset in _CONVERSIONS:
        known = unit in (smaller, larger)
        if unit and any(unit in pair[:2] for pair in _CONVERSIONS) and not known:
            continue
        if not known and factor < _TELLING and (offset == 0 or not is_same_machine):
            continue
        expected = factor * low[2] + offset
        as_wide = abs(spreads[1] / spreads[0] / factor - 1) <= _SPREAD_NEAR
        if as_wide and abs(high[2] - expected) <= _NEAR * abs(expected):
            return smaller, larger
    return None


def _is_steady(one: Sequence[float], other: Sequence[float]) -> bool:
    return abs(one[2] - other[2]) <= _STEADY * max(abs(one[2]), abs(other[2]))
