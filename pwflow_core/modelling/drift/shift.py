"""How far a cluster moved, in standard deviations of a reading: the cluster as a whole and each of its machines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pwflow_core.modelling.drift.blocks import Blocks
from pwflow_core.modelling.drift.reference import DriftReference, stacked, trimmed_mean

__all__ = ["LATEST_NIGHTS", "MOSTLY", "Effects", "ImprobablePart", "Shift", "measure_effects", "measure_shift"]

Array = NDArray[np.float64]

_FEWEST_BLOCKS = 3
MOSTLY = 0.5
"""Share of the readings of a block from which on it is improbable."""
_HARDLY = 0.2
LATEST_NIGHTS = 3
"""Nights that say what a cluster is like now."""
_SURELY = 3.0


@dataclass(frozen=True, eq=False)
class Effects:
    """Shifts in standard deviations of a reading, and their standard errors.

    Attributes:
        size: Shape (..., n).
        error: Shape (..., n).
    """

    size: Array
    error: Array

    @property
    def sure(self) -> Array:
        """The sizes, with 0 for those that are within three standard errors of 0."""
        return np.where(np.abs(self.size) > _SURELY * self.error, self.size, 0.0)

    @property
    def common(self) -> Array:
        """What all rows share: the least sure size where all agree on the direction, else 0, shape (n,).

        With a single row there is nothing to share.
        """
        sure = self.sure
        if len(sure) < 2:
            return np.zeros(sure.shape[-1])
        agreed = (sure > 0).all(axis=0) | (sure < 0).all(axis=0)
        return np.where(agreed, np.sign(sure[0]) * np.abs(sure).min(axis=0), 0.0)

    @property
    def largest(self) -> float:
        """The largest sure size, whatever its sign."""
        return float(np.abs(self.sure).max(initial=0.0))


@dataclass(frozen=True, eq=False)
class ImprobablePart:
    """The recent blocks most of whose readings are improbable in their own cluster.

    Attributes:
        share: Share of the recent readings that lie in such blocks.
        n_nights: Nights with such a block.
        machines: Machines with such a block.
        share_there: Share of the recent readings of these machines that lie in such blocks.
        offset: Mean of these blocks less what is typical, standard deviations of a reading, shape (S,).
        effect_on_others: Largest sure effect on the ordinary blocks of these machines; infinite where there are hardly
            any.
    """

    share: float
    n_nights: int
    machines: tuple[str, ...]
    share_there: float
    offset: Array
    effect_on_others: float


@dataclass(frozen=True, eq=False)
class Shift:
    """Where the middle half of the recent blocks lies, against the reference.

    The middle half, so that a fault of a few hours, or readings of another kind among those of the cluster, are no
    shift of the cluster; such readings are in `improbable`.

    Attributes:
        since: Night on which it began, by the evidence, days since 1970-01-01.
        until: Last night that has blocks.
        sensors: Effect on each sensor, shape (S,).
        raw: The same in raw units, shape (S,).
        latest: Effect on each sensor in the three nights up to `until`, whenever it began, shape (S,).
        typical: What is typical of each sensor, raw units, shape (S,).
        reading_spread: Standard deviation of a reading of each sensor, raw units, shape (S,).
        latents: Effect on each latent, shape (D,).
        log_density: Effect on the log-density, shape (1,); a standard deviation is √(D / 2) nats, as for a Gaussian.
        machines: Machines with at least three blocks since then.
        machine_sensors: Effect by machine, shape (M, S).
        machine_latents: Effect by machine, shape (M, D).
        improbable: What is improbable; None without any such block.
    """

    since: int
    until: int
    sensors: Effects
    raw: Array
    latest: Effects
    typical: Array
    reading_spread: Array
    latents: Effects
    log_density: Effects
    machines: tuple[str, ...]
    machine_sensors: Effects
    machine_latents: Effects
    improbable: ImprobablePart | None

    @property
    def effect(self) -> float:
        """The largest effect on the cluster as a whole that is more than three standard errors from 0."""
        return max(self.sensors.largest, self.latents.largest, self.log_density.largest)

    @property
    def machine_effect(self) -> float:
        """The largest effect on the sensors or latents of one machine that is as sure."""
        return max(self.machine_sensors.largest, self.machine_latents.largest)

    @property
    def common_effect(self) -> float:
        """The largest effect on the sensors or latents that all machines share; 0 with one machine."""
        shared = np.concatenate([self.machine_sensors.common, self.machine_latents.common])
        return float(np.abs(shared).max(initial=0.0))


def measure_shift(reference: DriftReference, recent: Blocks) -> Shift | None:
    """Measure by how much a cluster moved, and since when.

    Arguments:
        reference: Of the flow in use.
        recent: Blocks of the last nights, say 30, in any order.

    Returns:
        None if there are fewer than three blocks of machines that the reference knows.
    """
    known, place = reference.known(recent)
    if len(known) < _FEWEST_BLOCKS:
        return None
    since = _began(reference, known)
    late = known.night > known.night.max() - LATEST_NIGHTS
    columns = stacked(known) - reference.typical[place]
    latest = measure_effects(reference, known.take(late), columns[late], 1.0)
    rows = known.night >= since
    if rows.sum() < _FEWEST_BLOCKS:
        rows = known.night >= np.sort(known.night)[-_FEWEST_BLOCKS]
    known, place, moved = known.take(rows), place[rows], columns[rows]
    whole = measure_effects(reference, known, moved, 1.0)
    share = np.bincount(place, minlength=len(reference.machines))
    measured = [m for m in range(len(reference.machines)) if share[m] >= _FEWEST_BLOCKS]
    parts = [
        measure_effects(reference, known.take(place == m), moved[place == m], float(reference.machine_share[m]))
        for m in measured
    ]
    size = np.stack([part.size for part in parts]) if parts else np.empty((0, moved.shape[1]))
    error = np.stack([part.error for part in parts]) if parts else np.empty((0, moved.shape[1]))
    latents, sensors = slice(1, 1 + reference.n_latents), slice(reference.n_channels, None)
    return Shift(
        since=since,
        until=int(known.night.max()),
        sensors=Effects(whole.size[sensors], whole.error[sensors]),
        raw=whole.size[sensors] * reference.reading_spread[sensors],
        latest=Effects(latest.size[sensors], latest.error[sensors]),
        typical=reference.machine_share @ reference.typical[:, sensors],
        reading_spread=reference.reading_spread[sensors],
        latents=Effects(whole.size[latents], whole.error[latents]),
        log_density=Effects(whole.size[:1], whole.error[:1]),
        machines=tuple(reference.machines[m] for m in measured),
        machine_sensors=Effects(size[:, sensors], error[:, sensors]),
        machine_latents=Effects(size[:, latents], error[:, latents]),
        improbable=_improbable(reference, known, moved),
    )


def measure_effects(reference: DriftReference, blocks: Blocks, moved: Array, share: float) -> Effects:
    """Return the effect on each column, and its error from the nights and from the reference.

    Arguments:
        reference: Of the flow in use.
        blocks: The blocks.
        moved: What their columns differ by from what is typical of their machines, shape (B, K).
        share: Share of the blocks of the reference that these machines have.
    """
    variance = np.maximum(reference.variance(reference.nights(blocks).n_blocks), 1e-300)
    variance = reference.lasting * (1 / (1 / variance).sum(axis=0) + 1 / (reference.precision * share))
    unit = np.where(reference.reading_spread > 0, reference.reading_spread, np.inf)
    return Effects(trimmed_mean(moved) / unit, np.sqrt(variance) * reference.spread / unit)


def _began(reference: DriftReference, known: Blocks) -> int:
    """Return the night from which on the channel that moved most surely differs from the reference.

    The night ν with the largest squared, standardised mean of the nights from ν to the last, over channels and ν.
    """
    nights = reference.nights(known)
    channels = slice(reference.n_channels)
    weight = 1 / np.maximum(reference.variance(nights.n_blocks)[:, channels], 1e-300)
    weight = np.where(reference.spread[channels] > 0, weight, 0.0)
    residual = nights.means[:, channels] - reference.offset[channels]
    total = np.cumsum(weight[::-1], axis=0)[::-1]
    sums = np.cumsum((weight * residual)[::-1], axis=0)[::-1]
    evidence = sums**2 / np.maximum(total + total**2 / reference.precision[channels], 1e-300)
    evidence = evidence / reference.lasting[channels]
    first, _ = np.unravel_index(int(evidence.argmax()), evidence.shape)
    return int(nights.night[first])


def _improbable(reference: DriftReference, blocks: Blocks, moved: Array) -> ImprobablePart | None:
    mostly = blocks.improbable >= MOSTLY
    if not mostly.any():
        return None
    machines = np.unique(blocks.machine[mostly])
    there = np.isin(blocks.machine, machines)
    ordinary = there & (blocks.improbable <= _HARDLY)
    others = np.inf
    if ordinary.sum() >= _FEWEST_BLOCKS:
        effects = measure_effects(reference, blocks.take(ordinary), moved[ordinary], 1.0)
        judged = np.arange(len(effects.size)) != reference.n_channels - 1
        others = Effects(effects.size[judged], effects.error[judged]).largest
    sensors = slice(reference.n_channels, None)
    spread = reference.reading_spread[sensors]
    offset = moved[mostly, sensors] / np.where(spread > 0, spread, np.inf)
    return ImprobablePart(
        share=float(blocks.n_readings[mostly].sum() / blocks.n_readings.sum()),
        n_nights=len(np.unique(blocks.night[mostly])),
        machines=tuple(machines.tolist()),
        share_there=float(blocks.n_readings[mostly].sum() / blocks.n_readings[there].sum()),
        offset=np.median(offset, axis=0),
        effect_on_others=others,
    )
