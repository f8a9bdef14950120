"""The judge of a segment: the p-values that scoring gives, for readings that are in no table.

It says of any reading what `scores.sql` would: which regimes could have produced it, which of them has the largest
share in it, and its p-value there. So a reading that a fault moves into another regime is judged by that regime.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import duckdb
import numpy as np
from numpy.typing import NDArray

from pwflow_core.modelling.calibration import Calibration
from pwflow_core.modelling.levels import Levels
from pwflow_core.modelling.states import merge_states
from pwflow_core.pipeline.regimes.model import ClusterModel, SegmentClusters
from pwflow_core.pipeline.scoring.calibration import load_calibration
from pwflow_core.pipeline.scoring.densities import load_flow
from pwflow_core.pipeline.scoring.levels import load_levels
from pwflow_core.pipeline.scoring.states import load_states
from pwflow_core.plant import Plant

if TYPE_CHECKING:
    from pwflow_core.modelling import ClusterFlow

__all__ = ["JudgedRegime", "Judgement", "ModelSet", "PinnedRegime", "SegmentJudge", "open_judge", "read_model_set"]


@dataclass(frozen=True)
class PinnedRegime:
    """A regime of a model set: its weight among the readings of its segment, and its flow."""

    weight: float
    flow_version: str


@dataclass(frozen=True)
class ModelSet:
    """What scores were made by.

    Attributes:
        model_set_id: Its id.
        cluster_model_id: Id of the cluster model that its regimes are of.
        alpha: The false-alarm rate per reading.
        min_calibration_rows: Fewest held-out readings of a regime that judges.
        regimes: The regimes of each segment, by segment and key.
    """

    model_set_id: str
    cluster_model_id: str
    alpha: float
    min_calibration_rows: int
    regimes: Mapping[str, Mapping[str, PinnedRegime]]


@dataclass(frozen=True, eq=False)
class JudgedRegime:
    """A regime that takes part in judging: its weight, its flow, and its calibration; without one it judges nothing."""

    weight: float
    flow: ClusterFlow
    calibration: Calibration | None


@dataclass(frozen=True, eq=False)
class Judgement:
    """What became of readings.

    Attributes:
        p_value: Their p-values, shape (N,); NaN where a reading is not judged.
        regime: Position in the segment of the regime that each is given to, or that has to score it first, shape (N,).
        conformity: Its conformity to that one, nats, shape (N,).
    """

    p_value: NDArray[np.float64]
    regime: NDArray[np.intp]
    conformity: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SegmentJudge:
    """Judges readings of one segment.

    Attributes:
        part: The regimes of the segment as Gaussians: which of them could have produced a reading.
        regimes: Those that have scored, by key. A reading that another one could have produced is not judged.
        levels: Where the readings of the regimes lie, in the order of the segment; None where that is not known.
        chance: How often a normal reading shows something new in its states; None where these say nothing.
    """

    part: SegmentClusters
    regimes: Mapping[str, JudgedRegime]
    levels: Levels | None = None
    chance: float | None = None

    def judge(self, X: NDArray[np.float64]) -> Judgement:
        """Judge complete readings with ordinary states, raw units, shape (N, D)."""
        candidates = self.part.seeds.candidates(X)
        best, conformity = np.full(len(X), -np.inf), np.full(len(X), np.nan)
        winner = np.zeros(len(X), dtype=np.intp)
        waits_for = np.full(len(X), -1, dtype=np.intp)
        for position, key in enumerate(self.part.keys):
            rows = np.flatnonzero(candidates[:, position])
            regime = self.regimes.get(key)
            if regime is None or not len(rows):
                waits_for[rows] = position
                continue
            found = regime.flow.evaluate(X[rows])
            joint = np.log(regime.weight) + found.log_prob
            ahead = joint > best[rows]
            rows = rows[ahead]
            best[rows], conformity[rows], winner[rows] = joint[ahead], found.conformity[ahead], position
        p_value = np.full(len(X), np.nan)
        for position, key in enumerate(self.part.keys):
            calibration = self.regimes[key].calibration if key in self.regimes else None
            rows = np.flatnonzero((winner == position) & (waits_for < 0))
            if calibration is not None and len(rows):
                own = calibration.p_values(conformity[rows])
                merged = own if self.levels is None else self.levels.p_values(own, winner[rows], best[rows])
                is_new = np.zeros(len(rows), dtype=np.bool_)
                p_value[rows] = merged if self.chance is None else merge_states(merged, is_new, self.chance)
        return Judgement(p_value, np.where(waits_for < 0, winner, waits_for), conformity)

    def with_regime(self, key: str, flow: ClusterFlow, calibration: Calibration | None) -> SegmentJudge:
        """Return the judge in which a regime has another flow."""
        changed = replace(self.regimes[key], flow=flow, calibration=calibration)
        return replace(self, regimes={**self.regimes, key: changed})


def read_model_set(connection: duckdb.DuckDBPyConnection, model_set_id: str) -> ModelSet | None:
    """Return a model set; None if there is none with this id."""
    rows = connection.execute(
        "SELECT segment, cluster_key, weight, flow_version, cluster_model_id, alpha, min_calibration_rows "
        "FROM core.model_sets "
        "WHERE model_set_id = ? ORDER BY segment, cluster_key",
        [model_set_id],
    ).fetchall()
    if not rows:
        return None
    regimes: dict[str, dict[str, PinnedRegime]] = {}
    for segment, key, weight, version, *_ in rows:
        regimes.setdefault(segment, {})[key] = PinnedRegime(weight, version)
    model_id, alpha, min_rows = rows[0][4:]
    return ModelSet(model_set_id, model_id, alpha, min_rows, regimes)


def open_judge(plant: Plant, model: ClusterModel, models: ModelSet, segment: str) -> SegmentJudge:
    """Load the flows and calibrations of a segment.

    Raises:
        ModelFileError: A model file is missing or damaged.
    """
    pinned = models.regimes[segment]
    [part] = [part for part in model.segments if part.segment == segment]
    with plant.warehouse.snapshot() as connection:
        calibrations = {key: load_calibration(connection, key, pin.flow_version) for key, pin in pinned.items()}
        levels = load_levels(connection, models.cluster_model_id, segment, part.keys)
        states = load_states(connection, models.cluster_model_id, segment)
    regimes = {}
    for key, pin in pinned.items():
        calibration = calibrations[key]
        is_judging = calibration is not None and calibration.n_rows >= models.min_calibration_rows
        flow = load_flow(plant, key, pin.flow_version, len(model.columns))
        regimes[key] = JudgedRegime(pin.weight, flow, calibration if is_judging else None)
    chance = states.chance if states is not None and states.can_tell else None
    return SegmentJudge(part, regimes, levels, chance)
