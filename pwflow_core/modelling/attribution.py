r"""Which sensor caused an improbable reading.

An *explanation* says which sensor is wrong, or which two; the others are believed. It is as likely as the reading is
once those sensors read what they should given the others:

    weight(S) ∝ p_k(x with S repaired), times 1/100 if S is a pair

Pairs are tried of the three sensors that explain most alone with every other.

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
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pwflow_core.modelling.conditionals import Bends, Conditionals
from pwflow_core.modelling.validation import as_matrix

if TYPE_CHECKING:
    from pwflow_core.modelling.density import Density
    from pwflow_core.modelling.flow import ClusterFlow

Array = NDArray[np.float64]
Index = NDArray[np.intp]

__all__ = ["Attribution", "SensorAttributor"]

_PRICE_OF_SECOND = float(np.log(100.0))  # nats: a second sensor fails with the first once in a hundred times
_WITHIN = 8.0  # nats: an explanation further behind the best one is not worth an evaluation of the flow
_PAIRED = 3  # sensors that are tried together with every other
_BATCH_CELLS = 2**17  # what is computed for a batch of readings fits a cache


@dataclass(frozen=True, eq=False)
class Attribution:
    """Why readings are improbable.

    Attributes:
        share: Share of each sensor in the cause, shape (N, S); at least 0, each row adds up to 1.
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
        bends: What expected values are made from, of each flow, where it was learned before.
        random_state: Seed of the draws that it is learned from.

    """

    def __init__(
        self,
        weights: Array,
        flows: Sequence[ClusterFlow | Density],
        groups: Sequence[Sequence[int]] | None = None,
        bends: Sequence[Bends] | None = None,
        random_state: int = 0,
    ) -> None:
        n_features = flows[0].n_features
        self.groups = [[column] for column in range(n_features)] if groups is None else [list(g) for g in groups]
        if sorted(column for group in self.groups for column in group) != list(range(n_features)):
            raise ValueError(f"Expected groups that hold each of {n_features} columns once, got {self.groups}.")
        self._raw = np.array([group[0] for group in self.groups])
        self._log_weights = np.log(np.asarray(weights, dtype=np.float64))
        spread = _overall_spread(np.exp(self._log_weights), flows)[self._raw]
        self._regimes = [
            Conditionals(flow, self.groups, spread, None if bends is None else bends[k], random_state)
            for k, flow in enumerate(flows)
        ]

    @property
    def bends(self) -> list[Bends]:
        """What expected values are made from, of each flow."""
        return [regime.bends for regime in self._regimes]

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
        batch_rows = 1 + _BATCH_CELLS // X.shape[1]
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
        found = _likely(*regime.gains(z, min(_PAIRED, regime.n_sensors)))
        log_weight = _settled(regime, X, z, found)
        most = _highest(log_weight, found.row, len(X))
        weight = np.exp(log_weight - most[found.row])
        weight /= np.bincount(found.row, weight)[found.row]
        best = np.empty(len(X), dtype=np.intp)
        is_best = np.flatnonzero(log_weight == most[found.row])[::-1]
        best[found.row[is_best]] = is_best
        sensors = found.first[best], found.second[best]
        return Attribution(
            _split(found, weight, (len(X), regime.n_sensors)),
            np.full(len(X), k, dtype=np.intp),
            X[:, self._raw],
            *regime.expected(regime.repaired(z, *sensors), *sensors),
        )


@dataclass(frozen=True, eq=False)
class _Explanations:
    """Explanations of readings that come near the best one of each by the Gaussian, shape (E,) each.

    Attributes:
        row: Reading.
        first: Sensor that is wrong.
        second: Sensor that is wrong with it; the same if it is alone.
        log_weight: Log-weight by the Gaussian.
        share: Share of the first sensor in the gain, by the Shapley values of the two; 1 if it is alone.
        is_asked: Whether the flow is asked about it: not about a pair that is less likely than one of its sensors
            alone and so says nothing new.

    """

    row: Index
    first: Index
    second: Index
    log_weight: Array
    share: Array
    is_asked: NDArray[np.bool_]

    @property
    def price(self) -> Array:
        """Return what a second sensor costs, nats."""
        return np.where(self.first == self.second, 0.0, _PRICE_OF_SECOND)


def _overall_spread(weights: Array, flows: Sequence[ClusterFlow | Density]) -> Array:
    """Return the standard deviation of each column over all regimes, raw units, shape (D,)."""
    share = weights / weights.sum()
    centre = np.array([flow.whitening.centre for flow in flows])
    variance = np.array([flow.whitening.scale**2 for flow in flows]) + (centre - share @ centre) ** 2
    return np.asarray(np.sqrt(share @ variance))


def _likely(gain: Array, paired: Index) -> _Explanations:
    """Return the explanations that come near the best one of their reading by the Gaussian.

    Arguments:
        gain: Gains of each sensor alone, then with each of the paired ones, shape (1 + F, S, N).
        paired: Those, shape (F, N).

    """
    alone = gain[0]
    log_weight = gain.copy()
    log_weight[1:] -= _PRICE_OF_SECOND
    level, second, row = np.nonzero(log_weight >= log_weight.max(axis=(0, 1)) - _WITHIN)
    first = np.where(level == 0, second, paired[level - 1, row])
    by_first, by_second, by_both = alone[first, row], alone[second, row], np.maximum(gain[level, second, row], 1e-300)
    near = log_weight[level, second, row]
    return _Explanations(
        row,
        first,
        second,
        near,
        share=np.where(level == 0, 1.0, np.clip(0.5 + 0.5 * (by_first - by_second) / by_both, 0.0, 1.0)),
        is_asked=(level == 0) | (near > np.maximum(by_first, by_second)),
    )


def _settled(regime: Conditionals, X: Array, z: Array, found: _Explanations) -> Array:
    """Let the flow weigh the best explanations of readings that have several.

    The others are moved by as much as the best one is, so that they keep their distance from it.

    Arguments:
        regime: The regime.
        X: Readings in raw units, shape (N, D).
        z: The same in standard units, shape (D, N).
        found: Explanations of them.

    Returns:
        Log-weights, shape (E,).

    """
    has_several = np.bincount(found.row, found.is_asked, minlength=len(X)) > 1
    asked = np.flatnonzero(found.is_asked & has_several[found.row])
    row = found.row[asked]
    repaired = regime.repaired(z[:, row], found.first[asked], found.second[asked])
    mended = np.where((repaired == z[:, row]).T, X[row], regime.raw(repaired))
    by_flow = regime.flow.log_prob(mended) - found.price[asked]
    by_gaussian = _highest(found.log_weight, found.row, len(X))
    move = np.where(has_several, _highest(by_flow, row, len(X)) - by_gaussian, 0.0)
    settled = found.log_weight + move[found.row]
    settled[asked] = by_flow
    return settled


def _highest(values: Array, row: Index, n_rows: int) -> Array:
    """Return the highest value of each reading, shape (N,); −inf where it has none."""
    highest = np.full(n_rows, -np.inf)
    np.maximum.at(highest, row, values)
    return highest


def _split(found: _Explanations, weight: Array, shape: tuple[int, int]) -> Array:
    """Add up the blame of each sensor, shape (N, S)."""
    cell = found.row * shape[1]
    n_cells = shape[0] * shape[1]
    of_first = np.bincount(cell + found.first, weight * found.share, minlength=n_cells)
    of_second = np.bincount(cell + found.second, weight * (1 - found.share), minlength=n_cells)
    return np.asarray((of_first + of_second).reshape(shape))
