"""A plant of many regimes for measuring drift detection, drawn night by night, and the steps that a pipeline would do.

Three machines pass through eight regimes each night, in stretches of random length. Within a stretch, readings are
autocorrelated; machines have offsets of their own; nights share a little weather, which lasts. The model is what a
flow without training is: one Gaussian per regime, learned from the first nights. Readings go to the regime that is the
likeliest, so that whatever changes lands where it would land in a real plant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.signal import lfilter

from pwflow_core.modelling.drift import (
    UNIT_QUANTILES,
    Availability,
    Blocks,
    ClusterEvidence,
    DriftReference,
    DriftState,
    MixEvidence,
    SensorLevels,
    SensorName,
    Verdict,
    advance,
    block_readings,
    judge,
    log_threshold,
    measure_mix,
    measure_shift,
    mix_blocks,
)

Array = NDArray[np.float64]

N_CLUSTERS, N_SENSORS = 8, 8
MACHINES = np.array(["M1", "M2", "M3"])
READINGS_PER_NIGHT = 1440
LEARNING_NIGHTS = 25
HELD_OUT = 0.2
RECENT_NIGHTS = 30
SENSORS = [SensorName(f"s{i + 1}", "bar") for i in range(N_SENSORS)]
WEATHER = np.array([0.15, 0.15, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05])  # of a reading's standard deviation
WEATHER_MEMORY = 0.5


@dataclass(frozen=True, eq=False)
class Night:
    """Readings of one night: machine and true regime (-1 for one that was never learned) of each, and values."""

    night: int
    machine: NDArray[np.int64]
    regime: NDArray[np.int64]
    values: Array


Change = Callable[["Night", "Process"], "Night"]


class Process:
    """The plant itself.

    Arguments:
        seed: Seed.
        memory: Correlation of a reading with the next.
        heavy: Readings have Student's t with three degrees of freedom, not a normal distribution.
    """

    def __init__(self, seed: int, memory: float = 0.9, heavy: bool = False) -> None:
        self.rng = np.random.default_rng([seed, 5])
        self.memory, self.heavy = memory, heavy
        rng = np.random.default_rng([seed, 6])
        self.level = rng.uniform(5.0, 20.0, (N_CLUSTERS + 1, N_SENSORS))
        self.mixing = rng.normal(0.0, 0.25, (N_CLUSTERS + 1, N_SENSORS, N_SENSORS)) + 0.5 * np.eye(N_SENSORS)
        self.offset = rng.uniform(-0.2, 0.2, (len(MACHINES), N_SENSORS))
        self.shares = np.full(N_CLUSTERS, 1 / N_CLUSTERS)
        self.new_share = 0.0
        self.weather = np.zeros(N_SENSORS)

    @property
    def spread(self) -> Array:
        """Standard deviation of a reading of each sensor within each regime."""
        return np.linalg.norm(self.mixing, axis=2)

    def night(self, night: int) -> Night:
        """Draw the next night."""
        rng = self.rng
        shock = rng.standard_normal(N_SENSORS) * np.sqrt(1 - WEATHER_MEMORY**2)
        self.weather = WEATHER_MEMORY * self.weather + shock
        machine = np.repeat(np.arange(len(MACHINES)), READINGS_PER_NIGHT)
        regime = np.concatenate([self._timeline() for _ in MACHINES])
        shocks = rng.standard_normal((len(machine), N_SENSORS))
        starts = np.flatnonzero(np.diff(regime, prepend=-9) | np.diff(machine, prepend=-9))
        latent = np.concatenate([self._stretch(part) for part in np.split(shocks, starts[1:])])
        if self.heavy:
            latent = stats.t.ppf(stats.norm.cdf(latent), 3) / np.sqrt(3)
        latent += self.offset[machine] + WEATHER * self.weather
        values = self.level[regime] + np.einsum("nij,nj->ni", self.mixing[regime], latent)
        return Night(night, machine, regime, values)

    def _timeline(self) -> NDArray[np.int64]:
        shares = np.append(self.shares * (1 - self.new_share), self.new_share)
        lengths = shares * self.rng.gamma(25.0, size=len(shares))
        order = self.rng.permutation(len(shares))
        counts = np.round(lengths[order] / lengths.sum() * READINGS_PER_NIGHT).astype(np.int64)
        timeline = np.repeat(order, counts)[:READINGS_PER_NIGHT]
        return np.concatenate([timeline, np.full(READINGS_PER_NIGHT - len(timeline), timeline[-1])])

    def _stretch(self, shocks: Array) -> Array:
        scaled = shocks * np.sqrt(1 - self.memory**2)
        scaled[0] = shocks[0]
        return np.asarray(lfilter([1.0], [1.0, -self.memory], scaled, axis=0))


@dataclass(eq=False)
class Watch:
    """The model, the references and the states: what a pipeline would keep, and does every night."""

    mean: Array
    whitening: Array
    log_weight: Array
    limit: Array
    block_size: int = 10
    references: list[DriftReference] = field(default_factory=list)
    states: list[DriftState] = field(default_factory=list)
    mix_reference: DriftReference | None = None
    mix_state: DriftState | None = None
    mix_before: NDArray[np.int64] = field(default_factory=lambda: np.zeros(N_CLUSTERS, dtype=np.int64))
    levels: Array = field(default_factory=lambda: np.empty(0))
    usual: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(MACHINES), dtype=np.int64))
    history: list[tuple[int, list[Blocks], NDArray[np.int64], Array, NDArray[np.int64]]] = field(default_factory=list)
    min_effect: float = 0.25
    threshold: float = log_threshold(1.0, N_CLUSTERS + 1)

    @classmethod
    def learn(cls, nights: list[Night], rng: np.random.Generator, held_out: float) -> Watch:
        """Learn one Gaussian per regime, and the references from a share of the blocks."""
        values = np.concatenate([n.values for n in nights])
        regime = np.concatenate([n.regime for n in nights])
        mean = np.stack([values[regime == k].mean(axis=0) for k in range(N_CLUSTERS)])
        whitening = np.stack(
            [np.linalg.cholesky(np.linalg.inv(np.cov(values[regime == k].T))) for k in range(N_CLUSTERS)]
        )
        log_weight = np.log(np.bincount(regime, minlength=N_CLUSTERS) / len(regime))
        watch = cls(mean, whitening, log_weight, np.full(N_CLUSTERS, -np.inf))
        winner, log_density, latents = watch.score(values)
        watch.limit = np.array([np.quantile(log_density[winner == k], 0.01) for k in range(N_CLUSTERS)])
        first = nights[0]
        breaks = np.diff(first.regime, prepend=-9) != 0
        watch.block_size = block_readings(latents[: len(breaks)], breaks)
        made = [watch.blocks(n) for n in nights]
        for k in range(N_CLUSTERS):
            blocks = _joined([blocks[k] for blocks, _ in made])
            kept = blocks.take(rng.random(len(blocks)) < held_out)
            spread = np.sqrt(np.diag(np.linalg.inv(whitening[k] @ whitening[k].T)))
            watch.references.append(DriftReference.fit(kept, spread))
        watch.states = [DriftState.start(reference) for reference in watch.references]
        counts = np.stack([counts for _, counts in made])
        watch.mix_before = counts.sum(axis=0)
        watch.mix_reference = DriftReference.fit(
            mix_blocks(np.array([n.night for n in nights]), counts), np.ones(N_CLUSTERS)
        )
        watch.mix_state = DriftState.start(watch.mix_reference)
        machine = np.concatenate([n.machine for n in nights])
        watch.levels = np.stack([_levels(values[machine == m]) for m in range(len(MACHINES))])
        watch.usual = np.full(len(MACHINES), READINGS_PER_NIGHT)
        return watch

    def score(self, values: Array) -> tuple[NDArray[np.intp], Array, Array]:
        """Return the likeliest regime of each reading, its log-density there, and its latents there."""
        latents = np.stack([(values - self.mean[k]) @ self.whitening[k] for k in range(N_CLUSTERS)])
        volume = np.array([np.log(np.abs(np.diag(w))).sum() for w in self.whitening])
        log_density = volume[:, None] - 0.5 * np.einsum("knd,knd->kn", latents, latents)
        winner = (log_density + self.log_weight[:, None]).argmax(axis=0)
        rows = np.arange(len(values))
        return winner, log_density[winner, rows], latents[winner, rows]

    def blocks(self, night: Night) -> tuple[list[Blocks], NDArray[np.int64]]:
        """Return the blocks of each regime, and how many readings each has."""
        winner, log_density, latents = self.score(night.values)
        improbable = log_density <= self.limit[winner]
        columns = np.column_stack([log_density, latents, night.values, improbable])
        order = np.lexsort((np.arange(len(winner)), night.machine, winner))
        group = winner[order] * len(MACHINES) + night.machine[order]
        start = np.flatnonzero(np.diff(group, prepend=-1))
        place = np.arange(len(group)) - np.repeat(start, np.diff(np.append(start, len(group))))
        first = np.flatnonzero(place % self.block_size == 0) if len(group) else np.empty(0, dtype=np.intp)
        sizes = np.diff(np.append(first, len(group)))
        means = np.add.reduceat(columns[order], first, axis=0) / sizes[:, None] if len(first) else columns[:0]
        keep = sizes >= self.block_size / 2
        means, sizes, group = means[keep], sizes[keep], group[first][keep]
        made = []
        for k in range(N_CLUSTERS):
            rows = group // len(MACHINES) == k
            made.append(
                Blocks(
                    night=np.full(rows.sum(), night.night),
                    machine=MACHINES[group[rows] % len(MACHINES)],
                    n_readings=sizes[rows],
                    means=means[rows, : N_SENSORS + 1],
                    sensors=means[rows, N_SENSORS + 1 : -1],
                    improbable=means[rows, -1],
                )
            )
        return made, np.bincount(winner, minlength=N_CLUSTERS)

    def advance(self, night: Night) -> list[Verdict]:
        """Add a night, and judge it; evidence that sufficed the night before starts again."""
        self.states = [
            DriftState.start(reference) if state.combined >= self.threshold else state
            for reference, state in zip(self.references, self.states, strict=True)
        ]
        blocks, counts = self.blocks(night)
        self.states = [advance(*given) for given in zip(self.references, self.states, blocks, strict=True)]
        if counts.sum():
            self.mix_state = advance(
                self.mix_reference, self.mix_state, mix_blocks(np.array([night.night]), counts[None])
            )
        levels = np.stack([_levels(night.values[night.machine == m]) for m in range(len(MACHINES))])
        came = np.bincount(night.machine, minlength=len(MACHINES))
        self.history = [*self.history, (night.night, blocks, counts, levels, came)][-RECENT_NIGHTS:]
        return self._judge(night.night)

    def _judge(self, night: int) -> list[Verdict]:
        """Measure shifts only if any evidence suffices: without it no shift leads to a verdict."""
        evidence = [state.combined for state in self.states]
        any_moved = max(evidence) >= self.threshold
        shifts = [
            measure_shift(reference, _joined([blocks[k] for _, blocks, *_ in self.history])) if any_moved else None
            for k, reference in enumerate(self.references)
        ]
        mixes = []
        if self.mix_state.combined >= self.threshold:
            nights = np.array([n for n, _, counts, *_ in self.history if counts.sum()])
            counts = np.stack([counts for _, _, counts, *_ in self.history if counts.sum()])
            shift = measure_mix(self.mix_reference, self.mix_before, nights, counts)
            mixes = [MixEvidence("", tuple(_keys()), self.mix_state.combined, shift)]
        nights = np.repeat([n for n, *_ in self.history], len(MACHINES))
        machine = np.tile(MACHINES, len(self.history))
        came = np.concatenate([came for *_, came in self.history])
        return judge(
            night,
            [ClusterEvidence(key, "", e, s) for key, e, s in zip(_keys(), evidence, shifts, strict=True)],
            threshold=self.threshold,
            sensors=SENSORS,
            mixes=mixes,
            availability=Availability(nights, machine, came, came, np.tile(self.usual, len(self.history))),
            levels=SensorLevels(
                nights,
                machine,
                np.concatenate([levels for *_, levels, _ in self.history]),
                np.tile(self.levels, (len(self.history), 1, 1)),
            ),
            min_effect=self.min_effect,
        )


def watched(
    process: Process,
    n_nights: int,
    change: Change | None = None,
    change_at: int = 0,
    seed: int = 0,
    budget: float = 1.0,
    held_out: float = HELD_OUT,
) -> Iterator[tuple[int, list[Verdict]]]:
    """Learn from the first nights, then yield the verdicts of each of the following ones.

    Arguments:
        process: The plant.
        n_nights: Nights to watch.
        change: What happens to each night from `change_at` on; it may also change the process.
        change_at: First watched night that is changed.
        seed: Of the choice of held-out blocks.
        budget: False refits per five years.
        held_out: Share of the blocks of the learning nights that the references are made from.
    """
    nights = [process.night(20_000 + n) for n in range(LEARNING_NIGHTS)]
    watch = Watch.learn(nights, np.random.default_rng([seed, 7]), held_out)
    watch.threshold = log_threshold(budget, N_CLUSTERS + 1)
    for n in range(n_nights):
        night = process.night(20_000 + LEARNING_NIGHTS + n)
        if change is not None and n >= change_at:
            night = change(night, process)
        yield n, watch.advance(night)


def _keys() -> list[str]:
    return [f"c{k + 1:04d}" for k in range(N_CLUSTERS)]


def _levels(values: Array) -> Array:
    if len(values) == 0:
        return np.full((N_SENSORS, len(UNIT_QUANTILES)), np.nan)
    return np.quantile(values, UNIT_QUANTILES, axis=0).T


def _joined(parts: list[Blocks]) -> Blocks:
    names = ("night", "machine", "n_readings", "means", "sensors", "improbable")
    return Blocks(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})
