"""Values as they come: which are numbers that a sensor can read, and why the others are refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pwflow_core.edge.rules import LARGEST_PHYSICAL, Sensor

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
    values = raw.copy()
    reasons: list[list[str]] = [[] for _ in range(len(raw))]
    is_wrong = np.zeros(len(raw), dtype=np.bool_)
    for place, sensor in enumerate(sensors):
        column = values[:, place]
        is_marked = np.isin(column, sensor.missing) if sensor.missing else np.zeros(len(column), dtype=np.bool_)
        tests = [
            ("not_a_number", np.zeros_like(is_marked) if not_numbers is None else not_numbers[:, place]),
            ("infinite", np.isinf(column)),
            ("not_physical", np.abs(column) > LARGEST_PHYSICAL),
        ]
        tests += [("below_limit", column < sensor.low)] if sensor.low is not None else []
        tests += [("above_limit", column > sensor.high)] if sensor.high is not None else []
        left = ~is_marked
        for reason, is_so in tests:
            found = is_so & left
            left &= ~found
            is_wrong |= found
            for row in np.flatnonzero(found):
                reasons[row].append(f"{sensor.name} ({reason})")
        column[~left] = np.nan
        if sensor.period is not None:
            column -= sensor.period * np.floor((column - sensor.cut) / sensor.period)
    refused = ["refused: " + ", ".join(reasons[row]) if is_wrong[row] else None for row in range(len(raw))]
    return CheckedValues(values, refused)
