"""How fine a sensor tells values apart: the step of its readings, and how well it repeats itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_MOST_VALUES = 20_000
_FEWEST_ROWS = 20  # that tell how well a sensor repeats itself
_ON_STEP = 0.01  # of a step: how far a difference may lie from a whole number of steps
_REPEATABILITY = 0.01  # share of the usual difference of neighbouring readings that relations may not be finer than
_COARSEST = 0.1  # of the spread: a coarser step is a state, which teaches its own width
_SMALLEST = 1e-7  # of the spread or, for a constant, of its value


@dataclass(frozen=True, eq=False)
class Resolution:
    """What each sensor resolves.

    Attributes:
        step: Step of the readings of each sensor, raw units, 0 where there is none, shape (D,).
        floor: Standard deviation below which relations between sensors say nothing, raw units, above zero, shape (D,).

    """

    step: Array
    floor: Array

    @classmethod
    def fit(cls, X: Array) -> Resolution:
        """Find the steps and floors of readings in the order in which they came, shape (N, D).

        The floor is what a step adds, step / √12, at most a tenth of the sensor's standard deviation, and a hundredth
        of the usual difference of two neighbouring readings, where there are at least 20.
        """
        step = np.array([step_of(X[:, d]) for d in range(X.shape[1])])
        spread = X.std(axis=0)
        change = np.median(np.abs(np.diff(X, axis=0)), axis=0) if len(X) >= _FEWEST_ROWS else np.zeros(X.shape[1])
        size = np.abs(X).max(axis=0)
        smallest = np.where(spread > 1e-12 * size, _SMALLEST * spread, _SMALLEST * np.where(size > 0, size, 1.0))
        by_step = np.minimum(step / np.sqrt(12), _COARSEST * spread)
        return cls(step, np.maximum(np.hypot(by_step, _REPEATABILITY * change), smallest))

    def coarser(self, X: Array) -> NDArray[np.bool_]:
        """Tell which sensors come in steps at least twice as coarse as those that were learned from, shape (D,).

        A step of at most a hundredth of the learned floor does no harm and is not told.
        """
        step = np.array([step_of(X[:, d]) for d in range(X.shape[1])])
        return np.asarray((step >= 2 * self.step) & (step > 0.01 * self.floor) & (step > 0))


def step_of(values: Array) -> float:
    """Return the step of a sensor, raw units; 0 where values do not lie on one.

    The smallest difference of two of its values that comes more than once, if all others are whole multiples of it.
    """
    if len(values) > _MOST_VALUES:
        values = values[np.linspace(0, len(values) - 1, _MOST_VALUES).round().astype(np.intp)]
    distinct = np.unique(values)
    if len(distinct) < 2:
        return 0.0
    difference = np.diff(distinct)
    noise = 4 * np.spacing(np.abs(distinct).max())
    difference = difference[difference > noise]
    if len(difference) == 0:
        return 0.0
    step = float(difference.min())
    step = float(np.median(difference[difference < 1.5 * step]))
    count = difference / step
    tolerance = np.maximum(_ON_STEP * np.maximum(1.0, count * 1e-3), noise / step)
    if len(difference) > 2 and (np.abs(count - count.round()) > tolerance).mean() > _ON_STEP:
        return 0.0
    return step
