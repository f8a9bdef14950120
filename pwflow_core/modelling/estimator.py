"""What the estimators have in common: the interface of scikit-learn, how rows are checked, what a fit says."""

from __future__ import annotations

import logging
import os
import sys
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from pwflow_core.modelling.validation import check_columns_are_numbers, check_finite

__all__ = ["DensityEstimator", "as_threads", "checked_rows", "speaking"]

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
        return checked_rows(self, X, reset=reset)


def checked_rows(estimator: BaseEstimator, X: object, *, reset: bool) -> Array:
    """Return readings as a matrix of finite numbers, shape (N, D), and learn or check the names of the columns.

    Raises:
        ValueError: A column of text (named), NaN or infinite values (named by row and column), or other columns than in
            the fit.

    """
    check_columns_are_numbers(X)
    matrix: NDArray[Any] = validate_data(estimator, X, reset=reset, dtype=np.float64, ensure_all_finite=False)
    check_finite(matrix, getattr(estimator, "feature_names_in_", None))
    return matrix


@contextmanager
def speaking(verbose: bool) -> Iterator[None]:
    """Write what is logged in the block to standard error too, if `verbose`."""
    log, handler = logging.getLogger("pwflow"), logging.StreamHandler(sys.stderr)
    level = log.level
    if verbose:
        log.addHandler(handler)
        log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def as_threads(n_jobs: int | None, otherwise: int) -> int:
    """Return the threads that `n_jobs` asks for: -1 is all cores, None what is said otherwise.

    Raises:
        ValueError: `n_jobs` is 0 or below -1.

    """
    if n_jobs is None:
        return otherwise
    if n_jobs < -1 or n_jobs == 0:
        raise ValueError(f"Expected n_jobs of at least 1, -1 for all cores, or None, got {n_jobs!r}.")
    return (os.cpu_count() or 1) if n_jobs == -1 else n_jobs
