"""From blocks to nights: the night is the unit of evidence, because its blocks share their weather and their work."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Nights", "group_nights"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Nights:
    """Means over the blocks of each night.

    Attributes:
        night: Days since 1970-01-01, ascending, shape (R,).
        means: Shape (R, C).
        n_blocks: Independent blocks that each mean is worth, (Σ weight)² / Σ weight², shape (R,).
        within: Sum over all blocks of the squared deviations from the mean of their night, shape (C,).
        freedom: Degrees of freedom of `within`: blocks less nights.
    """

    night: NDArray[np.int64]
    means: Array
    n_blocks: Array
    within: Array
    freedom: int


def group_nights(night: NDArray[np.int64], values: Array, weight: Array) -> Nights:
    """Average blocks by night.

    Arguments:
        night: Shape (B,).
        values: Shape (B, C).
        weight: Weight of each block, above 0, shape (B,).
    """
    days, place = np.unique(night, return_inverse=True)
    place = place.ravel()
    total = np.bincount(place, weights=weight, minlength=len(days))
    sums = np.zeros((len(days), values.shape[1]))
    np.add.at(sums, place, values * weight[:, None])
    means = sums / total[:, None]
    within = (weight[:, None] * (values - means[place]) ** 2).sum(axis=0)
    n_blocks = total**2 / np.bincount(place, weights=weight**2, minlength=len(days))
    return Nights(days, means, n_blocks, within, len(values) - len(days))
