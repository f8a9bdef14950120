"""What an alarm can see: the smallest spike and the smallest lasting shift of each sensor that it is raised on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Faults = Callable[[Array, int, float], Array]

POWER = 0.9
"""Share of faults that have to alarm for their size to be one that is seen."""
BLIND_SIGMA = 10.0
"""A sensor whose lasting shift of this many standard deviations raises no alarm is one that the alarm is blind to."""

_PRECISION = 1.04  # by what factor a size may be too large
_SIZES = 10.0 ** np.concatenate([np.linspace(-1.0, 1.5, 21), np.linspace(1.75, 3.0, 6)])  # standard deviations


@dataclass(frozen=True, eq=False)
class Detectability:
    """Smallest faults that alarm with the wanted power, in standard deviations; inf where none of up to 1,000 does.

    Attributes:
        unit: Standard deviation of each sensor, raw units, shape (S,); of a constant one, see `probe_detectability`.
        shift_sigma: Smallest error that lasts for a run of readings, in the worse of both directions, shape (S,).
        spike_sigma: Smallest error of a single reading, shape (S,).

    """

    unit: Array
    shift_sigma: Array
    spike_sigma: Array

    @property
    def shift(self) -> Array:
        """The smallest lasting shift of each sensor, raw units, shape (S,)."""
        return self.shift_sigma * self.unit

    @property
    def spike(self) -> Array:
        """The smallest spike of each sensor, raw units, shape (S,)."""
        return self.spike_sigma * self.unit

    @property
    def is_blind(self) -> NDArray[np.bool_]:
        """Tell which sensors miss lasting shifts of ten standard deviations or more, shape (S,)."""
        return self.shift_sigma > BLIND_SIGMA

    @property
    def missed(self) -> Array:
        """The largest lasting shift that was tried and is missed, raw units, shape (S,); 0 where none is."""
        tried = np.where(self.shift_sigma[:, None] > _SIZES, _SIZES, 0.0)
        return np.asarray(tried.max(axis=1) * self.unit)


@dataclass(frozen=True)
class AlarmRule:
    """When readings raise an alarm: each of a run is an anomaly, or one of them is rare.

    Attributes:
        alpha: p-value at or below which a reading is an anomaly.
        rare: p-value at or below which one reading suffices.

    Raises:
        ValueError: A p-value that is not above 0 and at most 1.

    """

    alpha: float
    rare: float

    def __post_init__(self) -> None:
        for name, value in (("alpha", self.alpha), ("rare", self.rare)):
            if not 0 < value <= 1:
                raise ValueError(f"Expected {name} above 0 and at most 1, got {value!r}.")

    def alarms(self, p: Array) -> NDArray[np.bool_]:
        """Tell which runs alarm, shape (..., R), from p-values of shape (..., R, length); NaN is never an anomaly."""
        return np.asarray((p <= self.alpha).all(axis=-1) | (p <= self.rare).any(axis=-1))


def add_to_column(X: Array, sensor: int, by: float) -> Array:
    """Return readings (N, D) with an error on one column."""
    moved = X.copy()
    moved[:, sensor] += by
    return moved


def probe_detectability(
    p_values: Callable[[Array], Array],
    runs: Array,
    spread: Array,
    rule: AlarmRule,
    *,
    shifted: Faults = add_to_column,
    spiked: Faults = add_to_column,
    power: float = POWER,
) -> Detectability:
    """Probe alarms with faults of known size on normal readings.

    A shift moves all readings of a run; a spike moves the last one, which has to be rare to alarm by itself. A size is
    detected if at least `power` of the runs alarm in both directions, and so do those of all larger sizes that were
    tried. It is found to 4%.

    Arguments:
        p_values: What judges, from readings (N, D) to p-values (N,); NaN where it does not.
        runs: Normal readings that taught nothing, in runs of neighbours in time, raw units, shape (R, length, D).
        spread: Standard deviation of each sensor, raw units, shape (S,). For a constant sensor a thousandth
            of its value is used instead.
        rule: When a run alarms.
        shifted: Readings after a lasting shift, from readings (N, D), the sensor and the shift in raw units.
        spiked: Readings with a spike, likewise.
        power: Share of the runs that have to alarm.

    Raises:
        ValueError: No runs, or a power that is not above 0 and at most 1.

    """
    if not len(runs):
        raise ValueError("Expected at least one run of readings to probe with, got none; give more held-out readings.")
    if not 0 < power <= 1:
        raise ValueError(f"Expected power above 0 and at most 1, got {power!r}.")
    level = np.maximum(np.abs(runs).max(axis=(0, 1))[: len(spread)], 1.0)
    unit = np.where(spread > 0, spread, level * 1e-3)
    lone = AlarmRule(rule.rare, rule.rare)

    def smallest(faults: Faults, probed: Array, own_rule: AlarmRule) -> Array:
        found = np.empty(len(unit))
        for sensor, sigma in enumerate(unit):

            def power_of(size: float, sensor: int = sensor, sigma: float = sigma) -> float:
                return alarm_power(p_values, probed, own_rule, faults, sensor, size * sigma)

            found[sensor] = _smallest(power_of, power)
        return found

    return Detectability(unit, smallest(shifted, runs, rule), smallest(spiked, runs[:, -1:], lone))


def alarm_power(
    p_values: Callable[[Array], Array], runs: Array, rule: AlarmRule, faults: Faults, sensor: int, size: float
) -> float:
    """Return the share of runs that alarm on a fault of one size, in raw units, in the worse of both directions."""
    rows = runs.reshape(-1, runs.shape[2])
    p = p_values(np.concatenate([faults(rows, sensor, -size), faults(rows, sensor, size)]))
    return float(rule.alarms(p.reshape(2, len(runs), -1)).mean(axis=1).min())


def _smallest(power_of: Callable[[float], float], power: float) -> float:
    """Return the smallest size, in standard deviations, from which on all sizes have the power; inf if none has."""
    seen = float("inf")
    for size in _SIZES[::-1]:
        if power_of(float(size)) < power:
            break
        seen = float(size)
    else:
        return seen
    missed = float(size)
    while np.isfinite(seen) and seen > _PRECISION * missed:
        middle = float(np.sqrt(seen * missed))
        seen, missed = (middle, missed) if power_of(middle) >= power else (seen, middle)
    return seen
