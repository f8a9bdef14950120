"""Detectability: the smallest faults of each sensor that each regime in use alarms on, found by probing it.

Held-out readings of a regime are given errors of known size and judged as scoring would judge them, by all regimes of
their segment. What a regime misses is not seen in any other figure: it raises no alarm.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, replace

import duckdb
import numpy as np
from numpy.typing import NDArray

from pwflow_core.errors import ModelFileError
from pwflow_core.modelling.alarms.detectability import AlarmRule, Detectability, probe_detectability
from pwflow_core.pipeline.flows.fleet import read_fleet
from pwflow_core.pipeline.flows.training_sets import TrainingWindow
from pwflow_core.pipeline.readings.faulty import SensorFaults
from pwflow_core.pipeline.readings.features import read_features
from pwflow_core.pipeline.readings.folds import CALIBRATION_FOLDS
from pwflow_core.pipeline.readings.rate import RARE_FACTOR
from pwflow_core.pipeline.readings.timing import read_timing
from pwflow_core.pipeline.readings.training_rows import select_training_rows, training_window
from pwflow_core.pipeline.regimes.model import ClusterModel, load_cluster_model
from pwflow_core.pipeline.scoring.judge import ModelSet, SegmentJudge, open_judge, read_model_set
from pwflow_core.pipeline.scoring.scores import SCORES_STEP
from pwflow_core.pipeline.scoring.sight import SensorSight, blind_sensors, read_sight
from pwflow_core.pipeline.source.source import read_source
from pwflow_core.plant import Plant
from pwflow_core.warehouse import insert_row, quote_columns, read_sql, utc_now
from pwflow_core.warehouse.progress import read_progress
from pwflow_core.warehouse.streaming import fetch_matrix

__all__ = [
    "FEWEST_RUNS",
    "DetectabilitySummary",
    "alarm_rule",
    "explain_blindness",
    "measure_detectability",
    "open_faults",
    "probe_regime",
    "spaced_runs",
]

_log = logging.getLogger("pwflow.detectability")

FEWEST_RUNS = 10
"""Fewer runs of held-out readings say little of how often a fault alarms."""

_MOST_READINGS, _MOST_RUNS = 480, 120


@dataclass(frozen=True)
class DetectabilitySummary:
    """What probing came to.

    Attributes:
        probed: Regimes that were probed in this run.
        sight: What every regime in use sees of every sensor.
    """

    probed: list[str]
    sight: list[SensorSight]


def measure_detectability(plant: Plant) -> DetectabilitySummary:
    """Probe the regimes of the segments in which a flow, a weight or the rule of alarms changed since the last time.

    Raises:
        NotFittedError: There are no scores yet, or no regimes.
    """
    _, model = load_cluster_model(plant)
    with plant.warehouse.snapshot() as connection:
        models = read_model_set(connection, read_progress(connection, SCORES_STEP).model)
        segments = _changed_segments(connection, plant, models) if models else []
    found: list[SensorSight] = []
    for segment in segments:
        try:
            found += _probe_segment(plant, model, models, segment) if models else []
        except ModelFileError as error:
            _log.warning("segment %s is not probed: %s", segment, error)
    probed = list(dict.fromkeys(sight.cluster_key for sight in found))
    with plant.warehouse.transaction() as connection:
        if models and read_progress(connection, SCORES_STEP).model == models.model_set_id:
            _write(connection, models, found)
        kept = read_sight(connection)
    if probed:
        _log.info("%d regimes probed for what they see", len(probed))
    for key, sensors in blind_sensors(kept).items():
        if key in probed:
            _log.warning(
                "%s raises no alarm on lasting shifts of ten standard deviations of %s: `pwflow status` says why",
                key,
                ", ".join(sight.sensor for sight in sensors),
            )
    return DetectabilitySummary(probed, kept)


def _changed_segments(connection: duckdb.DuckDBPyConnection, plant: Plant, models: ModelSet) -> list[str]:
    """Return the segments whose regimes were not probed by this model set, or by one that is the same there."""
    rows = connection.execute(
        "SELECT DISTINCT cluster_key, model_set_id FROM mart.detectability WHERE min_readings = ?",
        [plant.config.events.min_readings],
    ).fetchall()
    by_key = dict(rows)
    sets = {model_set_id: read_model_set(connection, model_set_id) for model_set_id in set(by_key.values())}

    def is_known(segment: str, key: str) -> bool:
        before = sets.get(by_key.get(key, ""))
        return before is not None and (before.alpha, before.min_calibration_rows, before.regimes.get(segment)) == (
            models.alpha,
            models.min_calibration_rows,
            models.regimes[segment],
        )

    return [segment for segment, pinned in models.regimes.items() if not all(is_known(segment, key) for key in pinned)]


def _probe_segment(plant: Plant, model: ClusterModel, models: ModelSet, segment: str) -> list[SensorSight]:
    judge = open_judge(plant, model, models, segment)
    with plant.warehouse.snapshot() as connection:
        units = {sensor.name: sensor.unit for sensor in read_source(connection).sensors}
        faults = open_faults(connection, plant, model)
    min_readings = plant.config.events.min_readings
    rule = alarm_rule(models.alpha, min_readings)
    found = []
    for key, pinned in models.regimes[segment].items():
        with plant.warehouse.snapshot() as connection:
            runs = _fetch_runs(connection, plant, model, key, pinned.flow_version, min_readings)
        n_readings = runs.shape[0] * runs.shape[1]
        unseen = [
            SensorSight(key, pinned.flow_version, sensor, units.get(sensor, ""), n_readings, models.alpha, min_readings)
            for sensor in faults.sensors
        ]
        if len(runs) < FEWEST_RUNS:
            found += unseen
        else:
            seen = probe_regime(judge, faults, runs, rule)
            found += [_described(sight, judge, faults, runs, seen, rule) for sight in unseen]
    return found


def open_faults(connection: duckdb.DuckDBPyConnection, plant: Plant, model: ClusterModel) -> SensorFaults:
    """Return the faults that each sensor is probed with."""
    timing = read_timing(connection, plant.config)
    return SensorFaults(model.columns, read_features(connection), timing.interval_seconds if timing else 1.0)


def alarm_rule(alpha: float, min_readings: int) -> AlarmRule:
    """Return when readings in a row make an event, as `events.sql` has it."""
    return AlarmRule(alpha, alpha if min_readings == 1 else RARE_FACTOR * alpha)


def probe_regime(
    judge: SegmentJudge, faults: SensorFaults, runs: NDArray[np.float64], rule: AlarmRule
) -> Detectability:
    """Probe a regime with runs of its own readings, shape (R, length, D)."""
    spread = faults.spread(runs.reshape(-1, runs.shape[2]))
    return probe_detectability(
        lambda X: judge.judge(X).p_value, runs, spread, rule, shifted=faults.shifted, spiked=faults.spiked
    )


def _described(
    sight: SensorSight,
    judge: SegmentJudge,
    faults: SensorFaults,
    runs: NDArray[np.float64],
    seen: Detectability,
    rule: AlarmRule,
) -> SensorSight:
    """Fill in what probing found of a sensor."""
    place = faults.sensors.index(sight.sensor)
    rows = runs.reshape(-1, runs.shape[2])
    spread = float(faults.spread(rows)[place])
    reason, hidden_by = None, None
    if seen.is_blind[place]:
        reason, hidden_by = explain_blindness(judge, faults, rows, place, seen.missed[place], sight.cluster_key, rule)
    return replace(
        sight,
        spread=spread,
        shift=_known(seen.shift[place]),
        shift_sigma=_known(seen.shift_sigma[place]) if spread > 0 else None,
        spike=_known(seen.spike[place]),
        spike_sigma=_known(seen.spike_sigma[place]) if spread > 0 else None,
        is_blind=bool(seen.is_blind[place]),
        reason=reason,
        hidden_by=hidden_by,
    )


def explain_blindness(
    judge: SegmentJudge,
    faults: SensorFaults,
    rows: NDArray[np.float64],
    place: int,
    size: float,
    key: str,
    rule: AlarmRule,
) -> tuple[str, str | None]:
    """Return why a shift is missed, by what most of the readings that raise no alarm are taken for."""
    both = [judge.judge(faults.shifted(rows, place, sign * size)) for sign in (-1, 1)]
    judged = min(both, key=lambda one: int((one.p_value <= rule.alpha).sum()))
    silent = ~(judged.p_value <= rule.alpha)
    taken_for = int(np.bincount(judged.regime[silent]).argmax())
    other = judge.part.keys[taken_for]
    if np.isnan(judged.p_value[silent & (judged.regime == taken_for)]).mean() > 0.5:
        return "unjudged_regime", other
    return ("calibration", None) if other == key else ("other_regime", other)


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _fetch_runs(
    connection: duckdb.DuckDBPyConnection, plant: Plant, model: ClusterModel, key: str, version: str, length: int
) -> NDArray[np.float64]:
    """Return held-out readings of a regime, as a typical machine would have read them, in runs, (R, length, D)."""
    row = connection.execute(
        "SELECT training_window FROM mart.flow_versions WHERE cluster_key = ? AND flow_version = ?", [key, version]
    ).fetchone()
    window = TrainingWindow.from_json(row[0] if row else None, plant.config).readings
    query = read_sql(
        __package__,
        "detectability.sql",
        training_rows=select_training_rows(window),
        calibration_folds=str(CALIBRATION_FOLDS),
        columns=quote_columns(model.columns, "reading."),
    )
    values = training_window(window) | {"cluster_key": key, "flow_version": version}
    X, others = fetch_matrix(connection, query, values, model.columns)
    if (fleet := read_fleet(connection, key, version)) is not None:
        X, _ = fleet.correct(X, np.asarray(others["machine_id"]).astype(np.str_))
    return spaced_runs(X, length)


def spaced_runs(X: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    """Cut readings in the order of time into runs, shape (R, length, D), and keep this many, evenly spaced."""
    runs = X[: len(X) // length * length].reshape(-1, length, X.shape[1])
    most = max(1, min(_MOST_RUNS, _MOST_READINGS // length))
    return runs if len(runs) <= most else runs[np.linspace(0, len(runs) - 1, most).round().astype(np.intp)]


def _write(connection: duckdb.DuckDBPyConnection, models: ModelSet, found: list[SensorSight]) -> None:
    """Replace what was probed, and drop what is no longer in use."""
    in_use = [key for pinned in models.regimes.values() for key in pinned]
    fresh = {sight.cluster_key for sight in found}
    connection.execute(
        "DELETE FROM mart.detectability WHERE cluster_key IN (SELECT unnest($fresh)) "
        "OR cluster_key NOT IN (SELECT unnest($in_use))",
        {"fresh": sorted(fresh), "in_use": in_use},
    )
    now = utc_now()
    for sight in found:
        insert_row(
            connection, "mart.detectability", asdict(sight) | {"model_set_id": models.model_set_id, "probed_at": now}
        )
