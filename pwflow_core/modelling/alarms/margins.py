"""Each sensor by itself: how far out in its own distribution a reading lies, and the normal score of each value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Array = NDArray[np.float64]

_MOST_KNOTS = 128
_FURTHEST = 1e9  # scales beyond the last value seen; further out all is the same


@dataclass(frozen=True, eq=False)
class Margins:
    """The margins of a regime: a value that many readings share is a mass, a constant has one value.

    A value has the surprise -log of the smaller of the shares of readings that are at most and at least as large.
    Beyond what was seen the surprise rises by one nat for each scale of the sensor's outer tenth on that side.

    Attributes:
        knots: Values of each sensor, ascending, padded by the last one, shape (D, G).
        surprise: Surprise at each, nats, shape (D, G).
        normal_score: Quantile of the normal distribution at the middle of its ranks, shape (D, G).
        scale: Scale of each sensor below and above what was seen, raw units, shape (D, 2).
        spread: Standard deviation of each sensor, at least its resolution, raw units, shape (D,).

    References:
        Sums of such surprises: ECOD (Li et al., 2022), arXiv:2201.00382.

    """

    knots: Array
    surprise: Array
    normal_score: Array
    scale: Array
    spread: Array

    @classmethod
    def fit(cls, X: Array, weight: Array, floor: Array) -> Margins:
        """Learn the margins.

        Arguments:
            X: Readings in raw units, shape (N, D).
            weight: Their weights, shape (N,).
            floor: Resolution of each sensor, raw units, above zero, shape (D,).

        """
        n_features = X.shape[1]
        knots, surprise, score = (np.empty((n_features, _MOST_KNOTS)) for _ in range(3))
        scale = np.empty((n_features, 2))
        for d in range(n_features):
            values, twin = np.unique(X[:, d], return_inverse=True)
            mass = np.bincount(twin.ravel(), weights=weight) * (len(X) / weight.sum())
            up_to = np.cumsum(mass)
            low, high = (1 + up_to) / (1 + len(X)), (1 + len(X) - up_to + mass) / (1 + len(X))
            s = np.maximum(-np.log(np.minimum(np.minimum(low, high), 1.0)), 0.0)
            z = ndtri((up_to - mass / 2) / len(X))
            keep = _evenly_ranked(up_to, _MOST_KNOTS)
            pad = np.append(keep, np.full(_MOST_KNOTS - len(keep), keep[-1]))
            knots[d], surprise[d], score[d] = values[pad], s[pad], z[pad]
            scale[d] = _outer_scales(values, mass, float(floor[d]))
        mean = weight @ X / weight.sum()
        spread = np.sqrt(weight @ (X - mean) ** 2 / weight.sum())
        return cls(knots, surprise, score, scale, np.maximum(spread, floor))

    def evaluate(self, X: Array) -> tuple[Array, Array]:
        """Return the surprise of each value, nats, and its normal score, shape (N, D) each."""
        surprise, score = np.empty(X.shape), np.empty(X.shape)
        for d in range(X.shape[1]):
            value, knots = X[:, d], self.knots[d]
            below = np.minimum((knots[0] - value) / self.scale[d, 0], _FURTHEST)
            above = np.minimum((value - knots[-1]) / self.scale[d, 1], _FURTHEST)
            out = np.clip((value - np.clip(value, knots[0], knots[-1])) / self.spread[d], -_FURTHEST, _FURTHEST)
            both = np.interp(value, knots, self.surprise[d] + 1j * self.normal_score[d])  # at the price of one search
            surprise[:, d] = both.real + np.maximum(np.maximum(below, above), 0.0)
            score[:, d] = both.imag + out
        return surprise, score


def _evenly_ranked(up_to: Array, most: int) -> NDArray[np.intp]:
    """Choose at most `most` values: the outermost 16 on both sides, and between them by rank."""
    if len(up_to) <= most:
        return np.arange(len(up_to))
    inner = np.searchsorted(up_to, np.linspace(0, up_to[-1], most - 30)[1:-1])
    outer = np.arange(16)
    return np.unique(np.concatenate([outer, np.clip(inner, 0, len(up_to) - 1), len(up_to) - 1 - outer]))


def _outer_scales(values: Array, mass: Array, floor: float) -> tuple[float, float]:
    """Return the mean excess over the outer tenth of the readings below and above, at least the resolution."""
    found = []
    for side in (-1.0, 1.0):
        ordered = side * values[:: int(side)]
        share = np.cumsum(mass[:: int(side)][::-1])[::-1]
        start = int(np.flatnonzero(share >= 0.1 * share[0])[-1])
        excess = ordered[start:] - ordered[start]
        weight = mass[:: int(side)][start:]
        total = float(weight[1:].sum())
        found.append(max(float(weight @ excess) / total if total else 0.0, floor))
    return found[0], found[1]
