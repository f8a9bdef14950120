"""What a cluster's density is blended from: its flow, its Gaussian and a heavy tail.

p = a flow + b Gaussian + ε t, with shares that the held-out rows ask for.

The Gaussian: a flow trained on few rows has picked up some of their noise; averaged with the Gaussian that
it started from, it is less wrong than either. The tail: a flow has Gaussian tails, so that a reading a little
outside of what was seen can cost hundreds of nats, more than a thousand ordinary readings together. t is a
multivariate Student distribution with two degrees of freedom around the same Gaussian. On a drifting plant it
is worth more than a nat per reading; where it is not needed, ε is near zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

DEGREES = 2.0
_PRIOR = np.array([0.0, 1.0, -1.0])  # rows' worth of belief in the flow, the Gaussian and the tail
_SMALLEST = 1e-5
_DOUBT = 1e-4  # least share of the tail for each variance and covariance that may cease to hold ...
_MOST_DOUBT = 0.05  # ... and the most that this comes to


@dataclass(frozen=True)
class Shares:
    """Shares of the blend; they sum to 1, and `flow` is 0 for a cluster that stayed a Gaussian."""

    flow: float
    gaussian: float
    tail: float


def log_gaussian(squared_radius: NDArray[Any], n_features: int) -> NDArray[Any]:
    """Evaluate log N(u; 0, 1) in nats from |u|², in the same precision and shape."""
    return np.asarray(-0.5 * (squared_radius + n_features * math.log(2 * math.pi)))


def log_tail(squared_radius: NDArray[Any], n_features: int) -> NDArray[Any]:
    """Evaluate the log-density of the tail in white coordinates, nats, from |u|², in the same precision and shape."""
    half = (DEGREES + n_features) / 2
    constant = math.lgamma(half) - math.lgamma(DEGREES / 2) - n_features / 2 * math.log(DEGREES * math.pi)
    return np.asarray(constant - half * np.log1p(squared_radius / DEGREES))


def heavy_gaussian(squared_radius: Array, n_features: int, tail: float) -> Array:
    """Evaluate log [(1 − ε) N(u; 0, 1) + ε t(u)] in nats from |u|², shape (N,), for a tail of share ε."""
    bell = math.log1p(-tail) + log_gaussian(squared_radius, n_features)
    return np.asarray(np.logaddexp(bell, math.log(tail) + log_tail(squared_radius, n_features)))


def blend(log_flow: Array | None, squared_radius: Array, n_features: int, shares: Shares) -> Array:
    """Return the log-density of the blend in white coordinates.

    Arguments:
        log_flow: Log-density under the flow, nats, shape (N,); None for a Gaussian cluster.
        squared_radius: |u|², shape (N,).
        n_features: D.
        shares: Of the blend.

    """
    tail = np.log(shares.tail) + log_tail(squared_radius, n_features)
    bell = np.log(shares.gaussian) + log_gaussian(squared_radius, n_features)
    mixed = np.logaddexp(tail, bell)
    return np.asarray(mixed if log_flow is None else np.logaddexp(mixed, log_flow + np.log(shares.flow)))


def fit_shares(log_flow: Array | None, squared_radius: Array, n_features: int, weight: Array) -> Shares:
    """Find the shares on held-out rows, by expectation maximisation under a prior.

    The prior is worth one row for the Gaussian, and asks for one row's evidence before it gives the tail more
    than its least share: a few held-out rows must neither invent a flow nor a heavy tail. Without held-out
    rows it decides alone.

    Arguments:
        log_flow: Log-density under the flow, nats, shape (M,); None for a Gaussian cluster.
        squared_radius: |u|² of the rows, shape (M,).
        n_features: D.
        weight: Row weights, shape (M,).

    """
    parts = [log_gaussian(squared_radius, n_features), log_tail(squared_radius, n_features)]
    parts.insert(0, np.full(len(weight), -np.inf) if log_flow is None else log_flow)
    density = np.exp(np.stack(parts, axis=1) - np.max(parts, axis=0)[:, None])
    doubt = min(_DOUBT * n_features * (n_features + 1) / 2, _MOST_DOUBT)
    smallest = np.array([_SMALLEST, _SMALLEST, doubt])
    share = np.array([0.0 if log_flow is None else 0.7, 0.29, 0.01])
    for _ in range(1000):
        part = density * share
        mass = np.maximum((weight / part.sum(axis=1)) @ part + _PRIOR, 0.0)
        before, share = share, np.maximum(mass / mass.sum(), smallest)
        share[0] = 0.0 if log_flow is None else share[0]
        share /= share.sum()
        if np.abs(share - before).max() < 1e-5:
            break
    return Shares(*map(float, share))


def sample_tail(n: int, n_features: int, rng: np.random.Generator) -> Array:
    """Draw from the tail in white coordinates, shape (n, D)."""
    normal = rng.standard_normal((n, n_features))
    return np.asarray(normal / np.sqrt(rng.chisquare(DEGREES, size=(n, 1)) / DEGREES))
