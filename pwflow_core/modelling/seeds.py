"""Operating regimes as Gaussians: which of them could have produced a reading. `clustering` finds them.

With NumPy alone, since it is a part of what scores.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pwflow_core.errors import ModelFileError
from pwflow_core.modelling.serialization import pack, unpack
from pwflow_core.modelling.validation import as_matrix

__all__ = ["LARGEST", "ClusterSeeds", "GaussianMixture"]

Array = NDArray[np.float64]

LARGEST = 1e150
"""Squares of standardised values must stay finite."""
_MOST_PARTS = 32
_BATCH_CELLS = 2**17  # what is computed for a batch of readings fits a cache
_TENSORS = ("weights", "means", "covariances", "scale")


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    """p(x) = sum_k w_k N(x; m_k, S_k), in the units of the rows.

    Attributes:
        weights: Mixture weights, shape (K,).
        means: Shape (K, D).
        covariances: Shape (K, D, D), positive definite.

    """

    weights: Array
    means: Array
    covariances: Array

    @property
    def n_clusters(self) -> int:
        """K."""
        return len(self.weights)

    @property
    def n_features(self) -> int:
        """D."""
        return int(self.means.shape[1])

    @property
    def n_parameters(self) -> int:
        """Free parameters: weights, means and covariances."""
        return self.n_clusters * (1 + self.n_features + self.n_features * (self.n_features + 1) // 2) - 1

    def log_joint(self, X: Array) -> Array:
        """Evaluate log w_k + log N(x; m_k, S_k).

        Arguments:
            X: Rows, shape (N, D).

        Returns:
            Nats, in the units of the rows, shape (N, K); always finite.

        """
        X = _bounded(as_matrix(X, n_features=self.n_features, allow_empty=True))
        spread, whitening, constant = self._factors
        joint = np.empty((len(X), self.n_clusters))
        batch_rows = 1 + _BATCH_CELLS // self.means.size
        for start in range(0, len(X), batch_rows):
            block = slice(start, start + batch_rows)
            standard = _bounded((X[block] - self.means[:, None]) / spread[:, None])
            white = _bounded(standard @ whitening)
            joint[block] = constant - 0.5 * np.einsum("knd,knd->nk", white, white)
        return joint

    @cached_property
    def _factors(self) -> tuple[Array, Array, Array]:
        """For each cluster the spread of the columns, what whitens them then, and the constant of the log-density."""
        spreads, whitenings, constants = [], [], []
        for weight, covariance in zip(self.weights, self.covariances, strict=True):
            # factors of the scaled covariance: units may differ by many orders of magnitude
            spread = np.sqrt(np.diagonal(covariance))
            factor = np.linalg.cholesky(covariance / np.outer(spread, spread))
            log_det = np.log(np.diagonal(factor)).sum() + np.log(spread).sum()
            spreads.append(spread)
            whitenings.append(np.linalg.inv(factor).T)
            constants.append(np.log(weight) - log_det - 0.5 * self.n_features * np.log(2 * np.pi))
        return np.array(spreads), np.array(whitenings), np.array(constants)

    def log_prob(self, X: Array) -> Array:
        """Evaluate the log-density of rows (N, D), nats, shape (N,)."""
        joint = self.log_joint(X)
        top = joint.max(axis=1, keepdims=True)
        return np.asarray((top + np.log(np.exp(joint - top).sum(axis=1, keepdims=True)))[:, 0])


@dataclass(frozen=True, eq=False)
class ClusterSeeds(GaussianMixture):
    """The clusters as Gaussians in raw units; the weights are shares of the readings.

    Attributes:
        method: `gmm` or `kmeans`.
        scale: Standard deviation of each sensor over all rows of the fit, shape (D,); the standardised space.

    """

    method: str
    scale: Array

    def responsibilities(self, X: Array) -> Array:
        """Return each cluster's share in each reading, shape (N, K); rows sum to 1.

        For k-means the nearest centre, in the standardised space, has all of it.
        """
        return self.share(X)[1]

    def candidates(self, X: Array, within_nats: float = 20.0) -> NDArray[np.bool_]:
        """Tell which clusters are worth evaluating for each reading, shape (N, K).

        Those whose Gaussian is at most `within_nats` below the most likely one; for k-means the own cluster.
        """
        return self.share(X, within_nats)[0]

    def share(self, X: Array, within_nats: float = 20.0) -> tuple[NDArray[np.bool_], Array]:
        """Return `candidates` and `responsibilities` together, which cost as much as one of them."""
        if self.method == "kmeans":
            own = np.eye(self.n_clusters)[self._nearest(X)]
            return own > 0, own
        joint = self.log_joint(X)
        joint -= joint.max(axis=1, keepdims=True)
        part = np.exp(joint)
        part /= part.sum(axis=1, keepdims=True)
        return joint >= -within_nats, part

    def restricted(self, seen: NDArray[np.bool_]) -> ClusterSeeds:
        """Return the clusters as they are on some of the columns, which are factorised once, shape (D,)."""
        parts, key = self._parts, seen.tobytes()
        if key not in parts:
            if len(parts) >= _MOST_PARTS:
                parts.clear()
            parts[key] = replace(
                self,
                means=self.means[:, seen],
                covariances=self.covariances[:, seen][:, :, seen],
                scale=self.scale[seen],
            )
        return parts[key]

    @cached_property
    def _parts(self) -> dict[bytes, ClusterSeeds]:
        return {}

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
        return {name: getattr(self, name) for name in _TENSORS}

    @classmethod
    def from_tensors(cls, arrays: dict[str, Array], method: str) -> ClusterSeeds:
        """Build from `tensors()`.

        Raises:
            ModelFileError: An array is missing or has the wrong shape.

        """
        try:
            seeds = cls(method=method, **{name: arrays[name] for name in _TENSORS})
            (k, d) = seeds.means.shape
        except (KeyError, ValueError) as error:
            raise ModelFileError(f"The cluster file lacks an array or has a wrong shape: {error}.") from error
        if seeds.weights.shape != (k,) or seeds.covariances.shape != (k, d, d) or seeds.scale.shape != (d,):
            raise ModelFileError(f"The cluster file is inconsistent: {k} means, {seeds.weights.shape} weights.")
        return seeds

    def _nearest(self, X: Array) -> NDArray[np.intp]:
        X = _bounded(as_matrix(X, n_features=self.n_features, allow_empty=True))
        distance = [_bounded((X - mean) / self.scale) for mean in self.means]
        return np.asarray(np.stack([(d**2).sum(axis=1) for d in distance], axis=1).argmin(axis=1))


def _bounded(values: Array) -> Array:
    return np.minimum(np.maximum(values, -LARGEST), LARGEST)
