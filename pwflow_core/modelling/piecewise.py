"""`PiecewiseFlow`: one normalizing flow per operating regime, as a scikit-learn density estimator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from pwflow_core.modelling.clustering import (
    CANDIDATES,
    ClusterSeeds,
    Method,
    Selection,
)
from pwflow_core.modelling.fitting import TrainingData, fit_piecewise
from pwflow_core.modelling.flow import ClusterFlow
from pwflow_core.modelling.serialization import pack, unpack
from pwflow_core.modelling.training import FlowSettings
from pwflow_core.modelling.validation import as_weights, check_finite, held_out_blocks

Array = NDArray[np.float64]


class PiecewiseFlow(DensityMixin, BaseEstimator):  # type: ignore[misc]
    r"""Density estimation with one normalizing flow per cluster.

    log p(x) = logsumexp_k [ log w_k + log p_k(x) ]

    Arguments:
        n_clusters: K, or `auto` to choose among `candidates`.
        candidates: Numbers of clusters to try.
        selection: How to choose K: `held_out`, `bic` or `silhouette`.
        clustering: `gmm` (soft, full covariances) or `kmeans` (the paper's hard clusters).
        flow: How flows are built and trained; None for the defaults.
        refinements: Rounds of expectation maximisation over the trained flows, while held-out rows gain.
        held_out: Share of the rows kept back, in contiguous blocks, for choosing and stopping.
        random_state: Seed; None draws one.

    Attributes:
        weights_: Mixture weights, shape (K,).
        seeds_: The clusters the flows started from.
        flows_: One `ClusterFlow` per cluster.
        held_out_: Which training rows were kept back, shape (N,).

    References:
        Piecewise Normalizing Flows (Bevins et al., 2024), arXiv:2305.02930.

    """

    def __init__(
        self,
        n_clusters: int | Literal["auto"] = "auto",
        *,
        candidates: Sequence[int] = CANDIDATES,
        selection: Selection = "held_out",
        clustering: Method = "gmm",
        flow: FlowSettings | None = None,
        refinements: int = 2,
        held_out: float = 0.15,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.candidates = candidates
        self.selection = selection
        self.clustering = clustering
        self.flow = flow
        self.refinements = refinements
        self.held_out = held_out
        self.random_state = random_state

    def fit(self, X: object, y: object = None, sample_weight: object = None) -> Self:
        """Find the clusters and train their flows.

        Arguments:
            X: Readings in raw units, shape (N, D).
            y: Ignored.
            sample_weight: Row weights, shape (N,); a weight of two is a row repeated.

        Raises:
            ValueError: NaN or infinite values (named by row and column), bad weights, no rows.

        """
        matrix = self._check(X, reset=True)
        weight = as_weights(sample_weight, len(matrix))
        self._fit(matrix, weight, int(check_random_state(self.random_state).randint(2**31 - 1)))
        return self

    def _fit(self, X: Array, weight: Array, seed: int) -> None:
        data = TrainingData(
            X=X,
            weight=weight,
            held_out=held_out_blocks(len(X), self.held_out, seed),
            fixed=np.full(len(X), -1),
        )
        self.held_out_ = data.held_out
        model = fit_piecewise(
            data,
            method=self.clustering,
            sizes=self.candidates if self.n_clusters == "auto" else (self.n_clusters,),
            selection=self.selection,
            settings=self.flow or FlowSettings(),
            refinements=self.refinements,
            random_state=seed,
        )
        self.seeds_, self.weights_, self.flows_ = model.seeds, model.weights, model.flows

    def score_samples(self, X: object) -> Array:
        """Evaluate the log-density of each reading, nats in raw units, shape (N,)."""
        return self._score(self._check(X))

    def score(self, X: object, y: object = None) -> float:
        """Return the mean log-density, nats per reading."""
        return float(self.score_samples(X).mean())

    def predict_proba(self, X: object) -> Array:
        """Return each cluster's share in each reading, shape (N, K)."""
        joint = self._log_joint(self._check(X))
        return np.asarray(np.exp(joint - logsumexp(joint, axis=1, keepdims=True)))

    def predict(self, X: object) -> NDArray[np.intp]:
        """Return the most likely cluster of each reading, shape (N,)."""
        return np.asarray(self._log_joint(self._check(X)).argmax(axis=1))

    def sample(self, n_samples: int = 1) -> tuple[Array, NDArray[np.intp]]:
        """Draw readings from the mixture.

        Returns:
            Readings in raw units, shape (n, D), and the cluster of each, shape (n,), sorted by cluster.

        """
        check_is_fitted(self)
        if n_samples < 1:
            raise ValueError(f"Invalid value for 'n_samples': {n_samples}. At least one sample is needed.")
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        rng = np.random.default_rng(seed)
        counts = rng.multinomial(n_samples, self.weights_)
        drawn = [flow.sample(int(n), rng) for flow, n in zip(self.flows_, counts, strict=True)]
        return np.concatenate(drawn), np.repeat(np.arange(len(counts)), counts)

    def save(self, path: str | Path) -> None:
        """Write the fitted model as one safetensors file."""
        check_is_fitted(self)
        tensors: dict[str, NDArray[Any]] = {"weights": self.weights_}
        tensors |= {f"seeds.{name}": array for name, array in self.seeds_.tensors().items()}
        for k, flow in enumerate(self.flows_):
            tensors |= {f"flow{k}.{name}": array for name, array in flow.tensors().items()}
        document = {
            "method": self.seeds_.method,
            "flows": [flow.document() for flow in self.flows_],
            "feature_names": list(getattr(self, "feature_names_in_", [])),
        }
        Path(path).write_bytes(pack("piecewise_flow", tensors, document))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a model that `save` wrote; it scores bit-equal.

        Raises:
            ModelFileError: The file is damaged or of another kind.

        """
        arrays, document = unpack(Path(path).read_bytes(), "piecewise_flow")
        model = cls()
        model.weights_ = arrays["weights"]
        model.seeds_ = ClusterSeeds.from_tensors(_under("seeds.", arrays), document["method"])
        model.flows_ = [
            ClusterFlow.from_tensors(_under(f"flow{k}.", arrays), entry)
            for k, entry in enumerate(document["flows"])
        ]
        model.n_features_in_ = model.seeds_.n_features
        if document["feature_names"]:
            model.feature_names_in_ = np.array(document["feature_names"], dtype=object)
        return model

    def _score(self, X: Array) -> Array:
        return np.asarray(logsumexp(self._log_joint(X), axis=1))

    def _log_joint(self, X: Array) -> Array:
        with np.errstate(divide="ignore"):
            log_weight = np.log(self.weights_)
        return np.stack([flow.log_prob(X) for flow in self.flows_], axis=1) + log_weight

    def _check(self, X: object, *, reset: bool = False) -> Array:
        if not reset:
            check_is_fitted(self)
        matrix: Array = validate_data(
            self, X, reset=reset, dtype=np.float64, ensure_all_finite=False, ensure_min_samples=1
        )
        check_finite(matrix, getattr(self, "feature_names_in_", None))
        return matrix


def _under(prefix: str, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
