"""What goes wrong: a plan of labelled faults, and what each does to the readings of its sensors.

The plan is drawn in blocks of ten days, and a machine has at most one fault on a day, so faults of one
machine never overlap and the plan of a day does not depend on how many days are simulated.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pwflow_core.simulation._random import Stream, generator
from pwflow_core.simulation.production import (
    MACHINES,
    MINUTES_PER_DAY,
    REGIME_NAMES,
    REGIMES_PER_RECIPE,
    ROUGHING,
    Timeline,
    machine_day_timeline,
)
from pwflow_core.simulation.sensors import SENSOR_INDEX, SENSOR_NAMES

__all__ = ["FAULT_KINDS", "Fault", "FaultKind", "apply_fault", "plan_faults"]

FaultKind = Literal["spike", "stuck_sensor", "sensor_drift", "correlation_loss", "wrong_regime"]
FAULT_KINDS: tuple[FaultKind, ...] = (
    "spike",
    "stuck_sensor",
    "sensor_drift",
    "correlation_loss",
    "wrong_regime",
)

_BLOCK_DAYS = 10
_QUIET_BLOCKS = 2  # a young plant has few faults, so that there is something healthy to learn from
_QUIET_PLAN: dict[FaultKind, int] = {"spike": 2, "stuck_sensor": 1, "correlation_loss": 1, "wrong_regime": 1}
_PLAN: dict[FaultKind, int] = {"spike": 4, "stuck_sensor": 2, "correlation_loss": 4, "wrong_regime": 4}
_DRIFT_DAYS = (3, 4, 5, 7)
_DRIFT_SENSORS = ("bearing_temperature", "coolant_pressure", "coolant_temperature", "coolant_flow")
_SPAN_DRIFT = frozenset({"coolant_pressure", "coolant_flow"})
"""Sensors whose span drifts (a share of the value), where the others drift in their zero (an offset)."""

_STEP = np.array([110.0, 55.0, 0.35, 0.20, 1.2, 0.9, 0.25, 0.20])
"""Per sensor, about how well the other sensors tell its value in a pass; the unit of fault magnitudes."""

_SPIKES_UPWARDS = frozenset({"spindle_current", "vibration_rms"})
"""Sensors that read too near to zero for a jump downwards to stay possible."""

_COOLANT_LOOP = ("coolant_flow", "coolant_pressure")
_SHORTEST_PASS_MINUTES = 16  # every regime has a longer one on every day
_DECOUPLED: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("a_roughing", ("spindle_current",)),
    ("a_roughing", ("feed_rate",)),
    ("a_roughing", ("spindle_speed", "coolant_flow")),
    ("a_roughing", ("vibration_rms",)),
    ("a_finishing", ("coolant_pressure",)),
    ("b_roughing", ("spindle_current",)),
    ("b_roughing", ("feed_rate", "coolant_flow")),
    ("b_roughing", ("spindle_speed", "coolant_pressure")),
    ("b_finishing", ("spindle_current",)),
    ("b_finishing", ("coolant_flow",)),
)
"""Which sensors can lose their tie to the process in which regime: only where there is a tie to lose."""


@dataclass(frozen=True)
class Fault:
    """One labelled fault.

    Attributes:
        fault_id: Unique in the plant.
        kind: One of `FAULT_KINDS`.
        machine: Name of the machine.
        start: First reading that is affected, UTC.
        end: Last reading that is affected, UTC, included.
        sensors: Names of the sensors that are affected.
        magnitude: Of a spike, the jump; of a drift, the shift that it ends at; both in the sensor's unit, but
            a share of the value where the span drifts (coolant pressure and flow). None for the other kinds.
        donor_regime: Of a wrong regime, the one whose readings the sensors show. None for the other kinds.
        detail: What happened, for people.
    """

    fault_id: str
    kind: FaultKind
    machine: str
    start: datetime
    end: datetime
    sensors: tuple[str, ...]
    magnitude: float | None
    donor_regime: str | None
    detail: str


def plan_faults(seed: int, start: date, first_day: int, last_day: int) -> list[Fault]:
    """List the faults that affect any reading from the first to the last day, both included, by start."""
    blocks = range(first_day // _BLOCK_DAYS, last_day // _BLOCK_DAYS + 1)
    faults = [fault for block in blocks for fault in _plan_block(seed, start, block)]
    begin, end = _moment(start, first_day * MINUTES_PER_DAY), _moment(start, (last_day + 1) * MINUTES_PER_DAY)
    return sorted(
        (fault for fault in faults if fault.start < end and fault.end >= begin),
        key=lambda fault: (fault.start, fault.machine),
    )


def apply_fault(fault: Fault, values: NDArray[np.float64], timeline: Timeline, midnight: datetime) -> NDArray[np.bool_]:
    """Change the readings of one machine and day in place as the fault does.

    Arguments:
        fault: A fault of this machine.
        values: Healthy readings of the day, shape (1440, 8), in raw units.
        timeline: What the machine was told to do on the day.
        midnight: Beginning of the day, UTC.

    Returns:
        The readings that are affected, shape (1440,).
    """
    first = (fault.start - midnight) // timedelta(minutes=1)
    last = (fault.end - midnight) // timedelta(minutes=1)
    rows = np.arange(max(first, 0), min(last, MINUTES_PER_DAY - 1) + 1)
    columns = np.array([SENSOR_INDEX[name] for name in fault.sensors])
    affected = np.zeros(MINUTES_PER_DAY, dtype=np.bool_)
    if not rows.size:
        return affected
    affected[rows] = True
    block = np.ix_(rows, columns)
    if fault.kind == "spike":
        values[block] += fault.magnitude
    elif fault.kind == "stuck_sensor":
        values[block] = values[rows[0], columns]
    elif fault.kind == "sensor_drift":
        # The first reading is already off by a little, the last by the whole magnitude.
        ramp = (fault.magnitude or 0.0) * (rows - first + 1) / (last - first + 1)
        scale = values[block] if fault.sensors[0] in _SPAN_DRIFT else np.ones((len(rows), 1))
        values[block] += ramp[:, None] * scale
    else:
        donors = _donor_rows(fault, timeline, rows)
        values[block] = values[np.ix_(donors, columns)]
    return affected


def _donor_rows(fault: Fault, timeline: Timeline, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Find the minutes of the same day that lend their readings to a fault.

    A sensor that lost its correlation reads what it read in the same regime at other times, so its own
    distribution stays as it is. In a wrong regime, the sensors read what they read in another regime.
    """
    own = int(timeline.regime[rows[0]])
    if fault.kind == "correlation_loss":
        same = np.setdiff1d(np.flatnonzero(timeline.cutting & (timeline.regime == own)), rows)
        # Steps of the golden section reach all of the day, and no cycle of the process keeps its phase.
        return same[(np.arange(1, rows.size + 1) * 0.6180339887 % 1.0 * same.size).astype(np.int64)]
    donor = REGIME_NAMES.index(str(fault.donor_regime))
    return np.flatnonzero(timeline.cutting & (timeline.regime == donor))[: rows.size]


