"""Put clusters and flows together: choose K by the evidence of the flows, refine the boundaries, share a flow.

`PiecewiseFlow` is the interface to this; nothing here knows of scikit-learn.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit, logsumexp

from pwflow_core.modelling.clustering import fit_candidates
from pwflow_core.modelling.flow import ClusterFlow
from pwflow_core.modelling.joint import train_jointly
from pwflow_core.modelling.mixture import log_joint
from pwflow_core.modelling.rows import TrainingData
from pwflow_core.modelling.seeds import ClusterSeeds, GaussianMixture
from pwflow_core.modelling.settings import FitSettings, FlowSettings, for_all_readings
from pwflow_core.modelling.training import ClusterRows, train_flows
from pwflow_core.modelling.validation import paired_gain

_log = logging.getLogger("pwflow.fit")

Array = NDArray[np.float64]
Refine = Literal["em", "joint"] | None

_TRACE = 1e-3  # responsibility below which a row says nothing about a cluster
_LEAST_SHARED = 0.02  # weight below which a flow over all readings is not worth its training and its evaluation


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
        return log_joint(self.flows, self.weights, X)

    def log_held_out(self, data: TrainingData) -> Array:
        """Evaluate the log-density of the held-out rows by the clusters alone, nats, shape (M,)."""
        return np.asarray(logsumexp(self.log_joint(data.X[data.held_out]), axis=1))


def fit_piecewise(
    data: TrainingData, clusters: FitSettings, settings: FlowSettings, *, refine: Refine, shared: bool
) -> Piecewise:
    """Fit clusters and flows.

    With several sizes and `held_out` selection, the Gaussian mixtures only bound the search: flows are
    trained briefly for the K the mixtures prefer and for about a half, a quarter, ... of it down to one, and
    the K whose flows do best on the held-out rows is trained to the end.

    A flow over all readings has all of them to learn from, a cluster's only its own; it has to bridge what lies
    apart, a cluster's does not. Neither is better everywhere: so this special case joins the mixture, with the weight
    that the held-out rows give it.

    Arguments:
        data: What to learn from.
        clusters: How to find the clusters, and the seed of the flows.
        settings: Of the flows.
        refine: `em`: a round of expectation maximisation over the trained flows, if held-out rows gain. `joint`: then
            go on with clusters and flows together on the mixture likelihood, if held-out rows gain and no labels are
            given.
        shared: Mix in a large flow over all readings, if K = 1 is among several candidates and held-out rows ask
            for it.

    """
    random_state = clusters.random_state
    worth = _worth_trying(data, clusters)
    first_look = settings if len(worth) == 1 else _brief(settings)
    tried = []
    for seeds in worth:
        tried.append(_start(seeds, data, first_look, random_state))
        _tell(f"{seeds.n_clusters} clusters", tried[-1], data)
    best = tried[int(np.argmax([data.weight[data.held_out] @ model.log_held_out(data) for model in tried]))]
    if len(tried) > 1:
        best = _maximise(best, data, settings, random_state, data.share(best.log_joint(data.X)))
        _tell(f"{len(best.flows)} clusters, trained to the end", best, data)
    if clusters.method == "gmm" and refine is not None:
        best = _refine(best, data, settings, random_state)
    if refine == "joint" and data.held_out.any() and (data.fixed < 0).all():
        best = _refine_jointly(best, data, settings, random_state)
    if shared and len(tried) > 1 and tried[-1].seeds.n_clusters == 1:
        best = _share(best, tried[-1].seeds, data, for_all_readings(settings), random_state)
        _log.info("share of a flow over all readings: %.2f", best.shared_weight)
    return best


def _tell(what: str, model: Piecewise, data: TrainingData) -> None:
    if _log.isEnabledFor(logging.INFO) and data.held_out.any():
        mean = np.average(model.log_held_out(data), weights=data.weight[data.held_out])
        _log.info("%s: held-out log-density %.3f nats", what, mean)


def choose_clusters(
    data: TrainingData, clusters: FitSettings, settings: FlowSettings, least_share: float = 0.01
) -> ClusterSeeds:
    """Find the clusters alone, no more of them than the evidence asks for.

    As `fit_piecewise` does, but with `held_out` selection it takes the smallest K whose flows are within one
    standard error of the best: a regime that people look at, and that has to be calibrated, has its price.
    Where K is open, a cluster with less than `least_share` of the rows is not a regime but what did not fit one, faults
    perhaps: its rows are left to be improbable in the others.
    Neighbouring readings are not independent, so the error is that of contiguous blocks of held-out rows.
    """
    worth = _worth_trying(data, clusters)
    if len(clusters.sizes) > 1:
        worth = [_without_rare(seeds, least_share) for seeds in worth]
    if len(worth) == 1:
        return worth[0]
    tried = [_start(seeds, data, _brief(settings), clusters.random_state) for seeds in worth]
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


def _worth_trying(data: TrainingData, settings: FitSettings) -> list[ClusterSeeds]:
    """Return the clusters that the selection prefers and, where held-out rows select, those for fewer K."""
    choice = fit_candidates(data, settings)
    if settings.selection != "held_out" or not data.held_out.any():
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
    flows = train_flows(cluster_rows(data, share, seeds), settings, random_state=random_state)
    return Piecewise(seeds, seeds.weights, flows)


def _refine(model: Piecewise, data: TrainingData, settings: FlowSettings, random_state: int) -> Piecewise:
    """Let responsibilities follow the flows, and flows follow them, if the held-out rows gain."""
    if len(model.flows) == 1 or not data.held_out.any():
        return model
    joint = model.log_joint(data.X)
    challenger = _maximise(model, data, _brief(settings), random_state, data.share(joint))
    gain, error = held_out_gain(data, joint, challenger.log_joint(data.X))
    return challenger if gain > error else model


def _refine_jointly(model: Piecewise, data: TrainingData, settings: FlowSettings, random_state: int) -> Piecewise:
    before = model.log_joint(data.X)
    share = data.share(before)
    rows = cluster_rows(data, share, model.seeds, model.flows)
    flows, weights = train_jointly(model.flows, model.weights, rows, data, settings, random_state)
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
    rows = cluster_rows(data, share, model.seeds, model.flows)
    flows = train_flows(rows, settings, random_state=random_state)
    mass = data.weight[~data.held_out] @ share[~data.held_out]
    mass = np.maximum(mass, 1e-12 * mass.sum())
    return Piecewise(model.seeds, mass / mass.sum(), flows)


def cluster_rows(
    data: TrainingData, share: Array, seeds: GaussianMixture, start: Sequence[ClusterFlow] | None = None
) -> list[ClusterRows]:
    """Split the rows by cluster, each with its responsibility as weight, shape (N, K)."""
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
                mean=seeds.means[k],
                covariance=seeds.covariances[k],
                start=None if start is None else start[k],
            )
        )
    return rows
