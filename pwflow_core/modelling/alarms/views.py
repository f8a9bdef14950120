"""The views of one regime: several ways of looking at a reading, each a statistic that is large where it is odd."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pwflow_core.modelling.alarms.conformity import Conformity
from pwflow_core.modelling.alarms.margins import Margins
from pwflow_core.modelling.alarms.neighbours import Neighbours, whitening_matrix
from pwflow_core.modelling.flow import ClusterFlow

Array = NDArray[np.float64]

VIEWS = ("conformity", "margins", "neighbours", "white_neighbours", "ranked_neighbours")
LEAST_SCALES = np.array([0.5, 0.2, 0.02, 0.02, 0.02])  # of the tail of each view, in its unit
_RIDGE = 0.1
_MOST_ROWS = 5000  # for the margins' and whitenings' own statistics


@dataclass(frozen=True, eq=False)
class RegimeViews:
    """Views of one regime, learned from its readings alone.

    `conformity`: minus the log-density by its flow. `margins`: the sum of each sensor's own surprise. `neighbours`:
    distance to the nearest normal readings, in standard deviations of the sensors; `white_neighbours`: the same in
    the space in which the regime's correlations are undone, down to what its sensors resolve; `ranked_neighbours`:
    that of the normal scores, so that skewed and zero-inflated sensors count as others do.

    Statistics are in units of the regime: nats above the median reading, or multiples of the usual distance. Regimes
    with few readings can so be calibrated together.

    Attributes:
        conformity: View of the flow.
        margins: View of each sensor by itself.
        neighbours: The three views by distance, in the order of `VIEWS`.
        centre: Statistic of the median reading of each view, shape (V,).
        unit: What a statistic is divided by, shape (V,).

    """

    conformity: Conformity
    margins: Margins
    neighbours: tuple[Neighbours, Neighbours, Neighbours]
    centre: Array
    unit: Array

    @classmethod
    def fit(cls, flow: ClusterFlow, X: Array, weight: Array, floor: Array, most_references: int) -> RegimeViews:
        """Learn the views.

        Arguments:
            flow: The regime's flow.
            X: Its readings, raw units, shape (N, D).
            weight: Their weights, above zero, shape (N,).
            floor: Resolution of each sensor, raw units, above zero, shape (D,).
            most_references: Most readings that neighbours are looked for among.

        """
        margins = Margins.fit(X, weight, floor)
        some = np.linspace(0, len(X) - 1, min(len(X), _MOST_ROWS)).round().astype(np.intp)
        surprise, score = margins.evaluate(X[some])
        spread = margins.spread
        neighbours = (
            Neighbours.fit(X, np.diag(1 / spread), most_references),
            Neighbours.fit(X, whitening_matrix(X[some], weight[some], floor, _RIDGE), most_references),
            Neighbours.fit(
                score, whitening_matrix(score, weight[some], np.full(len(spread), 0.01), _RIDGE), most_references
            ),
        )
        conformity = Conformity(flow, X.min(axis=0), X.max(axis=0), spread)
        usual = [nearest.usual_distance() for nearest in neighbours]
        centre = np.array([np.median(conformity.statistic(X[some])), np.median(surprise.sum(axis=1)), 0.0, 0.0, 0.0])
        return cls(conformity, margins, neighbours, centre, np.array([1.0, 1.0, *np.maximum(usual, 0.05)]))

    def statistics(self, X: Array) -> Array:
        """Return the statistic of every view, shape (N, V)."""
        surprise, score = self.margins.evaluate(X)
        scaled, white, ranked = self.neighbours
        columns = [
            self.conformity.statistic(X),
            surprise.sum(axis=1),
            scaled.distance(X),
            white.distance(X),
            ranked.distance(score),
        ]
        return (np.stack(columns, axis=1) - self.centre) / self.unit
