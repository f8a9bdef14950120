"""The alarm score of one regime: its views, each calibrated by itself, merged, and calibrated together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from pwflow_core.modelling.alarms.scale import SurpriseScale
from pwflow_core.modelling.alarms.views import LEAST_SCALES, VIEWS, RegimeViews
from pwflow_core.modelling.calibration import Calibration, calibrate

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RegimeAlarm:
    r"""How improbable a reading is as a normal reading of one regime.

    Each view's statistic becomes a surprise s_v = -log p_v by itself. They are merged as

        T = log sum_v w_v exp(s_v)

    which is minus the log of the weighted harmonic mean of the p_v: T is large where any view that is trusted is
    surprised, and for p-values of any dependence the harmonic mean is at most a factor of about log(number of views)
    off (Wilson 2019; Vovk and Wang 2020). That factor does not matter here, for T is calibrated once more, by rank on
    readings that taught no view: whatever the views have in common, the p-value keeps its promise.

    All of this belongs to the regime alone: it does not change when another regime is trained again.

    Attributes:
        views: The views.
        scales: Scale of each view.
        weights: Trust in each view, shape (V,); they sum to 1.
        calibration: Of −T.

    """

    views: RegimeViews
    scales: tuple[SurpriseScale, ...]
    weights: Array
    calibration: Calibration

    def view_surprises(self, X: Array) -> Array:
        """Return the surprise of every view, nats, shape (N, V)."""
        return scaled(self.scales, self.views.statistics(X))

    def surprise(self, X: Array) -> Array:
        """Return −log p, nats, shape (N,): without a ceiling, so that what lies further out is more surprising."""
        return self.calibration.surprises(-merged(self.view_surprises(X), self.weights))


def scaled(scales: tuple[SurpriseScale, ...], statistics: Array) -> Array:
    """Turn statistics of the views into surprises, nats, shape (N, V)."""
    return np.stack([scale(statistics[:, v]) for v, scale in enumerate(scales)], axis=1)


def merged(surprises: Array, weights: Array) -> Array:
    """Merge surprises (N, V) into T, nats, shape (N,)."""
    return np.asarray(logsumexp(surprises, axis=1, b=weights))


def fit_scales(statistics: Array, weight: Array) -> tuple[SurpriseScale, ...]:
    """Calibrate each view by itself on statistics (N, V) of readings that taught none."""
    return tuple(SurpriseScale.fit(statistics[:, v], weight, float(LEAST_SCALES[v])) for v in range(len(VIEWS)))
