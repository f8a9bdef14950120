"""What the sensors of one regime should read, given the others.

The Gaussian that the regime's flow starts from answers in closed form, for one sensor and for two at once. Where the
regime is bent that answer is off, by up to five times the true spread: how far is learned from draws of the flow, by
least squares on the products of the other columns.

Arrays have readings along their last axis: what is done to one sensor is done to contiguous memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from pwflow_core.modelling.flow import ClusterFlow

Array = NDArray[np.float64]
Index = NDArray[np.intp]

BAND = (0.05, 0.95)
"""Quantiles of what a sensor reads, given the others, that bound what is expected of it."""

_MOST_PAIRED = 64  # sensors: beyond that the pairs would take gigabytes, and most of the time
_FEWEST_AT_ONCE = 16  # readings
_DRAWS = 4096
_MOST_PRODUCTS = 400  # with fewer than ten draws per product the fit would mostly be noise
_SEEN = 3.5  # products see the columns clamped to this many standard deviations
_RIDGE = 10.0
_LARGEST = 1e8


class Conditionals:
    """Conditional means of one regime, and what the log-density gains by them.

    A *set* is one sensor or two. Sets are numbered: the sensors first, then the pairs in the order of `pairs`. A plant
    of more than 64 sensors has no pairs.
    Readings are in standard units, z = (x - centre) / scale, shape (D, N).

    Arguments:
        flow: Density of the regime.
        groups: Columns of each sensor, its own reading first.
        spread: Standard deviation of each sensor over all regimes, raw units, shape (S,).
        random_state: Seed of the draws.

    Attributes:
        pairs: The two sensors of each pair, shape (2, P).

    """

    def __init__(
        self, flow: ClusterFlow, groups: Sequence[Sequence[int]], spread: Array, random_state: int = 0
    ) -> None:
        self.flow = flow
        self.n_sensors = n = len(groups)
        pairs = list(combinations(range(n), 2)) if n <= _MOST_PAIRED else []
        self.pairs = np.array(pairs, dtype=np.intp).reshape(-1, 2).T
        self._raw = np.array([group[0] for group in groups])
        self._precision = flow.whitening.forward @ flow.whitening.forward.T
        singles = [np.array(group) for group in groups]
        self._columns = [*singles, *(np.concatenate([singles[i], singles[j]]) for i, j in self.pairs.T)]
        self._roots = [self._inverse_root(columns) for columns in self._columns]
        self._single_roots, self._pair_roots = self._stacked(range(n)), self._stacked(range(n, self.n_sets))
        self._partners = [n + np.flatnonzero((self.pairs == sensor).any(axis=0)) for sensor in range(n)]
        self._partner_roots = [self._stacked(found) for found in self._partners]
        self._log_volume, self._widening = self._volumes(np.log(spread))
        self._learn(random_state)

    @property
    def n_sets(self) -> int:
        """S + P."""
        return len(self._columns)

    def standardised(self, X: Array) -> Array:
        """Map raw readings (N, D) to standard units (D, N); bounded, so that squares stay finite."""
        white = self.flow.whitening
        z = np.subtract(X.T, white.centre[:, None])
        z /= white.scale[:, None]
        return np.clip(z, -_LARGEST, _LARGEST, out=z)

    def raw(self, z: Array) -> Array:
        """Map standard units (D, N) to raw readings (N, D)."""
        return np.asarray(z.T * self.flow.whitening.scale + self.flow.whitening.centre)

    def gains(self, z: Array) -> Array:
        """Return what the Gaussian log-density gains if a set reads its conditional mean, nats, shape (S + P, N)."""
        residual = _times(self._precision, z)
        return np.concatenate([_gain(residual, self._single_roots), _gain(residual, self._pair_roots)])

    def evidence(self, z: Array, price_of_second: float) -> Array:
        """Return how well the regime suits a reading without the sensor, or the two, that suit it least.

        The Gaussian log-density of the other columns, with what was set aside spread evenly over its usual range.

        Arguments:
            z: Readings, shape (D, N).
            price_of_second: What setting aside a second sensor costs, nats.

        Returns:
            Nats in raw units, but for a constant that all regimes share, shape (N,).

        """
        residual = _times(self._precision, z)
        single = _gain(residual, self._single_roots)
        first = single.argmax(axis=0)
        best = (single + self._log_volume[: self.n_sensors, None]).max(axis=0)
        for sensor in range(self.n_sensors if self.pairs.size else 0):
            rows, partners = np.flatnonzero(first == sensor), self._partners[sensor]
            pair = _gain(residual[:, rows], self._partner_roots[sensor]) + self._log_volume[partners, None]
            best[rows] = np.maximum(best[rows], pair.max(axis=0) - price_of_second)
        return np.asarray(self.flow.whitening.log_det - 0.5 * np.einsum("dn,dn->n", z, residual) + best)

    def repaired(self, z: Array, chosen: Index) -> Array:
        """Let the chosen set of each reading read its conditional mean given the other columns.

        Arguments:
            z: Readings, shape (D, N).
            chosen: Set of each reading, shape (N,).

        Returns:
            The readings, shape (D, N), with all other columns as they were.

        """
        mended, residual = z.copy(), _times(self._precision, z)
        order = np.argsort(chosen, kind="stable")
        numbers, starts = np.unique(chosen[order], return_index=True)
        parts = list(zip(numbers, np.split(order, starts[1:]), strict=True))
        for number, rows in parts:
            cells, root = np.ix_(self._columns[number], rows), self._roots[number]
            mended[cells] -= _times(root @ root.T, residual[cells])
        bend = self._bend(mended)
        for number, rows in parts:
            columns = self._columns[number]
            cells = np.ix_(columns, rows)
            mended[cells] = self._bounded(mended[cells] + bend[cells], columns)
        return mended

    def expected(self, z: Array, chosen: Index) -> tuple[Array, Array, Array]:
        """Return what each sensor should read given the others, and the band around it.

        Arguments:
            z: Readings with the chosen sets repaired, shape (D, N).
            chosen: Those sets, shape (N,). The band of a sensor of a pair is the wider one that does not take
                its partner as given.

        Returns:
            Conditional mean and the quantiles `BAND`, in raw units, each of shape (N, S).

        """
        residual = _times(self._precision, z)
        mean = z[self._raw] + self._bend(z, self._raw)
        for sensor in range(self.n_sensors):
            root = self._roots[sensor]
            mean[sensor] -= _times(root[:1] @ root.T, residual[self._columns[sensor]])[0]
        mean = self._bounded(mean, self._raw).T
        wider = self._widening[chosen]
        scale, centre = self.flow.whitening.scale[self._raw], self.flow.whitening.centre[self._raw]
        low, high = (mean + wider * offset for offset in self._band)
        return mean * scale + centre, low * scale + centre, high * scale + centre

    def _inverse_root(self, columns: Index) -> Array:
        """Return R with R Rᵀ the conditional covariance of the columns given the others."""
        block = self._precision[np.ix_(columns, columns)]
        size = 1 / np.sqrt(np.diagonal(block))
        values, axes = np.linalg.eigh(block * np.outer(size, size))
        return np.asarray(size[:, None] * axes / np.sqrt(np.maximum(values, 1e-12)))

    def _stacked(self, numbers: Iterable[int]) -> Array:
        """Put the roots of some sets on top of each other, padded with zeros to equal width, (sets, width, D)."""
        numbers = list(numbers)
        width = max((len(self._columns[number]) for number in numbers), default=1)
        stack = np.zeros((len(numbers), width, len(self._precision)))
        for place, number in enumerate(numbers):
            stack[place, : len(self._columns[number]), self._columns[number]] = self._roots[number]
        return stack

    def _volumes(self, log_spread: Array) -> tuple[Array, Array]:
        """Return how closely the other sensors tell each set, and how much less closely they do without a partner.

        Returns:
            Log of the conditional spread of each set over its usual one, shape (S + P,), and the factor by which
            each sensor's conditional spread is wider when it is set aside with a set, shape (S + P, S).

        """
        n = self.n_sensors
        own = np.array([np.linalg.norm(root[0]) for root in self._roots[:n]])
        relative = np.log(own * self.flow.whitening.scale[self._raw]) - log_spread
        volume, widening = np.empty(self.n_sets), np.ones((self.n_sets, n))
        volume[:n] = relative
        for number, (i, j) in enumerate(self.pairs.T, start=n):
            first, second = self._roots[number][[0, len(self._columns[i])]]
            sizes = np.array([np.linalg.norm(first), np.linalg.norm(second)])
            widening[number, [i, j]] = sizes / own[[i, j]]
            correlation = float(first @ second / sizes.prod())
            volume[number] = relative[i] + relative[j] + np.log(widening[number, [i, j]]).sum()
            volume[number] += 0.5 * np.log(max(1 - correlation**2, 1e-12))
        return volume, widening

    def _learn(self, random_state: int) -> None:
        """Learn from draws of the flow how its regime bends, how wide the bands are, and how far columns reach."""
        n, n_columns = self.n_sensors, len(self._precision)
        z = self.standardised(self.flow.sample(_DRAWS, random_state))
        lowest, highest = np.quantile(z, [0.001, 0.999], axis=1)
        reach = (highest - lowest) / 2
        self._lowest, self._highest = lowest - reach, highest + reach
        residual, missed = self._precision @ z, np.empty_like(z)
        for columns, root in zip(self._columns[:n], self._roots, strict=False):
            missed[columns] = (root @ root.T) @ residual[columns]
        self._bends: Array | None = None
        if not self.flow.is_gaussian and 1 + n_columns * (n_columns + 3) // 2 <= _MOST_PRODUCTS:
            is_ordinary = np.einsum("dn,dn->n", z, residual) <= 2 * chi2.ppf(0.999, n_columns)  # not the heavy tail
            self._bends = _fit_bends(z[:, is_ordinary], missed[:, is_ordinary], self._columns[:n])
        self._band = np.quantile(missed[self._raw] - self._bend(z, self._raw), BAND, axis=1)

    def _bend(self, z: Array, columns: Index | slice = slice(None)) -> Array:
        """Return how far the conditional means of the flow are from those of its Gaussian, shape (columns, N)."""
        if self._bends is None:
            return np.zeros_like(z[columns])
        return np.asarray(_times(self._bends[columns], _products(z)))

    def _bounded(self, z: Array, columns: Index) -> Array:
        """Keep repaired values within what the regime reaches: nothing is extrapolated from a far outlier."""
        return np.clip(z, self._lowest[columns, None], self._highest[columns, None])


def _times(matrix: Array, z: Array) -> Array:
    """Multiply each reading of `z`, shape (D, N): BLAS rounds a few of them otherwise than many, so they are filled up.

    What explains a reading must not depend on how many others came with it.
    """
    n = z.shape[1]
    if n >= _FEWEST_AT_ONCE:
        return np.asarray(matrix @ z)
    return np.asarray((matrix @ np.pad(z, ((0, 0), (0, _FEWEST_AT_ONCE - n))))[:, :n])


def _gain(residual: Array, roots: Array) -> Array:
    """Return ½ |Rᵀ r|² of every set, shape (sets, N)."""
    n_sets, width, n_columns = roots.shape
    white = _times(roots.reshape(-1, n_columns), residual).reshape(n_sets, width, residual.shape[1])
    return np.asarray(0.5 * np.einsum("swn,swn->sn", white, white))


def _fit_bends(z: Array, missed: Array, groups: Sequence[Index]) -> Array:
    """Fit what the Gaussian conditional means miss on the products of the other sensors' columns, (D, products)."""
    products = _products(z)
    moments, cross = products @ products.T, products @ missed.T
    bends = np.zeros((len(z), len(products)))
    first, second = np.triu_indices(len(z))
    for columns in groups:
        is_other = ~np.isin(np.arange(len(z)), columns)
        free = np.flatnonzero(np.concatenate([[True], is_other, is_other[first] & is_other[second]]))
        system = moments[np.ix_(free, free)] + _RIDGE * np.eye(len(free))
        bends[np.ix_(columns, free)] = np.linalg.solve(system, cross[np.ix_(free, columns)]).T
    return bends


def _products(z: Array) -> Array:
    """Return 1, the clamped columns and their products, shape (1 + D + D (D + 1) / 2, N)."""
    n_columns = len(z)
    products = np.empty((1 + n_columns * (n_columns + 3) // 2, z.shape[1]))
    products[0] = 1.0
    seen = np.clip(z, -_SEEN, _SEEN, out=products[1 : 1 + n_columns])
    start = 1 + n_columns
    for column in range(n_columns):
        stop = start + n_columns - column
        np.multiply(seen[column], seen[column:], out=products[start:stop])
        start = stop
    return products
