"""The heavy tail that every cluster's density carries, so that surprises stay finite and comparable.

A flow has Gaussian tails: a reading a little outside of what was seen can cost hundreds of nats, more than a
thousand ordinary readings together. Each density is therefore (1 - ε) flow + ε t, where t is a multivariate
Student distribution with two degrees of freedom around the cluster's Gaussian, and ε is what the held-out
rows ask for. On drifting plants this is worth more than a nat per reading; elsewhere ε is near zero.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, gammaln

Array = NDArray[np.float64]

DEGREES = 2.0
SMALLEST_SHARE = 1e-4
_PRIOR_SHARE = 0.01  # believed with the weight of one row, and used when there are no held-out rows


def log_tail(squared_radius: Array, n_features: int) -> Array:
    """Evaluate the log-density of the tail in white coordinates.

    Arguments:
        squared_radius: |u|², shape (N,).
        n_features: D.

    Returns:
        Nats, shape (N,).

    """
    half = (DEGREES + n_features) / 2
    constant = gammaln(half) - gammaln(DEGREES / 2) - n_features / 2 * np.log(DEGREES * np.pi)
    return np.asarray(constant - half * np.log1p(squared_radius / DEGREES))


def blend(log_flow: Array, tail: Array, share: float) -> Array:
    """Return log[(1 - ε) exp(log_flow) + ε exp(tail)], shape (N,)."""
    return np.asarray(np.logaddexp(log_flow + np.log1p(-share), tail + np.log(share)))


def fit_share(log_flow: Array, tail: Array, weight: Array) -> float:
    """Find ε by maximum likelihood on held-out rows, with a prior of one row.

    Arguments:
        log_flow: Log-density under the flow, nats, shape (M,).
        tail: Log-density under the tail, nats, shape (M,).
        weight: Row weights, shape (M,).

    """
    share = _PRIOR_SHARE
    for _ in range(60):
        odds = tail - log_flow + np.log(share) - np.log1p(-share)
        share = (float(weight @ expit(odds)) + _PRIOR_SHARE) / (float(weight.sum()) + 1)
        share = min(max(share, SMALLEST_SHARE), 0.5)
    return share


def sample_tail(n: int, n_features: int, rng: np.random.Generator) -> Array:
    """Draw from the tail in white coordinates, shape (n, D)."""
    normal = rng.standard_normal((n, n_features))
    return np.asarray(normal / np.sqrt(rng.chisquare(DEGREES, size=(n, 1)) / DEGREES))
