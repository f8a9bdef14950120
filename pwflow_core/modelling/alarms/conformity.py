"""How badly a reading conforms to the flow of a regime, without a ceiling and without a dip far out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pwflow_core.modelling.blending import log_gaussian
from pwflow_core.modelling.flow import ClusterFlow

Array = NDArray[np.float64]

_FURTHEST = 1e9  # standard deviations beyond the box


@dataclass(frozen=True, eq=False)
class Conformity:
    """Minus the log-density by the flow alone.

    A network says nothing of where it has seen no reading, and may say anything. The flow is asked about the nearest
    point of the box of all values that its regime has had; what lies outside costs e + e² / 2 nats for each sensor
    that is e standard deviations beyond, so that a sensor that moves further out never conforms better.

    Attributes:
        flow: Of the regime.
        low: Lower corner of the box, raw units, shape (D,).
        high: Upper corner, raw units, shape (D,).
        spread: Standard deviation of each sensor, raw units, shape (D,).

    """

    flow: ClusterFlow
    low: Array
    high: Array
    spread: Array

    def statistic(self, X: Array) -> Array:
        """Return minus the log-density with what lies outside of the box, nats, shape (N,)."""
        inside = np.clip(X, self.low, self.high)
        said = self.flow.evaluate(inside)
        squares = np.einsum("nd,nd->n", said.latents, said.latents)
        beyond = np.minimum(np.abs(X - inside) / self.spread, _FURTHEST)
        outside = (beyond + 0.5 * beyond * beyond).sum(axis=1)
        return np.asarray(outside - said.log_det - log_gaussian(squares, X.shape[1]))
