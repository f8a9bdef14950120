"""One flow over all readings whose base is not a single Gaussian: a mixture, or a resampled Gaussian."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from pwflow_core.modelling.baselines.bases import Base, MixtureBase, ResampledBase
from pwflow_core.modelling.baselines.training import BasedFlow, train_with_base
from pwflow_core.modelling.clustering import CANDIDATES, fit_clusters
from pwflow_core.modelling.training import FlowSettings
from pwflow_core.modelling.validation import as_weights, check_finite, distinct_rows, held_out_blocks
from pwflow_core.modelling.whitening import Whitening

Array = NDArray[np.float64]

RESAMPLED_BASE_FLOW = FlowSettings(transforms=6, hidden=64, patience=24, max_steps=8000)
MIXTURE_BASE_FLOW = replace(RESAMPLED_BASE_FLOW, learning_rate=1e-3)
"""With steps of 3e-3, a mixture base that starts well never left its start; the resampled one did better with them."""


class _FlowWithBase(DensityMixin, BaseEstimator):  # type: ignore[misc]
    """What the two have in common: everything but the base."""

    flow: FlowSettings
    held_out: float
    max_rows: int
    random_state: int | np.random.RandomState | None

    @abstractmethod
    def _base(self, u: Array, weight: Array, held_out: NDArray[np.bool_], seed: int) -> Base:
        """Return the base for white rows (N, D)."""

    def fit(self, X: object, y: object = None, sample_weight: object = None) -> Self:
        """Whiten the readings and train the flow with its base.

        Arguments:
            X: Readings in raw units, shape (N, D).
            y: Ignored.
            sample_weight: Row weights, shape (N,).

        Raises:
            ValueError: NaN or infinite values (named by row and column), bad weights, no rows.

        """
        X = self._check(X, reset=True)
        given = as_weights(sample_weight, len(X))
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        pick, twin = distinct_rows(X, given)
        weight = np.bincount(twin[twin >= 0], weights=given[twin >= 0]).astype(np.float64)
        if len(pick) > self.max_rows:
            keep = np.linspace(0, len(pick) - 1, self.max_rows).round().astype(np.intp)
            pick, weight = pick[keep], weight[keep]
        rows = X[pick]
        held_out = held_out_blocks(len(rows), self.held_out, seed)
        gaussian = fit_clusters(rows, n_clusters=1, sample_weight=weight, held_out=held_out, random_state=seed)
        whitening = Whitening.from_gaussian(gaussian.means[0], gaussian.covariances[0])
        base = self._base(whitening.whiten(rows), weight, held_out, seed)
        self.density_: BasedFlow = train_with_base(rows, weight, held_out, whitening, base, self.flow, seed)
        return self

    def score_samples(self, X: object) -> Array:
        """Evaluate the log-density of each reading, nats in raw units, shape (N,), always finite."""
        return self.density_.log_prob(self._check(X))

    def score(self, X: object, y: object = None) -> float:
        """Return the mean log-density, nats per reading."""
        return float(self.score_samples(X).mean())

    def sample(self, n_samples: int = 1) -> tuple[Array, NDArray[np.intp]]:
        """Draw readings in raw units, shape (n, D), and the component of the base each came from, shape (n,)."""
        check_is_fitted(self)
        if n_samples < 1:
            raise ValueError(f"Invalid value for 'n_samples': {n_samples}. At least one sample is needed.")
        rng = np.random.default_rng(check_random_state(self.random_state).randint(2**31 - 1))
        return self.density_.sample(n_samples, rng)

    @property
    def n_parameters_(self) -> int:
        """Free parameters of the fitted density."""
        return self.density_.n_parameters

    def _check(self, X: object, *, reset: bool = False) -> Array:
        if not reset:
            check_is_fitted(self)
        matrix: Array = validate_data(self, X, reset=reset, dtype=np.float64, ensure_all_finite=False)
        check_finite(matrix, getattr(self, "feature_names_in_", None))
        return matrix


class MixtureBaseFlow(_FlowWithBase):
    """One flow over all readings whose base is a trainable Gaussian mixture with full covariances.

    The base starts as the mixture that expectation maximisation finds, so the whole starts as that mixture.

    Arguments:
        n_components: Components of the base, or `auto` to choose by held-out log-density.
        candidates: Numbers to choose from.
        flow: How the flow is built and trained.
        held_out: Share of the rows kept back, in contiguous blocks.
        max_rows: Most rows to learn from; more are thinned evenly.
        random_state: Seed; None draws one.

    Attributes:
        density_: The fitted `BasedFlow`.

    """

    def __init__(
        self,
        n_components: int | Literal["auto"] = "auto",
        *,
        candidates: Sequence[int] = CANDIDATES,
        flow: FlowSettings = MIXTURE_BASE_FLOW,
        held_out: float = 0.15,
        max_rows: int = 200_000,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_components = n_components
        self.candidates = candidates
        self.flow = flow
        self.held_out = held_out
        self.max_rows = max_rows
        self.random_state = random_state

    def _base(self, u: Array, weight: Array, held_out: NDArray[np.bool_], seed: int) -> Base:
        seeds = fit_clusters(
            u,
            n_clusters=self.n_components,
            candidates=self.candidates,
            sample_weight=weight,
            held_out=held_out,
            random_state=seed,
        )
        return MixtureBase(seeds)


class ResampledBaseFlow(_FlowWithBase):
    """One flow over all readings whose base is a Gaussian with learned acceptance and rejection.

    Its log-density holds up to a constant that comes from a Monte-Carlo estimate: see `ResampledBase`, and
    `log_density_error_` for its size.

    Arguments:
        truncation: T, the draw that is taken whatever its acceptance probability.
        hidden: Units of each of the two hidden layers of the acceptance network.
        flow: How the flow is built and trained.
        held_out: Share of the rows kept back, in contiguous blocks.
        max_rows: Most rows to learn from; more are thinned evenly.
        random_state: Seed; None draws one.

    Attributes:
        density_: The fitted `BasedFlow`.

    References:
        Resampling Base Distributions of Normalizing Flows (Stimper et al., 2022), arXiv:2110.15828.

    """

    def __init__(
        self,
        truncation: int = 100,
        *,
        hidden: int = 64,
        flow: FlowSettings = RESAMPLED_BASE_FLOW,
        held_out: float = 0.15,
        max_rows: int = 200_000,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.truncation = truncation
        self.hidden = hidden
        self.flow = flow
        self.held_out = held_out
        self.max_rows = max_rows
        self.random_state = random_state

    @property
    def log_density_error_(self) -> float:
        """Standard error of every log-density, nats: the same unknown shift for all rows."""
        base = self.density_.base
        assert isinstance(base, ResampledBase)  # noqa: S101 - `_base` made it
        return base.standard_error

    def _base(self, u: Array, weight: Array, held_out: NDArray[np.bool_], seed: int) -> Base:
        return ResampledBase(u.shape[1], self.truncation, self.hidden, random_state=seed)
