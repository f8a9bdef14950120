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

CANDIDATES = (1, 2, 3, 4, 6, 8, 12)
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


def fit_clusters(
    X: Array,
    *,
    method: Method = "gmm",
    n_clusters: int | Literal["auto"] = "auto",
    candidates: Sequence[int] = CANDIDATES,
    selection: Selection = "held_out",
    sample_weight: Array | None = None,
    held_out: NDArray[np.bool_] | None = None,
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
        max_rows: Most rows to learn from; more are thinned evenly.
        random_state: Seed.
        regularisation: Bounds on the covariances, in standardised units.

    Raises:
        ValueError: Unknown method or selection, or more clusters than distinct rows.

    """
    if method not in ("gmm", "kmeans"):
        raise ValueError(f"Expected method 'gmm' or 'kmeans', got {method!r}.")
    if selection not in ("held_out", "bic", "silhouette"):
        raise ValueError(f"Expected selection 'held_out', 'bic' or 'silhouette', got {selection!r}.")
    X = as_matrix(X)
    weight = as_weights(sample_weight, len(X))
    if held_out is None:
        held_out = held_out_blocks(len(X), 0.15, random_state) if len(X) >= 200 else np.zeros(len(X), dtype=bool)
    centre, scale = standardise(X[~held_out], weight[~held_out])
    rows, row_weight = _thin((X[~held_out] - centre) / scale, weight[~held_out], max_rows)
    judged, judged_weight = _thin((X[held_out] - centre) / scale, weight[held_out], max_rows // 4)
    n_rows = int((row_weight > 0).sum())
    if n_clusters == "auto":
        sizes = [k for k in candidates if k == 1 or n_rows >= 2 * k * (X.shape[1] + 1)] or [1]
    else:
        sizes = [n_clusters]
    if max(sizes) > n_rows or min(sizes) < 1:
        raise ValueError(f"Expected between 1 and {n_rows} clusters for {n_rows} rows, got {max(sizes)}.")
    regularisation = regularisation or Regularisation()
    if method == "kmeans":
        fitted = [_hard(rows, row_weight, k, regularisation, random_state) for k in sizes]
    else:
        fitted = [
            fit_mixture(
                rows,
                k,
                weight=row_weight,
                X_held_out=judged,
                weight_held_out=judged_weight,
                regularisation=regularisation,
                random_state=random_state,
            )
            for k in sizes
        ]
    if not len(judged):
        judged, judged_weight = rows, row_weight
        selection = "bic" if selection == "held_out" else selection
    best = fitted[_choose(fitted, selection, rows, row_weight, judged, judged_weight)]
    return ClusterSeeds(
        method=method,
        weights=best.weights,
        means=best.means * scale + centre,
        covariances=best.covariances * scale[:, None] * scale,
        scale=scale,
    )


def standardise(X: Array, weight: Array) -> tuple[Array, Array]:
    """Return each sensor's weighted mean and standard deviation; a constant sensor's scale is its value."""
    centre = weight @ X / weight.sum()
    scale = np.sqrt(weight @ (X - centre) ** 2 / weight.sum())
    constant = scale <= 1e-10 * np.abs(X).max(axis=0, initial=0.0)
    value = np.where(centre == 0.0, 1.0, np.abs(centre))
    return centre, np.where(constant | (scale < 1e-140), value, scale)


def _thin(X: Array, weight: Array, max_rows: int) -> tuple[Array, Array]:
    """Keep at most `max_rows` rows, evenly spaced in the given order."""
    if len(X) <= max_rows:
        return X, weight
    pick = np.linspace(0, len(X) - 1, max_rows).round().astype(int)
    return X[pick], weight[pick]


def _hard(X: Array, weight: Array, n_clusters: int, regularisation: Regularisation, seed: int) -> Mixture:
    """Fit k-means, and describe each cluster by its Gaussian."""
    label = KMeans(n_clusters, n_init=4, random_state=seed).fit_predict(X, sample_weight=weight)
    return fit_mixture(
        X,
        n_clusters,
        weight=weight,
        fixed=label.astype(float),
        regularisation=regularisation,
        max_iterations=0,
    )


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
        pick, _ = _thin(np.arange(len(X), dtype=float)[:, None], weight, 2000)
        some = X[pick[:, 0].astype(int)]
        scores = []
        for mixture in fitted:
            label = mixture.log_joint(some).argmax(axis=1)
            scores.append(silhouette_score(some, label) if len(np.unique(label)) > 1 else -1.0)
        return int(np.argmax(scores))
    density = np.stack([logsumexp(m.log_joint(judged), axis=1) for m in fitted])
    mean = density @ judged_weight / judged_weight.sum()
    best = int(mean.argmax())
    loss = density[best] - density
    centred = loss - (loss @ judged_weight / judged_weight.sum())[:, None]
    error = np.sqrt(centred**2 @ judged_weight**2) / judged_weight.sum()
    return int(np.flatnonzero(mean >= mean[best] - error)[0])
