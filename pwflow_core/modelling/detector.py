"""`PiecewiseFlowDetector`: calibrated outlier detection, and which sensor is to blame."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OutlierMixin, clone
from sklearn.utils.validation import check_is_fitted

from pwflow_core.modelling.attribution import SensorAttributor
from pwflow_core.modelling.calibration import calibrate
from pwflow_core.modelling.piecewise import PiecewiseFlow
from pwflow_core.modelling.validation import as_weights

Array = NDArray[np.float64]


class PiecewiseFlowDetector(OutlierMixin, BaseEstimator):  # type: ignore[misc]
    """Flag readings that do not conform to the flows of a `PiecewiseFlow`.

    What is ranked is the log-density by the flows of the clusters alone, without the Gaussians that they are blended
    with and without a flow over all readings: those protect a density where readings drift, but they fill the holes
    in and between regimes, and a reading there is no normal one. A plant's p-values are made from the same.

    Arguments:
        density: The density to fit, a `PiecewiseFlow`; None for the defaults without a shared flow.
        alpha: Share of normal readings that may be flagged.
        random_state: Seed of the density.

    Attributes:
        density_: The fitted `PiecewiseFlow`.
        calibration_: What turns conformity into p-values, from the rows held out from training, or from all when
            there were too few rows to hold any out.
        offset_: Conformity below which a reading is flagged, nats.

    """

    def __init__(
        self,
        density: PiecewiseFlow | None = None,
        *,
        alpha: float = 0.01,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.density = density
        self.alpha = alpha
        self.random_state = random_state

    def fit(self, X: object, y: object = None, sample_weight: object = None) -> Self:
        """Fit the density and calibrate it.

        Arguments:
            X: Readings in raw units, shape (N, D).
            y: Ignored.
            sample_weight: Row weights, shape (N,).

        """
        if not 0 < self.alpha < 1:
            raise ValueError(f"Expected alpha between 0 and 1, got {self.alpha!r}.")
        density = PiecewiseFlow(shared_flow=False) if self.density is None else clone(self.density)
        if self.random_state is not None:
            density.set_params(random_state=self.random_state)
        self.density_ = density.fit(X, sample_weight=sample_weight)
        self.n_features_in_ = density.n_features_in_
        if hasattr(density, "feature_names_in_"):
            self.feature_names_in_ = density.feature_names_in_
        score = self.score_samples(X)
        weight = as_weights(sample_weight, len(score))
        judge = density.held_out_ if density.held_out_.any() else weight > 0
        self.calibration_ = calibrate(score[judge], weight=weight[judge])
        self.offset_ = self.calibration_.limit(self.alpha)
        return self

    def score_samples(self, X: object) -> Array:
        """Evaluate how well readings conform to the flows, nats in raw units, shape (N,); higher is more normal."""
        check_is_fitted(self)
        return self.density_.mixture_.conformity(self.density_._check(X))

    def decision_function(self, X: object) -> Array:
        """Return the conformity above the threshold, nats, shape (N,); negative for outliers."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: object) -> NDArray[np.int64]:
        """Return 1 for normal readings and −1 for outliers, shape (N,)."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def p_values(self, X: object) -> Array:
        """Return the chance that a normal reading is as improbable, shape (N,), above 0 and at most 1.

        By rank among the rows that calibrate, and for the most improbable by the tail that was fitted to them; see
        `Calibration`. Rows are taken as independent.
        """
        scores = self.score_samples(X)
        return self.calibration_.p_values(scores)

    def contributions(self, X: object) -> Array:
        """Tell how much each sensor is to blame, shape (N, D), at least 0.

        The contributions of a reading add up to its anomaly score, -log10 of its p-value.
        """
        check_is_fitted(self)
        attributor = SensorAttributor(self.density_.weights_, self.density_.flows_)
        share = attributor.attribute(self.density_._check(X)).share
        return np.asarray(-np.log10(self.p_values(X))[:, None] * share)
