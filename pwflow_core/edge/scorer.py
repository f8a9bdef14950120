"""The scorer: readings in, scores out, by the models of a bundle and with NumPy alone."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pwflow_core.edge.bundle import Bundle, open_bundle
from pwflow_core.edge.judging import Regime, Segment
from pwflow_core.edge.rules import Rules
from pwflow_core.edge.tracking import QUALITIES, Tracker
from pwflow_core.edge.values import check_values
from pwflow_core.errors import ModelFileError
from pwflow_core.marks import FIRST_TIME, NO_SEGMENT
from pwflow_core.modelling.calibration import Calibration
from pwflow_core.modelling.conditionals import Bends
from pwflow_core.modelling.density import Density
from pwflow_core.modelling.fleet import Correction, Fleet, Typical
from pwflow_core.modelling.levels import Levels
from pwflow_core.modelling.seeds import ClusterSeeds
from pwflow_core.modelling.serialization import pack, unpack
from pwflow_core.modelling.states import StateBlame, States

__all__ = ["Contribution", "EdgeScorer", "Score"]

Array = NDArray[np.float64]

_JUDGED = 3
"""Qualities below this code get a score."""
_STATE = "edge_state"


@dataclass(frozen=True)
class Contribution:
    """What one sensor has to do with an anomaly, as in `mart.sensor_contributions`; values in its unit."""

    sensor: str
    unit: str
    contribution: float
    observed: float
    expected: float
    expected_low: float
    expected_high: float


@dataclass(frozen=True)
class Score:
    """The score of one reading, as in `mart.anomaly_scores`.

    Attributes:
        row: Position of the reading among those that were given.
        machine_id: Its machine.
        at: Its time, µs since 1970 in UTC.
        segment: Its process condition.
        status: `scored`, `thin`, or the quality for which it is not judged.
        reason: Why it is not judged, or what was filled in; None for an ordinary reading.
        cluster_key: The regime with the largest share in it.
        flow_version: The flow of that regime.
        log_density: Nats; None where the status is not `scored`, as with the next three.
        p_value: How often a normal reading is as improbable.
        anomaly_score: −log10 p.
        is_anomaly: Whether p is at most alpha.
        contributions: Its sensors with their part in it, in the order of the sensors; empty for no anomaly.

    """

    row: int
    machine_id: str
    at: int
    segment: str
    status: str
    reason: str | None
    cluster_key: str | None
    flow_version: str | None
    log_density: float | None
    p_value: float | None
    anomaly_score: float | None
    is_anomaly: bool | None
    contributions: tuple[Contribution, ...] = ()


class EdgeScorer:
    """Scores readings as the nightly job does, while they come.

    It remembers of each machine what its next readings depend on. Readings of one machine have to come in the order of
    time; one that is not later than the last of its machine is refused and counted.

    Arguments:
        bundle: What `pwflow export` wrote.
        fresh: Begin without the readings before the export: of those, the bundle holds what the next ones depend on.

    Attributes:
        refused: Readings that were refused, by reason, since it was made.

    Raises:
        ModelFileError: A part of the bundle is damaged.

    """

    def __init__(self, bundle: Bundle, *, fresh: bool = False) -> None:
        self.bundle = bundle
        document = bundle.document
        self.alpha: float = document["alpha"]
        self.refused: Counter[str] = Counter()
        self._rules = Rules.of(document["readings"])
        self._tracker = Tracker(self._rules)
        self._segments = _open_segments(bundle, document)
        self._min_rows: int = document["min_calibration_rows"]
        self._unreadable = frozenset(document["unreadable"])
        if not fresh:
            self.restore(bundle.files["state"])

    @classmethod
    def open(cls, folder: Path | str, *, fresh: bool = False) -> EdgeScorer:
        """Open the bundle in a folder.

        Raises:
            ModelFileError: It is missing, damaged or of another format.

        """
        return cls(open_bundle(Path(folder)), fresh=fresh)

    @property
    def sensors(self) -> tuple[str, ...]:
        """Names of the sensors, in the order in which values are given."""
        return tuple(sensor.name for sensor in self._rules.sensors)

    def state(self) -> bytes:
        """Return what the next readings depend on, to go on from after a restart: its size is fixed per machine."""
        return pack(_STATE, *self._tracker.to_arrays())

    def restore(self, state: bytes) -> None:
        """Go on from a state, also of a scorer with another bundle: sensors and machines are known by their names.

        Raises:
            ModelFileError: It is damaged, or of another release.

        """
        arrays, document = unpack(state, _STATE)
        try:
            self._tracker.restore(arrays, document)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ModelFileError(
                f"The state cannot be read by this release of pwflow ({error!r}): begin without it."
            ) from error

    def score(
        self,
        machine: Sequence[str],
        at: NDArray[np.int64],
        values: Array,
        segment: Sequence[str] | None = None,
        *,
        not_numbers: NDArray[np.bool_] | None = None,
        now: float | None = None,
    ) -> list[Score]:
        """Score readings, and remember what the next ones depend on.

        Arguments:
            machine: Machine of each reading, shape (N,).
            at: Times, µs since 1970 in UTC, shape (N,).
            values: Of `sensors`, NaN where there is none, shape (N, S).
            segment: Process condition of each, shape (N,); None for a plant without any.
            not_numbers: Where something came that is not a number, shape (N, S).
            now: The present, seconds since 1970; the clock of this machine if None.

        Returns:
            The scores of the readings that were not refused, in the order of time, then as given.

        """
        at, values = np.asarray(at, dtype=np.int64), np.asarray(values, dtype=np.float64)
        segment = [NO_SEGMENT] * len(machine) if segment is None else segment
        names = [name.strip(" ") for name in machine]
        rows, number = self._accepted(names, at, time.time() if now is None else now)
        checked = check_values(values, self._rules.sensors, not_numbers)
        n = len(names)
        quality = np.zeros(n, dtype=np.int8)
        reason: list[str | None] = [None] * n
        columns = np.full((n, len(self._rules.columns)), np.nan)
        states = np.full((n, len(self._rules.states)), np.nan)
        for turn in _turns(number[rows]):
            mine = rows[turn]
            followed = self._tracker.follow(
                number[mine],
                at[mine],
                [segment[row] for row in mine],
                checked.values[mine],
                [checked.refused[row] for row in mine],
            )
            quality[mine], columns[mine], states[mine] = followed.quality, followed.columns, followed.states
            for row, why in zip(mine, followed.reason, strict=True):
                reason[row] = why
        found: dict[int, Score] = {}
        for name in dict.fromkeys(segment[row] for row in rows):
            mine = np.array([row for row in rows if segment[row] == name], dtype=np.intp)
            beside = [names[row] for row in mine], states[mine]
            for row, score in zip(mine, self._judge(name, quality[mine], columns[mine], *beside), strict=True):
                found[row] = Score(
                    int(row),
                    names[row],
                    int(at[row]),
                    name,
                    **{"reason": reason[row], **score},
                )
        return [found[row] for row in rows]

    def _accepted(
        self, machine: Sequence[str], at: NDArray[np.int64], now: float
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the rows that are readings in the order of time, and the numbers of all machines; count the others."""
        rows = np.arange(len(machine))
        is_named = np.array([bool(name) for name in machine], dtype=np.bool_)
        is_ahead = at > (now + 3600 * self._rules.future_hours) * 1e6
        is_time = at >= FIRST_TIME
        is_good = is_named & ~is_ahead & is_time
        self.refused["missing_machine"] += int((~is_named).sum())
        self.refused["unreadable_timestamp"] += int((is_named & ~is_time).sum())
        self.refused["future_timestamp"] += int((is_named & is_ahead).sum())
        number = np.full(len(machine), -1, dtype=np.intp)
        number[is_good] = self._tracker.numbers([machine[row] for row in rows[is_good]])
        rows = rows[is_good]
        rows = rows[np.lexsort((rows, at[rows]))]
        last = {int(m): int(t) for m, t in zip(number[rows], self._tracker.last_at(number[rows]), strict=True)}
        kept = []
        for row in rows:
            before, this = last[int(number[row])], int(at[row])
            if this <= before:
                self.refused["duplicate" if this == before else "late"] += 1
                continue
            last[int(number[row])] = this
            kept.append(row)
        self.refused = +self.refused
        return np.array(kept, dtype=np.intp), number

    def _judge(
        self, name: str, quality: NDArray[np.int8], X: Array, machine: Sequence[str], states: Array
    ) -> list[dict[str, Any]]:
        """Return what there is to say of readings of one segment."""
        said: list[dict[str, Any]] = [dict(_NOTHING, status=QUALITIES[code]) for code in quality]
        rows = np.flatnonzero(quality < _JUDGED)
        part = self._segments.get(name)
        if part is None:
            for row in rows:
                said[row] |= {
                    "status": "thin",
                    "reason": f"No operating regime has been learned for segment {name}",
                }
            return said
        if not len(rows):
            return said
        judged = part.judge(X[rows], [machine[row] for row in rows.tolist()], states[rows])
        for place, row in enumerate(rows):
            said[row] |= self._score(part, int(judged.regime[place]), int(judged.waits_for[place]))
            if judged.is_learning[place]:
                reason = _NEW.format(machine[int(row)], said[row]["cluster_key"])
                said[row] |= {"status": "thin", "reason": reason}
            if said[row]["status"] == "scored":
                p = float(judged.p_value[place])
                said[row] |= {"log_density": float(judged.log_density[place]), "p_value": p}
                said[row] |= {"anomaly_score": float(-np.log10(p)), "is_anomaly": p <= self.alpha}
        self._explain(part, X, machine, states, said)
        return said

    def _score(self, part: Segment, position: int, waits_for: int) -> dict[str, Any]:
        """Return regime and status of a reading, with the reason where it is not judged."""
        if position < 0:
            key = part.keys[waits_for]
            why = "A regime that could have produced the reading has no calibrated flow yet"
            if key in self._unreadable:
                why = f"The model file of regime {key} cannot be used: restore it, or retrain the regime"
            return {"status": "thin", "reason": why}
        key = part.keys[position]
        regime = part.regimes[key]
        found: dict[str, Any] = {"status": "scored", "cluster_key": key, "flow_version": regime.flow_version}
        n_rows = 0 if regime.calibration is None else regime.calibration.n_rows
        if n_rows < self._min_rows:
            found["status"] = "thin"
            found["reason"] = (
                f"Regime {key} has {n_rows} held-out readings; {self._min_rows} are needed to calibrate it"
            )
        return found

    def _explain(
        self, part: Segment, X: Array, machine: Sequence[str], states: Array, said: list[dict[str, Any]]
    ) -> None:
        own = [group[0] for group in part.groups]
        rows = np.array([row for row, score in enumerate(said) if score["is_anomaly"]], dtype=np.intp)
        rows = rows[~np.isnan(X[rows][:, own]).any(axis=1)]
        if not len(rows):
            return
        names, keys = [machine[row] for row in rows.tolist()], [said[row]["cluster_key"] for row in rows.tolist()]
        found = part.explain(X[rows], names, keys)
        by_column = [self._rules.sensors[self._rules.columns[column]] for column in own]
        for place, row in enumerate(rows):
            score = said[row]["anomaly_score"]
            told = part.explain_states(said[row]["cluster_key"], machine[row], states[row], said[row]["p_value"])
            left = 1.0 if told is None else 1.0 - float(told.share.sum())
            measured = (
                Contribution(
                    sensor.name,
                    sensor.unit,
                    float(found.share[place, s] * left * score),
                    float(found.observed[place, s]),
                    float(found.expected[place, s]),
                    float(found.low[place, s]),
                    float(found.high[place, s]),
                )
                for s, sensor in enumerate(by_column)
            )
            said[row]["contributions"] = (*measured, *self._of_states(told, score))

    def _of_states(self, told: StateBlame | None, score: float) -> list[Contribution]:
        if told is None:
            return []
        named = [self._rules.sensors[place] for place in self._rules.states]
        found = zip(named, told.share * score, told.observed, told.expected, strict=True)
        return [
            Contribution(sensor.name, sensor.unit, float(part), float(observed), *[float(expected)] * 3)
            for sensor, part, observed, expected in found
            if not (np.isnan(observed) or np.isnan(expected))
        ]


