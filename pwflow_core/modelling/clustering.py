"""Find operating regimes: the seeds that every flow starts from.

A Gaussian mixture (the default) or k-means, with the number of clusters given or chosen. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score

from pwflow_core.modelling.gaussian_mixture import FittedMixture, fit_mixture
from pwflow_core.modelling.rows import TrainingData
from pwflow_core.modelling.seeds import ClusterSeeds
from pwflow_core.modelling.settings import FitSettings, Selection
from pwflow_core.modelling.validation import as_groups, as_matrix, as_weights, held_out_blocks, thinned

Array = NDArray[np.float64]


def joined(parts: Sequence[ClusterSeeds], shares: Sequence[float]) -> ClusterSeeds:
    """Put the clusters of several segments side by side, weighted by the share of each segment."""
    if len(parts) == 1:
        return parts[0]
    return ClusterSeeds(
        method=parts[0].method,
        weights=np.concatenate([share * part.weights for share, part in zip(shares, parts, strict=True)]),
        means=np.concatenate([part.means for part in parts]),
        covariances=np.concatenate([part.covariances for part in parts]),
        scale=np.average([part.scale for part in parts], axis=0, weights=shares),
    )


@dataclass(frozen=True, eq=False)
class Choice:
    """The clusterings that were tried, from few clusters to many.

    Attributes:
        fitted: One entry per number of clusters.
        chosen: Position of the one that the selection prefers.

    """

    fitted: list[ClusterSeeds]
    chosen: int


def fit_clusters(
    X: Array,
    settings: FitSettings | None = None,
    *,
    sample_weight: Array | None = None,
    held_out: NDArray[np.bool_] | None = None,
    labels: NDArray[np.integer] | None = None,
) -> ClusterSeeds:
    """Find the clusters of a set of readings.

    Standardises the sensors first. A constant sensor keeps its value as its scale; duplicate and collinear
    sensors are held apart by a small floor on every variance.

    Arguments:
        X: Readings in raw units, shape (N, D).
        settings: How; None for the defaults.
        sample_weight: Row weights, shape (N,).
        held_out: Rows that only serve to choose and to stop, shape (N,); contiguous blocks by default.
        labels: Known cluster of each row, 0 to K − 1, or −1 where it is not known, shape (N,). Labelled rows
            keep their cluster; if all are labelled, the labels are the clusters.

    Raises:
        ValueError: More clusters than rows, fewer than labels.

    """
    settings, X = settings or FitSettings(), as_matrix(X)
    if held_out is None:
        held_out = held_out_blocks(len(X), 0.15, settings.random_state)
    fixed = as_groups(labels, len(X), np.full(len(X), -1)).astype(np.intp)
    choice = fit_candidates(TrainingData(X, as_weights(sample_weight, len(X)), held_out, fixed), settings)
    return choice.fitted[choice.chosen]


def fit_candidates(data: TrainingData, settings: FitSettings) -> Choice:
    """Fit every candidate for K; see `fit_clusters`. One candidate is taken as given."""
    learn = np.flatnonzero(~data.held_out & (data.weight > 0))
    learn = learn[thinned(len(learn), settings.max_rows)]
    judge = np.flatnonzero(data.held_out)
    judge = judge[thinned(len(judge), settings.max_rows // 4)]
    centre, scale = standardise(data.X[learn], data.weight[learn])
    some = data.take(np.concatenate([learn, judge]))
    some = replace(some, X=(some.X - centre) / scale)
    hard = settings.method == "kmeans" or bool((data.fixed[learn] >= 0).all())
    fitted: list[FittedMixture] = []
    for k in _feasible(sorted(settings.sizes), len(learn), data.X.shape[1], data.fixed):
        fitted.append((_hard if hard else fit_mixture)(some, k, random_state=settings.random_state))
        if settings.method == "gmm" and len(judge) and settings.selection == "held_out" and _falling(fitted):
            break
    seeds = [
        ClusterSeeds(
            weights=mixture.weights,
            means=mixture.means * scale + centre,
            covariances=mixture.covariances * scale[:, None] * scale,
            method=settings.method,
            scale=scale,
        )
        for mixture in fitted
    ]
    return Choice(seeds, _choose(fitted, settings.selection, some))


def within_one_error(density: Array, weight: Array) -> int:
    """Return the first model whose mean is within one standard error of the best.

    Arguments:
        density: Held-out log-densities, the preferred model first, shape (models, N).
        weight: Row weights, shape (N,).

    """
    mean = density @ weight / weight.sum()
    best = int(mean.argmax())
    loss = density[best] - density
    centred = loss - (mean[best] - mean)[:, None]
    error = np.sqrt(centred**2 @ weight**2) / weight.sum()
    return int(np.flatnonzero(mean >= mean[best] - error)[0])


def standardise(X: Array, weight: Array) -> tuple[Array, Array]:
    """Return each sensor's weighted mean and standard deviation; a constant sensor's scale is its value."""
    centre = weight @ X / weight.sum()
    scale = np.sqrt(weight @ (X - centre) ** 2 / weight.sum())
    constant = scale <= 1e-10 * np.abs(X).max(axis=0, initial=0.0)
    value = np.where(centre == 0.0, 1.0, np.abs(centre))
    return centre, np.where(constant | (scale < 1e-140), value, scale)


def _feasible(candidates: Sequence[int], n_rows: int, n_features: int, labels: NDArray[np.intp]) -> list[int]:
    """Leave out the numbers of clusters that the rows or the labels do not allow."""
    n_labels = int(labels.max(initial=-1)) + 1
    if n_labels and (labels >= 0).all():
        return [n_labels]
    if len(candidates) == 1:
        (k,) = candidates
        if not max(1, n_labels) <= k <= n_rows:
            raise ValueError(
                f"Expected between {max(1, n_labels)} and {n_rows} clusters for {n_rows} rows with "
                f"{n_labels} labels, got {k}."
            )
        return [k]
    sizes = [k for k in candidates if k >= n_labels and (k == 1 or n_rows >= 2 * k * (n_features + 1))]
    return sizes or [max(1, n_labels)]


def _falling(fitted: Sequence[FittedMixture]) -> bool:
    """Tell whether the last two mixtures did worse on held-out rows than an earlier one."""
    score = [mixture.held_out for mixture in fitted]
    return len(score) > 3 and max(score[-2:]) < max(score[:-2])


def _hard(data: TrainingData, n_clusters: int, *, random_state: int) -> FittedMixture:
    """Describe each cluster of the labels, or of k-means, by its Gaussian."""
    learned = data.learned
    if not (learned.fixed >= 0).all():
        kmeans = KMeans(n_clusters, n_init=4, random_state=random_state)
        labels = kmeans.fit_predict(learned.X, sample_weight=learned.weight)
        learned = replace(learned, fixed=np.asarray(labels, dtype=np.intp))
    return fit_mixture(learned, n_clusters, max_iterations=0)


def _choose(fitted: Sequence[FittedMixture], selection: Selection, data: TrainingData) -> int:
    learned = data.learned
    if len(fitted) == 1:
        return 0
    if selection == "bic" or (selection == "held_out" and not data.held_out.any()):
        total = learned.weight.sum()
        return int(np.argmin([m.n_parameters * np.log(total) - 2 * total * m.log_likelihood for m in fitted]))
    if selection == "silhouette":
        some = learned.X[thinned(len(learned.X), 2000)]
        scores = []
        for mixture in fitted:
            label = mixture.log_joint(some).argmax(axis=1)
            scores.append(silhouette_score(some, label) if len(np.unique(label)) > 1 else -1.0)
        return int(np.argmax(scores))
    return within_one_error(np.stack([m.log_prob(data.judged.X) for m in fitted]), data.judged.weight)
