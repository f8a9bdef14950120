"""What an alarm score can see: the smallest spike and the smallest lasting shift of each sensor that it alarms on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pwflow_core.modelling.calibration import SMALLEST_P

Array = NDArray[np.float64]

_SIZES = 10.0 ** np.linspace(-1.0, 3.0, 33)  # standard deviations that are tried


@dataclass(frozen=True, eq=False)
class Detectability:
    """Smallest faults that alarm with the wanted power, in raw units; inf where none of up to 1,000 sigma does.

    Attributes:
        spike: Smallest error of a single reading of each sensor, in the worse of both directions, shape (D,).
        shift: Smallest error that lasts for a run of readings, shape (D,).
        spike_sigma: `spike` over the sensor's standard deviation in the readings probed, shape (D,).
        shift_sigma: The same for `shift`, shape (D,).

    """

    spike: Array
    shift: Array
    spike_sigma: Array
    shift_sigma: Array

    @property
    def is_blind(self) -> NDArray[np.bool_]:
        """Tell which sensors have no alarm on a lasting shift of ten standard deviations, shape (D,)."""
        return self.shift_sigma > 10.0


def probe_detectability(
    p_values: Callable[[Array], Array],
    X: Array,
    *,
    spike_p: float,
    shift_p: float,
    run: int = 4,
    power: float = 0.9,
) -> Detectability:
    """Probe an alarm score with faults of known size on normal readings.

    A spike alarms where its own p is at most `spike_p`. A shift alarms where the geometric mean of p over `run`
    consecutive readings is at most `shift_p`. A size is detected if at least `power` of the trials alarm, and so do
    those of all larger sizes that were tried.

    Arguments:
        p_values: The alarm score in use, from readings (N, D) to p-values (N,).
        X: Normal readings of a regime that taught nothing, in the order of time, raw units, shape (N, D).
        spike_p: p-value at which a lone reading alarms.
        shift_p: Mean p-value at which a run of readings alarms.
        run: Readings of a run.
        power: Share of the trials that have to alarm.

    Raises:
        ValueError: Fewer readings than a run has, or a power or p-value that is not between 0 and 1.

    """
    if len(X) < run:
        raise ValueError(f"Expected at least {run} readings to probe with, got {len(X)}; give more held-out readings.")
    for name, value in (("power", power), ("spike_p", spike_p), ("shift_p", shift_p)):
        if not 0 < value <= 1:
            raise ValueError(f"Expected {name} above 0 and at most 1, got {value!r}.")
    X = X[: len(X) // run * run]
    spread = X.std(axis=0)
    unit = np.where(spread > 0, spread, np.maximum(np.abs(X).max(axis=0), 1.0) * 1e-3)
    spike, shift = (np.full(X.shape[1], np.inf) for _ in range(2))
    for sensor in range(X.shape[1]):
        by_spike, by_shift = True, True
        for size in _SIZES[::-1]:
            surprise = np.stack([_surprise(p_values(_moved(X, sensor, s * size * unit[sensor]))) for s in (-1, 1)])
            seen = (surprise >= -np.log(spike_p)).mean(axis=1).min()
            lasting = (surprise.reshape(2, -1, run).mean(axis=2) >= -np.log(shift_p)).mean(axis=1).min()
            by_spike, by_shift = by_spike and seen >= power, by_shift and lasting >= power
            if by_spike:
                spike[sensor] = size * unit[sensor]
            if by_shift:
                shift[sensor] = size * unit[sensor]
            if not (by_spike or by_shift):
                break
    return Detectability(spike, shift, spike / unit, shift / unit)


def _moved(X: Array, sensor: int, by: float) -> Array:
    moved = X.copy()
    moved[:, sensor] += by
    return moved


def _surprise(p: Array) -> Array:
    return -np.log(np.maximum(p, SMALLEST_P))
