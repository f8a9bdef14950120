"""Faults put into held-out readings, where a plant has no labels: small enough that not every detector finds them.

Sizes are in units of what the other sensors leave open of a sensor: the standard deviation of its residual in a
linear regression on all the others, over all readings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pwflow_core.poc.trial import Stretch

__all__ = ["INJECTED_KINDS", "inject_faults"]

Array = NDArray[np.float64]

SPIKE_SIZES, OFFSET_SIZES = (4.0, 8.0), (2.0, 5.0)
FAULT_READINGS = 8
"""Readings that a fault other than a spike lasts."""
_FAULTS_OF_A_KIND = 30
_MOST_FAULTY_BLOCKS = 0.5


def inject_faults(healthy: Stretch, block: NDArray[np.intp], learn: Array, random_state: int = 0) -> Stretch:
    """Put spikes, offsets, losses of correlation and swaps into some blocks, one each; the others stay as they are.

    Arguments:
        healthy: Readings that are taken to be normal.
        block: Time block of each, shape (n,): readings of a machine that follow each other.
        learn: What the contenders learn from, shape (N, D).
        random_state: Seed.
    """
    rng = np.random.default_rng(random_state)
    kinds = [kind for kind in INJECTED_KINDS if healthy.X.shape[1] > 1 or kind in ("spike", "offset")]
    numbers, first, counts = np.unique(block, return_index=True, return_counts=True)
    whole = [place for place in range(len(numbers)) if counts[place] >= FAULT_READINGS]
    n_faults = min(_FAULTS_OF_A_KIND * len(kinds), int(_MOST_FAULTY_BLOCKS * len(whole)))
    X, fault, given = healthy.X.copy(), np.full(len(healthy.X), -1, dtype=np.int64), []
    scale = _residual_scale(learn)
    for number, place in enumerate(rng.permutation(whole)[:n_faults]):
        kind = kinds[number % len(kinds)]
        length = 1 if kind == "spike" else FAULT_READINGS
        start = int(first[place]) + int(rng.integers(counts[place] - length + 1))
        rows = slice(start, start + length)
        X[rows] = _MAKERS[kind](X[rows], learn, scale, rng)
        fault[rows] = number
        given.append(kind)
    return replace(healthy, X=X, fault=fault, kinds=tuple(given))


def _spike(X: Array, learn: Array, scale: Array, rng: np.random.Generator) -> Array:
    return _shift(X, scale, rng, SPIKE_SIZES)


def _offset(X: Array, learn: Array, scale: Array, rng: np.random.Generator) -> Array:
    return _shift(X, scale, rng, OFFSET_SIZES)


def _lose_correlation(X: Array, learn: Array, scale: Array, rng: np.random.Generator) -> Array:
    """Let a sensor show what it read at other times: each value is usual, but not beside the others."""
    changed, sensor = X.copy(), rng.integers(X.shape[1])
    changed[:, sensor] = learn[rng.integers(len(learn), size=len(X)), sensor]
    return changed


def _swap(X: Array, learn: Array, scale: Array, rng: np.random.Generator) -> Array:
    """Exchange two sensors, each scaled to what the other one usually reads."""
    one, other = rng.choice(X.shape[1], size=2, replace=False)
    centre, spread = learn.mean(axis=0), learn.std(axis=0)
    standard, changed = (X - centre) / spread, X.copy()
    changed[:, one] = centre[one] + spread[one] * standard[:, other]
    changed[:, other] = centre[other] + spread[other] * standard[:, one]
    return changed


def _shift(X: Array, scale: Array, rng: np.random.Generator, sizes: tuple[float, float]) -> Array:
    changed, sensor = X.copy(), rng.integers(X.shape[1])
    changed[:, sensor] += rng.choice((-1.0, 1.0)) * rng.uniform(*sizes) * scale[sensor]
    return changed


def _residual_scale(X: Array) -> Array:
    """Return the standard deviation of each sensor given all others by linear regression, shape (D,)."""
    spread = X.std(axis=0)
    correlation = np.corrcoef(X, rowvar=False).reshape(len(spread), len(spread))
    precision = np.linalg.inv(correlation + 1e-6 * np.eye(len(spread)))
    return np.asarray(spread / np.sqrt(np.diag(precision)))


_MAKERS: dict[str, Callable[[Array, Array, Array, np.random.Generator], Array]] = {
    "spike": _spike,
    "offset": _offset,
    "correlation_loss": _lose_correlation,
    "swap": _swap,
}
INJECTED_KINDS = tuple(_MAKERS)
