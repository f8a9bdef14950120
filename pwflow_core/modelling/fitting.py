"""Put clusters and flows together: choose K by the evidence of the flows, refine the boundaries, share a flow.

`PiecewiseFlow` is the interface to this; nothing here knows of scikit-learn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit, logsumexp

from pwflow_core.modelling.clustering import ClusterSeeds, Method, Selection, fit_candidates
from pwflow_core.modelling.flow import ClusterFlow
from pwflow_core.modelling.joint import train_jointly
from pwflow_core.modelling.training import ClusterRows, FlowSettings, for_all_readings, train_flows
from pwflow_core.modelling.validation import paired_gain

Array = NDArray[np.float64]

_TRACE = 1e-3  # responsibility below which a row says nothing about a cluster
_LEAST_SHARED = 0.02  # weight below which a flow over all readings is not worth its training and its evaluation


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Distinct rows, their weights, and which of them are held out.

    Attributes:
        X: Raw units, shape (N, D).
        weight: Shape (N,).
        held_out: Shape (N,).
        fixed: Known cluster of each row or -1, shape (N,).

    """

    X: Array
    weight: Array
    held_out: NDArray[np.bool_]
    fixed: NDArray[np.intp]

    def share(self, joint: Array) -> Array:
        """Turn log-joints (N, K) into responsibilities; rows of known cluster keep it."""
        share = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
        return self.clamped(share)

    def clamped(self, share: Array) -> Array:
        """Give rows of known cluster to it, whole."""
        known = np.flatnonzero(self.fixed >= 0)
        share[known] = 0.0
        share[known, self.fixed[known]] = 1.0
        return share


@dataclass(frozen=True, eq=False)
class Piecewise:
    """A mixture of cluster flows.

    Attributes:
        seeds: The clusters the flows started from.
        weights: Share of each cluster, shape (K,); they sum to 1.
        flows: One per cluster.
        shared: A flow over all readings that is mixed with those of the clusters.
        shared_weight: Its share; that of the clusters is the rest.

    """

    seeds: ClusterSeeds
    weights: Array
    flows: list[ClusterFlow]
    shared: ClusterFlow | None = None
    shared_weight: float = 0.0

    def log_joint(self, X: Array) -> Array:
        """Evaluate log w_k + log p_k(x) of the clusters, nats, shape (N, K)."""
        return np.stack([f.log_prob(X) for f in self.flows], axis=1) + np.log(self.weights)

    def log_held_out(self, data: TrainingData) -> Array:
        """Evaluate the log-density of the held-out rows by the clusters alone, nats, shape (M,)."""
        return np.asarray(logsumexp(self.log_joint(data.X[data.held_out]), axis=1))


def fit_piecewise(
    data: TrainingData,
    *,
    method: Method,
    sizes: Sequence[int],
    selection: Selection,
    settings: FlowSettings,
    refinements: int,
    joint: bool,
    shared: bool,
    random_state: int,
) -> Piecewise:
    """Fit clusters and flows.

    With several `sizes` and `held_out` selection, the Gaussian mixtures only bound the search: flows are
    trained briefly for the K the mixtures prefer and for about a half, a quarter, ... of it down to one, and
    the K whose flows do best on the held-out rows is trained to the end.

    A flow over all readings has all of them to learn from, a cluster's only its own; it has to bridge what lies
    apart, a cluster's does not. Neither is better everywhere: so this special case joins the mixture, with the weight
    that the held-out rows give it.

    Arguments:
        data: What to learn from.
        method: `gmm` or `kmeans`.
        sizes: Candidates for K.
        selection: How to choose among them.
        settings: Of the flows.
        refinements: Rounds of expectation maximisation over the trained flows, while held-out rows gain.
        joint: Go on with clusters and flows together on the mixture likelihood, if held-out rows gain and no
            labels are given.
        shared: Mix in a large flow over all readings, if K = 1 is among several candidates and held-out rows ask
            for it.
        random_state: Seed.

    """
    worth = _worth_trying(data, method, sizes, selection, random_state)
    first_look = settings if len(worth) == 1 else _brief(settings)
    tried = [_start(seeds, data, first_look, random_state) for seeds in worth]
    best = tried[int(np.argmax([data.weight[data.held_out] @ model.log_held_out(data) for model in tried]))]
    if len(tried) > 1:
        best = _maximise(best, data, settings, random_state, data.share(best.log_joint(data.X)))
    if method == "gmm":
        best = _refine(best, data, settings, refinements, random_state)
    if joint and data.held_out.any() and (data.fixed < 0).all():
        best = _refine_jointly(best, data, settings, random_state)
    if shared and len(tried) > 1 and tried[-1].seeds.n_clusters == 1:
        best = _share(best, tried[-1].seeds, data, for_all_readings(settings), random_state)
    return best


