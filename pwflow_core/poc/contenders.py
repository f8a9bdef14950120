"""The contenders: pwflow with several numbers of regimes, and what it has to be better than."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pwflow_core.benchmarking.models import build_model
from pwflow_core.config import FlowConfig

__all__ = ["DENSITY_RIVALS", "RIVALS", "Contender", "Fitted", "build_contender", "choose_contenders"]

Array = NDArray[np.float64]

DENSITY_RIVALS = ("single", "mixture_base", "resampled_base", "gmm", "gaussian")
RIVALS = (*DENSITY_RIVALS, "isolation_forest", "knn")
_NEIGHBOURS = 5
_TREES = 200
_USUAL_SECONDS = {
    "pwflow": 12.0,
    "single": 36.0,
    "mixture_base": 10.0,
    "resampled_base": 65.0,
    "gmm": 11.0,
    "gaussian": 1.0,
    "isolation_forest": 5.0,
    "knn": 10.0,
}
_START_SECONDS = 4.0


@dataclass(frozen=True)
class Contender:
    """One of them.

    Attributes:
        kind: `pwflow`, or one of `RIVALS`.
        n_regimes: K of pwflow; None of the others.
    """

    kind: str
    n_regimes: int | None = None

    @property
    def key(self) -> str:
        """Return its name in tables."""
        return self.kind if self.n_regimes is None else f"{self.kind}_{self.n_regimes}"

    @property
    def has_density(self) -> bool:
        """Whether it gives a log-density that can be compared."""
        return self.kind == "pwflow" or self.kind in DENSITY_RIVALS

    @property
    def expected_seconds(self) -> float:
        """Return a guess at how long it takes, for the estimate of the first progress lines."""
        return _START_SECONDS + _USUAL_SECONDS.get(self.kind, 0.0)


class Fitted(Protocol):
    """What all of them can do."""

    def fit(self, X: Array) -> object:
        """Learn from readings (N, D)."""

    def score_samples(self, X: Array) -> Array:
        """Return how normal each reading is, shape (N,)."""


def choose_contenders(regimes: Sequence[int], rivals: Sequence[str] = RIVALS) -> list[Contender]:
    """Return pwflow with these numbers of regimes, 1 among them in any case, and the rivals."""
    return [*(Contender("pwflow", k) for k in sorted({1, *regimes})), *map(Contender, rivals)]


def build_contender(contender: Contender, flow: FlowConfig, random_state: int, max_steps: int | None) -> Fitted:
    """Return an unfitted one: pwflow with the flows of the configuration, the others with their defaults.

    Arguments:
        contender: Which.
        flow: How the configuration builds flows.
        random_state: Seed.
        max_steps: Most gradient steps of a flow, if fewer than by default.
    """
    if contender.kind == "pwflow":
        from pwflow_core.modelling import FlowSettings, PiecewiseFlow

        settings = FlowSettings(
            kind=flow.kind,
            transforms=flow.transforms,
            hidden=flow.hidden,
            max_steps=min(flow.max_steps, max_steps or flow.max_steps),
        )
        model: Fitted = PiecewiseFlow(contender.n_regimes or 1, flow=settings, random_state=random_state)
        return model
    if contender.kind == "gaussian":
        from pwflow_core.modelling.baselines import BicGaussianMixture

        gaussian: Fitted = BicGaussianMixture(candidates=(1,), random_state=random_state)
        return gaussian
    if contender.kind == "isolation_forest":
        from sklearn.ensemble import IsolationForest

        forest: Fitted = IsolationForest(n_estimators=_TREES, random_state=random_state)
        return forest
    if contender.kind == "knn":
        return _NearestNeighbours()
    return build_model(contender.kind, random_state, max_steps)


class _NearestNeighbours:
    """Minus the logarithm of the mean distance to the nearest readings, sensors in standard deviations."""

    def fit(self, X: Array) -> _NearestNeighbours:
        from sklearn.neighbors import NearestNeighbors

        self._centre, spread = X.mean(axis=0), X.std(axis=0)
        self._spread = np.where(spread > 0, spread, 1.0)
        self._known = NearestNeighbors(n_neighbors=min(_NEIGHBOURS, len(X))).fit((X - self._centre) / self._spread)
        return self

    def score_samples(self, X: Array) -> Array:
        distance, _ = self._known.kneighbors((X - self._centre) / self._spread)
        return np.asarray(-np.log(distance.mean(axis=1) + 1e-12))