@lru_cache(maxsize=64)
def _plan_block(seed: int, start: date, block: int) -> tuple[Fault, ...]:
    rng = generator(seed, Stream.FAULT_PLAN, block)
    free = [(machine, day) for machine in range(len(MACHINES)) for day in range(_BLOCK_DAYS)]
    faults: list[Fault] = []
    if block >= _QUIET_BLOCKS:
        turn = _turn_of(seed, "sensor_drift", block - _QUIET_BLOCKS, len(_DRIFT_DAYS))
        length = _DRIFT_DAYS[turn]
        machine, day = int(rng.integers(len(MACHINES))), int(rng.integers(_BLOCK_DAYS - length + 1))
        faults.append(_drift(rng, start, machine, block * _BLOCK_DAYS + day, length, _DRIFT_SENSORS[turn]))
        free = [slot for slot in free if slot[0] != machine or not day <= slot[1] < day + length]
    slots = iter(rng.permutation(len(free)))
    quiet_blocks, busy_blocks = min(block, _QUIET_BLOCKS), max(block - _QUIET_BLOCKS, 0)
    for kind, count in (_QUIET_PLAN if block < _QUIET_BLOCKS else _PLAN).items():
        earlier = quiet_blocks * _QUIET_PLAN[kind] + busy_blocks * _PLAN[kind]
        for turn in range(earlier, earlier + count):
            machine, day = free[int(next(slots))]
            faults.append(_short_fault(seed, start, kind, turn, machine, block * _BLOCK_DAYS + day))
    return tuple(faults)


