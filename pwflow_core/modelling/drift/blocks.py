"""Blocks of consecutive readings: what evidence is made from, because a reading is nearly a copy of the one before."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["Blocks", "block_readings"]

Array = NDArray[np.float64]

_FEWEST_READINGS, _MOST_READINGS = 5, 240
_MEMORY_ENDS = 0.05


@dataclass(frozen=True, eq=False)
class Blocks:
    """Block means of the readings of one cluster, in the order of time.

    Attributes:
        night: Calendar day, in days since 1970-01-01, shape (B,).
        machine: Machine of each block, shape (B,).
        n_readings: Readings in each block, shape (B,).
        means: Mean of each channel of evidence, shape (B, C): the log-density (conformity, nats), then each latent of
            the flow, which is N(0, 1) while readings follow the model.
        sensors: Mean of each sensor in raw units, shape (B, S): to name who moved, and by how much.
        improbable: Share of the block's readings with a p-value of at most 0.01, shape (B,).
    """

    night: NDArray[np.int64]
    machine: NDArray[np.str_]
    n_readings: NDArray[np.int64]
    means: Array
    sensors: Array
    improbable: Array

    def __post_init__(self) -> None:
        for field in fields(self):
            if len(getattr(self, field.name)) != len(self.night):
                raise ValueError(
                    f"Expected one {field.name} per block, {len(self.night)} of them, "
                    f"got {len(getattr(self, field.name))}."
                )
        for name in ("means", "sensors", "improbable"):
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"Expected finite numbers as {name} of the blocks; leave unjudged readings out.")

    def __len__(self) -> int:
        return len(self.night)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> Self:
        """Return some of the blocks, by mask or position."""
        return type(self)(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def block_readings(values: object, breaks: object) -> int:
    """Return how many readings make a block: about as many as one remembers of another.

    The integrated autocorrelation time 1 + 2 Σ ρ(k), summed until ρ falls below 0.05, of the median column. Blocks are
    then nearly independent within a night; what is left is taken up by the night's own share of the variance.

    Arguments:
        values: A sample of neighbouring readings (channels or sensors), shape (N, C), in the order of time.
        breaks: True where a reading does not follow the one before it, shape (N,).
    """
    X = np.asarray(values, dtype=np.float64)
    stretch = np.cumsum(np.asarray(breaks, dtype=bool))
    if len(X) < 2 * _FEWEST_READINGS:
        return _FEWEST_READINGS
    centred = X - X.mean(axis=0)
    variance = np.mean(centred**2, axis=0)
    centred = centred[:, variance > 0]
    variance = variance[variance > 0]
    time = np.ones(len(variance))
    lasting = np.ones(len(variance), dtype=bool)
    for lag in range(1, min(_MOST_READINGS, len(X) // 2)):
        together = stretch[lag:] == stretch[:-lag]
        if together.sum() < _FEWEST_READINGS or not lasting.any():
            break
        memory = np.mean(centred[lag:][together] * centred[:-lag][together], axis=0) / variance
        lasting &= memory > _MEMORY_ENDS
        time += np.where(lasting, 2 * memory, 0.0)
    typical = float(np.median(time)) if len(time) else 1.0
    return int(np.clip(round(typical), _FEWEST_READINGS, _MOST_READINGS))
