r"""How far a regime lies below the others: what a p-value within the regime forgets.

A loose regime, such as one that faults of the history have made, calls its own readings normal however improbable they
are beside those of all other regimes. The *level* of a reading is the log-density of its regime with the regime's
weight, log w_k + log p_k(x), and the share of all readings that lie at most as high is

    q(x) = sum_{j != k} w_j F_j(level) + w_k p_k(x)

with F_j the share of the readings of regime j, and p_k the p-value within the own one. p_k and q are merged by dividing
the odds of each by its weight, .7 and .3, and taking the smaller. With weights that sum to 1, the chance that the
result is at most a is at most a, whatever the dependence, but for an excess below a^2 / 2. As the two mostly agree it
is less, by how much depends on a. So the values that .1, .2, ... of the readings that levels are learned from lie below
become .1, .2, ..., with straight lines between them and towards 0.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

__all__ = ["OWN_WEIGHT", "Levels", "fit_levels", "largest_merged"]

Array = NDArray[np.float64]

OWN_WEIGHT = 0.7
"""Weight of the p-value within the regime; the rest is that of the share among all readings."""

_MOST_STEPS = 400
_HELD = np.arange(1, 10) / 10


@dataclass(frozen=True, eq=False)
class Levels:
    """Where the readings of the regimes of a segment lie.

    Attributes:
        level: Lower ends of steps, ascending from −inf, nats, shape (G,).
        below: Up to the next step, the share of all readings that are of another regime and lie at most as high,
            shape (G, K).
        weights: Weight of each regime among the readings, shape (K,); they sum to 1.
        merged: Values of the smaller of the weighted two, ascending from 0 to 1, shape (S,).
        p_value: What p-value each of them is, ascending from 0 to 1, shape (S,); a straight line in between.
    """

    level: Array
    below: Array
    weights: Array
    merged: Array = field(default_factory=lambda: np.array([0.0, 1.0]))
    p_value: Array = field(default_factory=lambda: np.array([0.0, 1.0]))

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
        merged = np.minimum(_weighted(own, OWN_WEIGHT), _weighted(share, 1.0 - OWN_WEIGHT))
        return np.interp(merged, self.merged, self.p_value)

    def surprises(self, own: Array, regime: NDArray[np.intp], level: Array) -> Array:
        """Do the same for −log p, nats, without a floor of p, shape (N,) each."""
        with np.errstate(divide="ignore"):
            share = np.logaddexp(np.log(self.share_below(regime, level)), np.log(self.weights[regime]) - own)
        merged = np.maximum(
            _weighted_surprise(own, OWN_WEIGHT),
            _weighted_surprise(np.maximum(-share, 0.0), 1.0 - OWN_WEIGHT),
        )
        line = np.interp(np.exp(-merged), self.merged, self.p_value)
        is_first = merged >= -np.log(self.merged[1])
        with np.errstate(divide="ignore"):
            return np.where(is_first, merged - np.log(self.p_value[1] / self.merged[1]), -np.log(line))


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
    merged, p_value = _straighten(levels.p_values(own, regime, level))
    return replace(levels, merged=merged, p_value=p_value)


def largest_merged(own: Array) -> Array:
    """Return the largest p-values that merging can make of those within regimes, shape (N,)."""
    return _weighted(own, OWN_WEIGHT)


def _straighten(found: Array) -> tuple[Array, Array]:
    """Return merged values and the p-values that they are, so that each of `_HELD` holds but for one standard error.

    No p-value becomes larger than what was merged, and none smaller than the p-value within the regime.
    """
    error = np.sqrt(_HELD * (1.0 - _HELD) / len(found))
    at = np.quantile(found, np.maximum(_HELD - error, 0.0))
    at = np.clip(at, _HELD, largest_merged(_HELD))
    return np.concatenate([[0.0], at, [1.0]]), np.concatenate([[0.0], _HELD, [1.0]])


def _weighted(p: Array, weight: float) -> Array:
    return np.asarray(p / (p + weight * (1.0 - p)))


def _weighted_surprise(surprise: Array, weight: float) -> Array:
    return np.asarray(surprise + np.log(weight + (1.0 - weight) * np.exp(-surprise)))