def _drift(rng: np.random.Generator, start: date, machine: int, day: int, length: int, sensor: str) -> Fault:
    begin = day * MINUTES_PER_DAY + int(rng.integers(MINUTES_PER_DAY // 2))
    end = (day + length) * MINUTES_PER_DAY - 1 - int(rng.integers(MINUTES_PER_DAY // 4))
    sign = float(rng.choice([-1.0, 1.0]))
    if sensor in _SPAN_DRIFT:
        magnitude, what = sign * float(rng.uniform(0.12, 0.20)), "span"
    else:
        magnitude, what = sign * float(rng.uniform(5.0, 9.0)) * float(_STEP[SENSOR_INDEX[sensor]]), "zero"
    return _fault("sensor_drift", start, machine, begin, end, (sensor,), f"{what} of {sensor} drifts", magnitude)


def _short_fault(seed: int, start: date, kind: FaultKind, turn: int, machine: int, day: int) -> Fault:
    """Place the next fault of a kind, of minutes or hours, on a machine and day, where it can show itself."""
    rng = generator(seed, Stream.FAULT, machine, day)
    timeline = machine_day_timeline(seed, machine, day)
    passes = timeline.passes(_SHORTEST_PASS_MINUTES)
    midnight = day * MINUTES_PER_DAY

    def place(
        first: int,
        minutes: int,
        sensors: tuple[str, ...],
        detail: str,
        magnitude: float | None = None,
        donor_regime: str | None = None,
    ) -> Fault:
        last = midnight + first + minutes - 1
        return _fault(kind, start, machine, midnight + first, last, sensors, detail, magnitude, donor_regime)

    if kind == "correlation_loss":
        regime_name, sensors = _DECOUPLED[_turn_of(seed, kind, turn, len(_DECOUPLED))]
        regime = REGIME_NAMES.index(regime_name)
        passes = [(first, end) for first, end in passes if timeline.regime[first] == regime]
    pass_start, pass_end = passes[int(rng.integers(len(passes)))]
    regime = int(timeline.regime[pass_start])
    name = REGIME_NAMES[regime]

    if kind == "spike":
        minutes = int(rng.integers(1, 4))
        first = int(rng.integers(pass_start, pass_end - minutes + 1))
        sensor = SENSOR_NAMES[_turn_of(seed, kind, turn, len(SENSOR_NAMES))]
        sign = -1.0 if sensor not in _SPIKES_UPWARDS and rng.random() < 0.4 else 1.0
        jump = sign * float(rng.uniform(10.0, 22.0)) * float(_STEP[SENSOR_INDEX[sensor]])
        return place(first, minutes, (sensor,), f"{sensor} jumps", magnitude=jump)
    if kind == "stuck_sensor":
        minutes = int(rng.integers(90, 300))
        first = min(int(rng.integers(pass_start, pass_end)), MINUTES_PER_DAY - minutes)
        sensor = SENSOR_NAMES[_turn_of(seed, kind, turn, len(SENSOR_NAMES))]
        return place(first, minutes, (sensor,), f"{sensor} freezes")

    minutes = int(rng.integers(15, min(45, pass_end - pass_start) + 1))
    first = int(rng.integers(pass_start, pass_end - minutes + 1))
    if kind == "correlation_loss":
        return place(first, minutes, sensors, f"{' and '.join(sensors)} no longer follow {name}")
    if turn % 2 == 0:
        donor = REGIME_NAMES[(regime + REGIMES_PER_RECIPE) % len(REGIME_NAMES)]
        return place(first, minutes, SENSOR_NAMES, f"{name} is run as {donor}", donor_regime=donor)
    donor = REGIME_NAMES[regime + (1 if regime % REGIMES_PER_RECIPE == ROUGHING else -1)]
    return place(first, minutes, _COOLANT_LOOP, f"{name} has the coolant of {donor}", donor_regime=donor)


def _turn_of(seed: int, kind: FaultKind, turn: int, n_variants: int) -> int:
    """Let every variant of a kind have its turn, in an order of the seed."""
    order = generator(seed, Stream.FAULT_PLAN, 0, FAULT_KINDS.index(kind)).permutation(n_variants)
    return int(order[turn % n_variants])


def _fault(
    kind: FaultKind,
    start: date,
    machine: int,
    first_minute: int,
    last_minute: int,
    sensors: tuple[str, ...],
    detail: str,
    magnitude: float | None,
    donor_regime: str | None = None,
) -> Fault:
    return Fault(
        fault_id=f"{kind}-{MACHINES[machine]}-d{first_minute // MINUTES_PER_DAY:03d}",
        kind=kind,
        machine=MACHINES[machine],
        start=_moment(start, first_minute),
        end=_moment(start, last_minute),
        sensors=sensors,
        magnitude=magnitude,
        donor_regime=donor_regime,
        detail=detail,
    )


def _moment(start: date, minute: int) -> datetime:
    return datetime(start.year, start.month, start.day, tzinfo=UTC) + timedelta(minutes=minute)