_NEW = "Machine {} is new in regime {}: it is judged when enough of its readings are there"
_NOTHING: Mapping[str, Any] = dict.fromkeys(
    ("cluster_key", "flow_version", "log_density", "p_value", "anomaly_score", "is_anomaly")
)


def _turns(number: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Cut readings in the order of time into turns with one of each machine at most."""
    order = np.argsort(number, kind="stable")
    ordered = number[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])) if len(ordered) else np.empty(0, np.intp)
    turn = np.empty(len(number), dtype=np.intp)
    turn[order] = np.arange(len(ordered)) - np.repeat(starts, np.diff(np.append(starts, len(ordered))))
    by_turn = np.argsort(turn, kind="stable")
    return np.split(by_turn, np.flatnonzero(np.diff(turn[by_turn])) + 1) if len(number) else []


def _open_segments(bundle: Bundle, document: Mapping[str, Any]) -> dict[str, Segment]:
    """Read the regimes of each segment.

    Raises:
        ModelFileError: A part is missing or of the wrong shape.

    """
    try:
        arrays, _ = unpack(bundle.files["arrays"], "edge_arrays")
        regimes = {
            key: Regime(
                regime["weight"],
                regime["flow_version"],
                Density.from_bytes(bundle.files[f"flow {regime['flow_version']}"]),
                Bends(*(arrays[f"{key}.{name}"] for name in ("lowest", "highest", "band", "products"))),
                _calibration(arrays, key, regime["calibration"]),
                _fleet(arrays, key, regime.get("machines")),
            )
            for key, regime in document["regimes"].items()
        }
        segments = {}
        for name, part in document["segments"].items():
            number, keys = part["number"], tuple(part["keys"])
            parts = ("weights", "means", "covariances", "scale")
            seeds = ClusterSeeds.from_tensors({p: arrays[f"{number}.{p}"] for p in parts}, part["method"])
            levels = None
            if part["has_levels"]:
                levels = Levels(**{p.name: arrays[f"{number}.levels.{p.name}"] for p in fields(Levels)})
            mine = {key: regimes[key] for key in keys if key in regimes}
            states = part.get("states")
            known = None if states is None else States.from_document(states)
            segments[name] = Segment(keys, seeds, mine, levels, document["groups"], known)
        return segments
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ModelFileError(f"The bundle lacks a part or a field: {error}. Export it again.") from error


def _fleet(arrays: Mapping[str, Array], key: str, machines: Sequence[str] | None) -> Fleet | None:
    if machines is None:
        return None
    typical = Typical(*(arrays[f"{key}.typical.{part.name}"] for part in fields(Typical)))
    own = zip(machines, arrays[f"{key}.shift"], arrays[f"{key}.stretch"], strict=True)
    return Fleet(typical, {machine: Correction(shift, stretch) for machine, shift, stretch in own})


def _calibration(arrays: Mapping[str, Array], key: str, numbers: Mapping[str, Any] | None) -> Calibration | None:
    if numbers is None:
        return None
    return Calibration(arrays[f"{key}.conformity"], arrays[f"{key}.p_value"], **numbers)
