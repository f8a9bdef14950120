"""`PiecewiseFlowDetector`: calibrated outlier detection, and which sensor is to blame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OutlierMixin, clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from pwflow_core.modelling.alarms.alarm_score import fit_alarm_score
from pwflow_core.modelling.alarms.resolution import Resolution
from pwflow_core.modelling.alarms.views import Views
from pwflow_core.modelling.attribution import SensorAttributor
from pwflow_core.modelling.piecewise import PiecewiseFlow
from pwflow_core.modelling.validation import as_groups, as_weights, check_finite, distinct_rows, held_out_blocks

Array = NDArray[np.float64]

_FOLDS = 5
_FEWEST_TO_FOLD = 20
_FEWEST_TO_SPLIT = 500
_FEWEST_BLOCKS = 10


class PiecewiseFlowDetector(OutlierMixin, BaseEstimator):  # type: ignore[misc]
    """Flag readings that are unlike normal operation, by the alarm score.

    How badly a reading conforms to the flows of a `PiecewiseFlow` is one of several views; how far it is from the
    nearest normal readings and how far out each sensor lies are others; see `AlarmScore`. A fifth of fewer than
    1,000 readings, 15% of fewer than 5,000 and a tenth of more teach nothing and calibrate; below 500 readings all
    calibrate, each by models that were fitted without it, and below 20 by one that was fitted with it.

    Arguments:
        density: The density to fit, a `PiecewiseFlow`; None for the defaults without a shared flow.
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
        rows = _Rows(matrix[used], weight[used], None if group is None else group[used])
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        fit = self._fit_many
        if len(rows.X) < _FEWEST_TO_SPLIT:
            rows, fit = rows.distinct(), self._fit_few
        self.resolution_ = Resolution.fit(rows.X)
        fit(rows, seed)
        self.offset_ = float(np.log(self.alpha))
        return self

    def _fit_many(self, rows: _Rows, seed: int) -> None:
        """Split the readings: some teach, others calibrate."""
        judge = _calibration_rows(rows, seed)
        learn, fresh = rows.taken(~judge), rows.taken(judge)
        self.density_, views = self._fit_views(learn, seed)
        statistics = views.statistics(fresh.X)
        self.alarm_score_ = fit_alarm_score(
            views, statistics, fresh.X, fresh.weight, learn.X, blocks=fresh.stretch, random_state=seed
        )

    def _fit_few(self, rows: _Rows, seed: int) -> None:
        """Let every reading calibrate, judged by models of the others; the last model is fitted to all."""
        n_rows = len(rows.X)
        fold = np.arange(n_rows) * min(_FOLDS, n_rows) // n_rows
        self.density_, views = self._fit_views(rows, seed)
        statistics = views.statistics(rows.X)
        for number in np.unique(fold) if n_rows >= _FEWEST_TO_FOLD else []:
            others = self._fit_views(rows.taken(fold != number), seed)[1]
            statistics[fold == number] = others.statistics(rows.X[fold == number])
        self.alarm_score_ = fit_alarm_score(
            views, statistics, rows.X, rows.weight, rows.X, blocks=rows.stretch, random_state=seed
        )

    def _fit_views(self, rows: _Rows, seed: int) -> tuple[PiecewiseFlow, Views]:
        """Fit the density to readings that are no finer than what the sensors resolve, and the views to all."""
        density = PiecewiseFlow(shared_flow=False) if self.density is None else clone(self.density)
        if self.density is None or self.random_state is not None:
            density.set_params(random_state=seed)
        noise = np.empty(rows.X.shape)
        noise[np.lexsort(rows.X.T)] = np.random.default_rng(seed).standard_normal(rows.X.shape)
        density.fit(rows.X + noise * self.resolution_.floor, sample_weight=rows.weight)
        return density, Views.fit(density.mixture_, rows.X, rows.weight, self.resolution_.floor)

    def score_samples(self, X: object) -> Array:
        """Return the log of the p-value, nats, shape (N,), at most 0 and without a floor; higher is more normal."""
        check_is_fitted(self)
        return -self.alarm_score_.surprises(self._check(X))

    def decision_function(self, X: object) -> Array:
        """Return the log of the p-value over alpha, nats, shape (N,); negative for outliers."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: object) -> NDArray[np.int64]:
        """Return 1 for normal readings and −1 for outliers, shape (N,)."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def p_values(self, X: object) -> Array:
        """Return the chance that a normal reading is as unusual, shape (N,), above 0 and at most 1."""
        check_is_fitted(self)
        return self.alarm_score_.p_values(self._check(X))

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


@dataclass(frozen=True, eq=False)
class _Rows:
    """Readings with a weight, and the stretch of time of each where they have one."""

    X: Array
    weight: Array
    block: NDArray[np.intp] | None

    @property
    def stretch(self) -> NDArray[np.intp] | None:
        """Return what counts as one independent reading at most: a block or, without blocks, a run of equal rows."""
        if self.block is not None or len(self.X) < 2:
            return self.block
        repeats = (self.X[1:] == self.X[:-1]).all(axis=1)
        return np.cumsum(np.append(False, ~repeats)) if repeats.any() else None

    def distinct(self) -> _Rows:
        """Return each reading once with the weight of all its repeats; too few to fold are ordered by their values."""
        groups = () if self.block is None else (self.block,)
        pick, total, _ = distinct_rows(self.X, self.weight, *groups, max_rows=len(self.X))
        if len(pick) < _FEWEST_TO_FOLD:
            order = np.lexsort(self.X[pick].T)
            pick, total = pick[order], total[order]
        return _Rows(self.X[pick], total, None if self.block is None else self.block[pick])

    def taken(self, keep: NDArray[np.bool_]) -> _Rows:
        return _Rows(self.X[keep], self.weight[keep], None if self.block is None else self.block[keep])


def _calibration_rows(rows: _Rows, seed: int) -> NDArray[np.bool_]:
    """Choose the readings that calibrate: contiguous stretches, or whole blocks spread evenly over those given."""
    n_rows = len(rows.X)
    share = 0.2 if n_rows < 1000 else 0.15 if n_rows < 5000 else 0.1
    if rows.block is None:
        return held_out_blocks(n_rows, share, seed + 1)
    n_blocks = int(rows.block.max()) + 1
    if n_blocks < _FEWEST_BLOCKS:
        return held_out_blocks(n_rows, share, seed + 1)
    chosen = np.linspace(0, n_blocks - 1, max(2, round(share * n_blocks))).round()
    return np.isin(rows.block, chosen)
