r"""How far a regime lies below the others: what a p-value within the regime forgets.

A loose regime, such as one that faults of the history have made, calls its own readings normal however improbable they
are beside those of all other regimes. The *level* of a reading is the log-density of its regime with the regime's
weight, log w_k + log p_k(x), and the share of all readings that lie at most as high is

    q(x) = sum_{j != k} w_j F_j(level) + w_k p_k(x)

with F_j the share of the readings of regime j, and p_k the p-value within the own one. p_k and q are merged by dividing
the odds of each by its weight and taking the smaller. With weights that sum to 1, the chance of a merged p of at most a
is at most a, whatever the dependence, but for an excess below a^2 / 2. As the two mostly agree it is less, so that the
weights, .7 and .3, are raised by the same factor until .1 holds on the readings that levels are learned from.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

__all__ = ["Levels", "fit_levels", "largest_merged"]

Array = NDArray[np.float64]

_OWN_WEIGHT = 0.7
_MOST_STEPS = 400
_AT = 0.1


@dataclass(frozen=True, eq=False)
class Levels:
    """Where the readings of the regimes of a segment lie.

    Attributes:
        level: Lower ends of steps, ascending from −inf, nats, shape (G,).
        below: Up to the next step, the share of all readings that are of another regime and lie at most as high,
            shape (G, K).
        weights: Weight of each regime among the readings, shape (K,); they sum to 1.
        own_weight: Weight of the p-value within the regime.
        share_weight: Weight of the share among all readings.
    """

    level: Array
    below: Array
    weights: Array
    own_weight: float = _OWN_WEIGHT
    share_weight: float = 1.0 - _OWN_WEIGHT

    def share_below(self, regime: NDArray[np.intp], level: Array) -> Array:
        """Return the share of all readings that are of another regime and lie at most as high, shape (N,).

        Arguments:
            regime: Regime of each reading, 0 to K − 1, shape (N,).
            level: Its level, nats, shape (N,).
        """
        return self.below[np.searchsorted(self.level, level, side="right") - 1, regime]

    def p_values(self, own: Array, regime: NDArray[np.intp], level: Array) -> Array:
        """Merge the p-values of readings within their regimes with the share among all, shape (N,) each."""
        share = np.minimum(self.share_below(regime, level) + self.weights[regime] * own, 1.0)
        return np.minimum(_weighted(own, self.own_weight), _weighted(share, self.share_weight))

    def surprises(self, own: Array, regime: NDArray[np.intp], level: Array) -> Array:
        """Do the same for −log p, nats, without a floor of p, shape (N,) each."""
        with np.errstate(divide="ignore"):
            share = np.logaddexp(np.log(self.share_below(regime, level)), np.log(self.weights[regime]) - own)
        return np.maximum(
            _weighted_surprise(own, self.own_weight),
            _weighted_surprise(np.maximum(-share, 0.0), self.share_weight),
        )


def fit_levels(own: Array, regime: NDArray[np.intp], level: Array, weights: Array) -> Levels:
    """Learn where the readings of the regimes lie.

    F_j counts the reading that is judged as one more of regime j, so that a regime of which nothing is known lowers no
    p-value.

    Arguments:
        own: p-values, within their regimes, of readings that no flow learned from, shape (N,).
        regime: Regime of each, 0 to K − 1, shape (N,).
        level: Level of each, nats, shape (N,).
        weights: Weight of each regime, shape (K,); they sum to 1.
    """
    n_regimes = len(weights)
    step = weights / (1.0 + np.bincount(regime, minlength=n_regimes))
    order = np.argsort(level, kind="stable")
    ordered = level[order]
    up_to = np.cumsum((regime[order][:, None] == np.arange(n_regimes)) * step, axis=0)
    up_to = np.concatenate([np.zeros((1, n_regimes)), up_to]) + step
    below = up_to @ (1.0 - np.eye(n_regimes))
    last = np.flatnonzero(np.append(ordered[1:] > ordered[:-1], True)) if len(ordered) else np.empty(0, np.intp)
    if len(last) > _MOST_STEPS:  # finest at the lower end; between two of these the share is that of the upper one
        last = last[np.unique(np.geomspace(1, len(last), _MOST_STEPS).round().astype(np.intp)) - 1]
    before = np.append(0, last[:-1] + 1) if len(last) else last
    levels = Levels(np.append(-np.inf, ordered[before]), below[np.append(0, last + 1)], weights)
    if not len(own):
        return levels
    found = float(np.mean(levels.p_values(own, regime, level) <= _AT))
    found += float(np.sqrt(found * (1.0 - found) / len(own)))
    scale = min(max(found / _AT, _OWN_WEIGHT), 1.0)
    return replace(levels, own_weight=levels.own_weight / scale, share_weight=levels.share_weight / scale)


def largest_merged(own: Array) -> Array:
    """Return the largest p-values that merging can make of those within regimes, shape (N,)."""
    return _weighted(own, _OWN_WEIGHT)


def _weighted(p: Array, weight: float) -> Array:
    return np.asarray(p / (p + weight * (1.0 - p)))


def _weighted_surprise(surprise: Array, weight: float) -> Array:
    return np.asarray(surprise + np.log(weight + (1.0 - weight) * np.exp(-surprise)))
