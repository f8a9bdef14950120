"""The mix of clusters: what share of a segment's readings each of them has, night by night.

A night's shares are one block of an ordinary detector, whose channels are the clusters of the segment: fit a
`DriftReference` to the shares of the nights that the model learned from, and `advance` a `DriftState` with those of
each new night.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pwflow_core.modelling.drift.blocks import Blocks
from pwflow_core.modelling.drift.reference import DriftReference
from pwflow_core.modelling.drift.shift import measure_shift

__all__ = ["MixShift", "measure_mix", "mix_blocks"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class MixShift:
    """How the mix of a segment changed.

    Attributes:
        since: Night on which it began, days since 1970-01-01.
        before: Share of each cluster in the reference, shape (K,).
        after: Share of each cluster since then, shape (K,).
    """

    since: int
    before: Array
    after: Array

    @property
    def effect(self) -> float:
        """Share of the readings that changed their cluster: the total variation distance."""
        return float(np.abs(self.after - self.before).sum() / 2)


def mix_blocks(night: NDArray[np.int64], counts: NDArray[np.int64]) -> Blocks:
    """Turn counts of readings per cluster into one block per night, whose channels are arcsine roots of the shares.

    Arguments:
        night: Nights with at least one reading, days since 1970-01-01, shape (R,).
        counts: Readings of the segment that each cluster has, shape (R, K).
    """
    total = counts.sum(axis=1)
    share = counts / np.maximum(total, 1)[:, None]
    return Blocks(
        night=night,
        machine=np.full(len(night), "mix"),
        n_readings=np.maximum(total, 1),
        means=np.arcsin(np.sqrt(share)),
        sensors=share,
        improbable=np.zeros(len(night)),
    )


def measure_mix(
    reference: DriftReference, before: NDArray[np.int64], night: NDArray[np.int64], counts: NDArray[np.int64]
) -> MixShift | None:
    """Measure how the mix changed.

    Arguments:
        reference: Fitted to `mix_blocks` of the reference.
        before: Readings per cluster in all of the reference, shape (K,).
        night: The last nights, shape (R,).
        counts: Readings per cluster in each of them, shape (R, K).

    Returns:
        None with fewer than three nights.
    """
    shift = measure_shift(reference, mix_blocks(night, counts))
    if shift is None:
        return None
    after = counts[night >= shift.since].sum(axis=0)
    return MixShift(shift.since, before / max(before.sum(), 1), after / max(after.sum(), 1))
