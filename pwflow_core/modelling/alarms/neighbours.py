"""How far the nearest readings are that were seen in normal operation."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_SUBSETS = 3
_BATCH_ROWS = 128
_FURTHEST = 1e6  # in units of the whitened space, so that squares stay exact enough


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Mean distance to the nearest reference in each of three interleaved sets of them.

    One nearest reading of many is a matter of chance, and one wrong reference would vouch for what lies near it; the
    mean over several sets is steadier, and costs what one search does. Every block of readings that is compared has
    the same size, so that the distance of a reading does not depend on those that come with it.

    Attributes:
        centre: Shape (D,).
        forward: Map to the space in which distances are taken, shape (D, E).
        references: Readings in that space, shape (3, R, E), float32.

    """

    centre: Array
    forward: Array
    references: NDArray[np.float32]
    _folded: NDArray[np.float32] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        flat = self.references.reshape(-1, self.references.shape[2]).astype(np.float64)
        folded = np.concatenate([-2 * flat, np.einsum("re,re->r", flat, flat)[:, None]], axis=1)
        object.__setattr__(self, "_folded", folded.astype(np.float32))

    @classmethod
    def fit(cls, X: Array, forward: Array, most: int) -> Neighbours:
        """Keep at most `most` of the rows, evenly spaced in their order, as references.

        Arguments:
            X: Normal readings, shape (N, D).
            forward: Map to the space of distances, shape (D, E).
            most: Most references.

        """
        n_rows = max(_SUBSETS, min(len(X), most) // _SUBSETS * _SUBSETS)
        pick = np.linspace(0, len(X) - 1, n_rows).round().astype(np.intp)
        centre = np.median(X, axis=0)
        mapped = np.clip((X[pick] - centre) @ forward, -_FURTHEST, _FURTHEST).astype(np.float32)
        return cls(centre, forward, np.stack([mapped[i::_SUBSETS] for i in range(_SUBSETS)]))

    def distance(self, X: Array) -> Array:
        """Return the distance of each reading, shape (N,)."""
        n_rows, width = len(X), self.references.shape[2]
        mapped = np.ones((n_rows + (-n_rows) % _BATCH_ROWS, width + 1), dtype=np.float32)
        np.clip((X - self.centre) @ self.forward, -_FURTHEST, _FURTHEST, out=mapped[:n_rows, :-1], casting="same_kind")
        mapped[n_rows:] = 0.0
        nearest = np.empty((_SUBSETS, len(mapped)), dtype=np.float32)
        product = np.empty((len(self._folded), _BATCH_ROWS), dtype=np.float32)
        for start in range(0, len(mapped), _BATCH_ROWS):
            block = slice(start, start + _BATCH_ROWS)
            np.matmul(self._folded, mapped[block].T, out=product)
            np.min(product.reshape(_SUBSETS, -1, _BATCH_ROWS), axis=1, out=nearest[:, block])
        own = np.einsum("ne,ne->n", mapped[:n_rows, :-1], mapped[:n_rows, :-1])
        return np.asarray(np.sqrt(np.maximum(nearest[:, :n_rows] + own, 0.0)).mean(axis=0), dtype=np.float64)


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
