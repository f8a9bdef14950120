"""Find operating regimes: the seeds that every flow starts from.

A Gaussian mixture (the default) or k-means, with the number of clusters given or chosen. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score

from pwflow_core.errors import ModelFileError
from pwflow_core.modelling.gaussian_mixture import Mixture, Regularisation, fit_mixture
from pwflow_core.modelling.serialization import pack, unpack
from pwflow_core.modelling.validation import as_matrix, as_weights, held_out_blocks

Array = NDArray[np.float64]
Method = Literal["gmm", "kmeans"]
Selection = Literal["held_out", "bic", "silhouette"]

CANDIDATES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
_LARGEST = 1e150  # squares of standardised values must stay finite


@dataclass(frozen=True, eq=False)
class ClusterSeeds:
    """The clusters as Gaussians in raw units.

    Attributes:
        method: `gmm` or `kmeans`.
        weights: Share of the readings, shape (K,).
        means: Shape (K, D).
        covariances: Shape (K, D, D), positive definite.
        scale: Standard deviation of each sensor over all rows of the fit, shape (D,); the standardised space.

    """

    method: str
    weights: Array
    means: Array
    covariances: Array
    scale: Array

    @property
    def n_clusters(self) -> int:
        """K."""
        return len(self.weights)

    @property
    def n_features(self) -> int:
        """D."""
        return int(self.means.shape[1])

    def log_joint(self, X: Array) -> Array:
        """Evaluate log w_k + log N(x; m_k, S_k).

        Arguments:
            X: Readings in raw units, shape (N, D).

        Returns:
            Nats, in raw units, shape (N, K).

        """
        X = np.clip(as_matrix(X, n_features=self.n_features, allow_empty=True), -_LARGEST, _LARGEST)
        joint = np.empty((len(X), self.n_clusters))
        for k in range(self.n_clusters):
            # factors of the scaled covariance: units may differ by many orders of magnitude
            spread = np.sqrt(np.diagonal(self.covariances[k]))
            factor = np.linalg.cholesky(self.covariances[k] / np.outer(spread, spread))
            standard = np.clip((X - self.means[k]) / spread, -_LARGEST, _LARGEST)
            white = np.clip(standard @ np.linalg.inv(factor).T, -_LARGEST, _LARGEST)
            log_det = np.log(np.diagonal(factor)).sum() + np.log(spread).sum()
            constant = np.log(self.weights[k]) - log_det - 0.5 * self.n_features * np.log(2 * np.pi)
            joint[:, k] = constant - 0.5 * np.einsum("nd,nd->n", white, white)
        return joint

    def responsibilities(self, X: Array) -> Array:
        """Return each cluster's share in each reading, shape (N, K); rows sum to 1.

        For k-means the nearest centre, in the standardised space, has all of it.
        """
        if self.method == "kmeans":
            return np.eye(self.n_clusters)[self._nearest(X)]
        joint = self.log_joint(X)
        share = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
        return np.asarray(share / share.sum(axis=1, keepdims=True))

    def candidates(self, X: Array, within_nats: float = 20.0) -> NDArray[np.bool_]:
        """Tell which clusters are worth evaluating for each reading, shape (N, K).

        Those whose Gaussian is at most `within_nats` below the most likely one; for k-means the own cluster.
        """
        if self.method == "kmeans":
            return np.eye(self.n_clusters, dtype=bool)[self._nearest(X)]
        joint = self.log_joint(X)
        return np.asarray(joint >= joint.max(axis=1, keepdims=True) - within_nats)

    def to_bytes(self) -> bytes:
        """Write as safetensors; the same seeds give the same bytes."""
        return pack("cluster_seeds", self.tensors(), {"method": self.method})

    @classmethod
    def from_bytes(cls, data: bytes) -> ClusterSeeds:
        """Read what `to_bytes` wrote.

        Raises:
            ModelFileError: The bytes are damaged or of another kind.

        """
        arrays, document = unpack(data, "cluster_seeds")
        return cls.from_tensors(arrays, document["method"])

    def tensors(self) -> dict[str, Array]:
        """Return the arrays by name."""
        return {name: getattr(self, name) for name in ("weights", "means", "covariances", "scale")}

    @classmethod
    def from_tensors(cls, arrays: dict[str, Array], method: str) -> ClusterSeeds:
        """Build from `tensors()`.

        Raises:
            ModelFileError: An array is missing or has the wrong shape.

        """
        try:
            seeds = cls(method, *(arrays[n] for n in ("weights", "means", "covariances", "scale")))
            (k, d) = seeds.means.shape
        except (KeyError, ValueError) as error:
            raise ModelFileError(f"The cluster file lacks an array or has a wrong shape: {error}.") from error
        if seeds.weights.shape != (k,) or seeds.covariances.shape != (k, d, d) or seeds.scale.shape != (d,):
            raise ModelFileError(f"The cluster file is inconsistent: {k} means, {seeds.weights.shape} weights.")
        return seeds

    def _nearest(self, X: Array) -> NDArray[np.intp]:
        X = np.clip(as_matrix(X, n_features=self.n_features, allow_empty=True), -_LARGEST, _LARGEST)
        distance = [np.clip((X - mean) / self.scale, -_LARGEST, _LARGEST) for mean in self.means]
        return np.asarray(np.stack([(d**2).sum(axis=1) for d in distance], axis=1).argmin(axis=1))


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
    *,
    method: Method = "gmm",
    n_clusters: int | Literal["auto"] = "auto",
    candidates: Sequence[int] = CANDIDATES,
    selection: Selection = "held_out",
    sample_weight: Array | None = None,
    held_out: NDArray[np.bool_] | None = None,
    labels: NDArray[np.integer] | None = None,
    max_rows: int = 20_000,
    random_state: int = 0,
    regularisation: Regularisation | None = None,
) -> ClusterSeeds:
    """Find the clusters of a set of readings.

    Standardises the sensors first. A constant sensor keeps its value as its scale; duplicate and collinear
    sensors are held apart by a small floor on every variance.

    Arguments:
        X: Readings in raw units, shape (N, D).
        method: `gmm` (full covariances) or `kmeans` (the paper's hard clusters).
        n_clusters: K, or `auto` to choose among `candidates`.
        candidates: Numbers of clusters to try; those with too few rows are left out.
        selection: How `auto` chooses. `held_out`: the smallest K whose held-out log-density is within one
            standard error of the best. `bic`: the Bayesian information criterion. `silhouette`: the paper's
            rule, on at most 2,000 rows; it cannot choose 1.
        sample_weight: Row weights, shape (N,).
        held_out: Rows that only serve to choose and to stop, shape (N,); contiguous blocks by default.
        labels: Known cluster of each row, 0 to K − 1, or −1 where it is not known, shape (N,). Labelled rows
            keep their cluster; if all are labelled, the labels are the clusters.
        max_rows: Most rows to learn from; more are thinned evenly.
        random_state: Seed.
        regularisation: Bounds on the covariances, in standardised units.

    Raises:
        ValueError: Unknown method or selection, more clusters than rows, fewer than labels.

    """
    choice = fit_candidates(
        as_matrix(X),
        method=method,
        candidates=candidates if n_clusters == "auto" else (n_clusters,),
        selection=selection,
        sample_weight=sample_weight,
        held_out=held_out,
        fixed=labels,
        max_rows=max_rows,
        random_state=random_state,
        regularisation=regularisation,
    )
    return choice.fitted[choice.chosen]


def fit_candidates(
    X: Array,
    *,
    method: Method,
    candidates: Sequence[int],
    selection: Selection,
    sample_weight: Array | None = None,
    held_out: NDArray[np.bool_] | None = None,
    fixed: NDArray[np.integer] | None = None,
    max_rows: int = 20_000,
    random_state: int = 0,
    regularisation: Regularisation | None = None,
) -> Choice:
    """Fit every candidate for K; see `fit_clusters`. One candidate is taken as given."""
    if method not in ("gmm", "kmeans"):
        raise ValueError(f"Expected method 'gmm' or 'kmeans', got {method!r}.")
    if selection not in ("held_out", "bic", "silhouette"):
        raise ValueError(f"Expected selection 'held_out', 'bic' or 'silhouette', got {selection!r}.")
    weight = as_weights(sample_weight, len(X))
    labels = np.full(len(X), -1) if fixed is None else np.asarray(fixed, dtype=int)
    if held_out is None:
        held_out = held_out_blocks(len(X), 0.15, random_state)
    learn = np.flatnonzero(~held_out & (weight > 0))
    learn = learn[_thin(len(learn), max_rows)]
    judge = np.flatnonzero(held_out)
    judge = judge[_thin(len(judge), max_rows // 4)]
    centre, scale = standardise(X[learn], weight[learn])
    rows, judged = (X[learn] - centre) / scale, (X[judge] - centre) / scale
    sizes = _feasible(sorted(candidates), len(rows), X.shape[1], labels)
    regularisation = regularisation or Regularisation()
    fitted: list[Mixture] = []
    for k in sizes:
        if method == "kmeans" or (labels[learn] >= 0).all():
            mixture = _hard(rows, weight[learn], labels[learn], k, regularisation, random_state)
        else:
            mixture = fit_mixture(
                rows,
                k,
                weight=weight[learn],
                X_held_out=judged,
                weight_held_out=weight[judge],
                fixed=labels[learn],
                regularisation=regularisation,
                random_state=random_state,
            )
        fitted.append(mixture)
        if method == "gmm" and len(judge) and selection == "held_out" and _falling(fitted):
            break
    if not len(judge):
        judged, judge = rows, learn
        selection = "bic" if selection == "held_out" else selection
    chosen = _choose(fitted, selection, rows, weight[learn], judged, weight[judge])
    seeds = [
        ClusterSeeds(
            method=method,
            weights=mixture.weights,
            means=mixture.means * scale + centre,
            covariances=mixture.covariances * scale[:, None] * scale,
            scale=scale,
        )
        for mixture in fitted
    ]
    return Choice(seeds, chosen)


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


def _thin(n_rows: int, max_rows: int) -> NDArray[np.intp]:
    """Return the positions of at most `max_rows` rows, evenly spaced in the given order."""
    if n_rows <= max_rows:
        return np.arange(n_rows)
    return np.linspace(0, n_rows - 1, max_rows).round().astype(np.intp)


def _feasible(candidates: Sequence[int], n_rows: int, n_features: int, labels: NDArray[np.int_]) -> list[int]:
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


def _falling(fitted: Sequence[Mixture]) -> bool:
    """Tell whether the last two mixtures did worse on held-out rows than an earlier one."""
    score = [mixture.held_out for mixture in fitted]
    return len(score) > 3 and max(score[-2:]) < max(score[:-2])


def _hard(
    X: Array,
    weight: Array,
    labels: NDArray[np.int_],
    n_clusters: int,
    regularisation: Regularisation,
    random_state: int,
) -> Mixture:
    """Describe each cluster of the labels, or of k-means, by its Gaussian."""
    if not (labels >= 0).all():
        found = KMeans(n_clusters, n_init=4, random_state=random_state).fit_predict(X, sample_weight=weight)
        labels = np.asarray(found, dtype=int)
    return fit_mixture(X, n_clusters, weight=weight, fixed=labels, regularisation=regularisation, max_iterations=0)


def _choose(
    fitted: Sequence[Mixture], selection: str, X: Array, weight: Array, judged: Array, judged_weight: Array
) -> int:
    if len(fitted) == 1:
        return 0
    if selection == "bic":
        total = weight.sum()
        bic = [m.n_parameters * np.log(total) - 2 * total * m.log_likelihood for m in fitted]
        return int(np.argmin(bic))
    if selection == "silhouette":
        some = X[_thin(len(X), 2000)]
        scores = []
        for mixture in fitted:
            label = mixture.log_joint(some).argmax(axis=1)
            scores.append(silhouette_score(some, label) if len(np.unique(label)) > 1 else -1.0)
        return int(np.argmax(scores))
    density = np.stack([logsumexp(m.log_joint(judged), axis=1) for m in fitted])
    return within_one_error(density, judged_weight)
