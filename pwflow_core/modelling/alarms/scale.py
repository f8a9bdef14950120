"""One scale for all views: from a statistic to a surprise, −log p."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_TAIL_SHARE = 0.1
_FEWEST_TAIL_ROWS = 20
_MOST_KNOTS = 256


@dataclass(frozen=True, eq=False)
class SurpriseScale:
    """Surprise of a statistic that is large where a reading is odd: −log of the chance of as large a one.

    Up to the upper tenth of the readings that calibrate it is by rank, s(t) = -log [(1 + #{t_i >= t}) / (1 + n)], with
    straight lines between the knots; beyond, the tail is exponential, so that s goes on as a straight line and has no
    ceiling. s never falls with the statistic.

    Attributes:
        statistic: Knots, ascending, shape (G,).
        surprise: Surprise at each, nats, not descending, shape (G,).
        slope: Rise beyond the last knot, nats per unit of the statistic.

    """

    statistic: Array
    surprise: Array
    slope: float

    @classmethod
    def fit(cls, values: Array, weight: Array, least_scale: float) -> SurpriseScale:
        """Calibrate on readings that the view did not learn from.

        Arguments:
            values: Their statistics, finite, shape (N,), N at least 1.
            weight: Their weights, shape (N,).
            least_scale: Least scale of the tail in units of the statistic: differences far below it say nothing.

        """
        order = np.argsort(values, kind="stable")
        mass = weight[order] * (len(values) / weight.sum())
        at_least = np.cumsum(mass[::-1])[::-1]
        knots, first = np.unique(values[order], return_index=True)
        surprise = -np.log((1 + at_least[first]) / (1 + len(values)))
        share = max(_TAIL_SHARE, min(_FEWEST_TAIL_ROWS / len(values), 0.5))
        inside = at_least[first] >= share * len(values) * (1 - 1e-12)
        start = int(np.flatnonzero(inside)[-1])
        threshold = float(knots[start])
        beyond = values > threshold
        excess = float(weight[beyond] @ (values[beyond] - threshold))
        scale = max(excess / max(float(weight[beyond].sum()), 1e-300), least_scale)
        knots, surprise = knots[: start + 1], np.maximum(surprise[: start + 1], 0.0)
        if len(knots) > _MOST_KNOTS:
            keep = np.unique(np.linspace(0, start, _MOST_KNOTS).round().astype(np.intp))
            knots, surprise = knots[keep], surprise[keep]
        return cls(knots, surprise, 1.0 / scale)

    def __call__(self, values: Array) -> Array:
        """Return the surprise of statistics, nats, shape (N,); never negative."""
        beyond = np.maximum(values - self.statistic[-1], 0.0) * self.slope
        return np.asarray(np.interp(values, self.statistic, self.surprise) + beyond)
