r"""Which sensor is to blame for an improbable reading.

An *explanation* says which sensor is wrong, or which two; the others are believed. It is as likely as the reading is
once those sensors read what they should given the others:

    weight(S) ∝ p_k(x with S repaired), times 1/100 if S is a pair

Of more than 64 sensors only explanations by one of them are tried: their pairs would be thousands.

A faulty sensor can move a reading out of its own regime, so k is the regime that suits the *other* sensors best. All
explanations are weighed by the Gaussians of the regimes, at the cost of a few matrix products; the flow of regime k
settles it where several come near each other. The blame of a pair is split by the Shapley values of its two.

Chosen by measurement (`tests/benchmarks/attribution.py`) against repairing one sensor at a time, greedy repair,
z-scores, and Shapley values over all sensors. One at a time, under the regime that the faulty reading seems to be
in, names the wrong sensor where the fault moves the reading towards another regime, or where one fault hides another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from pwflow_core.modelling.conditionals import Conditionals
from pwflow_core.modelling.flow import ClusterFlow
from pwflow_core.modelling.validation import as_matrix

Array = NDArray[np.float64]
Index = NDArray[np.intp]

__all__ = ["Attribution", "SensorAttributor"]

_PRICE_OF_SECOND = float(np.log(100.0))  # nats: a second sensor fails with the first once in a hundred times
_WITHIN = 8.0  # nats: an explanation further behind the best one is not worth an evaluation of the flow
_BATCH_CELLS = 2**19  # what is computed for a batch of readings fits a cache ...
_FEWEST_BATCH_ROWS = 2048  # ... unless there are so many sensors that each explanation would get a few readings only


@dataclass(frozen=True, eq=False)
class Attribution:
    """Why readings are improbable.

    Attributes:
        share: Share of each sensor in the blame, shape (N, S); at least 0, each row adds up to 1.
        cluster: Regime in which the reading makes most sense once it is repaired, shape (N,).
        observed: What each sensor read, raw units, shape (N, S).
        expected: What it should have read given the others, with the sensors of the best explanation repaired,
            raw units, shape (N, S).
        low: 5% quantile of that, raw units, shape (N, S).
        high: 95% quantile of that, raw units, shape (N, S).

    """

    share: Array
    cluster: Index
    observed: Array
    expected: Array
    low: Array
    high: Array


class SensorAttributor:
    """Attributes improbable readings to sensors, under a mixture of cluster flows.

    Arguments:
        weights: Mixture weights, shape (K,), all above zero.
        flows: One density per cluster, over D columns.
        groups: Columns of each sensor: its own reading first, then the features made from it. Every column
            belongs to one sensor. One column per sensor if None.
        random_state: Seed of the draws that expected values are learned from.

    """

    def __init__(
        self,
        weights: Array,
        flows: Sequence[ClusterFlow],
        groups: Sequence[Sequence[int]] | None = None,
        random_state: int = 0,
    ) -> None:
        n_features = flows[0].n_features
        self.groups = [[column] for column in range(n_features)] if groups is None else [list(g) for g in groups]
        if sorted(column for group in self.groups for column in group) != list(range(n_features)):
            raise ValueError(f"Expected groups that hold each of {n_features} columns once, got {self.groups}.")
        self._raw = np.array([group[0] for group in self.groups])
        self._log_weights = np.log(np.asarray(weights, dtype=np.float64))
        spread = _overall_spread(np.exp(self._log_weights), flows)[self._raw]
        self._regimes = [Conditionals(flow, self.groups, spread, random_state) for flow in flows]

    def attribute(self, X: Array) -> Attribution:
        """Attribute readings to sensors.

        Arguments:
            X: Readings in raw units, shape (N, D), finite.

        Raises:
            SchemaMismatchError: D differs from the flows'.
            ValueError: NaN or infinite values.

        """
        X = as_matrix(X, n_features=self._regimes[0].flow.n_features, allow_empty=True)
        shape = (len(X), len(self.groups))
        found = Attribution(np.empty(shape), np.empty(len(X), dtype=np.intp), *(np.empty(shape) for _ in range(4)))
        batch_rows = max(_FEWEST_BATCH_ROWS, _BATCH_CELLS // self._regimes[0].n_sets)
        for start in range(0, len(X), batch_rows):
            block = X[start : start + batch_rows]
            cluster = self._choose_regimes(block)
            for k in np.unique(cluster):
                rows = np.flatnonzero(cluster == k)
                part = self._explain(int(k), block[rows])
                for field in fields(Attribution):
                    getattr(found, field.name)[start + rows] = getattr(part, field.name)
        return found

    def _choose_regimes(self, X: Array) -> Index:
        """Return the regime that suits each reading best without the sensors that suit it least."""
        if len(self._regimes) == 1:
            return np.zeros(len(X), dtype=np.intp)
        score = np.empty((len(self._regimes), len(X)))
        for k, regime in enumerate(self._regimes):
            score[k] = self._log_weights[k] + regime.evidence(regime.standardised(X), _PRICE_OF_SECOND)
        return np.asarray(score.argmax(axis=0))

    def _explain(self, k: int, X: Array) -> Attribution:
        regime = self._regimes[k]
        z = regime.standardised(X)
        gain = regime.gains(z)
        price = np.repeat([0.0, _PRICE_OF_SECOND], [regime.n_sensors, regime.n_sets - regime.n_sensors])[:, None]
        log_weight = gain - price
        best = log_weight.argmax(axis=0)
        near = log_weight >= log_weight.max(axis=0) - _WITHIN
        rows = np.flatnonzero(_drop_idle_pairs(near, log_weight, regime.pairs).sum(axis=0) > 1)
        if len(rows):
            log_weight[:, rows], best[rows] = _settled(regime, X[rows], z[:, rows], log_weight[:, rows], near[:, rows])
        weight = np.exp(log_weight - log_weight.max(axis=0))
        weight /= weight.sum(axis=0)
        return Attribution(
            _split(weight, gain, regime.pairs),
            np.full(len(X), k, dtype=np.intp),
            X[:, self._raw],
            *regime.expected(regime.repaired(z, best), best),
        )


def _overall_spread(weights: Array, flows: Sequence[ClusterFlow]) -> Array:
    """Return the standard deviation of each column over all regimes, raw units, shape (D,)."""
    share = weights / weights.sum()
    centre = np.array([flow.whitening.centre for flow in flows])
    variance = np.array([flow.whitening.scale**2 for flow in flows]) + (centre - share @ centre) ** 2
    return np.asarray(np.sqrt(share @ variance))


def _drop_idle_pairs(near: NDArray[np.bool_], log_weight: Array, pairs: Index) -> NDArray[np.bool_]:
    """Leave out, in place, pairs that are less likely than one of their sensors alone: they say nothing new."""
    n_sensors = len(log_weight) - pairs.shape[1]
    pair = log_weight[n_sensors:]
    near[n_sensors:] &= (pair > log_weight[pairs[0]]) & (pair > log_weight[pairs[1]])
    return near


def _settled(
    regime: Conditionals, X: Array, z: Array, log_weight: Array, near: NDArray[np.bool_]
) -> tuple[Array, Index]:
    """Let the flow weigh the best explanations of readings that have several.

    The others are moved by as much as the best one is, so that they keep their distance from it.

    Arguments:
        regime: The regime.
        X: Readings in raw units, shape (N, D).
        z: The same in standard units, shape (D, N).
        log_weight: Log-weights by the Gaussian, shape (sets, N).
        near: Explanations that the flow is asked about, shape (sets, N).

    Returns:
        Log-weights, shape (sets, N), and the best explanation, shape (N,).

    """
    chosen, rows = np.nonzero(near)
    repaired = regime.repaired(z[:, rows], chosen)
    mended = np.where((repaired == z[:, rows]).T, X[rows], regime.raw(repaired))
    asked = np.full(log_weight.shape, -np.inf)
    asked[chosen, rows] = regime.flow.log_prob(mended) - np.where(chosen < regime.n_sensors, 0.0, _PRICE_OF_SECOND)
    by_flow = np.where(near, asked, log_weight + asked.max(axis=0) - log_weight.max(axis=0))
    return by_flow, asked.argmax(axis=0)


def _split(weight: Array, gain: Array, pairs: Index) -> Array:
    """Add up the blame of each sensor, shape (N, S); a pair's is split by the Shapley values of its gain."""
    n_sensors = len(gain) - pairs.shape[1]
    blame = weight[:n_sensors]
    if pairs.size:
        share = 0.5 + 0.5 * (gain[pairs[0]] - gain[pairs[1]]) / np.maximum(gain[n_sensors:], 1e-300)
        first = np.clip(share, 0.0, 1.0) * weight[n_sensors:]
        one_hot = np.eye(n_sensors)
        blame = blame + one_hot[:, pairs[0]] @ first + one_hot[:, pairs[1]] @ (weight[n_sensors:] - first)
    return np.ascontiguousarray(blame.T)
