"""The reference: how the blocks of a cluster look while nothing has moved, and how surely that is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from pwflow_core.modelling.drift.blocks import Blocks
from pwflow_core.modelling.drift.nights import Nights, group_nights

__all__ = ["DriftReference"]

Array = NDArray[np.float64]

_WINSOR = 3.0
_FEWEST_BLOCKS_OF_MACHINE = 3
_LEAST_MEMORY, _MOST_MEMORY = 0.2, 0.8
_FEWEST_PAIRS = 4
_TRIM = 0.25


@dataclass(frozen=True, eq=False)
class DriftReference:
    r"""What the blocks of one cluster are compared with.

    A block of machine m in night n is modelled, channel by channel, as

        x = centre_m + spread (μ + night_n + rest),    Var(night) = τ²,  Var(rest) = σ²

    and counts within three spreads of its centre only, so that a fault of an hour is worth little. The mean of a night
    over k blocks has the variance τ² + σ² / k, which is known as surely as a variance with that many degrees of
    freedom: many where the nights of the reference have k blocks themselves, few where τ² has to be told from σ² first.

    Columns are the channels of evidence (those of `Blocks.means`, then the root of the improbable share), then sensors.

    Attributes:
        n_channels: Channels of evidence, with the improbable share.
        n_latents: D.
        machines: Machines with blocks enough to know them, shape (M,).
        centre: Winsorised mean of the blocks of each machine, shape (M, K).
        typical: Trimmed mean of the blocks of each machine, shape (M, K): what effects are measured from.
        spread: Robust standard deviation of a block, shape (K,); 0 for a column that never changed.
        reading_spread: Standard deviation of a reading, the unit of effects, shape (K,).
        within: σ², shape (K,).
        between: τ², shape (K,).
        between_error: Standard error of τ², shape (K,).
        memory: Correlation of one night with the next, shape (K,), 0.2 or more.
        precision: Of the mean over the reference, if nights had no memory, shape (K,).
        offset: Mean of the nights, which is nearly 0 by construction, shape (K,).
        machine_share: Share of the blocks that each machine has, shape (M,).
        block_size: Usual number of readings of a block.
        n_nights: R.
        n_blocks: B.
    """

    n_channels: int
    n_latents: int
    machines: tuple[str, ...]
    centre: Array
    typical: Array
    spread: Array
    reading_spread: Array
    within: Array
    between: Array
    between_error: Array
    memory: Array
    precision: Array
    offset: Array
    machine_share: Array
    block_size: float
    n_nights: int
    n_blocks: int

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels of evidence."""
        return ("log_density", *(f"latent_{i + 1}" for i in range(self.n_latents)), "improbable")

    @classmethod
    def fit(cls, blocks: Blocks, sensor_spread: object) -> Self:
        """Learn the reference from blocks of held-out readings of the time that the flow learned from.

        Arguments:
            blocks: At least one.
            sensor_spread: Standard deviation of a reading of each sensor within the cluster, raw units, shape (S,).

        Raises:
            ValueError: No blocks, or none of a machine with at least three.
        """
        named, counts = np.unique(blocks.machine, return_counts=True)
        machines = tuple(str(name) for name in named[counts >= _FEWEST_BLOCKS_OF_MACHINE])
        if not machines:
            raise ValueError(
                f"Expected at least {_FEWEST_BLOCKS_OF_MACHINE} blocks of one machine as a reference, "
                f"got {len(blocks)} blocks; wait for more held-out readings."
            )
        known = blocks.take(np.isin(blocks.machine, machines))
        columns, place = stacked(known), np.searchsorted(machines, known.machine)
        typical = _by_machine(columns, place, len(machines), trimmed_mean)
        spread = _robust_spread(columns - typical[place])
        unit = np.where(spread > 0, spread, 1.0)
        bounded = typical[place] + np.clip(columns - typical[place], -_WINSOR * unit, _WINSOR * unit)
        centre = _by_machine(bounded, place, len(machines), lambda rows: rows.mean(axis=0))
        block_size = float(np.median(known.n_readings))
        weight = np.minimum(1.0, known.n_readings / block_size)
        nights = group_nights(known.night, (bounded - centre[place]) / unit, weight)
        within, between, between_error = _variances(nights)
        weights = 1.0 / (between + within / nights.n_blocks[:, None])
        precision = weights.sum(axis=0)
        offset = (weights * nights.means).sum(axis=0) / precision
        n_nights = len(nights.night)
        n_latents = blocks.means.shape[1] - 1
        log_density_spread = np.sqrt(max(n_latents, 1) / 2)  # of a Gaussian density of D sensors
        return cls(
            n_channels=n_latents + 2,
            n_latents=n_latents,
            machines=machines,
            centre=centre,
            typical=typical,
            spread=spread,
            reading_spread=np.concatenate(
                [[log_density_spread], np.ones(n_latents + 1), np.asarray(sensor_spread, dtype=np.float64)]
            ),
            within=within,
            between=between,
            between_error=between_error,
            memory=_memory(nights.night, (nights.means - offset) * np.sqrt(weights)),
            precision=precision,
            offset=offset,
            machine_share=np.bincount(place, minlength=len(machines)) / len(known),
            block_size=block_size,
            n_nights=n_nights,
            n_blocks=len(known),
        )

    def nights(self, blocks: Blocks) -> Nights:
        """Average blocks by night, in spreads from their machine's centre; unknown machines do not count."""
        known, place = self.known(blocks)
        unit = np.where(self.spread > 0, self.spread, np.inf)
        columns = np.clip(stacked(known) - self.typical[place], -_WINSOR * self.spread, _WINSOR * self.spread)
        centred = (columns + self.typical[place] - self.centre[place]) / unit
        return group_nights(known.night, centred, self.weight(known))

    def known(self, blocks: Blocks) -> tuple[Blocks, NDArray[np.intp]]:
        """Return the blocks of machines that the reference knows, and the position of the machine of each."""
        known = blocks.take(np.isin(blocks.machine, self.machines))
        return known, np.searchsorted(self.machines, known.machine)

    def weight(self, blocks: Blocks) -> Array:
        """Return what each block counts for: less than 1 if it is shorter than usual."""
        return np.minimum(1.0, np.maximum(blocks.n_readings, 1) / self.block_size)

    @property
    def lasting(self) -> Array:
        """Factor by which nights that resemble the one before inflate the variance of a mean of many, shape (K,)."""
        return np.asarray((1 + self.memory) / (1 - self.memory))

    def variance(self, n_blocks: Array) -> Array:
        """Return the variance of night means over this many blocks, in squared spreads, shape (R, K)."""
        return np.asarray(self.between + self.within / n_blocks[:, None])

    def freedom(self, n_blocks: float) -> Array:
        """Return how many degrees of freedom the variance of a night with this many blocks is known with, shape (K,).

        By Satterthwaite (1946), 2 v² / Var(v); at most those of the nights, which count for less if they have memory.
        """
        variance = self.variance(np.array([n_blocks]))[0]
        freedom = 2 * variance**2 / np.maximum(self.between_error**2, 1e-300)
        highest = (self.n_nights - 1) * (1 - self.memory**2) / (1 + self.memory**2)
        return np.asarray(np.minimum(freedom, highest))

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: v.tolist() if isinstance(v, np.ndarray) else v for name, v in values.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build from `to_dict`."""
        others = {name: v for name, v in values.items() if name != "machines"}
        made = {name: np.array(v, dtype=np.float64) if isinstance(v, list) else v for name, v in others.items()}
        return cls(**made | {"machines": tuple(values["machines"])})


def stacked(blocks: Blocks) -> Array:
    """Return all columns of blocks, shape (B, K): channels, root of the improbable share, sensors."""
    return np.column_stack([blocks.means, np.sqrt(blocks.improbable), blocks.sensors])


def trimmed_mean(rows: Array) -> Array:
    """Return the mean of the middle half of each column."""
    return np.asarray(stats.trim_mean(rows, _TRIM, axis=0))


def _by_machine(columns: Array, place: NDArray[np.intp], n_machines: int, statistic: Callable[[Array], Array]) -> Array:
    return np.stack([statistic(columns[place == machine]) for machine in range(n_machines)])


def _robust_spread(centred: Array) -> Array:
    """Return half the width of the middle 68%; the standard deviation where most blocks are equal."""
    low, high = np.quantile(centred, [0.16, 0.84], axis=0)
    spread = np.where(high - low > 1e-12, (high - low) / 2, centred.std(axis=0))
    return np.where(spread > 1e-12 * (1 + np.abs(centred).max(axis=0)), spread, 0.0)


def _variances(nights: Nights) -> tuple[Array, Array, Array]:
    """Estimate σ², τ² and the standard error of τ² by the analysis of variance.

    Where every night has one block, the two cannot be told apart, and all of the variance is that of nights.
    """
    n_nights, total = len(nights.night), nights.n_blocks.sum()
    if n_nights < 2:
        within = nights.within / max(nights.freedom, 1)
        return within, np.ones_like(within), np.full_like(within, np.inf)
    if nights.freedom < 1:
        whole = nights.means.var(axis=0, ddof=1)
        return np.zeros_like(whole), np.where(whole > 0, whole, 1.0), whole * np.sqrt(2 / (n_nights - 1))
    within = nights.within / nights.freedom
    mean = nights.n_blocks @ nights.means / total
    square = nights.n_blocks @ (nights.means - mean) ** 2 / (n_nights - 1)
    usual = (total - (nights.n_blocks**2).sum() / total) / (n_nights - 1)
    between = np.maximum(square - within, 0.0) / usual
    error = np.sqrt(2 * (np.maximum(square, within) ** 2 / (n_nights - 1) + within**2 / nights.freedom)) / usual
    return within, np.where(within + between > 0, between, 1.0), error


def _memory(night: NDArray[np.int64], standard: Array) -> Array:
    """Estimate the correlation of neighbouring nights.

    The estimate of n pairs is too small by (1 + 3 ρ) / n (Kendall, 1954), and has a standard error of 1 / √n. Columns
    share their weather: each is drawn towards the mean of all, the more so, the less they differ beyond that error.
    Nights with few blocks hide it, so it is never taken to be less than 0.2.
    """
    follows = np.flatnonzero(np.diff(night) == 1)
    alive = standard.any(axis=0)
    if not alive.any() or len(follows) < _FEWEST_PAIRS:
        return np.full(standard.shape[1], _LEAST_MEMORY)
    n_pairs = len(follows)
    variance = np.maximum((standard**2).mean(axis=0), 1e-300)
    raw = (standard[follows] * standard[follows + 1]).mean(axis=0) / variance
    own = raw + (1 + 3 * raw) / n_pairs
    common = own[alive].mean()
    differing = max(0.0, 1 - 1 / (n_pairs * max(float(own[alive].var()), 1e-300)))
    return np.asarray(np.clip(common + differing * (own - common), _LEAST_MEMORY, _MOST_MEMORY))
