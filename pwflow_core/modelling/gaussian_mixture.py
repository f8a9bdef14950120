"""Weighted expectation maximisation for full-covariance Gaussian mixtures.

scikit-learn's mixture takes no sample weights, which responsibilities, repeated rows and partial labels all
need. Here both steps are one matrix product with the quadratic features [1, x, x xᵀ] of the rows, in float64
on standardised data.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.cluster import KMeans

Array = NDArray[np.float64]

_FEATURES_AT_ONCE = 1 << 23  # float64 values of quadratic features held in memory


@dataclass(frozen=True)
class Mixture:
    """A Gaussian mixture in the units of the rows it was fitted to.

    Attributes:
        weights: Mixture weights, shape (K,).
        means: Shape (K, D).
        covariances: Shape (K, D, D), positive definite.
        log_likelihood: Weighted mean log-density of the training rows, nats per row.
        held_out: The same of the held-out rows; equal to `log_likelihood` if there were none.

    """

    weights: Array
    means: Array
    covariances: Array
    log_likelihood: float
    held_out: float

    def log_joint(self, X: Array) -> Array:
        """Evaluate log w_k + log N(x; m_k, S_k), nats, shape (N, K)."""
        return _Rows(X, np.ones(len(X))).log_joint(_parameters(self.weights, self.means, self.covariances))

    @property
    def n_parameters(self) -> int:
        """Count the free parameters, for BIC."""
        n_clusters, n_features = self.means.shape
        return int(n_clusters * (1 + n_features + n_features * (n_features + 1) // 2) - 1)


@dataclass(frozen=True)
class Regularisation:
    """Keep every covariance positive definite, in standardised units.

    Attributes:
        floor: Added to every variance.
        prior_rows: Rows' worth of prior scatter, shaped as the average covariance within clusters, that each
            covariance is shrunk to; keeps small clusters in many dimensions from collapsing. None for D.

    """

    floor: float = 1e-5
    prior_rows: float | None = None


def fit_mixture(
    X: Array,
    n_clusters: int,
    *,
    weight: Array | None = None,
    X_held_out: Array | None = None,
    weight_held_out: Array | None = None,
    fixed: NDArray[np.integer] | None = None,
    regularisation: Regularisation | None = None,
    n_init: int = 2,
    max_iterations: int = 200,
    tolerance: float = 1e-5,
    random_state: int = 0,
) -> Mixture:
    """Fit a full-covariance Gaussian mixture by expectation maximisation.

    Starts from k-means; with held-out rows, stops when they no longer gain and keeps the best iteration.

    Arguments:
        X: Standardised rows, shape (N, D).
        n_clusters: K.
        weight: Row weights, shape (N,).
        X_held_out: Rows that decide when to stop, shape (M, D).
        weight_held_out: Their weights, shape (M,).
        fixed: Known cluster of each row or -1, shape (N,): those rows keep their cluster.
        regularisation: Bounds on the covariances.
        n_init: Starts; each runs a few iterations and the best goes on.
        max_iterations: Most iterations of the one that goes on.
        tolerance: Stop when the training rows gain less than this, nats per row.
        random_state: Seed of the starts.

    """
    regularisation = regularisation or Regularisation()
    rows = _Rows(X, np.ones(len(X)) if weight is None else weight, fixed)
    held_out = None
    if X_held_out is not None and len(X_held_out):
        held_out = _Rows(X_held_out, np.ones(len(X_held_out)) if weight_held_out is None else weight_held_out)
    single = n_clusters == 1
    starts = [
        _run(rows, None, _start(rows, n_clusters, random_state + i), regularisation, 1 if single else 12, 0.0)
        for i in range(1 if single else n_init)
    ]
    _, statistics = max(starts, key=lambda run: run[0].log_likelihood)
    iterations = 1 if single else max_iterations
    return _run(rows, held_out, statistics, regularisation, iterations, tolerance)[0]


class _Rows:
    """Rows as quadratic features, in blocks small enough for memory."""

    def __init__(self, X: Array, weight: Array, fixed: NDArray[np.integer] | None = None) -> None:
        self.X, self.weight, self.fixed = X, weight, fixed
        self.n_features = X.shape[1]
        self.upper = np.triu_indices(self.n_features)
        width = 1 + self.n_features + len(self.upper[0])
        step = max(1, _FEATURES_AT_ONCE // width)
        self.blocks = [slice(i, i + step) for i in range(0, len(X), step)]
        self._kept = self._features(self.blocks[0]) if len(self.blocks) == 1 else None

    def _features(self, block: slice) -> Array:
        X = self.X[block]
        i, j = self.upper
        return np.concatenate([np.ones((len(X), 1)), X, X[:, i] * X[:, j]], axis=1)

    def features(self, block: slice) -> Array:
        return self._features(block) if self._kept is None else self._kept

    def log_joint(self, parameters: Array) -> Array:
        return np.concatenate([self.features(block) @ parameters.T for block in self.blocks])

    def mean_log_density(self, parameters: Array) -> float:
        return float(self.weight @ logsumexp(self.log_joint(parameters), axis=1) / self.weight.sum())

    def expect(self, parameters: Array) -> tuple[float, Array]:
        """Return the mean log-density and the responsibility-weighted sums of the features, shape (K, F)."""
        total, sums = 0.0, np.zeros_like(parameters)
        for block in self.blocks:
            features, weight = self.features(block), self.weight[block]
            joint = features @ parameters.T
            top = joint.max(axis=1, keepdims=True)
            share = np.exp(joint - top)
            norm = share.sum(axis=1, keepdims=True)
            total += float(weight @ (top + np.log(norm))[:, 0])
            share *= weight[:, None] / norm
            if self.fixed is not None:
                known = np.flatnonzero(self.fixed[block] >= 0)
                share[known] = 0.0
                share[known, self.fixed[block][known]] = weight[known]
            sums += share.T @ features
        return total / float(self.weight.sum()), sums


def _start(rows: _Rows, n_clusters: int, seed: int) -> Array:
    """Sum the features of each cluster of a quick k-means, shape (K, F)."""
    label = np.zeros(len(rows.X), dtype=int)
    fixed = np.full(len(rows.X), -1) if rows.fixed is None else rows.fixed.astype(int)
    if n_clusters > 1 and (fixed < 0).any():
        pick = np.flatnonzero(fixed < 0)
        most = max(3000, 100 * n_clusters)
        if len(pick) > most:
            pick = np.random.default_rng(seed).choice(pick, most, replace=False)
        known = [rows.X[fixed == k].mean(axis=0) for k in range(int(fixed.max()) + 1)]
        init: Array | str = "k-means++"
        if known:
            init = _far_apart(known, rows.X[pick], n_clusters, seed)
        kmeans = KMeans(n_clusters, init=init, n_init=1, random_state=seed, max_iter=50)
        kmeans.fit(rows.X[pick], sample_weight=rows.weight[pick])
        label = kmeans.predict(rows.X)
    label = np.where(fixed >= 0, fixed, label)
    sums = np.zeros((n_clusters, 1 + rows.n_features + len(rows.upper[0])))
    for block in rows.blocks:
        share = np.zeros((len(label[block]), n_clusters))
        share[np.arange(len(share)), label[block]] = rows.weight[block]
        sums += share.T @ rows.features(block)
    return sums


def _far_apart(known: list[Array], X: Array, n_clusters: int, seed: int) -> Array:
    """Add rows to the known centres, each drawn in proportion to its squared distance from all before it."""
    rng, centres = np.random.default_rng(seed), list(known)
    while len(centres) < n_clusters:
        distance = np.min([((X - centre) ** 2).sum(axis=1) for centre in centres], axis=0)
        centres.append(X[rng.choice(len(X), p=(distance + 1e-12) / (distance + 1e-12).sum())])
    return np.array(centres)


def _run(
    rows: _Rows,
    held_out: _Rows | None,
    sums: Array,
    regularisation: Regularisation,
    max_iterations: int,
    tolerance: float,
) -> tuple[Mixture, Array]:
    mixture = _maximise(sums, rows.n_features, regularisation)
    best: tuple[float, float, tuple[Array, Array, Array]] | None = None
    previous, since_best = -np.inf, 0
    for iteration in range(max_iterations + 1):
        parameters = _parameters(*mixture)
        gained, next_sums = rows.expect(parameters)
        if held_out is None:
            best = (gained, gained, mixture)
        elif iteration % 5 == 0 or iteration == max_iterations or gained - previous < tolerance:
            score = held_out.mean_log_density(parameters)
            since_best = since_best + 1
            if best is None or score > best[0]:
                best, since_best = (score, gained, mixture), 0
        if iteration == max_iterations or gained - previous < tolerance or since_best >= 4:
            break
        previous, sums = gained, next_sums
        mixture = _maximise(sums, rows.n_features, regularisation)
    assert best is not None  # noqa: S101 - the loop runs at least once
    score, gained, (weights, means, covariances) = best
    return Mixture(weights, means, covariances, gained, score), sums


def _maximise(sums: Array, n_features: int, regularisation: Regularisation) -> tuple[Array, Array, Array]:
    """Turn sums of quadratic features into weights, means and covariances."""
    mass = sums[:, 0]
    total = mass.sum()
    alive = mass > 1e-9 * total
    safe = np.where(alive, mass, 1.0)
    means = sums[:, 1 : n_features + 1] / safe[:, None]
    second = np.zeros((len(sums), n_features, n_features))
    i, j = np.triu_indices(n_features)
    second[:, i, j] = sums[:, n_features + 1 :]
    second[:, j, i] = sums[:, n_features + 1 :]
    scatter = second - mass[:, None, None] * means[:, :, None] * means[:, None, :]
    scatter[~alive] = 0.0
    within = scatter.sum(axis=0) / total
    prior = float(n_features) if regularisation.prior_rows is None else regularisation.prior_rows
    covariances = (scatter + prior * within) / (mass + prior)[:, None, None]
    covariances[:, range(n_features), range(n_features)] += regularisation.floor
    weights = np.maximum(mass / total, 1e-12)
    return weights / weights.sum(), means, covariances


def _parameters(weights: Array, means: Array, covariances: Array) -> Array:
    """Write log w_k + log N(x; m_k, S_k) as coefficients of [1, x, x xᵀ], shape (K, F)."""
    n_features = means.shape[1]
    factor = np.linalg.cholesky(covariances)
    inverse = np.linalg.inv(factor)
    precision = np.swapaxes(inverse, 1, 2) @ inverse
    log_det = 2 * np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(axis=1)
    linear = np.einsum("kij,kj->ki", precision, means)
    constant = np.log(weights) - 0.5 * (n_features * np.log(2 * np.pi) + log_det + np.einsum("ki,ki->k", linear, means))
    i, j = np.triu_indices(n_features)
    quadratic = -np.where(i == j, 0.5, 1.0) * precision[:, i, j]
    return np.concatenate([constant[:, None], linear, quadratic], axis=1)
