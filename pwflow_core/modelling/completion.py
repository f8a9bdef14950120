"""Readings with missing values: their regimes by what is there, and the rest by its conditional mean.

A missing value takes its most likely value in the regime's Gaussian, so the completed reading is never further out
than what is there says: its squared Mahalanobis distance is that of the observed values alone, which has fewer
degrees of freedom than that of an ordinary reading. p-values against ordinary readings are therefore conservative.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pwflow_core.modelling.seeds import ClusterSeeds

__all__ = ["complete_by_likeliest", "complete_rows", "share_among_clusters"]

Array = NDArray[np.float64]


def complete_rows(X: Array, mean: Array, covariance: Array) -> Array:
    r"""Replace each NaN by its mean given the other values of its row, x ~ N(m, S).

    E[x_m | x_o] = m_m + S_mo S_oo^-1 (x_o - m_o)

    Arguments:
        X: Readings in raw units, NaN where a value is missing, shape (N, D).
        mean: m, shape (D,).
        covariance: S, positive definite, shape (D, D).

    Returns:
        The readings without NaN, shape (N, D); `X` itself if there is none in it.
    """
    scale = np.sqrt(np.diagonal(covariance))
    correlation = covariance / np.outer(scale, scale)
    completed = X
    for rows, seen in _patterns(X):
        if seen.all():
            continue
        completed = X.copy() if completed is X else completed
        standard = (X[np.ix_(rows, seen)] - mean[seen]) / scale[seen]
        slope = np.linalg.solve(correlation[np.ix_(seen, seen)], correlation[np.ix_(seen, ~seen)])
        completed[np.ix_(rows, ~seen)] = mean[~seen] + scale[~seen] * (standard @ slope)
    return completed


def share_among_clusters(seeds: ClusterSeeds, X: Array) -> tuple[NDArray[np.bool_], Array]:
    """Tell which clusters could have produced each reading, judged by the values that it has.

    Arguments:
        seeds: The clusters.
        X: Readings in raw units, NaN where a value is missing, shape (N, D).

    Returns:
        The candidates and the responsibilities, both of shape (N, K); see `ClusterSeeds`.
    """
    candidates = np.zeros((len(X), seeds.n_clusters), dtype=np.bool_)
    shares = np.zeros((len(X), seeds.n_clusters))
    for rows, seen in _patterns(X):
        marginal = seeds if seen.all() else seeds.restricted(seen)
        part = X[np.ix_(rows, seen)]
        candidates[rows], shares[rows] = marginal.share(part)
    return candidates, shares


def complete_by_likeliest(seeds: ClusterSeeds, X: Array) -> Array:
    """Complete each reading by the cluster with the largest share in it, judged by the values that it has.

    Arguments:
        seeds: The clusters.
        X: Readings in raw units, NaN where a value is missing, shape (N, D).

    Returns:
        The readings without NaN, shape (N, D); `X` itself if there is none in it.
    """
    rows = np.flatnonzero(np.isnan(X).any(axis=1))
    if not len(rows):
        return X
    completed = X.copy()
    cluster = share_among_clusters(seeds, X[rows])[1].argmax(axis=1)
    for k in np.unique(cluster):
        mine = rows[cluster == k]
        completed[mine] = complete_rows(X[mine], seeds.means[k], seeds.covariances[k])
    return completed


def _patterns(X: Array) -> Iterator[tuple[NDArray[np.intp], NDArray[np.bool_]]]:
    """Yield the rows that have values in the same columns, with those columns."""
    gaps = np.isnan(X)
    with_gaps = gaps.any(axis=1)
    if not with_gaps.all():
        yield np.flatnonzero(~with_gaps), np.ones(X.shape[1], dtype=np.bool_)
    if with_gaps.any():
        rows = np.flatnonzero(with_gaps)
        kinds, kind = np.unique(gaps[rows], axis=0, return_inverse=True)
        for position, missing in enumerate(kinds):
            yield rows[kind.ravel() == position], ~missing
