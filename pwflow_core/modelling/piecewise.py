"""`PiecewiseFlow`: one normalizing flow per operating regime, as a scikit-learn density estimator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from pwflow_core.modelling.clustering import joined
from pwflow_core.modelling.estimator import DensityEstimator, as_threads, speaking
from pwflow_core.modelling.fitting import Piecewise, Refine, fit_piecewise
from pwflow_core.modelling.flow import ClusterFlow
from pwflow_core.modelling.mixture import FlowMixture, Rule, log_joint
from pwflow_core.modelling.rows import TrainingData, responsibilities
from pwflow_core.modelling.seeds import ClusterSeeds
from pwflow_core.modelling.serialization import pack, unpack
from pwflow_core.modelling.settings import CANDIDATES, FitSettings, FlowSettings, Method, Selection
from pwflow_core.modelling.validation import (
    as_groups,
    as_weights,
    distinct_rows,
    held_out_blocks,
)

Array = NDArray[np.float64]

_CALIBRATION_ROWS = 2000


class PiecewiseFlow(DensityEstimator):
    r"""Density estimation with one normalizing flow per cluster.

    log p(x) = logsumexp_k [ log w_k + log p_k(x) ]

    Where K is chosen, a flow over all readings may be one more term of the sum; it is not a cluster.

    Arguments:
        n_clusters: K, or `auto` to choose among `candidates`.
        candidates: Numbers of clusters to try.
        selection: How to choose K: `held_out` (by what the flows reach), `bic` or `silhouette` (the paper).
        clustering: `gmm` (soft, full covariances) or `kmeans` (the paper's hard clusters).
        refine: `em` lets responsibilities follow the trained flows; `joint` then goes on training clusters
            and flows together on the mixture likelihood; None does neither. Only what held-out rows confirm
            is kept.
        shared_flow: Whether a large flow over all readings may be mixed in. It is where K is chosen by `held_out`
            with 1 among the candidates, and held-out rows ask for it; scoring then takes three to four times as long.
        flow: How flows are built and trained; None for the defaults.
        held_out: Share of the rows kept back, in contiguous blocks, for choosing and stopping; None for 15%
            of fewer than 5,000 rows and 10% of more.
        max_rows: Most rows to learn from; more are thinned evenly.
        random_state: Seed; None draws one.
        n_jobs: Threads for training, -1 for all cores; None for those of `flow`, which are one by default.
        verbose: Whether to write to standard error what is tried, and what it reaches.

    Attributes:
        weights_: Share of each cluster, shape (K,); they sum to 1.
        seeds_: The clusters the flows started from.
        flows_: One `ClusterFlow` per cluster.
        shared_flows_: Flows over all readings, at most one per segment.
        shared_segments_: The segment of each, shape (S,).
        mixture_: All flows, those of the clusters first, with their weights and with what pruning may leave out.
        segments_: The segment of each cluster, shape (K,); all 0 if none were given.
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
        refine: Refine = "em",
        shared_flow: bool = True,
        flow: FlowSettings | None = None,
        held_out: float | None = None,
        max_rows: int = 200_000,
        random_state: int | np.random.RandomState | None = None,
        n_jobs: int | None = None,
        verbose: bool = False,
    ) -> None:
        self.n_clusters = n_clusters
        self.candidates = candidates
        self.selection = selection
        self.clustering = clustering
        self.refine = refine
        self.shared_flow = shared_flow
        self.flow = flow
        self.held_out = held_out
        self.max_rows = max_rows
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    def fit(
        self,
        X: object,
        y: object = None,
        sample_weight: object = None,
        *,
        labels: object = None,
        segments: object = None,
    ) -> Self:
        """Find the clusters and train their flows.

        Arguments:
            X: Readings in raw units, shape (N, D).
            y: Ignored.
            sample_weight: Row weights, shape (N,); a weight of two is a row repeated.
            labels: Known cluster of each row, 0 to K − 1, or −1 where it is not known, shape (N,). Labelled
                rows keep their cluster; if all are labelled, the labels are the clusters.
            segments: Known process condition of each row (recipe, product), shape (N,): rows are split by it
                first, then clustered inside.

        Raises:
            ValueError: A wrong parameter, a column of text (named), NaN or infinite values (named by row and column),
                bad weights, no rows.

        """
        settings = self._settings()
        X = self._check(X, reset=True)
        weight = as_weights(sample_weight, len(X))
        if self.refine not in ("em", "joint", None):
            raise ValueError(f"Expected refine 'em', 'joint' or None, got {self.refine!r}.")
        if self.refine == "joint" and settings.kind == "auto":
            raise ValueError("Expected one kind of flow for refine 'joint', got 'auto'; choose 'affine' or 'spline'.")
        if labels is not None and segments is not None:
            raise ValueError("Expected labels or segments, got both; put the segment into the labels.")
        fixed = as_groups(labels, len(X), np.full(len(X), -1)).astype(np.intp)
        group = as_groups(segments, len(X), np.zeros(len(X), dtype=np.intp))
        seed = self._seed()
        pick, total, twin = distinct_rows(X, weight, fixed, group, max_rows=self.max_rows)
        held_out = np.zeros(len(pick), dtype=bool)
        models, shares, names = [], [], np.unique(group[pick])
        for name in names:
            mine = group[pick] == name
            n_rows = int(mine.sum())
            held_out[mine] = held_out_blocks(n_rows, self._share_held_out(n_rows), seed)
            data = TrainingData(X[pick][mine], total[mine], held_out[mine], fixed[pick][mine])
            with speaking(self.verbose):
                models.append(self._fit_segment(data, settings, seed))
            shares.append(total[mine].sum() / total.sum())
        self.segments_ = np.repeat(names, [len(model.flows) for model in models])
        self.seeds_ = joined([model.seeds for model in models], shares)
        self.flows_ = [flow for model in models for flow in model.flows]
        self.weights_ = np.concatenate([s * m.weights for s, m in zip(shares, models, strict=True)])
        self.shared_flows_ = [model.shared for model in models if model.shared is not None]
        self.shared_segments_ = names[[model.shared is not None for model in models]]
        taken = np.array([model.shared_weight for model in models])
        apart = np.repeat(1 - taken, [len(model.flows) for model in models])
        self.held_out_ = (twin >= 0) & held_out[twin]
        judge = X[pick][held_out] if held_out.any() else X[pick]
        weights = np.concatenate([self.weights_ * apart, (shares * taken)[taken > 0]])
        self.mixture_ = self._mixture(weights).calibrated(_some(judge), seed)
        return self

    def fit_cluster(self, cluster: int, X: object, sample_weight: object = None) -> Self:
        """Train the flow of one cluster again, on readings of that cluster alone.

        All other flows and all weights stay as they are, to the last bit. It costs what that cluster's flow costs in
        `fit`.

        Arguments:
            cluster: Which one, 0 to K − 1.
            X: Readings of that cluster, raw units, shape (N, D), such as `X[model.predict(X) == cluster]`.
            sample_weight: Row weights, shape (N,).

        Raises:
            ValueError: The cluster does not exist, or as `fit`.

        """
        check_is_fitted(self)
        if not isinstance(cluster, int | np.integer) or not 0 <= cluster < len(self.flows_):
            raise ValueError(f"Expected a cluster from 0 to {len(self.flows_) - 1}, got {cluster!r}.")
        settings, X = self._settings(), self._check(X)
        pick, total, _ = distinct_rows(X, as_weights(sample_weight, len(X)), max_rows=self.max_rows)
        seed = self._seed()
        held_out = held_out_blocks(len(pick), self._share_held_out(len(pick)), seed)
        data = TrainingData.unlabelled(X[pick], total, held_out)
        with speaking(self.verbose):
            one = fit_piecewise(data, FitSettings(1, random_state=seed), settings, refine=None, shared=False)
        means, covariances = self.seeds_.means.copy(), self.seeds_.covariances.copy()
        means[cluster], covariances[cluster] = one.seeds.means[0], one.seeds.covariances[0]
        self.seeds_ = replace(self.seeds_, means=means, covariances=covariances)
        self.flows_ = [one.flows[0] if k == cluster else flow for k, flow in enumerate(self.flows_)]
        rows = X[pick][held_out] if held_out.any() else X[pick]
        self.mixture_ = self._mixture(self.mixture_.weights).calibrated(_some(rows), seed)
        return self

    def _settings(self) -> FlowSettings:
        """Return how flows are trained.

        Raises:
            ValueError: `flow` or `n_jobs` is not what it should be.

        """
        if self.flow is not None and not isinstance(self.flow, FlowSettings):
            raise ValueError(
                f"Expected flow to be FlowSettings or None, got {self.flow!r}; "
                "for example `FlowSettings(kind='spline')` from pwflow_core.modelling."
            )
        settings = self.flow or FlowSettings()
        return replace(settings, threads=as_threads(self.n_jobs, settings.threads))

    def _share_held_out(self, n_rows: int) -> float:
        return self.held_out or (0.15 if n_rows < 5000 else 0.1)

    def _mixture(self, weights: Array, margin: float = np.inf, floor: float = np.inf) -> FlowMixture:
        return FlowMixture(weights, self.flows_ + self.shared_flows_, margin, floor, len(self.shared_flows_))

    def _fit_segment(self, data: TrainingData, settings: FlowSettings, seed: int) -> Piecewise:
        clusters = FitSettings(self.n_clusters, self.candidates, self.clustering, self.selection, random_state=seed)
        return fit_piecewise(data, clusters, settings, refine=self.refine, shared=self.shared_flow)

    def score_samples(self, X: object, *, rule: Rule = "pruned", segments: object = None) -> Array:
        """Evaluate the log-density of each reading.

        Arguments:
            X: Readings in raw units, shape (N, D).
            rule: `pruned` leaves out clusters that cannot matter, at a cost of at most 1e-3 nats; `exact`
                evaluates all; `own` the most likely cluster only.
            segments: Known process condition of each reading, shape (N,): the density is then the one within
                its segment.

        Returns:
            Nats in raw units, shape (N,), always finite.

        Raises:
            ValueError: A segment that was not there in training.

        """
        X = self._check(X)
        if segments is None:
            return self.mixture_.log_prob(X, rule)
        group = as_groups(segments, len(X), self.segments_)
        unknown = set(np.unique(group).tolist()) - set(self.segments_.tolist())
        if unknown:
            raise ValueError(f"Expected segments {sorted(set(self.segments_))}, got {sorted(unknown)}; re-fit.")
        score, every = np.empty(len(X)), self.mixture_
        of_flow = np.concatenate([self.segments_, self.shared_segments_])
        for name in np.unique(group):
            mine, inside = group == name, np.flatnonzero(of_flow == name)
            weights = every.weights[inside] / every.weights[inside].sum()
            n_shared = int((self.shared_segments_ == name).sum())
            part = replace(every, weights=weights, flows=[every.flows[k] for k in inside], n_shared=n_shared)
            score[mine] = part.log_prob(X[mine], rule)
        return score

    def predict_proba(self, X: object) -> Array:
        """Return each cluster's share in each reading, shape (N, K)."""
        return responsibilities(self._log_joint(self._check(X)))

    def predict(self, X: object) -> NDArray[np.intp]:
        """Return the most likely cluster of each reading, shape (N,)."""
        return np.asarray(self._log_joint(self._check(X)).argmax(axis=1))

    def _log_joint(self, X: Array) -> Array:
        """Evaluate log w_k + log p_k(x) of the clusters, shape (N, K)."""
        return log_joint(self.flows_, self.weights_, X)

    def sample(self, n_samples: int = 1, *, cluster: int | None = None) -> tuple[Array, NDArray[np.intp]]:
        """Draw readings from the mixture, or from one cluster.

        Returns:
            Readings in raw units, shape (n, D), and the cluster of each, shape (n,), sorted by cluster: the one it
            was drawn from or, if it was drawn from a flow over all readings, the most likely one.

        """
        rng = self._draws(n_samples)
        flows = self.mixture_.flows if cluster is None else [self.flows_[cluster]]
        share = self.mixture_.weights / self.mixture_.weights.sum()
        counts = rng.multinomial(n_samples, share if cluster is None else [1.0])
        drawn = np.concatenate([flow.sample(int(n), rng) for flow, n in zip(flows, counts, strict=True) if n])
        source = np.repeat(np.arange(len(counts)), counts)
        if cluster is not None:
            return drawn, np.full(n_samples, cluster % len(self.flows_))
        from_shared = source >= len(self.flows_)
        source[from_shared] = self._log_joint(drawn[from_shared]).argmax(axis=1)
        order = np.argsort(source, kind="stable")
        return drawn[order], source[order]

    def save(self, path: str | Path) -> None:
        """Write the fitted model with its parameters as one safetensors file; of a seed, only a number is kept."""
        Path(path).write_bytes(self.to_bytes())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a model that `save` wrote; it has the same parameters and scores bit-equal.

        Raises:
            ModelFileError: The file is damaged or of another kind.

        """
        return cls.from_bytes(Path(path).read_bytes())

    def to_bytes(self) -> bytes:
        """Return what `save` writes."""
        check_is_fitted(self)
        tensors: dict[str, NDArray[Any]] = {"weights": self.weights_, "mixture_weights": self.mixture_.weights}
        tensors |= {f"seeds.{name}": array for name, array in self.seeds_.tensors().items()}
        for k, flow in enumerate(self.mixture_.flows):
            tensors |= {f"flow{k}.{name}": array for name, array in flow.tensors().items()}
        finite = np.isfinite(self.mixture_.margin)
        document = {
            "parameters": self.described_parameters(),
            "method": self.seeds_.method,
            "flows": [{**flow.document(), "history": flow.history.document()} for flow in self.mixture_.flows],
            "segments": self.segments_.tolist(),
            "shared_segments": self.shared_segments_.tolist(),
            "pruning": [self.mixture_.margin, self.mixture_.floor] if finite else None,
            "feature_names": list(getattr(self, "feature_names_in_", [])),
        }
        return pack("piecewise_flow", tensors, document)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what `to_bytes` returned; see `load`."""
        arrays, document = unpack(data, "piecewise_flow")
        model = cls.from_described(document.get("parameters", {}))  # a file of release 0.1 holds none
        model.weights_ = arrays["weights"]
        model.seeds_ = ClusterSeeds.from_tensors(_under("seeds.", arrays), document["method"])
        flows = [
            ClusterFlow.from_tensors(_under(f"flow{k}.", arrays), entry) for k, entry in enumerate(document["flows"])
        ]
        model.segments_ = np.array(document["segments"])
        model.shared_segments_ = np.array(document["shared_segments"], dtype=model.segments_.dtype)
        model.flows_, model.shared_flows_ = flows[: len(model.segments_)], flows[len(model.segments_) :]
        model.mixture_ = model._mixture(arrays["mixture_weights"], *(document["pruning"] or ()))
        model.n_features_in_ = model.seeds_.n_features
        if document["feature_names"]:
            model.feature_names_in_ = np.array(document["feature_names"], dtype=object)
        return model

    def described_parameters(self) -> dict[str, Any]:
        """Return the parameters as JSON has them; of a seed, only a number."""
        found = {name: value.item() if isinstance(value, np.generic) else value for name, value in vars(self).items()}
        found = {name: found[name] for name in self.get_params(deep=False)}
        found["flow"] = None if self.flow is None else asdict(self.flow)
        found["candidates"] = [int(k) for k in self.candidates]
        if not isinstance(found["random_state"], int):
            found["random_state"] = None
        return found

    @classmethod
    def from_described(cls, parameters: Mapping[str, Any]) -> Self:
        """Return an unfitted model with parameters from `described_parameters`."""
        found = dict(parameters)
        if found.get("flow") is not None:
            found["flow"] = FlowSettings(**found["flow"])
        if "candidates" in found:
            found["candidates"] = tuple(found["candidates"])
        return cls(**found)


def _some(rows: Array) -> Array:
    return rows[:: max(1, len(rows) // _CALIBRATION_ROWS)]


def _under(prefix: str, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
