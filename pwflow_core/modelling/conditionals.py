"""What the sensors of one regime should read, given the others.

The Gaussian that the regime's flow starts from answers in closed form, for one sensor and for two at once. Where the
regime is bent that answer is off, by up to five times the true spread: how far is learned from draws of the flow, by
least squares on the products of the other columns.

Arrays have readings along their last axis: what is done to one sensor is done to contiguous memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pwflow_core.modelling.density import Density
    from pwflow_core.modelling.flow import ClusterFlow

Array = NDArray[np.float64]
Index = NDArray[np.intp]

BAND = (0.05, 0.95)
"""Quantiles of what a sensor reads, given the others, that bound what is expected of it."""

_FEWEST_AT_ONCE = 16  # readings
_DRAWS = 4096
_MOST_PRODUCTS = 400  # with fewer than ten draws per product the fit would mostly be noise
_SEEN = 3.5  # products see the columns clamped to this many standard deviations
_RIDGE = 10.0
_LARGEST = 1e8
_SMALLEST = 1e-12  # least eigenvalue of a correlation that is inverted


@dataclass(frozen=True, eq=False)
class Bends:
    """What draws of the flow of a regime tell of it.

    Attributes:
        lowest: How far down each column reaches, standard units, shape (D,).
        highest: How far up, shape (D,).
        band: Quantiles `BAND` of what each sensor reads around its conditional mean, shape (2, S).
        products: What the Gaussian conditional means miss, on the products of the other columns, shape
            (D, products); empty where the regime is not bent, or has too many columns to tell.

    """

    lowest: Array
    highest: Array
    band: Array
    products: Array


class Conditionals:
    """Conditional means of one regime, and what the log-density gains by them.

    Sensors are taken one at a time or two together; `first == second` stands for one. A sensor has W columns at most:
    fewer are filled up with column D, which readings do not have, and with zeros.
    Readings are in standard units, z = (x - centre) / scale, shape (D, N). With P the precision and r = P z, sensor i
    that has its columns whitened, R_i R_iᵀ = P_ii⁻¹ and t_i = R_iᵀ r_i, gains ½ |t_i|² by its conditional mean. Two
    gain, with B = R_iᵀ P_ij R_j and the rest of the second u = t_j - Bᵀ t_i,

        ½ |t_i|² + ½ uᵀ (I - Bᵀ B)⁻¹ u

    Arguments:
        flow: Density of the regime.
        groups: Columns of each sensor, its own reading first.
        spread: Standard deviation of each sensor over all regimes, raw units, shape (S,).
        bends: What was learned of the flow before; None to learn it now, from a flow that can be drawn from.
        random_state: Seed of the draws.

    """

    def __init__(
        self,
        flow: ClusterFlow | Density,
        groups: Sequence[Sequence[int]],
        spread: Array,
        bends: Bends | None = None,
        random_state: int = 0,
    ) -> None:
        self.flow = flow
        self.n_sensors = len(groups)
        self._raw = np.array([group[0] for group in groups])
        self._precision = flow.whitening.forward @ flow.whitening.forward.T
        self._columns = np.full((len(groups), max(map(len, groups))), len(self._precision))
        for sensor, group in enumerate(groups):
            self._columns[sensor, : len(group)] = group
        blocks = self._blocks()
        self._roots = self._inverse_roots(blocks)
        self._whiten = self._over_columns(self._roots.transpose(0, 2, 1))
        self._own = self._over_columns(np.einsum("sv,swv->sw", self._roots[:, 0], self._roots)[:, None])[:, 0]
        self._across, self._rest = self._pairwise(blocks)
        self._volume, self._pair_volume, self._widening = self._volumes(np.log(spread))
        self.bends = self._learn(flow, random_state) if bends is None else bends  # type: ignore[arg-type]

    def standardised(self, X: Array) -> Array:
        """Map raw readings (N, D) to standard units (D, N); bounded, so that squares stay finite."""
        white = self.flow.whitening
        z = np.subtract(X.T, white.centre[:, None])
        z /= white.scale[:, None]
        return np.clip(z, -_LARGEST, _LARGEST, out=z)

    def raw(self, z: Array) -> Array:
        """Map standard units (D, N) to raw readings (N, D)."""
        return np.asarray(z.T * self.flow.whitening.scale + self.flow.whitening.centre)

    def gains(self, z: Array, n_first: int) -> tuple[Array, Index]:
        """Return what the Gaussian log-density gains if one or two sensors read their conditional means, nats.

        Arguments:
            z: Readings, shape (D, N).
            n_first: F, the sensors that are paired with every other: those that gain most alone.

        Returns:
            Gains, shape (1 + F, S, N): of each sensor alone, then of each with the first, the second, …; −inf where
            the two are one or were paired before. And those first sensors, shape (F, N).

        """
        white = self._whitened(_times(self._precision, z))
        gain = np.empty((1 + n_first, self.n_sensors, z.shape[1]))
        gain[0] = _half_squares(white)
        left, first = gain[0].copy(), np.empty((n_first, z.shape[1]), dtype=np.intp)
        for turn in range(n_first):
            first[turn] = left.argmax(axis=0)
            left[first[turn], np.arange(z.shape[1])] = -np.inf
            gain[1 + turn] = np.where(left == -np.inf, -np.inf, self._pair_gains(white, first[turn]))
        return gain, first

    def evidence(self, z: Array, price_of_second: float) -> Array:
        """Return how well the regime suits a reading without the sensor, or the two, that suit it least.

        The Gaussian log-density of the other columns, with what was left out spread evenly over its usual range.

        Arguments:
            z: Readings, shape (D, N).
            price_of_second: What setting aside a second sensor costs, nats.

        Returns:
            Nats in raw units, but for a constant that all regimes share, shape (N,).

        """
        residual = _times(self._precision, z)
        white = self._whitened(residual)
        alone = _half_squares(white)
        first = alone.argmax(axis=0)
        both = self._pair_gains(white, first) + self._pair_volume[:, first] - price_of_second
        best = np.maximum((alone + self._volume[:, None]).max(axis=0), both.max(axis=0))
        return np.asarray(self.flow.whitening.log_det - 0.5 * np.einsum("dn,dn->n", z, residual) + best)

    def repaired(self, z: Array, first: Index, second: Index) -> Array:
        """Let one or two sensors of each reading read their conditional mean given the other columns.

        Arguments:
            z: Readings, shape (D, N).
            first: A sensor of each reading, shape (N,).
            second: The other one, or the same if it is alone, shape (N,).

        Returns:
            The readings, shape (D, N), with all other columns as they were.

        """
        each = np.arange(z.shape[1])
        white = self._whitened(_times(self._precision, z))
        across, rest = self._across[second, :, first], self._rest[second, :, first]
        of_first = white[first, :, each]
        of_second = _apply(rest, white[second, :, each] - _apply(across, of_first))
        of_first = of_first - _apply(across.transpose(0, 2, 1), of_second)
        mended, is_set = _with_spare(z), np.zeros((len(z) + 1, z.shape[1]), dtype=np.bool_)
        for sensor, change in ((first, of_first), (second, of_second)):
            cells = self._columns[sensor].T, each
            mended[cells] -= _apply(self._roots[sensor], change).T
            is_set[cells] = True
        mended = mended[:-1]
        mended += _bend(self.bends.products, mended)
        return np.where(is_set[:-1], self._bounded(mended, slice(None)), z)

    def expected(self, z: Array, first: Index, second: Index) -> tuple[Array, Array, Array]:
        """Return what each sensor should read given the others, and the band around it.

        Arguments:
            z: Readings with those sensors repaired, shape (D, N).
            first: A sensor that was repaired, shape (N,).
            second: The other one, or the same if it was alone, shape (N,). The band of a sensor of two is the wider
                one that does not take its partner as given.

        Returns:
            Conditional mean and the quantiles `BAND`, in raw units, each of shape (N, S).

        """
        mean = z[self._raw] - _times(self._own, _times(self._precision, z)) + _bend(self.bends.products[self._raw], z)
        mean = self._bounded(mean, self._raw).T
        each, wider = np.arange(len(mean)), np.ones_like(mean)
        wider[each, first], wider[each, second] = self._widening[first, second], self._widening[second, first]
        scale, centre = self.flow.whitening.scale[self._raw], self.flow.whitening.centre[self._raw]
        low, high = (mean + wider * offset for offset in self.bends.band)
        return mean * scale + centre, low * scale + centre, high * scale + centre

    def _whitened(self, residual: Array) -> Array:
        """Return t, shape (S, W, N)."""
        n, width, n_columns = self._whiten.shape
        return _times(self._whiten.reshape(-1, n_columns), residual).reshape(n, width, -1)

    def _pair_gains(self, white: Array, first: Index) -> Array:
        """Return what each sensor gains together with the `first` one of each reading, shape (S, N)."""
        of_first = white[first, :, np.arange(len(first))].T
        rest = white - sum(of_first[w] * self._across[:, :, first, w] for w in range(len(of_first)))
        whitened = sum(rest[:, w, None] * self._rest[:, :, first, w] for w in range(len(of_first)))
        return np.asarray(0.5 * (np.einsum("swn,swn->sn", rest, whitened) + np.einsum("wn,wn->n", of_first, of_first)))

    def _blocks(self) -> Array:
        """Return P with the columns of each sensor side by side, shape (S, W, S, W)."""
        n = len(self._precision)
        spare = np.zeros((n + 1, n + 1))
        spare[:n, :n] = self._precision
        return np.asarray(spare[self._columns[:, :, None, None], self._columns])

    def _inverse_roots(self, blocks: Array) -> Array:
        """Return R with R Rᵀ the conditional covariance of each sensor's columns given the others, (S, W, W)."""
        n, width = self._columns.shape
        padding = self._columns == len(self._precision)
        each = np.arange(n)
        block = blocks[each, :, each] + padding[:, :, None] * np.eye(width)
        size = 1 / np.sqrt(np.diagonal(block, axis1=1, axis2=2))
        values, axes = np.linalg.eigh(block * size[:, :, None] * size[:, None])
        roots = size[:, :, None] * axes / np.sqrt(np.maximum(values, _SMALLEST))[:, None]
        return np.asarray(np.where(padding[:, :, None], 0.0, roots))

    def _over_columns(self, blocks: Array) -> Array:
        """Spread the blocks of each sensor over all D columns, shape (S, V, W) to (S, V, D)."""
        n, n_rows, _ = blocks.shape
        spread = np.zeros((n, n_rows, len(self._precision) + 1))
        spread[np.arange(n)[:, None, None], np.arange(n_rows)[:, None], self._columns[:, None]] = blocks
        return np.ascontiguousarray(spread[:, :, :-1])

    def _pairwise(self, blocks: Array) -> tuple[Array, Array]:
        """Return Bᵀ and (I - Bᵀ B)⁻¹ as [second, :, first, :], shape (S, W, S, W) each; zero where the two are one."""
        n, width = self._columns.shape
        across = np.einsum("jbv,jbia,iaw->jviw", self._roots, blocks, self._roots, optimize=True)
        across[np.arange(n), :, np.arange(n)] = 0.0
        left = np.eye(width) - np.einsum("jviw,juiw->jivu", across, across)
        values, axes = np.linalg.eigh(left)
        rest = np.einsum("jivk,jik,jiuk->jviu", axes, 1 / np.maximum(values, _SMALLEST), axes)
        rest[np.arange(n), :, np.arange(n)] = 0.0
        return across, rest

    def _volumes(self, log_spread: Array) -> tuple[Array, Array, Array]:
        """Return how closely the other sensors tell one or two, and how much less closely they do without a partner.

        Returns:
            Log of the conditional spread of each sensor over its usual one, shape (S,); the same of each pair, by
            [second, first], shape (S, S), −inf where the two are one; and the factor by which a sensor's conditional
            spread is wider when a partner is left out too, by [sensor, partner], shape (S, S).

        """
        raw = self._roots[:, 0]
        own = np.linalg.norm(raw, axis=1)
        variance = np.einsum("jv,jviu,ju->ji", raw, self._rest, raw)
        np.fill_diagonal(variance, own**2)
        covariance = np.einsum("jv,jviu,juiw,iw->ji", raw, self._rest, self._across, raw, optimize=True)
        correlation = covariance / np.sqrt(variance * variance.T)
        widening = np.sqrt(variance) / own[:, None]
        volume = np.log(own * self.flow.whitening.scale[self._raw]) - log_spread
        closeness = np.log(widening) + np.log(widening.T) + 0.5 * np.log(np.maximum(1 - correlation**2, _SMALLEST))
        pair_volume = volume[:, None] + volume + closeness
        np.fill_diagonal(pair_volume, -np.inf)
        return volume, pair_volume, widening

    def _learn(self, flow: ClusterFlow, random_state: int) -> Bends:
        """Learn from draws of the flow how its regime bends, how wide the bands are, and how far columns reach."""
        from scipy.stats import chi2  # not above: what scores needs NumPy alone

        n_columns = len(self._precision)
        z = self.standardised(flow.sample(_DRAWS, random_state))
        lowest, highest = np.quantile(z, [0.001, 0.999], axis=1)
        reach = (highest - lowest) / 2
        residual, missed = self._precision @ z, _with_spare(z)
        missed[self._columns] = np.einsum("svw,swn->svn", self._roots, self._whitened(residual))
        missed = missed[:-1]
        products = np.empty((n_columns, 0))
        if not flow.is_gaussian and 1 + n_columns * (n_columns + 3) // 2 <= _MOST_PRODUCTS:
            is_ordinary = np.einsum("dn,dn->n", z, residual) <= 2 * chi2.ppf(0.999, n_columns)  # not the heavy tail
            products = _fit_bends(z[:, is_ordinary], missed[:, is_ordinary], self._columns)
        off = missed[self._raw] - _bend(products[self._raw], z)
        return Bends(lowest - reach, highest + reach, np.quantile(off, BAND, axis=1), products)

    def _bounded(self, z: Array, columns: Index | slice) -> Array:
        """Keep repaired values within what the regime reaches: nothing is extrapolated from a far outlier."""
        return np.clip(z, self.bends.lowest[columns, None], self.bends.highest[columns, None])


