"""Whiten a cluster by its own Gaussian, so that its flow starts as that Gaussian."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LARGEST = 1e100  # beyond this a square would leave float64


@dataclass(frozen=True, eq=False)
class Whitening:
    """The affine map u = ((x - centre) / scale) W from raw units to unit covariance.

    Attributes:
        centre: Shape (D,).
        scale: Shape (D,).
        forward: W, shape (D, D).
        backward: W⁻¹, shape (D, D).
        log_det: log |det du/dx| in nats.

    """

    centre: Array
    scale: Array
    forward: Array
    backward: Array

    @cached_property
    def log_det(self) -> float:
        """Log of the volume change, log |det du/dx|, in nats."""
        return float(np.linalg.slogdet(self.forward)[1] - np.log(self.scale).sum())

    @classmethod
    def from_gaussian(cls, mean: Array, covariance: Array) -> Whitening:
        """Whiten along the principal axes of the correlation matrix, the widest axis first.

        The widest axis of a bent cluster runs along the bend: a flow that predicts the narrow axes from the
        wide ones sees the bend as a function. Correlations, not covariances, so that units do not matter.
        """
        covariance = (covariance + covariance.T) / 2
        scale = np.sqrt(np.maximum(np.diagonal(covariance), 1e-300))
        values, axes = np.linalg.eigh(covariance / np.outer(scale, scale))
        values, axes = values[::-1], axes[:, ::-1]
        # any fixed direction will do to settle the signs, but for one to which an axis may be orthogonal
        axes = axes * np.where(np.cos(np.arange(len(mean))) @ axes < 0, -1.0, 1.0)
        spread = np.sqrt(np.maximum(values, 1e-10))
        return cls(np.asarray(mean, dtype=float), scale, axes / spread, (axes * spread).T)

    def whiten(self, X: Array, product: Callable[[Array, Array], Array] = np.matmul) -> Array:
        """Map raw rows (N, D) to white ones; values are bounded at 1e100 so that squares stay finite."""
        standard = _bounded((_bounded(X) - self.centre) / self.scale)
        return _bounded(product(standard, self.forward))

    def colour(self, U: Array) -> Array:
        """Map white rows (N, D) back to raw units."""
        return (U @ self.backward) * self.scale + self.centre


def _bounded(values: Array) -> Array:
    return np.minimum(np.maximum(values, -LARGEST), LARGEST)