def choose_clusters(
    data: TrainingData,
    *,
    method: Method,
    sizes: Sequence[int],
    selection: Selection,
    settings: FlowSettings,
    random_state: int,
    least_share: float = 0.01,
) -> ClusterSeeds:
    """Find the clusters alone, no more of them than the evidence asks for.

    As `fit_piecewise` does, but with `held_out` selection it takes the smallest K whose flows are within one
    standard error of the best: a regime that people look at, and that has to be calibrated, has its price.
    Where K is open, a cluster with less than `least_share` of the rows is no regime but what did not fit one, faults
    perhaps: its rows are left to be improbable in the others.
    Neighbouring readings are not independent, so the error is that of contiguous blocks of held-out rows.
    """
    worth = _worth_trying(data, method, sizes, selection, random_state)
    if len(sizes) > 1:
        worth = [_without_rare(seeds, least_share) for seeds in worth]
    if len(worth) == 1:
        return worth[0]
    tried = [_start(seeds, data, _brief(settings), random_state) for seeds in worth]
    judged = np.flatnonzero(data.held_out)
    block = np.cumsum(np.diff(judged, prepend=judged[0]) > 1).astype(np.intp)
    density = [logsumexp(model.log_joint(data.X[judged]), axis=1) for model in tried]
    best = density[int(np.argmax([data.weight[judged] @ d for d in density]))]
    enough = []
    for model, own in zip(tried, density, strict=True):
        gain, error = paired_gain(own, best, data.weight[judged], block)
        if gain <= error:
            enough.append(model.seeds)
    return min(enough, key=lambda seeds: seeds.n_clusters)


def _without_rare(seeds: ClusterSeeds, least_share: float) -> ClusterSeeds:
    keep = seeds.weights >= min(least_share, seeds.weights.max())
    weights = seeds.weights[keep] / seeds.weights[keep].sum()
    return replace(seeds, weights=weights, means=seeds.means[keep], covariances=seeds.covariances[keep])


def _worth_trying(
    data: TrainingData, method: Method, sizes: Sequence[int], selection: Selection, random_state: int
) -> list[ClusterSeeds]:
    """Return the clusters that the selection prefers and, where held-out rows select, those for fewer K besides."""
    choice = fit_candidates(
        data.X,
        method=method,
        candidates=sizes,
        selection=selection,
        sample_weight=data.weight,
        held_out=data.held_out,
        fixed=data.fixed,
        random_state=random_state,
    )
    if selection != "held_out" or not data.held_out.any():
        return [choice.fitted[choice.chosen]]
    return [choice.fitted[i] for i in _ladder([seeds.n_clusters for seeds in choice.fitted], choice.chosen)]


def _ladder(sizes: list[int], top: int) -> list[int]:
    """Return the positions of K, and of the candidates nearest to K/2, K/4, ..., 1, the largest first."""
    found, k = [top], sizes[top] / 2
    while k >= 1:
        nearest = min(range(top + 1), key=lambda i: abs(np.log(sizes[i] / k)))
        found.append(nearest)
        k /= 2
    return sorted(set(found) | {0}, reverse=True)


def _start(seeds: ClusterSeeds, data: TrainingData, settings: FlowSettings, random_state: int) -> Piecewise:
    share = data.clamped(seeds.responsibilities(data.X))
    flows = train_flows(cluster_rows(data, share, seeds.means, seeds.covariances), settings, random_state=random_state)
    return Piecewise(seeds, seeds.weights, flows)


def _refine(model: Piecewise, data: TrainingData, settings: FlowSettings, rounds: int, random_state: int) -> Piecewise:
    """Let flows and responsibilities follow each other while the held-out rows gain."""
    brief = _brief(settings)
    joint = model.log_joint(data.X)
    for _ in range(rounds if len(model.flows) > 1 and data.held_out.any() else 0):
        challenger = _maximise(model, data, brief, random_state, data.share(joint))
        new_joint = challenger.log_joint(data.X)
        gain, error = held_out_gain(data, joint, new_joint)
        if not gain > error:
            break
        model, joint = challenger, new_joint
    return model