def _bend(products: Array, z: Array) -> Array | float:
    """Return how far the conditional means of the flow are from those of its Gaussian, shape (columns, N) or 0."""
    return _times(products, _products(z)) if products.shape[1] else 0.0


def _times(matrix: Array, z: Array) -> Array:
    """Multiply each reading of `z`, shape (D, N): BLAS rounds a few of them otherwise than many, so they are filled up.

    What explains a reading must not depend on how many others came with it.
    """
    n = z.shape[1]
    if n >= _FEWEST_AT_ONCE:
        return np.asarray(matrix @ z)
    return np.asarray((matrix @ np.pad(z, ((0, 0), (0, _FEWEST_AT_ONCE - n))))[:, :n])


def _half_squares(white: Array) -> Array:
    """Return ½ |t|² of every sensor, shape (S, N)."""
    return np.asarray(0.5 * np.einsum("swn,swn->sn", white, white))


def _apply(matrices: Array, vectors: Array) -> Array:
    """Multiply each vector, shape (N, W), by a matrix of its own, shape (N, V, W)."""
    return np.asarray(np.einsum("nvw,nw->nv", matrices, vectors))


def _with_spare(z: Array) -> Array:
    """Append a column D of zeros, shape (D, N) to (D + 1, N)."""
    return np.concatenate([z, np.zeros_like(z[:1])])


def _fit_bends(z: Array, missed: Array, groups: Index) -> Array:
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
