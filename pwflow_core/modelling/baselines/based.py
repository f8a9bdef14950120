"""One flow over all readings whose base is not a single Gaussian: a mixture, or a resampled Gaussian."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from pwflow_core.modelling.baselines.bases import Base, MixtureBase, ResampledBase
from pwflow_core.modelling.baselines.training import BasedFlow, train_with_base
from pwflow_core.modelling.clustering import fit_candidates
from pwflow_core.modelling.estimator import DensityEstimator
from pwflow_core.modelling.rows import TrainingData
from pwflow_core.modelling.settings import CANDIDATES, FitSettings, FlowSettings
from pwflow_core.modelling.validation import as_weights, distinct_rows, held_out_blocks
from pwflow_core.modelling.whitening import Whitening

Array = NDArray[np.float64]

RESAMPLED_BASE_FLOW = FlowSettings(transforms=6, hidden=64, patience=24, max_steps=8000)
MIXTURE_BASE_FLOW = replace(RESAMPLED_BASE_FLOW, learning_rate=1e-3)
"""With steps of 3e-3, a mixture base that starts well never left its start; the resampled one did better with them."""


class _FlowWithBase(DensityEstimator):
    """What the two have in common: everything but the base."""

    flow: FlowSettings
    held_out: float
    max_rows: int
    random_state: int | np.random.RandomState | None

    @abstractmethod
    def _base(self, white: TrainingData, seed: int) -> Base:
        """Return the base for white rows."""

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
        seed = self._seed()
        pick, weight, _ = distinct_rows(X, given, max_rows=self.max_rows)
        data = TrainingData.unlabelled(X[pick], weight, held_out_blocks(len(pick), self.held_out, seed))
        [gaussian] = fit_candidates(data, FitSettings(1, random_state=seed)).fitted
        whitening = Whitening.from_gaussian(gaussian.means[0], gaussian.covariances[0])
        base = self._base(replace(data, X=whitening.whiten(data.X)), seed)
        self.density_: BasedFlow = train_with_base(data, whitening, base, self.flow, seed)
        return self

    def score_samples(self, X: object) -> Array:
        """Evaluate the log-density of each reading, nats in raw units, shape (N,), always finite."""
        return self.density_.log_prob(self._check(X))

    def sample(self, n_samples: int = 1) -> tuple[Array, NDArray[np.intp]]:
        """Draw readings in raw units, shape (n, D), and the component of the base each came from, shape (n,)."""
        rng = self._draws(n_samples)
        return self.density_.sample(n_samples, rng)

    @property
    def n_parameters_(self) -> int:
        """Free parameters of the fitted density."""
        return self.density_.n_parameters


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

    def _base(self, white: TrainingData, seed: int) -> Base:
        choice = fit_candidates(white, FitSettings(self.n_components, self.candidates, random_state=seed))
        return MixtureBase(choice.fitted[choice.chosen])


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

    def _base(self, white: TrainingData, seed: int) -> Base:
        return ResampledBase(white.X.shape[1], self.truncation, self.hidden, random_state=seed)
