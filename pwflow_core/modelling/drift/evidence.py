"""Evidence that may be looked at every night for ever: e-detectors on the nights of one cluster."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtr

from pwflow_core.modelling.drift.blocks import Blocks
from pwflow_core.modelling.drift.reference import DriftReference

__all__ = ["DriftState", "advance", "log_threshold"]

Array = NDArray[np.float64]

_SHIFTS = np.array([0.4, 0.8, 1.5, 2.5])
_BETS = np.concatenate([_SHIFTS, -_SHIFTS])
_BOUND = 3.0
_FEWEST_FREEDOM = 3.0
_NIGHTS_IN_5_YEARS = 5 * 365.25
_LOWEST = -50.0
_JUMP_FREEDOM = 2 / 3  # squared jumps between neighbouring nights share a night


@dataclass(frozen=True, eq=False)
class DriftState:
    r"""Evidence after some nights: a few numbers per channel.

    For each channel and each bet λ on a shift, the e-detector of Shiryaev and Roberts,

        M ← (M + 1) exp(λ z − λ² / 2)

    with z the normal score of the night's studentised residual from all nights before it, bounded at ±3. While
    nothing has moved, E[M] is at most the number of nights, and so is that of a mean over bets and channels: it
    exceeds A no sooner than after A nights on average, and within n nights with a chance of at most n / A. That holds
    for any size of the reference as far as the means of nights are normal and nights resemble each other no more
    than the reference shows, or by a correlation of 0.2; slow seasons that the reference has not seen are drift.

    Attributes:
        night: Last night, days since 1970-01-01; -1 before the first.
        n_nights: Nights that were added.
        mean: Running mean of the nights, reference included, shape (C,).
        precision: Precision of that mean, shape (C,).
        square: Sum of the squared jumps from one night to the next, over their variance by the reference, shape (C,).
        freedom: Degrees of freedom of that sum. With those of the reference, it says by how much the variance of
            nights is another than the reference has it; a lasting shift is one jump among many, and hardly changes it.
        last: Mean of the last night, shape (C,).
        last_variance: Its variance by the reference, shape (C,).
        log_detectors: log M, shape (C, bets).

    References:
        E-detectors: Shin, Ramdas, Rinaldo (2022), arXiv:2203.03532. Recursive residuals are independent: Brown,
        Durbin, Evans (1975).
    """

    night: int
    n_nights: int
    mean: Array
    precision: Array
    square: Array
    freedom: float
    last: Array
    last_variance: Array
    log_detectors: Array

    @classmethod
    def start(cls, reference: DriftReference) -> Self:
        """Return the state before the first night."""
        channels = slice(reference.n_channels)
        nothing = np.zeros(reference.n_channels)
        return cls(
            night=-1,
            n_nights=0,
            mean=reference.offset[channels],
            precision=reference.precision[channels],
            square=nothing,
            freedom=0.0,
            last=nothing,
            last_variance=nothing,
            log_detectors=np.full((reference.n_channels, len(_BETS)), _LOWEST),
        )

    @property
    def log_evidence(self) -> Array:
        """Log evidence of each channel, shape (C,): the mean over its bets."""
        return np.asarray(np.logaddexp.reduce(self.log_detectors, axis=1) - np.log(len(_BETS)))

    @property
    def combined(self) -> float:
        """Log evidence that the cluster moved: the mean over all channels, to be compared with `log_threshold`."""
        return float(np.logaddexp.reduce(self.log_evidence) - np.log(len(self.log_detectors)))

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: v.tolist() if isinstance(v, np.ndarray) else v for name, v in values.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build from `to_dict`."""
        made: dict[str, Any] = {
            name: np.array(v, dtype=np.float64) if isinstance(v, list) else v for name, v in values.items()
        }
        return cls(**made)


def advance(reference: DriftReference, state: DriftState, blocks_of_one_night: Blocks) -> DriftState:
    """Add the blocks of the next night; without any block of a known machine the state stays as it is.

    Raises:
        ValueError: Blocks of several nights, or of a night that is not after the last.
    """
    if not np.isin(blocks_of_one_night.machine, reference.machines).any():
        return state
    nights = reference.nights(blocks_of_one_night)
    if len(nights.night) > 1 or nights.night[0] <= state.night:
        raise ValueError(
            f"Expected the blocks of one night after {np.datetime64(state.night, 'D')}, got nights "
            f"{', '.join(str(np.datetime64(int(n), 'D')) for n in nights.night)}; replay the nights in their order."
        )
    channels = slice(reference.n_channels)
    value = nights.means[0, channels]
    alive = reference.spread[channels] > 0
    variance = np.where(alive, reference.variance(nights.n_blocks)[0, channels], 1.0)
    memory, lasting = reference.memory[channels], reference.lasting[channels]
    known = reference.freedom(float(nights.n_blocks[0]))[channels]
    freedom = known + state.freedom
    scale = np.where(freedom > 0, np.maximum(known + state.square, 1e-9) / np.maximum(freedom, 1e-9), 1.0)
    error = np.sqrt(lasting * scale * (variance + 1 / state.precision))
    t = (value - state.mean) / error
    informed = alive & (freedom >= _FEWEST_FREEDOM)
    z = np.where(informed, _normal_score(t, np.maximum(freedom, 1.0)), 0.0)
    growth = _BETS * z[:, None] - _BETS**2 / 2
    grown = np.maximum(np.logaddexp(state.log_detectors, 0.0) + growth, _LOWEST)
    square, more_freedom = state.square, state.freedom
    if state.n_nights:
        jump = (value - state.last) ** 2 / (variance + state.last_variance) / (1 - memory)
        square = square + _JUMP_FREEDOM * np.minimum(jump, _BOUND**2 * scale)
        more_freedom = more_freedom + _JUMP_FREEDOM
    # a night beyond all bounds counts as one at the bound, or it would pull the mean away from those after it
    surprise = np.clip(t, -_BOUND, _BOUND) * error
    precision = state.precision + 1 / variance
    return DriftState(
        night=int(nights.night[0]),
        n_nights=state.n_nights + 1,
        mean=state.mean + surprise / variance / precision,
        precision=precision,
        square=square,
        freedom=more_freedom,
        last=value,
        last_variance=variance,
        log_detectors=np.where(informed[:, None], grown, state.log_detectors),
    )


def log_threshold(false_refits_per_5_years: float, n_clusters: int) -> float:
    """Return the log evidence that a cluster has to reach, so that the whole plant keeps its error budget.

    The average run length to a false alarm of one detector is then at least n_clusters × 5 years / budget nights.

    Arguments:
        false_refits_per_5_years: Budget of the plant.
        n_clusters: Clusters that share it, and mixes of segments if those are watched too.
    """
    return float(np.log(_NIGHTS_IN_5_YEARS * max(n_clusters, 1) / false_refits_per_5_years))


def _normal_score(t: Array, freedom: Array) -> Array:
    """Map Student t to normal scores within the bound; both tails with full precision."""
    size = -ndtri(np.maximum(stdtr(freedom, -np.abs(t)), 1e-300))
    return np.asarray(np.sign(t) * np.minimum(size, _BOUND))
