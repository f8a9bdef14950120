"""From what the models see to p-values: the twin of the steps `assigning`, `densities` and `scores` of the pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pwflow_core.modelling.attribution import Attribution, SensorAttributor
from pwflow_core.modelling.calibration import Calibration
from pwflow_core.modelling.completion import complete_by_likeliest, complete_rows, share_among_clusters
from pwflow_core.modelling.conditionals import Bends
from pwflow_core.modelling.density import Density
from pwflow_core.modelling.fleet import Fleet, Winners
from pwflow_core.modelling.levels import Levels
from pwflow_core.modelling.seeds import ClusterSeeds
from pwflow_core.modelling.states import StateBlame, States, merge_states

__all__ = ["Judged", "Regime", "Segment"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Regime:
    """A regime that scores: its weight, its flow with what explains it; its calibration and fleet if it has them."""

    weight: float
    flow_version: str
    density: Density
    bends: Bends
    calibration: Calibration | None
    fleet: Fleet | None = None


@dataclass(frozen=True, eq=False)
class Judged:
    """What became of readings of one segment.

    Attributes:
        regime: Position of the regime with the largest share, −1 where a regime that cannot score comes first, (N,).
        waits_for: Position of a regime that could have produced the reading and cannot score, else −1, shape (N,).
        log_density: Of the mixture, nats, shape (N,).
        p_value: Shape (N,); NaN where there is none.
        is_learning: Whether its machine is new in the regime, and waits to be learned, shape (N,).

    """

    regime: NDArray[np.intp]
    waits_for: NDArray[np.intp]
    log_density: Array
    p_value: Array
    is_learning: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Segment:
    """The regimes of one segment.

    Attributes:
        keys: Their keys, in the order of the seeds.
        seeds: The regimes as Gaussians.
        regimes: Those that score, by key.
        levels: Where their readings lie, in the order of the keys; None where it is not known.
        groups: Columns of each sensor.
        states: What is known of the states; None where it is nothing, or no sensor is one.

    """

    keys: tuple[str, ...]
    seeds: ClusterSeeds
    regimes: Mapping[str, Regime]
    levels: Levels | None
    groups: Sequence[Sequence[int]] = field(repr=False)
    states: States | None = None

    def judge(self, X: Array, machine: Sequence[str], states: Array) -> Judged:
        """Judge readings.

        Arguments:
            X: What the models see, NaN where a value is missing, shape (N, C).
            machine: Machine of each, shape (N,).
            states: Their states, NaN where there is none, shape (N, S).

        """
        has_gaps = bool(np.isnan(X).any())
        candidates = share_among_clusters(self.seeds, X)[0] if has_gaps else self.seeds.candidates(X)
        waits_for = np.full(len(X), -1, dtype=np.intp)
        joint = np.full((len(X), len(self.keys)), -np.inf)
        conformity = np.full((len(X), len(self.keys)), np.nan)
        volume = np.zeros((len(X), len(self.keys)))
        names = np.asarray(machine, dtype=np.str_)
        for position in np.flatnonzero(candidates.any(axis=0)).tolist():
            rows = np.flatnonzero(candidates[:, position])
            regime = self.regimes.get(self.keys[position])
            if regime is None:
                waits_for[rows] = position
            else:
                mine = X[rows]
                if regime.fleet is not None:
                    mine, volume[rows, position] = regime.fleet.correct(mine, names[rows])
                if has_gaps:
                    mine = complete_rows(mine, self.seeds.means[position], self.seeds.covariances[position])
                found = regime.density.evaluate(mine)
                joint[rows, position] = np.log(regime.weight) + found.log_prob + volume[rows, position]
                is_known = True if regime.fleet is None else regime.fleet.knows(names[rows])
                conformity[rows, position] = np.where(is_known, found.conformity, np.nan)
        winner, each = joint.argmax(axis=1), np.arange(len(X))
        top = joint[each, winner]
        with np.errstate(invalid="ignore"):
            log_density = top + np.log(np.exp(joint - top[:, None]).sum(axis=1))
        judged = np.where(waits_for < 0, winner, -1)
        own = conformity[each, winner]
        p_value = self._p_values(judged, own, top - volume[each, winner])
        p_value = self._with_states(p_value, judged, machine, states)
        return Judged(judged, waits_for, log_density, p_value, np.isnan(own) & (judged >= 0))

    def _p_values(self, winner: NDArray[np.intp], conformity: Array, top: Array) -> Array:
        p_value = np.full(len(winner), np.nan)
        for position in {*winner.tolist()} - {-1}:
            rows = np.flatnonzero(winner == position)
            calibration = self.regimes[self.keys[position]].calibration
            if calibration is not None:
                own = calibration.p_values(conformity[rows])
                p_value[rows] = own if self.levels is None else self.levels.p_values(own, winner[rows], top[rows])
        return p_value

    def _with_states(self, p_value: Array, winner: NDArray[np.intp], machine: Sequence[str], states: Array) -> Array:
        known = self.states
        if known is None or not known.can_tell:
            return p_value
        is_new = [
            bool(known.blame(self.keys[place], name, found).any())
            for place, name, found in zip(winner.tolist(), machine, _with_none(states), strict=True)
        ]
        return merge_states(p_value, np.array(is_new, dtype=np.bool_) & (winner >= 0), known.chance)

    def explain_states(self, regime: str, machine: str, states: Array, p_value: float) -> StateBlame | None:
        """Tell what the states of a reading, shape (S,), have to do with its being an anomaly."""
        if self.states is None:
            return None
        return self.states.explain(regime, machine, _with_none(states[None])[0], p_value)

    def explain(self, X: Array, machine: Sequence[str], regime: Sequence[str]) -> Attribution:
        """Tell which sensors caused anomalies; the regime of the result is a position in the sorted `scoring_keys`.

        Arguments:
            X: What the models see of them, shape (N, C).
            machine: Machine of each, shape (N,).
            regime: Key of the regime that each was given to, shape (N,).

        """
        fleets = {key: own.fleet for key, own in self.regimes.items() if own.fleet is not None}
        winners = Winners(fleets, np.asarray(machine, dtype=np.str_), np.asarray(regime, dtype=np.str_))
        found = self._attributor.attribute(complete_by_likeliest(self.seeds, winners.see(X)))
        return winners.tell(found, np.array([group[0] for group in self.groups], dtype=np.intp))

    @property
    def scoring_keys(self) -> list[str]:
        """Keys of the regimes that score, sorted."""
        return sorted(self.regimes)

    @cached_property
    def _attributor(self) -> SensorAttributor:
        regimes = [self.regimes[key] for key in self.scoring_keys]
        weights = np.array([regime.weight for regime in regimes])
        return SensorAttributor(
            weights, [regime.density for regime in regimes], self.groups, [regime.bends for regime in regimes]
        )


def _with_none(states: Array) -> list[list[float | None]]:
    return [[None if np.isnan(value) else value for value in row] for row in states.tolist()]
