"""The views: several ways of looking at a reading, each a statistic that is large where it is odd."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pwflow_core.modelling.alarms.conformity import Conformity
from pwflow_core.modelling.alarms.margins import Margins
from pwflow_core.modelling.alarms.neighbours import Neighbours, whitening_matrix
from pwflow_core.modelling.mixture import FlowMixture

Array = NDArray[np.float64]

VIEWS = ("conformity", "margins", "neighbours", "white_neighbours", "ranked_neighbours")
LEAST_SCALES = np.array([0.5, 0.2, 0.05, 0.05, 0.05])  # of the tail of each view, in its unit
_RIDGE = 0.1
_MOST_ROWS = 5000  # that the whitenings learn from
_MOST_REFERENCES = 2000
_RANK_FLOOR = 0.01  # normal scores
_NEAR = 0.02  # standard deviations: what is nearer than this is equally near


@dataclass(frozen=True, eq=False)
class Views:
    """Views of a plant, or of one regime if the mixture has one cluster and the readings are its own.

    `conformity`: minus the log-density by the flows. `margins`: the sum of each sensor's own surprise. `neighbours`:
    logarithm of the distance to the nearest normal readings, in standard deviations of the sensors;
    `white_neighbours`: the same in the space in which the correlations within regimes are undone, down to what the
    sensors resolve; `ranked_neighbours`: that of the normal scores, so that skewed and zero-inflated sensors count as
    others do.

    Attributes:
        conformity: View of the flows.
        margins: View of each sensor by itself.
        neighbours: The three views by distance, in the order of `VIEWS`.

    """

    conformity: Conformity
    margins: Margins
    neighbours: tuple[Neighbours, Neighbours, Neighbours]

    @classmethod
    def fit(cls, mixture: FlowMixture, X: Array, weight: Array, floor: Array) -> Views:
        """Learn the views.

        Arguments:
            mixture: The flows.
            X: Normal readings, raw units, shape (N, D).
            weight: Their weights, above zero, shape (N,).
            floor: Resolution of each sensor, raw units, above zero, shape (D,).

        """
        margins = Margins.fit(X, weight, floor)
        some = np.linspace(0, len(X) - 1, min(len(X), _MOST_ROWS)).round().astype(np.intp)
        score = margins.evaluate(X[some])[1]
        regime = np.stack([flow.log_prob(X[some]) for flow in mixture.flows[: mixture.n_clusters]], axis=1)
        regime = (regime + np.log(mixture.weights[: mixture.n_clusters])).argmax(axis=1)
        rank_floor = np.full(X.shape[1], _RANK_FLOOR)
        maps = (
            np.diag(1 / margins.spread),
            whitening_matrix(X[some], weight[some], regime, floor, _RIDGE),
            whitening_matrix(score, weight[some], regime, rank_floor, _RIDGE),
        )
        scaled, white = (Neighbours.fit(X, weight, forward, _MOST_REFERENCES) for forward in maps[:2])
        ranked = Neighbours.fit(score, weight[some], maps[2], _MOST_REFERENCES)
        return cls(Conformity.fit(mixture, X, margins.spread), margins, (scaled, white, ranked))

    def statistics(self, X: Array) -> Array:
        """Return the statistic of every view, shape (N, V)."""
        surprise, score = self.margins.evaluate(X)
        scaled, white, ranked = self.neighbours
        distances = (scaled.distance(X), white.distance(X), ranked.distance(score))
        columns = [
            self.conformity.statistic(X),
            surprise.sum(axis=1),
            *(np.log(distance + _NEAR) for distance in distances),
        ]
        return np.stack(columns, axis=1)
