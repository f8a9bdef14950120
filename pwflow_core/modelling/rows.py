"""What a density learns from: distinct rows with weights, some of them held out, some with a cluster that is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

__all__ = ["TrainingData", "responsibilities"]

Array = NDArray[np.float64]


def responsibilities(joint: Array) -> Array:
    """Turn log-joints log w_k + log p_k(x), shape (N, K), into each component's share in each row, shape (N, K)."""
    return np.asarray(np.exp(joint - logsumexp(joint, axis=1, keepdims=True)))


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Distinct rows, their weights, and which of them are held out.

    Attributes:
        X: Shape (N, D).
        weight: Shape (N,).
        held_out: Rows that only serve to choose and to stop, shape (N,).
        fixed: Known cluster of each row or -1, shape (N,).

    """

    X: Array
    weight: Array
    held_out: NDArray[np.bool_]
    fixed: NDArray[np.intp]

    @classmethod
    def unlabelled(cls, X: Array, weight: Array, held_out: NDArray[np.bool_]) -> TrainingData:
        """Build from rows of which no cluster is known."""
        return cls(X, weight, held_out, np.full(len(X), -1, dtype=np.intp))

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> TrainingData:
        """Return the data of some rows, by position or mask."""
        return TrainingData(self.X[rows], self.weight[rows], self.held_out[rows], self.fixed[rows])

    @property
    def learned(self) -> TrainingData:
        """The rows that are not held out."""
        return self.take(~self.held_out)

    @property
    def judged(self) -> TrainingData:
        """The rows that are held out."""
        return self.take(self.held_out)

    def share(self, joint: Array) -> Array:
        """Turn log-joints (N, K) into responsibilities; rows of known cluster keep it."""
        return self.clamped(responsibilities(joint))

    def clamped(self, share: Array) -> Array:
        """Give rows of known cluster to it, whole; changes `share`."""
        known = np.flatnonzero(self.fixed >= 0)
        share[known] = 0.0
        share[known, self.fixed[known]] = 1.0
        return share
