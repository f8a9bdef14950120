"""How badly a reading conforms to the flows of its regimes, without a dip far out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pwflow_core.modelling.mixture import FlowMixture

Array = NDArray[np.float64]

_FURTHEST = 1e9  # standard deviations beyond the box
_BATCH_ROWS = 1 << 16
_RARE_SHARE = 0.02


@dataclass(frozen=True, eq=False)
class Conformity:
    """Minus the log-density by the flows of the regimes, all weighted by how often they are.

    A network says nothing of where it has seen no reading, and may say anything. The flows are asked about the nearest
    point of the box of all values that were seen; what lies outside costs e + e² / 2 nats for each sensor that is e
    standard deviations beyond, so that a sensor that moves further out never conforms better.

    Attributes:
        mixture: The flows.
        low: Lower corner of the box, raw units, shape (D,).
        high: Upper corner, raw units, shape (D,).
        spread: Standard deviation of each sensor, raw units, shape (D,).
        rare: Statistic from which on a reading is shown to all flows, not only to those that its Gaussians suggest.

    """

    mixture: FlowMixture
    low: Array
    high: Array
    spread: Array
    rare: float = -np.inf

    @classmethod
    def fit(cls, mixture: FlowMixture, X: Array, spread: Array) -> Conformity:
        """Learn the box and what is rare from normal readings, shape (N, D)."""
        box = X.min(axis=0), X.max(axis=0)
        some = X[np.linspace(0, len(X) - 1, min(len(X), 2000)).round().astype(np.intp)]
        found = cls(mixture, *box, spread).statistic(some)
        return cls(mixture, *box, spread, float(np.quantile(found, 1 - _RARE_SHARE)))

    def statistic(self, X: Array) -> Array:
        """Return minus the log-density with what lies outside of the box, nats, shape (N,)."""
        inside = np.clip(X, self.low, self.high)
        beyond = np.minimum(np.abs(X - inside) / self.spread, _FURTHEST)
        out: Array = (beyond + 0.5 * beyond * beyond).sum(axis=1)
        for start in range(0, len(X), _BATCH_ROWS):
            block = slice(start, start + _BATCH_ROWS)
            out[block] += self._improbability(inside[block])
        return out

    def _improbability(self, X: Array) -> Array:
        n_clusters = self.mixture.n_clusters
        log_weight = np.log(self.mixture.weights[:n_clusters] / self.mixture.weights[:n_clusters].sum())
        found = np.full(len(X), -np.inf)
        asked = self.mixture.worth_asking(X) if n_clusters > 1 else np.ones((len(X), 1), dtype=np.bool_)
        for left in (asked, ~asked):
            for k in range(n_clusters):
                rows = np.flatnonzero(left[:, k] & (-found >= self.rare if left is not asked else True))
                if len(rows):
                    own = self.mixture.flows[k].evaluate(X[rows]).tempered_conformity + log_weight[k]
                    found[rows] = np.logaddexp(found[rows], own)
        return -found
