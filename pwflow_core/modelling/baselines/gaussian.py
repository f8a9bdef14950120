"""A plain Gaussian mixture: scikit-learn's, with the number of components chosen by BIC."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.utils.validation import check_is_fitted

from pwflow_core.modelling import seeds
from pwflow_core.modelling.estimator import DensityEstimator
from pwflow_core.modelling.settings import CANDIDATES

Array = NDArray[np.float64]


class BicGaussianMixture(DensityEstimator):
    """scikit-learn's full-covariance `GaussianMixture` on standardised readings, K by BIC.

    Arguments:
        candidates: Numbers of components to try; those with fewer than D + 1 rows each are left out.
        n_init: Starts per number.
        random_state: Seed; None draws one.

    Attributes:
        mixture_: The chosen mixture, in standardised units.
        n_components_: K.

    """

    def __init__(
        self,
        *,
        candidates: Sequence[int] = CANDIDATES,
        n_init: int = 1,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.candidates = candidates
        self.n_init = n_init
        self.random_state = random_state

    def fit(self, X: object, y: object = None) -> Self:
        """Fit one mixture per candidate and keep the one with the best BIC.

        Arguments:
            X: Readings in raw units, shape (N, D).
            y: Ignored.

        Raises:
            ValueError: NaN or infinite values (named by row and column), no rows.

        """
        X = self._check(X, reset=True)
        seed = self._seed()
        self.centre_ = X.mean(axis=0)
        spread = X.std(axis=0)
        self.scale_ = np.where(spread > 0, spread, 1.0)
        standard = (X - self.centre_) / self.scale_
        sizes = [k for k in self.candidates if k * (X.shape[1] + 1) <= len(X)] or [1]
        fitted = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            for k in sizes:
                fitted.append(GaussianMixture(k, n_init=self.n_init, max_iter=300, random_state=seed).fit(standard))
        self.mixture_ = min(fitted, key=lambda mixture: float(mixture.bic(standard)))
        self.n_components_ = int(self.mixture_.n_components)
        return self

    def score_samples(self, X: object) -> Array:
        """Evaluate the log-density of each reading, nats in raw units, shape (N,)."""
        standard = (self._check(X) - self.centre_) / self.scale_
        return np.asarray(self.mixture_.score_samples(standard) - np.log(self.scale_).sum())

    def sample(self, n_samples: int = 1) -> tuple[Array, NDArray[np.intp]]:
        """Draw readings in raw units, shape (n, D), and the component of each, shape (n,)."""
        check_is_fitted(self)
        drawn, label = self.mixture_.sample(n_samples)
        return drawn * self.scale_ + self.centre_, label.astype(np.intp)

    @property
    def n_parameters_(self) -> int:
        """Free parameters of the fitted density."""
        m = self.mixture_
        return seeds.GaussianMixture(m.weights_, m.means_, m.covariances_).n_parameters
