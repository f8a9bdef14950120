"""The alarm score of a plant: the most forgiving of its regimes judges a reading."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pwflow_core.modelling.alarms.regime_alarm import RegimeAlarm
from pwflow_core.modelling.calibration import SMALLEST_P, Calibration

Array = NDArray[np.float64]

_RARE = 3.5  # nats: a reading that its candidates find this surprising is shown to every regime
_BATCH_ROWS = 8192


@dataclass(frozen=True, eq=False)
class AlarmScore:
    r"""−log p of a reading as a normal reading of the plant.

        s(x) = g( min_k s_k(x) ),    s_k(x) = −log p_k(x) by the `RegimeAlarm` of regime k

    A reading is normal if one regime calls it so: whatever regime it comes from, the largest p_k is at most alpha no
    more often than alpha. The least of functions that rise outward rises outward, also where the regime changes. g
    is one calibration for the whole plant, of the least surprise itself on readings that taught nothing: it undoes
    the caution of the minimum where regimes overlap, and readings that no sound regime explains are as rare as they
    are, however many of them there were, and stay below all others in rank. Per regime: s_k. Per plant: g alone.

    Attributes:
        regimes: Alarm of each regime; None for one that is not sound enough to call a reading normal.
        calibration: g, of −min_k s_k; None where the regimes' own calibration is all there is.

    """

    regimes: tuple[RegimeAlarm | None, ...]
    calibration: Calibration | None

    def surprises(self, X: Array, screen: Callable[[Array], Array]) -> Array:
        """Return s(x), nats, shape (N,): at least 0 and without a ceiling.

        Arguments:
            X: Readings in raw units, shape (N, D), finite.
            screen: Tells which regimes are worth asking about readings, shape (N, K).

        """
        least = self.least_surprises(X, screen)
        return np.maximum(least if self.calibration is None else self.calibration.surprises(-least), 0.0)

    def p_values(self, X: Array, screen: Callable[[Array], Array]) -> Array:
        """Return the chance that a normal reading is as odd, shape (N,), above 0 and at most 1."""
        return np.maximum(np.exp(-self.surprises(X, screen)), SMALLEST_P)

    def least_surprises(self, X: Array, screen: Callable[[Array], Array]) -> Array:
        """Return min_k s_k(x), nats, shape (N,): over the candidates and, for rare readings, over all regimes."""
        least = np.full(len(X), np.inf)
        sound = [k for k, regime in enumerate(self.regimes) if regime is not None]
        for start in range(0, len(X), _BATCH_ROWS):
            block, out = X[start : start + _BATCH_ROWS], least[start : start + _BATCH_ROWS]
            if len(sound) == 1:
                asked = np.ones((len(block), len(self.regimes)), dtype=np.bool_)
            else:
                asked = screen(block)
            self._lower(block, out, asked, sound)
            self._lower(block, out, ~asked & (out >= _RARE)[:, None], sound)
        return least

    def _lower(self, X: Array, least: Array, asked: NDArray[np.bool_], sound: list[int]) -> None:
        for k in sound:
            rows, regime = np.flatnonzero(asked[:, k]), self.regimes[k]
            if len(rows) and regime is not None:
                least[rows] = np.minimum(least[rows], regime.surprise(X[rows]))
