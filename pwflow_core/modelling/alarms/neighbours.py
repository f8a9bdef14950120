"""How far the nearest readings are that were seen in normal operation."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_SUBSETS = 3
_BATCH_ROWS = 256
_SEEN_AGAIN = 1.5
_FURTHEST = 1e6  # in units of the whitened space, so that squares stay exact enough


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Mean distance to the nearest reference in each of three interleaved sets of them.

    One nearest reading of many is a matter of chance, and one wrong reference would vouch for what lies near it; the
    mean over several sets is steadier, and costs what one search does. A reference does not vouch for itself: a
    reading that was learned from is compared with the others, unless its values were seen twice. Every block of
    readings that is compared has the same size, so that the distance of a reading does not depend on those that come
    with it.

    Attributes:
        centre: Shape (D,).
        forward: Map to the space in which distances are taken, shape (D, E).
        references: Readings in that space, shape (3, R, E), float32.
        marks: Fingerprint of each reference that was seen once, 0 for the others, shape (3, R), uint64.

    """

    centre: Array
    forward: Array
    references: NDArray[np.float32]
    marks: NDArray[np.uint64]
    _folded: NDArray[np.float32] = field(init=False, repr=False)
    _by_mark: NDArray[np.intp] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        exact = self.references.astype(np.float64)
        folded = np.concatenate([-2 * exact, (exact**2).sum(axis=2, keepdims=True)], axis=2)
        object.__setattr__(self, "_folded", folded.astype(np.float32))
        object.__setattr__(self, "_by_mark", np.argsort(self.marks.ravel(), kind="stable"))

    @classmethod
    def fit(cls, X: Array, weight: Array, forward: Array, most: int) -> Neighbours:
        """Keep at most `most` of the rows, evenly spaced in their order, as references.

        Arguments:
            X: Normal readings, shape (N, D).
            weight: How often each was seen, shape (N,).
            forward: Map to the space of distances, shape (D, E).
            most: Most references.

        """
        marks, twin = np.unique(_marks(X), return_inverse=True)
        once = np.bincount(twin, weights=weight) < _SEEN_AGAIN
        n_rows = max(_SUBSETS, min(len(X), most) // _SUBSETS * _SUBSETS)
        pick = np.linspace(0, len(X) - 1, n_rows).round().astype(np.intp)
        centre = np.median(X, axis=0)
        mapped = np.clip((X[pick] - centre) @ forward, -_FURTHEST, _FURTHEST).astype(np.float32)
        own = np.where(once & (n_rows > _SUBSETS), marks, np.uint64(0))[twin[pick]]  # never the only one of a set
        return cls(centre, forward, *(np.stack([part[i::_SUBSETS] for i in range(_SUBSETS)]) for part in (mapped, own)))

    def distance(self, X: Array) -> Array:
        """Return the distance of each reading, shape (N,)."""
        n_rows, width = len(X), self.references.shape[2]
        mapped = np.ones((n_rows + (-n_rows) % _BATCH_ROWS, width + 1), dtype=np.float32)
        np.clip((X - self.centre) @ self.forward, -_FURTHEST, _FURTHEST, out=mapped[:n_rows, :-1], casting="same_kind")
        mapped[n_rows:] = 0.0
        nearest = np.empty((_SUBSETS, len(mapped)), dtype=np.float32)
        product = np.empty((self._folded.shape[1], _BATCH_ROWS), dtype=np.float32)
        itself = self._itself(X)
        for start in range(0, len(mapped), _BATCH_ROWS):
            block = slice(start, start + _BATCH_ROWS)
            subset, place = np.divmod(itself[block], len(product))  # -1 is in the subset -1
            for number, folded in enumerate(self._folded):  # one of them fits into the cache of a core
                np.matmul(folded, mapped[block].T, out=product)
                own = np.flatnonzero(subset == number)
                product[place[own], own] = np.inf
                np.min(product, axis=0, out=nearest[number, block])
        own = np.einsum("ne,ne->n", mapped[:n_rows, :-1], mapped[:n_rows, :-1])
        return np.asarray(np.sqrt(np.maximum(nearest[:, :n_rows] + own, 0.0)).mean(axis=0), dtype=np.float64)

    def _itself(self, X: Array) -> NDArray[np.intp]:
        """Return which reference each reading is, or -1, shape (N,)."""
        ordered = self.marks.ravel()[self._by_mark]
        marks = _marks(X)
        at = np.minimum(np.searchsorted(ordered, marks), len(ordered) - 1)
        return np.where((ordered[at] == marks) & (marks > 0), self._by_mark[at], -1)


def _marks(X: Array) -> NDArray[np.uint64]:
    """Return a fingerprint of each row's values, shape (N,), above 0."""
    bits = np.ascontiguousarray(X + 0.0).view(np.uint64)  # + 0.0: minus zero is zero
    mark = np.full(len(X), 0x9E3779B97F4A7C15, dtype=np.uint64)
    for column in bits.T:
        mark = (mark ^ column) * np.uint64(0xBF58476D1CE4E5B9)
        mark ^= mark >> np.uint64(29)
    return np.maximum(mark, np.uint64(1))


def whitening_matrix(X: Array, weight: Array, regime: NDArray[np.intp], floor: Array, ridge: float) -> Array:
    """Return the map to white coordinates of the correlations within regimes plus a ridge, shape (D, D).

    Arguments:
        X: Shape (N, D).
        weight: Shape (N,).
        regime: Regime of each row, shape (N,).
        floor: Least standard deviation of each column, above zero, shape (D,).
        ridge: Added to each eigenvalue of the correlations: what no reading can be told apart by.

    """
    mass = np.bincount(regime, weights=weight)
    sums = np.stack([np.bincount(regime, weights=weight * column) for column in X.T], axis=1)
    centred = X - (sums / np.maximum(mass, 1e-300)[:, None])[regime]
    covariance = (centred.T * weight) @ centred / weight.sum()
    spread = np.sqrt(np.diagonal(covariance) + floor**2)
    values, axes = np.linalg.eigh(covariance / np.outer(spread, spread))
    return np.asarray((axes / np.sqrt(np.maximum(values, 0.0) + ridge)) / spread[:, None])
