"""Values as they come: which are numbers that a sensor can read, and why the others are refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pwflow_core.edge.rules import Sensor
from pwflow_core.marks import LARGEST_PHYSICAL

__all__ = ["CheckedValues", "check_values"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CheckedValues:
    """Values that can be used.

    Attributes:
        values: NaN where there is none, shape (N, S).
        refused: Why a reading is `invalid`, None where it is not, shape (N,).

    """

    values: Array
    refused: list[str | None]


def check_values(raw: Array, sensors: Sequence[Sensor], not_numbers: NDArray[np.bool_] | None = None) -> CheckedValues:
    """Check values by the rules of `pipeline/readings/deriving.sql`.

    Arguments:
        raw: As they came, NaN where there is none, shape (N, S).
        sensors: The sensors.
        not_numbers: Where something came that is not a number, shape (N, S).

    """
    is_marked = np.zeros(raw.shape, dtype=np.bool_)
    for place, sensor in enumerate(sensors):
        if sensor.missing:
            is_marked[:, place] = np.isin(raw[:, place], sensor.missing)
    low = np.array([-np.inf if sensor.low is None else sensor.low for sensor in sensors])
    high = np.array([np.inf if sensor.high is None else sensor.high for sensor in sensors])
    tests = {
        "not_a_number": np.zeros_like(is_marked) if not_numbers is None else not_numbers,
        "infinite": np.isinf(raw),
        "not_physical": np.abs(raw) > LARGEST_PHYSICAL,
        "below_limit": raw < low,
        "above_limit": raw > high,
    }
    is_refused = np.logical_or.reduce(list(tests.values())) & ~is_marked
    values = np.where(is_refused | is_marked, np.nan, raw)
    refused: list[str | None] = [None] * len(raw)
    for row in np.flatnonzero(is_refused.any(axis=1)):
        named = (
            f"{sensors[place].name} ({next(reason for reason, found in tests.items() if found[row, place])})"
            for place in np.flatnonzero(is_refused[row]).tolist()
        )
        refused[row] = "refused: " + ", ".join(named)
    for place, sensor in enumerate(sensors):
        if sensor.period is not None:
            values[:, place] -= sensor.period * np.floor((values[:, place] - sensor.cut) / sensor.period)
    return CheckedValues(values, refused)
