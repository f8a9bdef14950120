"""The models that are compared, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["MODEL_TITLES", "DensityModel", "build_model", "step_limit"]

MODEL_TITLES = {
    "piecewise": "PiecewiseFlow",
    "single": "one global flow",
    "mixture_base": "flow, Gaussian-mixture base",
    "resampled_base": "flow, resampled base",
    "gmm": "Gaussian mixture, K by BIC",
}
"""What `pwflow bench --models` knows, and what the table calls it."""


class DensityModel(Protocol):
    """What all of them can do."""

    def fit(self, X: NDArray[np.float64]) -> object:
        """Learn from rows (N, D)."""

    def score_samples(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return nats per row, shape (N,)."""

    def sample(self, n_samples: int) -> tuple[NDArray[np.float64], NDArray[Any]]:
        """Draw rows and their labels."""


def build_model(name: str, random_state: int, max_steps: int | None = None) -> DensityModel:
    """Return an unfitted model with its default settings.

    Arguments:
        name: A key of `MODEL_TITLES`.
        random_state: Seed.
        max_steps: Most gradient steps, if fewer than by default; a mixture has none.

    """
    from pwflow_core.modelling import FlowSettings, PiecewiseFlow
    from pwflow_core.modelling import baselines as rivals

    makers: dict[str, Callable[..., DensityModel]] = {
        "piecewise": PiecewiseFlow,
        "single": rivals.SingleFlow,
        "mixture_base": rivals.MixtureBaseFlow,
        "resampled_base": rivals.ResampledBaseFlow,
        "gmm": rivals.BicGaussianMixture,
    }
    model = makers[name](random_state=random_state)
    if max_steps is not None and name != "gmm":
        settings: FlowSettings = getattr(model, "flow", None) or FlowSettings()
        model = makers[name](random_state=random_state, flow=replace(settings, max_steps=max_steps))
    return model


def step_limit(name: str) -> int:
    """Return the gradient steps that a model may take by default; 0 if it takes none."""
    from pwflow_core.modelling import FlowSettings

    if name == "gmm":
        return 0
    settings: FlowSettings = getattr(build_model(name, 0), "flow", None) or FlowSettings()
    return settings.max_steps
