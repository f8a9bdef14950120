"""Weighted expectation maximisation for full-covariance Gaussian mixtures.

scikit-learn's mixture takes no sample weights, which responsibilities, repeated rows and partial labels all
need. Here both steps are one matrix product with the quadratic features [1, x, x xᵀ] of the rows, in float64
on standardised data.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.cluster import KMeans

from pwflow_core.modelling.rows import TrainingData
from pwflow_core.modelling.seeds import GaussianMixture
from pwflow_core.modelling.validation import thinned

Array = NDArray[np.float64]

_FEATURES_AT_ONCE = 1 << 23  # float64 values of quadratic features held in memory
_FLOOR = 1e-5  # added to every variance of standardised data
_STARTS = 2
_TOLERANCE = 1e-5  # nats per row

# The mixture beside a flow.
_COMPONENTS = 8
_FURTHEST = 8.0  # standard deviations: what lies further out must not take a Gaussian for itself
_MOST_ROWS = 5000
_ROWS_PER_PARAMETER = 5


@dataclass(frozen=True, eq=False)
class FittedMixture(GaussianMixture):
    """A mixture as `fit_mixture` found it.

    Attributes:
        log_likelihood: Weighted mean log-density of the training rows, nats per row.
        held_out: The same of the held-out rows; equal to `log_likelihood` if there were none.

    """

    log_likelihood: float
    held_out: float


def fit_mixture(
    data: TrainingData, n_clusters: int, *, random_state: int = 0, max_iterations: int = 200
) -> FittedMixture:
    """Fit a full-covariance Gaussian mixture by expectation maximisation.

    Starts from k-means, `_STARTS` times for a few iterations each, and the best goes on until the rows gain less than
    `_TOLERANCE` nats each. With held-out rows, it stops when those no longer gain and keeps the best iteration.

    Arguments:
        data: Standardised rows; those of known cluster keep it.
        n_clusters: K.
        random_state: Seed of the starts.
        max_iterations: Most iterations of the one that goes on.

    """
    rows, judged = _Rows(data.learned), data.judged
    single = n_clusters == 1
    starts = [
        _run(rows, None, _start(rows, n_clusters, random_state + i), 1 if single else 12, 0.0)
        for i in range(1 if single else _STARTS)
    ]
    _, statistics = max(starts, key=lambda run: run[0].log_likelihood)
    held_out = _Rows(judged) if len(judged.X) else None
    return _run(rows, held_out, statistics, 1 if single else max_iterations, _TOLERANCE)[0]


def fit_components(data: TrainingData, random_state: int = 0) -> GaussianMixture | None:
    """Fit the mixture of at most eight Gaussians that stands beside a flow.

    None where the rows are too few for two, or held-out rows do not ask for more than the one Gaussian of the regime.

    Arguments:
        data: White rows of one regime, some of them held out.
        random_state: Seed of the starts.

    """
    learn, judge = np.flatnonzero(~data.held_out), np.flatnonzero(data.held_out)
    learn, judge = learn[thinned(len(learn), _MOST_ROWS)], judge[thinned(len(judge), _MOST_ROWS // 4)]
    n_features = data.X.shape[1]
    per_component = _ROWS_PER_PARAMETER * (n_features + 1) * (n_features + 2) // 2
    n_components = min(_COMPONENTS, len(learn) // per_component)
    if n_components < 2 or not len(judge):
        return None
    rows = data.take(np.concatenate([learn, judge]))
    rows = replace(rows, X=np.clip(rows.X, -_FURTHEST, _FURTHEST))
    found = fit_mixture(rows, n_components, random_state=random_state, max_iterations=100)
    alone = fit_mixture(rows, 1, random_state=random_state)
    if found.held_out <= alone.held_out:
        return None
    return GaussianMixture(found.weights, found.means, found.covariances)


class _Rows:
    """Rows as quadratic features, in blocks small enough for memory."""

    def __init__(self, data: TrainingData) -> None:
        self.X, self.weight, self.fixed = data.X, data.weight, data.fixed
        self.n_features = self.X.shape[1]
        self.upper = np.triu_indices(self.n_features)
        width = 1 + self.n_features + len(self.upper[0])
        step = max(1, _FEATURES_AT_ONCE // width)
        self.blocks = [slice(i, i + step) for i in range(0, len(self.X), step)]
        self._kept = self._features(self.blocks[0]) if len(self.blocks) == 1 else None

    def _features(self, block: slice) -> Array:
        X = self.X[block]
        i, j = self.upper
        return np.concatenate([np.ones((len(X), 1)), X, X[:, i] * X[:, j]], axis=1)

    def features(self, block: slice) -> Array:
        return self._features(block) if self._kept is None else self._kept

    def mean_log_density(self, parameters: Array) -> float:
        joint = np.concatenate([self.features(block) @ parameters.T for block in self.blocks])
        return float(self.weight @ logsumexp(joint, axis=1) / self.weight.sum())

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
            known = np.flatnonzero(self.fixed[block] >= 0)
            share[known] = 0.0
            share[known, self.fixed[block][known]] = weight[known]
            sums += share.T @ features
        return total / float(self.weight.sum()), sums


def _start(rows: _Rows, n_clusters: int, seed: int) -> Array:
    """Sum the features of each cluster of a quick k-means, shape (K, F)."""
    label = np.zeros(len(rows.X), dtype=int)
    fixed = rows.fixed
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
    max_iterations: int,
    tolerance: float,
) -> tuple[FittedMixture, Array]:
    mixture = _maximise(sums, rows.n_features)
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
        mixture = _maximise(sums, rows.n_features)
    assert best is not None  # noqa: S101 - the loop runs at least once
    score, gained, (weights, means, covariances) = best
    return FittedMixture(weights, means, covariances, gained, score), sums


def _maximise(sums: Array, n_features: int) -> tuple[Array, Array, Array]:
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
    # `n_features` rows' worth of the average scatter keeps small clusters in many dimensions from collapsing
    covariances = (scatter + float(n_features) * within) / (mass + float(n_features))[:, None, None]
    covariances[:, range(n_features), range(n_features)] += _FLOOR
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
