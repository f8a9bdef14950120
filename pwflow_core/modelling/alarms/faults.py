"""Faults made from normal readings: what a view would have seen of them says how far to trust it, without a label."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

KINDS = ("spike", "shift", "stuck", "swap", "mixed", "noise", "between", "spread")


def inject_faults(X: Array, others: Array, spread: Array, kind: str, n: int, rng: np.random.Generator) -> Array:
    """Make faulty readings of one kind, shape (n, D).

    `spike`: one sensor is off by 1 to 10 standard deviations. `shift`: several are, by .3 to 3. `stuck`: one sensor
    reads what it read at another time. `swap`: half of them do. `mixed`: every sensor reads another time, so that all
    relations are lost. `noise`: all sensors, .1 to 1 standard deviations. `between`: halfway to another reading.
    `spread`: 1.1 to 4 times as far from the centre.

    Arguments:
        X: Normal readings that become faulty, raw units, shape (N, D).
        others: Readings of other times and regimes, raw units, shape (M, D).
        spread: Standard deviation of each sensor, raw units, shape (D,).
        kind: One of `KINDS`.
        n: How many.
        rng: Source of chance.

    """
    x, other = X[rng.integers(0, len(X), n)].copy(), others[rng.integers(0, len(others), n)]
    n_features, rows = X.shape[1], np.arange(n)
    sensor, sign = rng.integers(0, n_features, n), rng.choice([-1.0, 1.0], (n, n_features))
    if kind == "spike":
        x[rows, sensor] += sign[rows, sensor] * spread[sensor] * 10 ** rng.uniform(0, 1, n)
    elif kind == "shift":
        hit = rng.random((n, n_features)) < 0.3
        hit[rows, sensor] = True
        x += hit * sign * spread * 10 ** rng.uniform(-0.5, 0.5, (n, 1))
    elif kind == "stuck":
        x[rows, sensor] = other[rows, sensor]
    elif kind == "swap":
        x = np.where(rng.random((n, n_features)) < 0.5, other, x)
    elif kind == "mixed":
        x = others[rng.integers(0, len(others), (n, n_features)), np.arange(n_features)]
    elif kind == "noise":
        x += rng.standard_normal((n, n_features)) * spread * 10 ** rng.uniform(-1, 0, (n, 1))
    elif kind == "between":
        part = rng.random((n, 1))
        x = part * x + (1 - part) * other
    elif kind == "spread":
        centre = X.mean(axis=0)
        x = centre + (x - centre) * 10 ** rng.uniform(0.05, 0.6, (n, 1))
    else:
        raise ValueError(f"Expected a kind of fault of {KINDS}, got {kind!r}.")
    return x
