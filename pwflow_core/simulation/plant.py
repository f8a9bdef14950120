"""The plant as a whole: three machines whose readings carry their truth with them.

Puts physics, wear, faults and the historian's blemishes together. Writing files is in `export.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from pwflow_core.errors import ConfigurationError
from pwflow_core.simulation._random import Stream, generator
from pwflow_core.simulation.faults import Fault, apply_fault, plan_faults
from pwflow_core.simulation.physics import AGEING_REGIME, ageing_shift, simulate_machine_day
from pwflow_core.simulation.production import MACHINES, MINUTES_PER_DAY, RECIPES
from pwflow_core.simulation.sensors import SENSORS

__all__ = ["DEFAULT_SEED", "DEFAULT_START", "PlantReadings", "SimulatedPlant"]

DEFAULT_SEED = 7
DEFAULT_START = date(2026, 1, 5)
DEFAULT_AGEING_DAY = 40

_RESOLUTION = np.array([sensor.resolution for sensor in SENSORS])
_LOW = np.array([sensor.low for sensor in SENSORS])
_HIGH = np.array([sensor.high for sensor in SENSORS])


@dataclass(frozen=True)
class PlantReadings:
    """Readings of the plant with their truth, one per machine and minute, by day, machine and time.

    Attributes:
        timestamp: UTC, shape (N,), datetime64[s].
        machine: Name of the machine, shape (N,).
        recipe: The known process condition, "A" or "B", shape (N,).
        values: Sensor values in the order of `SENSORS` and in their units, shape (N, 8), NaN where missing.
        regime: True regime or transient, shape (N,).
        fault_kind: Kind of the fault that affects the reading, "" if none, shape (N,).
        fault_id: The fault that affects the reading, "" if none, shape (N,).
        is_aged: Whether wear has changed the reading, shape (N,).
        blemish: "missing", "out_of_limits", "duplicate" (the exports have the row twice) or "", shape (N,).
    """

    timestamp: NDArray[np.datetime64]
    machine: NDArray[np.str_]
    recipe: NDArray[np.str_]
    values: NDArray[np.float64]
    regime: NDArray[np.str_]
    fault_kind: NDArray[np.str_]
    fault_id: NDArray[np.str_]
    is_aged: NDArray[np.bool_]
    blemish: NDArray[np.str_]

    @classmethod
    def concatenate(cls, parts: Sequence[PlantReadings]) -> PlantReadings:
        """Join readings in the order given."""
        return cls(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)})

    def __len__(self) -> int:
        return len(self.timestamp)


@dataclass(frozen=True)
class SimulatedPlant:
    """Three milling spindles under one roof, with known regimes, faults and wear.

    Every day is a function of the plant's parameters and of the day's number alone: it comes out bit-equal
    whichever other days are simulated.

    Arguments:
        seed: Non-negative; equal seeds give equal plants.
        start: Date of day 0, UTC.
        ageing_from_day: Day on which the tool of recipe B's roughing begins to wear, None for never.
        with_faults: Whether there are faults.
        with_blemishes: Whether there are missing, impossible and repeated readings.

    Raises:
        ConfigurationError: The seed or the ageing day is negative.
    """

    seed: int = DEFAULT_SEED
    start: date = DEFAULT_START
    ageing_from_day: int | None = DEFAULT_AGEING_DAY
    with_faults: bool = True
    with_blemishes: bool = True

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ConfigurationError(
                f"The seed of the simulated plant must be 0 or more, got {self.seed}. Choose a non-negative number."
            )
        if self.ageing_from_day is not None and self.ageing_from_day < 0:
            raise ConfigurationError(
                "The ageing of the simulated plant must begin on day 0 or later, "
                f"got {self.ageing_from_day}. Give a day of 0 or more, or None for a plant that does not age."
            )

    def day(self, day: int) -> PlantReadings:
        """Simulate one day, 0 being the first: 3 × 1440 readings."""
        return self.simulate(day, day)

    def days(self, first_day: int, last_day: int) -> Iterator[PlantReadings]:
        """Simulate day after day, both ends included, holding one day at a time.

        Raises:
            ConfigurationError: The first day is negative or after the last.
        """
        if not 0 <= first_day <= last_day:
            raise ConfigurationError(
                "The days of the simulated plant must run from a first day of 0 or more to a last that is "
                "not before it, "
                f"got {first_day} to {last_day}. Ask for at least one day."
            )
        return (
            PlantReadings.concatenate([self._machine_day(machine, day) for machine in range(len(MACHINES))])
            for day in range(first_day, last_day + 1)
        )

    def simulate(self, first_day: int, last_day: int) -> PlantReadings:
        """Simulate the days from the first to the last, both included.

        Raises:
            ConfigurationError: The first day is negative or after the last.
        """
        return PlantReadings.concatenate(list(self.days(first_day, last_day)))

    def faults(self, first_day: int, last_day: int) -> list[Fault]:
        """List the faults that affect any reading from the first to the last day, both included, by start."""
        return plan_faults(self.seed, self.start, first_day, last_day) if self.with_faults else []

    def _machine_day(self, machine: int, day: int) -> PlantReadings:
        values, timeline = simulate_machine_day(self.seed, machine, day)
        is_aged = np.zeros(MINUTES_PER_DAY, dtype=np.bool_)
        regime = timeline.regime_names()
        if self.ageing_from_day is not None and day >= self.ageing_from_day:
            is_aged = regime == AGEING_REGIME
            values += np.where(is_aged[:, None], ageing_shift(day, self.ageing_from_day), 0.0)
        # Instruments saturate at their limits; a healthy machine stays clear of them.
        values = np.clip(values, _LOW, _HIGH)

        midnight = datetime(self.start.year, self.start.month, self.start.day, tzinfo=UTC) + timedelta(days=day)
        fault_kind = np.full(MINUTES_PER_DAY, "", dtype="U16")
        fault_id = np.full(MINUTES_PER_DAY, "", dtype="U32")
        for fault in self.faults(day, day):
            if fault.machine == MACHINES[machine]:
                affected = apply_fault(fault, values, timeline, midnight)
                fault_kind[affected], fault_id[affected] = fault.kind, fault.fault_id
        values = np.round(np.clip(values, _LOW, _HIGH) / _RESOLUTION) * _RESOLUTION
        values = np.round(values, 3)  # the nearest double to what the historian shows

        blemish = np.full(MINUTES_PER_DAY, "", dtype="U16")
        if self.with_blemishes:
            rng = generator(self.seed, Stream.BLEMISH, machine, day)
            _blemish(rng, values, blemish, clean_rows=np.flatnonzero(fault_id == ""))
        return PlantReadings(
            timestamp=np.datetime64(midnight.replace(tzinfo=None), "s")
            + np.arange(MINUTES_PER_DAY) * np.timedelta64(60, "s"),
            machine=np.full(MINUTES_PER_DAY, MACHINES[machine]),
            recipe=np.array(RECIPES)[timeline.recipe],
            values=values,
            regime=regime,
            fault_kind=fault_kind,
            fault_id=fault_id,
            is_aged=is_aged,
            blemish=blemish,
        )


def _blemish(
    rng: np.random.Generator,
    values: NDArray[np.float64],
    blemish: NDArray[np.str_],
    clean_rows: NDArray[np.int64],
) -> None:
    """Give one machine and day, in place, the few defects that a historian's data have."""
    n_missing, n_impossible, n_repeated = (int(n) for n in rng.integers(0, [4, 2, 3]))
    rows = rng.permutation(clean_rows)[: n_missing + n_impossible + n_repeated]
    missing, impossible, repeated = np.split(rows, [n_missing, n_missing + n_impossible])
    for row in missing:
        values[row, rng.integers(len(SENSORS))] = np.nan
    for row in impossible:
        column = int(rng.integers(len(SENSORS)))
        values[row, column] = float(rng.choice([-999.0, round(2.0 * _HIGH[column], 3)]))
    blemish[missing], blemish[impossible], blemish[repeated] = "missing", "out_of_limits", "duplicate"
