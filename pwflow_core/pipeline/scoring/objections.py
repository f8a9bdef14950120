"""Objections: why a new flow must not take the place of the one in use although it describes readings well enough.

A flow can gain in density and lose what it is there for: it may see less of some sensor, or no longer see a fault that
the flow in use saw. Both are asked of the new flow as scoring would use it, calibrated on readings that it did not
learn from, with the other regimes as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import duckdb
import numpy as np
from numpy.typing import NDArray

from pwflow_core.modelling.alarms.detectability import POWER, AlarmRule, alarm_power
from pwflow_core.modelling.calibration import calibrate
from pwflow_core.modelling.fleet import Fleet
from pwflow_core.pipeline.flows.fleet import correct_rows
from pwflow_core.pipeline.flows.training_sets import TrainingWindow, fetch_rows
from pwflow_core.pipeline.readings.faulty import SensorFaults
from pwflow_core.pipeline.readings.folds import CALIBRATION_FOLDS
from pwflow_core.pipeline.readings.training_rows import training_window
from pwflow_core.pipeline.regimes.model import ClusterModel, load_cluster_model
from pwflow_core.pipeline.scoring.detectability import FEWEST_RUNS, alarm_rule, open_faults, spaced_runs
from pwflow_core.pipeline.scoring.judge import SegmentJudge, open_judge, read_model_set
from pwflow_core.pipeline.scoring.scores import SCORES_STEP
from pwflow_core.pipeline.scoring.sight import SensorSight, read_sight
from pwflow_core.plant import Plant
from pwflow_core.warehouse import quote_columns, read_sql
from pwflow_core.warehouse.progress import read_progress
from pwflow_core.warehouse.streaming import fetch_matrix

if TYPE_CHECKING:
    from pwflow_core.modelling import ClusterFlow

__all__ = ["find_objection"]

_LARGEST_LOSS = 1.5
_CLEARLY = 0.1
"""Share of alpha at which an event still has to be one to be asked for: fainter ones come and go with any new flow."""
_MOST_NAMED = 3


@dataclass(frozen=True)
class _SeenEvent:
    """An event that the flow in use sees, and what of it the new flow judges.

    Attributes:
        name: Its case; without one, its machine and time.
        p_value: Of its anomalies by the flows in use, shape (n,).
        is_own: Which of them belong to the regime, shape (n,).
        X: Their readings, shape (n, D).
        is_marked: Whether a person called it a fault or a known cause.
    """

    name: str
    p_value: NDArray[np.float64]
    is_own: NDArray[np.bool_]
    X: NDArray[np.float64]
    is_marked: bool


def find_objection(
    plant: Plant, key: str, flow: ClusterFlow, window: TrainingWindow, fleet: Fleet | None = None
) -> str:
    """Return why a new flow of a regime must not come into use; an empty text if nothing speaks against it.

    It has to alarm with 90% probability, less two standard errors, on lasting shifts one and a half times as large as
    those that the flow in use alarms on. And it has to see some event of each case in its window of which the flow in
    use sees one, except of cases that a person marked as normal, of those that are events at alpha only and no longer
    at a tenth of it, and of the move itself, where an open verdict says that the regime moved: those events began
    since then and have one of its sensors among their causes. What a person marked as a fault or as known is asked
    for in any case.

    Arguments:
        plant: The plant.
        key: The regime.
        flow: Its new flow.
        window: What that could learn from.
        fleet: The machines that it was trained with.

    Raises:
        ModelFileError: The file of another regime's flow cannot be used.
    """
    _, model = load_cluster_model(plant)
    part, position = model.locate(key)
    with plant.warehouse.snapshot() as connection:
        seen = {sight.sensor: sight for sight in read_sight(connection) if sight.cluster_key == key}
        models = read_model_set(connection, read_progress(connection, SCORES_STEP).model)
        faults = open_faults(connection, plant, model)
        rows = correct_rows(fetch_rows(plant, connection, model, key, window, CALIBRATION_FOLDS), fleet)
        events = _fetch_events(connection, model, key, window, fleet)
    if models is None or key not in models.regimes.get(part.segment, {}):
        return ""
    judge = open_judge(plant, model, models, part.segment).with_regime(key, flow, None)
    judged = judge.judge(rows.X)
    own = judged.regime == position
    if own.sum() < models.min_calibration_rows:
        return ""
    judge = judge.with_regime(key, flow, calibrate(judged.conformity[own], blocks=rows.block[own]))
    min_readings = plant.config.events.min_readings
    rule = alarm_rule(models.alpha, min_readings)
    runs = spaced_runs(rows.X[own], min_readings)
    found = (_lost_sight(judge, seen, faults, runs, rule), _lost_events(judge, events, rule, min_readings))
    return "; ".join(filter(None, found))


def _lost_sight(
    judge: SegmentJudge,
    seen: dict[str, SensorSight],
    faults: SensorFaults,
    runs: NDArray[np.float64],
    rule: AlarmRule,
) -> str:
    """Return the sensors whose lasting shifts the new flow would miss, as a reason."""
    if len(runs) < FEWEST_RUNS:
        return ""
    least = POWER - 2 * np.sqrt(POWER * (1 - POWER) / len(runs))
    lost = []
    for place, sensor in enumerate(faults.sensors):
        before = seen.get(sensor)
        if before is not None and before.shift is not None:
            size = _LARGEST_LOSS * before.shift
            if alarm_power(lambda X: judge.judge(X).p_value, runs, rule, faults.shifted, place, size) < least:
                lost.append(f"{sensor} (now {before.shift:.3g} {before.unit}".rstrip() + ")")
    if not lost:
        return ""
    return f"it would miss lasting shifts half as large again as those that alarm now, of {_listed(lost)}"


def _lost_events(judge: SegmentJudge, events: list[_SeenEvent], rule: AlarmRule, min_readings: int) -> str:
    """Return the cases of which the new flow would see no event, as a reason."""
    clear = {e.name for e in events if e.is_marked or _is_event(e.p_value, rule, min_readings, _CLEARLY)}
    asked = [event for event in events if event.name in clear]
    if not asked:
        return ""
    judged = np.split(
        judge.judge(np.concatenate([event.X for event in asked])).p_value,
        np.cumsum([len(event.X) for event in asked])[:-1],
    )
    seen = {
        event.name
        for event, p_value in zip(asked, judged, strict=True)
        if _is_event(np.where(event.is_own, p_value, event.p_value), rule, min_readings)
    }
    lost = sorted(clear - seen)
    if not lost:
        return ""
    return (
        f"it would no longer see {_listed(lost)}, which nobody called normal "
        "(`pwflow mark CASE --normal` says that it was)"
    )


def _is_event(p_value: NDArray[np.float64], rule: AlarmRule, min_readings: int, share: float = 1.0) -> bool:
    """Tell whether the anomalies of a stretch are an event at a share of alpha, as `event_rule.sql` has it."""
    return bool((p_value <= share * rule.alpha).sum() >= min_readings or (p_value <= share * rule.rare).any())


def _fetch_events(
    connection: duckdb.DuckDBPyConnection, model: ClusterModel, key: str, window: TrainingWindow, fleet: Fleet | None
) -> list[_SeenEvent]:
    query = read_sql(__package__, "seen_events.sql", columns=quote_columns(model.columns, "reading."))
    bounds = training_window(window.readings)
    values = {"cluster_key": key, "start": bounds["training_start"], "until": bounds["training_until"]}
    X, others = fetch_matrix(connection, query, values, model.columns)
    if not len(X):
        return []
    if fleet is not None:
        X, _ = fleet.correct(X, np.asarray(others["machine_id"]).astype(np.str_))
    starts = np.flatnonzero(np.diff(others["number"], prepend=-1))
    columns = ("name", "p_value", "is_own", "is_marked")
    names, p_value, is_own, is_marked = (np.ma.filled(others[column]) for column in columns)
    return [
        _SeenEvent(str(names[rows[0]]), p_value[rows], is_own[rows], X[rows], bool(is_marked[rows[0]]))
        for rows in np.split(np.arange(len(X)), starts[1:])
    ]


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
