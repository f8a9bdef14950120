"""Learn an alarm score: which regimes are sound, what their views have seen, and how far each is trusted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pwflow_core.modelling.alarms.alarm_score import AlarmScore
from pwflow_core.modelling.alarms.evidence import FEWEST_ROWS, trust
from pwflow_core.modelling.alarms.regime_alarm import RegimeAlarm, fit_scales, merged, scaled
from pwflow_core.modelling.alarms.views import VIEWS, RegimeViews
from pwflow_core.modelling.calibration import calibrate
from pwflow_core.modelling.flow import ClusterFlow

Array = NDArray[np.float64]

_MOST_REFERENCES = 2000
_FEWEST_REFERENCES = 256
_FEWEST_TO_LEARN = 20
_LEAST_SHARE = 0.01
_LOOSE_SHARE, _LOOSE_QUANTILE = 0.05, 0.05


@dataclass(frozen=True, eq=False)
class Rows:
    """Readings for the alarm score.

    Attributes:
        X: Raw units, shape (N, D).
        weight: Above zero, shape (N,).
        block: Stretch of time of each, shape (N,); None where readings are independent.

    """

    X: Array
    weight: Array
    block: NDArray[np.intp] | None = None


@dataclass(frozen=True, eq=False)
class Judged:
    """Statistics of readings that taught no view.

    Attributes:
        statistics: Of the views of the reading's own regime, shape (N, V).
        regime: That regime, shape (N,).
        rows: The readings.

    """

    statistics: Array
    regime: NDArray[np.intp]
    rows: Rows


def fit_views(
    weights: Array, flows: Sequence[ClusterFlow], learn: Rows, floor: Array
) -> list[RegimeViews | None]:
    """Learn the views of each regime from its own readings; None for one that is not sound."""
    joint = _log_joint(weights, flows, learn.X)
    own, sound = joint.argmax(axis=1), sound_regimes(joint, learn.weight)
    most = max(_FEWEST_REFERENCES, _MOST_REFERENCES // int(sound.sum()))
    views: list[RegimeViews | None] = []
    for k, flow in enumerate(flows):
        mine = own == k
        views.append(RegimeViews.fit(flow, learn.X[mine], learn.weight[mine], floor, most) if sound[k] else None)
    return views


def sound_regimes(joint: Array, weight: Array) -> NDArray[np.bool_]:
    """Tell which regimes may call a reading normal, shape (K,); at least one may.

    Not one with fewer than 20 readings or 1% of them, and not a small one that lies loose far below the others: with
    less than 5% of the readings, the median of them less dense than 95% of all others. What was wrong for a while ends
    in such a regime, and a p-value within it would forget how far it lies below.

    Arguments:
        joint: log w_k + log p_k(x) of the readings, nats, shape (N, K).
        weight: Their weights, shape (N,).

    """
    own, density = joint.argmax(axis=1), joint.max(axis=1)
    share = np.bincount(own, weights=weight, minlength=joint.shape[1]) / weight.sum()
    count = np.bincount(own, minlength=joint.shape[1])
    sound = (share >= _LEAST_SHARE) & (count >= _FEWEST_TO_LEARN)
    for k in np.flatnonzero(sound & (share < _LOOSE_SHARE)):
        if np.median(density[own == k]) < np.quantile(density[own != k], _LOOSE_QUANTILE):
            sound[k] = False
    if not sound.any():
        sound[share.argmax()] = True
    return np.asarray(sound)


def judge(views: Sequence[RegimeViews | None], weights: Array, flows: Sequence[ClusterFlow], rows: Rows) -> Judged:
    """Evaluate the views of each reading's own regime."""
    own = _log_joint(weights, flows, rows.X).argmax(axis=1)
    statistics = np.full((len(own), len(VIEWS)), np.nan)
    for k, view in enumerate(views):
        if view is not None and (own == k).any():
            statistics[own == k] = view.statistics(rows.X[own == k])
    return Judged(statistics, own, rows)


def fit_alarm_score(
    views: Sequence[RegimeViews | None],
    judged: Judged,
    others: Array,
    random_state: int,
    screen: Callable[[Array], NDArray[np.bool_]] | None = None,
) -> AlarmScore:
    """Calibrate and weigh the views of each regime, and the whole.

    A regime with fewer than 50 readings to calibrate on is calibrated together with all others, and trusts its views
    alike.

    Arguments:
        views: Of each regime, None where it is not sound.
        judged: Readings that taught no view.
        others: Readings of all regimes, to make faults from, shape (M, D).
        random_state: Seed of the faults.
        screen: Tells which regimes are worth asking about readings, shape (N, K), for the calibration of the whole;
            without it each regime's own calibration is all there is.

    """
    rng = np.random.default_rng(random_state)
    known = np.isfinite(judged.statistics).all(axis=1)
    regimes: list[RegimeAlarm | None] = []
    for k, view in enumerate(views):
        if view is None:
            regimes.append(None)
            continue
        mine = judged.regime == k
        alone = mine.sum() >= FEWEST_ROWS
        use = mine if alone else known
        statistics, weight = judged.statistics[use], judged.rows.weight[use]
        scales, weights = fit_scales(statistics, weight), np.full(len(VIEWS), 1 / len(VIEWS))
        if alone:
            X = judged.rows.X[use]
            weights = trust(view.statistics, X, statistics, others, view.margins.spread, rng)
        total = merged(scaled(scales, statistics), weights)
        blocks = None if judged.rows.block is None else judged.rows.block[use]
        regimes.append(RegimeAlarm(view, scales, weights, calibrate(-total, blocks=blocks, weight=weight)))
    score = AlarmScore(tuple(regimes), None)
    if screen is None or len(views) == 1:
        return score
    least = score.least_surprises(judged.rows.X, screen)
    return replace(score, calibration=calibrate(-least, blocks=judged.rows.block, weight=judged.rows.weight))


def _log_joint(weights: Array, flows: Sequence[ClusterFlow], X: Array) -> Array:
    return np.stack([flow.log_prob(X) for flow in flows], axis=1) + np.log(weights)
