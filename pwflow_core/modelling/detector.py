"""`PiecewiseFlowDetector`: calibrated outlier detection, and which sensor caused an anomaly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OutlierMixin, clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from pwflow_core.modelling.alarms.alarm_score import AlarmScore, fit_alarm_score
from pwflow_core.modelling.alarms.resolution import Resolution
from pwflow_core.modelling.alarms.views import Views
from pwflow_core.modelling.attribution import SensorAttributor
from pwflow_core.modelling.estimator import checked_rows
from pwflow_core.modelling.piecewise import PiecewiseFlow
from pwflow_core.modelling.serialization import pack, unpack
from pwflow_core.modelling.validation import as_groups, as_weights, distinct_rows, held_out_blocks

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
        contamination: Instead of `alpha`, the share of the training rows that is flagged, above 0 and at most 0.5, as
            in scikit-learn and PyOD: for training rows of which that share are known to be outliers.
        random_state: Seed of the density.

    Attributes:
        density_: The fitted `PiecewiseFlow`.
        resolution_: What each sensor resolves.
        alarm_score_: The fitted `AlarmScore`.
        offset_: Scores below it are flagged: log(alpha), or what `contamination` of the training rows lie below.
        decision_scores_: −log p of the training rows, nats, shape (N,): the higher, the more unusual, as in PyOD.
        labels_: 1 for training rows that are flagged, else 0, shape (N,), as in PyOD.

    """

    def __init__(
        self,
        density: PiecewiseFlow | None = None,
        *,
        alpha: float = 0.01,
        contamination: float | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.density = density
        self.alpha = alpha
        self.contamination = contamination
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
            ValueError: A wrong parameter, a column of text (named), NaN or infinite values (named by row and column),
                bad weights or blocks, no rows.

        """
        self._check_parameters()
        matrix = checked_rows(self, X, reset=True)
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
        scores = -self.alarm_score_.surprises(matrix)
        self.offset_ = float(np.log(self.alpha))
        if self.contamination is not None:
            self.offset_ = float(np.percentile(scores, 100 * self.contamination))
        self.decision_scores_, self.labels_ = -scores, (scores < self.offset_).astype(np.int64)
        return self

    def _check_parameters(self) -> None:
        if not 0 < self.alpha < 1:
            raise ValueError(f"Expected alpha between 0 and 1, got {self.alpha!r}.")
        if self.contamination is not None and not 0 < self.contamination <= 0.5:
            raise ValueError(f"Expected contamination above 0 and at most 0.5, or None, got {self.contamination!r}.")
        if self.density is not None and not isinstance(self.density, PiecewiseFlow):
            raise ValueError(f"Expected density to be a PiecewiseFlow or None, got {self.density!r}.")

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
        """Fit the density to readings that are not finer than what the sensors resolve, and the views to all."""
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

    def contributions(self, X: object) -> Array | pd.DataFrame:
        """Tell how much each sensor contributes to a reading being unusual, at least 0.

        The contributions of a reading add up to its anomaly score, -log10 of its p-value.

        Arguments:
            X: Readings in raw units, shape (N, D).

        Returns:
            Contributions, shape (N, D). For a data frame: a frame with its index and, below `contribution`,
            `observed`, `expected`, `low` and `high`, one column per sensor; `low` and `high` are the 5% and 95%
            quantiles of what was expected given the other sensors.

        """
        check_is_fitted(self)
        matrix = self._check(X)
        found = SensorAttributor(self.density_.weights_, self.density_.flows_).attribute(matrix)
        contribution: Array = -np.log10(self.alarm_score_.p_values(matrix))[:, None] * found.share
        if not isinstance(X, pd.DataFrame):
            return contribution
        parts = {"contribution": contribution} | {
            name: getattr(found, name) for name in ("observed", "expected", "low", "high")
        }
        frames = {name: pd.DataFrame(part, X.index, X.columns) for name, part in parts.items()}
        return cast("pd.DataFrame", pd.concat(frames, axis=1))

    def save(self, path: str | Path) -> None:
        """Write the fitted detector with its parameters as one safetensors file; of a seed, only a number is kept."""
        check_is_fitted(self)
        tensors: dict[str, NDArray[Any]] = {
            "density": np.frombuffer(self.density_.to_bytes(), np.uint8),
            "alarm_score": np.frombuffer(self.alarm_score_.to_bytes(), np.uint8),
            "resolution.step": self.resolution_.step,
            "resolution.floor": self.resolution_.floor,
            "decision_scores": self.decision_scores_,
        }
        document = {
            "density": None if self.density is None else self.density.described_parameters(),
            "alpha": self.alpha,
            "contamination": self.contamination,
            "random_state": int(self.random_state) if isinstance(self.random_state, int | np.integer) else None,
            "offset": self.offset_,
            "feature_names": list(getattr(self, "feature_names_in_", [])),
        }
        Path(path).write_bytes(pack("piecewise_flow_detector", tensors, document))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a detector that `save` wrote; it has the same parameters and scores bit-equal.

        Raises:
            ModelFileError: The file is damaged or of another kind.

        """
        arrays, document = unpack(Path(path).read_bytes(), "piecewise_flow_detector")
        template = document["density"]
        model = cls(
            None if template is None else PiecewiseFlow.from_described(template),
            alpha=document["alpha"],
            contamination=document["contamination"],
            random_state=document["random_state"],
        )
        model.density_ = PiecewiseFlow.from_bytes(arrays["density"].tobytes())
        model.alarm_score_ = AlarmScore.from_bytes(arrays["alarm_score"].tobytes(), model.density_.mixture_)
        model.resolution_ = Resolution(arrays["resolution.step"], arrays["resolution.floor"])
        model.offset_ = document["offset"]
        model.decision_scores_ = arrays["decision_scores"]
        model.labels_ = (-model.decision_scores_ < model.offset_).astype(np.int64)
        model.n_features_in_ = model.density_.n_features_in_
        if document["feature_names"]:
            model.feature_names_in_ = np.array(document["feature_names"], dtype=object)
        return model

    def _check(self, X: object) -> Array:
        return checked_rows(self, X, reset=False)


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
