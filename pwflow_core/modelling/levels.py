r"""How far a regime lies below the others: what a p-value within the regime forgets.

A loose regime, such as one that faults of the history have made, calls its own readings normal however improbable they
are beside those of all other regimes. The *level* of a reading is the log-density of its regime with the regime's
weight, log w_k + log p_k(x), and the share of all readings that lie at most as high is

    q(x) = sum_{j != k} w_j F_j(level) + w_k p_k(x)

with F_j the share of the readings of regime j, and p_k the p-value within the own one. p_k and q are merged by dividing
the odds of each by its weight, .9 and .1, and taking the smaller. For p-values of any dependence the chance of a merged
p of at most a is at most a, but for an excess below a^2 / 5.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["OWN_WEIGHT", "Levels", "fit_levels", "merge_p_values", "merge_surprises"]

Array = NDArray[np.float64]

OWN_WEIGHT = 0.9
"""Weight of the p-value within the regime; the rest is that of the level among all regimes."""

_MOST_STEPS = 400


@dataclass(frozen=True, eq=False)
class Levels:
    """Where the readings of the regimes of a segment lie.

    Attributes:
        level: Lower ends of steps, ascending from −inf, nats, shape (G,).
        below: Up to the next step, the share of all readings that are of another regime and lie at most as high,
            shape (G, K).
        weights: Weight of each regime, shape (K,); they sum to 1.
    """

    level: Array
    below: Array
    weights: Array

    def share_below(self, regime: NDArray[np.intp], level: Array) -> Array:
        """Return the share of all readings that are of another regime and lie at most as high, shape (N,).

        Arguments:
            regime: Regime of each reading, 0 to K − 1, shape (N,).
            level: Its level, nats, shape (N,).
        """
        return self.below[np.searchsorted(self.level, level, side="right") - 1, regime]


def fit_levels(level: Array, regime: NDArray[np.intp], weights: Array) -> Levels:
    """Learn where the readings of the regimes lie.

    F_j counts the reading that is judged as one more of regime j, so that a regime of which nothing is known lowers no
    p-value.

    Arguments:
        level: Levels of readings that no flow learned from, nats, shape (N,).
        regime: Regime of each, 0 to K − 1, shape (N,).
        weights: Weight of each regime, shape (K,).
    """
    n_regimes = len(weights)
    step = weights / (1.0 + np.bincount(regime, minlength=n_regimes))
    order = np.argsort(level, kind="stable")
    ordered = level[order]
    own = np.cumsum((regime[order][:, None] == np.arange(n_regimes)) * step, axis=0)
    own = np.concatenate([np.zeros((1, n_regimes)), own]) + step
    below = own @ (1.0 - np.eye(n_regimes))
    last = np.flatnonzero(np.append(ordered[1:] > ordered[:-1], True)) if len(ordered) else np.empty(0, np.intp)
    if len(last) > _MOST_STEPS:  # finest at the lower end; between two of these the share is that of the upper one
        last = last[np.unique(np.geomspace(1, len(last), _MOST_STEPS).round().astype(np.intp)) - 1]
    before = np.append(0, last[:-1] + 1) if len(last) else last
    edges = np.append(-np.inf, ordered[before])
    return Levels(edges, below[np.append(0, last + 1)], weights)


def merge_p_values(own: Array, share: Array) -> Array:
    """Merge p-values within regimes and among all of them, shape (N,) each."""
    return np.minimum(_weighted(own, OWN_WEIGHT), _weighted(share, 1.0 - OWN_WEIGHT))


def merge_surprises(own: Array, share: Array) -> Array:
    """Do the same for −log p, nats, without a floor of p, shape (N,) each."""
    return np.maximum(_weighted_surprise(own, OWN_WEIGHT), _weighted_surprise(share, 1.0 - OWN_WEIGHT))


def _weighted(p: Array, weight: float) -> Array:
    return np.asarray(p / (p + weight * (1.0 - p)))


def _weighted_surprise(surprise: Array, weight: float) -> Array:
    return np.asarray(surprise + np.log(weight + (1.0 - weight) * np.exp(-surprise)))
