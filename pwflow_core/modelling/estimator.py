"""What the density estimators have in common: the interface of scikit-learn, and how they check and thin rows."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from pwflow_core.modelling.validation import check_finite

__all__ = ["DensityEstimator"]

Array = NDArray[np.float64]


class DensityEstimator(DensityMixin, BaseEstimator):  # type: ignore[misc]
    """A density over readings in raw units, shape (N, D), all of them finite."""

    random_state: int | np.random.RandomState | None

    @abstractmethod
    def score_samples(self, X: object) -> Array:
        """Evaluate the log-density of each reading, nats in raw units, shape (N,), always finite."""

    def score(self, X: object, y: object = None) -> float:
        """Return the mean log-density, nats per reading."""
        return float(self.score_samples(X).mean())

    def _seed(self) -> int:
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _draws(self, n_samples: int) -> np.random.Generator:
        """Return the generator that `sample` draws with."""
        check_is_fitted(self)
        if n_samples < 1:
            raise ValueError(f"Invalid value for 'n_samples': {n_samples}. At least one sample is needed.")
        return np.random.default_rng(self._seed())

    def _check(self, X: object, *, reset: bool = False) -> Array:
        if not reset:
            check_is_fitted(self)
        matrix: NDArray[Any] = validate_data(self, X, reset=reset, dtype=np.float64, ensure_all_finite=False)
        check_finite(matrix, getattr(self, "feature_names_in_", None))
        return matrix
