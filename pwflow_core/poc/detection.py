"""Detection at the alarm budget: thresholds from held-out readings, events by the rule of the plant, what they find."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pwflow_core.config import EventsConfig
from pwflow_core.modelling.calibration import calibrate
from pwflow_core.pipeline.readings.rate import DEFAULT_GAP_INTERVALS, rate_of_events
from pwflow_core.pipeline.scoring.events import find_events
from pwflow_core.poc.trial import Trial

__all__ = ["Detection", "detect"]

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Detection:
    """How good the alarms of a contender are.

    Attributes:
        alpha: p-value at or below which a reading is an anomaly.
        found: Which faults an event touches, by number, shape (F,).
        n_false: Events that touch no fault.
        false_per_week: The same in a week of the plant.
        false_per_week_error: Standard error of that, by counting.
        by_kind: Faults and found faults, by kind.
    """

    alpha: float
    found: Bools
    n_false: int
    false_per_week: float
    false_per_week_error: float
    by_kind: dict[str, tuple[int, int]]

    @property
    def n_faults(self) -> int:
        """How many faults there are."""
        return len(self.found)

    @property
    def n_found(self) -> int:
        """How many of them were found."""
        return int(self.found.sum())

    @property
    def recall(self) -> float:
        """Share of the faults that were found; NaN without any."""
        return self.n_found / self.n_faults if self.n_faults else float("nan")


def detect(trial: Trial, calibration: Array, judged: Array, rule: EventsConfig) -> Detection:
    """Turn scores into alarms, as a plant does, and compare them with the faults.

    Arguments:
        trial: What was scored.
        calibration: Scores of its calibration readings, higher is more normal, shape (C,).
        judged: Scores of its judged readings, shape (n,).
        rule: When anomalies are an event.
    """
    facts, stretch = trial.facts, trial.judged
    made = calibrate(calibration, blocks=trial.calibration_block)
    gap = 60 * rule.max_gap_minutes if rule.max_gap_minutes else DEFAULT_GAP_INTERVALS * facts.interval_seconds
    alpha = facts.alpha
    if alpha is None:
        per_reading = min((facts.alarms_per_week or 1.0) / facts.readings_per_week, 0.5)
        alpha = rate_of_events(per_reading, rule.min_readings, gap / facts.interval_seconds, made.tail_dependence)
    p_value = made.p_values(judged)
    found, n_false = np.zeros(len(stretch.kinds), dtype=np.bool_), 0
    touched = _fault_spans(trial)
    for rows in find_events(
        p_value, stretch.machine, stretch.seconds, alpha=alpha, gap_seconds=gap, min_readings=rule.min_readings
    ):
        start, end, machine = stretch.seconds[rows[0]], stretch.seconds[rows[-1]], stretch.machine[rows[0]]
        hits = (touched.machine == machine) & (touched.start <= end) & (touched.end >= start)
        if hits.any():
            found[touched.number[hits]] = True
        else:
            n_false += 1
    weeks = max(int((stretch.fault < 0).sum()), 1) / facts.readings_per_week
    kinds = np.array(stretch.kinds, dtype=str)
    by_kind = {
        str(kind): (int((kinds == kind).sum()), int(found[kinds == kind].sum()))
        for kind in dict.fromkeys(stretch.kinds)
    }
    error = np.sqrt(max(n_false, 1)) / weeks
    return Detection(alpha, found, n_false, n_false / weeks, float(error), by_kind)


@dataclass(frozen=True, eq=False)
class _Spans:
    number: NDArray[np.intp]
    machine: NDArray[np.int64]
    start: Array
    end: Array


def _fault_spans(trial: Trial) -> _Spans:
    stretch = trial.judged
    numbers = np.arange(len(stretch.kinds))
    rows = [np.flatnonzero(stretch.fault == number) for number in numbers]
    kept = [(number, own) for number, own in zip(numbers, rows, strict=True) if len(own)]
    return _Spans(
        np.array([number for number, _ in kept], dtype=np.intp),
        np.array([stretch.machine[own[0]] for _, own in kept], dtype=np.int64),
        np.array([stretch.seconds[own].min() for _, own in kept], dtype=np.float64),
        np.array([stretch.seconds[own].max() for _, own in kept], dtype=np.float64),
    )
