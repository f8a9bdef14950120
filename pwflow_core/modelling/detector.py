"""`PiecewiseFlowDetector`: calibrated outlier detection, and which sensor is to blame."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OutlierMixin, clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from pwflow_core.modelling.alarms.alarm_score import AlarmScore
from pwflow_core.modelling.alarms.fitting import Judged, Rows, fit_alarm_score, fit_views, judge
from pwflow_core.modelling.alarms.resolution import Resolution
from pwflow_core.modelling.attribution import SensorAttributor
from pwflow_core.modelling.clustering import CANDIDATES
from pwflow_core.modelling.piecewise import PiecewiseFlow
from pwflow_core.modelling.validation import FEWEST_ROWS_TO_SPLIT, as_groups, as_weights, check_finite, held_out_blocks

Array = NDArray[np.float64]

_ROWS_PER_REGIME = 200
_ROWS_PER_DIMENSION = 20
_FOLDS = 5


class PiecewiseFlowDetector(OutlierMixin, BaseEstimator):  # type: ignore[misc]
    """Flag readings that are unlike normal operation, by the alarm score.

    The density of a `PiecewiseFlow` is one of several views; see `RegimeAlarm` and `AlarmScore`. A fifth of fewer than
    1,000 readings, 15% of fewer than 5,000 and a tenth of more teach nothing and calibrate; below 200 readings all
    calibrate, each by models that were fitted without it.

    Arguments:
        density: The density to fit, a `PiecewiseFlow`; None for the defaults without a shared flow, and with no more
            regimes than there are 200 readings, and 20 for each dimension, for each.
        alpha: Share of normal readings that may be flagged.
        random_state: Seed of the density.

    Attributes:
        density_: The fitted `PiecewiseFlow`.
        resolution_: What each sensor resolves.
        alarm_score_: The fitted `AlarmScore`.
        offset_: log(alpha): scores below it are flagged.

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

    def fit(self, X: object, y: object = None, sample_weight: object = None, *, blocks: object = None) -> Self:
        """Fit the density and the alarm score.

        Arguments:
            X: Readings in raw units, in the order of time if they have one, shape (N, D).
            y: Ignored.
            sample_weight: Row weights, shape (N,); a row of weight zero teaches nothing.
            blocks: Stretch of time of each reading, e.g. its day or hour, shape (N,). Readings of a stretch are
                alike: whole stretches calibrate, and count as the independent readings that they are worth.

        Raises:
            ValueError: NaN or infinite values (named by row and column), bad weights, blocks or alpha, no rows.

        """
        if not 0 < self.alpha < 1:
            raise ValueError(f"Expected alpha between 0 and 1, got {self.alpha!r}.")
        matrix: Array = validate_data(self, X, dtype=np.float64, ensure_all_finite=False)
        check_finite(matrix, getattr(self, "feature_names_in_", None))
        weight = as_weights(sample_weight, len(matrix))
        group = None if blocks is None else np.unique(as_groups(blocks, len(matrix), weight), return_inverse=True)[1]
        used = weight > 0
        rows = Rows(matrix[used], weight[used], None if group is None else group[used])
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.resolution_ = Resolution.fit(rows.X)
        if len(rows.X) < FEWEST_ROWS_TO_SPLIT:
            self._fit_few(rows, seed)
        else:
            self._fit_many(rows, seed)
        self.offset_ = float(np.log(self.alpha))
        return self

    def _fit_many(self, rows: Rows, seed: int) -> None:
        """Split the readings: some teach, others calibrate."""
        n_rows = len(rows.X)
        share = 0.2 if n_rows < 1000 else 0.15 if n_rows < 5000 else 0.1
        calibrate = held_out_blocks(n_rows, share, seed + 1)
        learn = _taken(rows, ~calibrate)
        self.density_ = self._fit_density(learn, seed)
        model = self.density_
        views = fit_views(model.weights_, model.flows_, learn, self.resolution_.floor)
        judged = judge(views, model.weights_, model.flows_, _taken(rows, calibrate))
        self.alarm_score_ = fit_alarm_score(views, judged, learn.X, seed, model.mixture_.worth_asking)

    def _fit_few(self, rows: Rows, seed: int) -> None:
        """Let every reading calibrate, judged by models of the others; the last model is fitted to all."""
        n_rows, floor, judged = len(rows.X), self.resolution_.floor, []
        fold = np.arange(n_rows) * min(_FOLDS, n_rows) // n_rows
        for number in np.unique(fold) if n_rows > 1 else []:
            learn = _taken(rows, fold != number)
            model = self._fit_density(learn, seed)
            views = fit_views(model.weights_, model.flows_, learn, floor)
            judged.append(judge(views, model.weights_, model.flows_, _taken(rows, fold == number)))
        self.density_ = self._fit_density(rows, seed)
        model = self.density_
        views = fit_views(model.weights_, model.flows_, rows, floor)
        statistics = [part.statistics for part in judged] or [judge(views, model.weights_, model.flows_, rows).statistics]
        own = model.predict(rows.X)
        self.alarm_score_ = fit_alarm_score(views, Judged(np.concatenate(statistics), own, rows), rows.X, seed)

    def _fit_density(self, rows: Rows, seed: int) -> PiecewiseFlow:
        """Fit the density to readings that are no finer than what the sensors resolve."""
        if self.density is None:
            most = len(rows.X) // max(_ROWS_PER_REGIME, _ROWS_PER_DIMENSION * (rows.X.shape[1] + 1))
            density = PiecewiseFlow(shared_flow=False, candidates=tuple(k for k in CANDIDATES if k <= max(most, 1)))
        else:
            density = clone(self.density)
        if self.density is None or self.random_state is not None:
            density.set_params(random_state=seed)
        noise = np.random.default_rng(seed).standard_normal(rows.X.shape) * self.resolution_.floor
        return density.fit(rows.X + noise, sample_weight=rows.weight)

    def score_samples(self, X: object) -> Array:
        """Return the log of the p-value, nats, shape (N,), at most 0 and without a floor; higher is more normal."""
        check_is_fitted(self)
        return -self.alarm_score_.surprises(self._check(X), self.density_.mixture_.worth_asking)

    def decision_function(self, X: object) -> Array:
        """Return the log of the p-value over alpha, nats, shape (N,); negative for outliers."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: object) -> NDArray[np.int64]:
        """Return 1 for normal readings and −1 for outliers, shape (N,)."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def p_values(self, X: object) -> Array:
        """Return the chance that a normal reading is as odd, shape (N,), above 0 and at most 1; see `AlarmScore`."""
        check_is_fitted(self)
        return self.alarm_score_.p_values(self._check(X), self.density_.mixture_.worth_asking)

    def contributions(self, X: object) -> Array:
        """Tell how much each sensor is to blame, shape (N, D), at least 0.

        The contributions of a reading add up to its anomaly score, -log10 of its p-value.
        """
        check_is_fitted(self)
        attributor = SensorAttributor(self.density_.weights_, self.density_.flows_)
        share = attributor.attribute(self._check(X)).share
        return np.asarray(-np.log10(self.p_values(X))[:, None] * share)

    def _check(self, X: object) -> Array:
        matrix: Array = validate_data(self, X, reset=False, dtype=np.float64, ensure_all_finite=False)
        check_finite(matrix, getattr(self, "feature_names_in_", None))
        return matrix


def _taken(rows: Rows, keep: NDArray[np.bool_]) -> Rows:
    return Rows(rows.X[keep], rows.weight[keep], None if rows.block is None else rows.block[keep])