def _refine_jointly(model: Piecewise, data: TrainingData, settings: FlowSettings, random_state: int) -> Piecewise:
    before = model.log_joint(data.X)
    share = data.share(before)
    learn = ~data.held_out
    flows, weights = train_jointly(
        model.flows,
        model.weights,
        cluster_rows(data, share, model.seeds.means, model.seeds.covariances, model.flows),
        data.X[learn],
        data.weight[learn],
        data.X[data.held_out],
        data.weight[data.held_out],
        settings,
        random_state,
    )
    challenger = Piecewise(model.seeds, weights, flows)
    gain, _ = held_out_gain(data, before, challenger.log_joint(data.X))
    return challenger if gain > 0 else model


def _share(
    model: Piecewise, one: ClusterSeeds, data: TrainingData, settings: FlowSettings, random_state: int
) -> Piecewise:
    """Mix a large flow over all readings in, by the weight that the held-out rows give it.

    It costs as much as all else, so it has to be of some use after a brief look already.
    """
    large = _start(one, data, _brief(settings), random_state)
    weight, own = data.weight[data.held_out], model.log_held_out(data)
    if _mixing_weight(own, large.log_held_out(data), weight) == 0:
        return model
    large = _maximise(large, data, settings, random_state, np.ones((len(data.X), 1)))
    share = _mixing_weight(own, large.log_held_out(data), weight)
    return model if share < _LEAST_SHARED else replace(model, shared=large.flows[0], shared_weight=share)


def _mixing_weight(first: Array, second: Array, weight: Array) -> float:
    """Return the weight of the second density in the most likely mixture of two, each given by rows, shape (N,).

    It is 0 where any weight makes the mixture less likely than the first density is.
    """

    def rise(share: float) -> float:  # of the likelihood with the share, but for a positive factor
        return float(weight @ expit(second - first + logit(share)) / weight.sum() - share)

    lowest, highest = 1e-6, 1 - 1e-6
    if rise(lowest) <= 0:
        return 0.0
    return highest if rise(highest) >= 0 else float(brentq(rise, lowest, highest))


def held_out_gain(data: TrainingData, before: Array, after: Array) -> tuple[float, float]:
    """Return how much the mean held-out log-density gained, and its standard error, nats per row."""
    judged = data.held_out
    return paired_gain(logsumexp(before[judged], axis=1), logsumexp(after[judged], axis=1), data.weight[judged])


def _brief(settings: FlowSettings) -> FlowSettings:
    """Return settings for a look at where training leads."""
    return replace(
        settings,
        patience=min(settings.patience, 3),
        max_steps=min(settings.max_steps, 24 * settings.steps_per_pass),
    )


def _maximise(
    model: Piecewise, data: TrainingData, settings: FlowSettings, random_state: int, share: Array
) -> Piecewise:
    """Go on training each flow on the given responsibilities, shape (N, K)."""
    rows = cluster_rows(data, share, model.seeds.means, model.seeds.covariances, model.flows)
    flows = train_flows(rows, settings, random_state=random_state)
    mass = data.weight[~data.held_out] @ share[~data.held_out]
    return Piecewise(model.seeds, np.maximum(mass, 1e-12 * mass.sum()) / mass.sum(), flows)


def cluster_rows(
    data: TrainingData,
    share: Array,
    means: Array,
    covariances: Array,
    start: Sequence[ClusterFlow] | None = None,
) -> list[ClusterRows]:
    """Split the rows by cluster, each with its responsibility as weight."""
    rows = []
    for k in range(share.shape[1]):
        learn = ~data.held_out & (share[:, k] > _TRACE)
        judge = data.held_out & (share[:, k] > _TRACE)
        rows.append(
            ClusterRows(
                X=data.X[learn],
                weight=share[learn, k] * data.weight[learn],
                X_held_out=data.X[judge],
                weight_held_out=share[judge, k] * data.weight[judge],
                mean=means[k],
                covariance=covariances[k],
                start=None if start is None else start[k],
            )
        )
    return rows
