"""Evaluation: how good the scores and alarms are where it is known when the plant was faulty.

Per reading: AUROC and average precision of the anomaly score, on readings that were judged. Per fault: whether an
alarm fell into it, and how long after its start. Alarms outside of any fault are false.
"""

from __future__ import annotations

from dataclasses import dataclass

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from pwflow_core.errors import LabelsError, NotFittedError, list_few
from pwflow_core.pipeline.evaluation.labels import Fault, Labels
from pwflow_core.pipeline.readings.timing import BLOCK_READINGS, read_block_seconds
from pwflow_core.pipeline.readings.training_rows import select_training_rows, training_window
from pwflow_core.plant import Plant
from pwflow_core.warehouse import registered

__all__ = [
    "Evaluation",
    "Events",
    "FaultKindScore",
    "evaluate_plant",
    "fetch_events",
]

TOTAL = "all"

Bools = NDArray[np.bool_]
Times = NDArray[np.datetime64]


@dataclass(frozen=True)
class FaultKindScore:
    """What was found of one kind of fault.

    Attributes:
        kind: The kind, or `all`.
        n_faults: Faults of the kind.
        n_found: Faults with an alarm in them.
        n_found_by_status: Further faults with a reading in them whose status is `stuck`, which names the fault.
        delay_minutes: Median time from the start of a found fault to its first alarm.
        n_readings: Readings in faults of the kind.
        n_unjudged: Those of them that have no score.
        auroc: Of the anomaly score, readings of the kind against readings in no fault, judged ones only.
        average_precision: The same.
    """

    kind: str
    n_faults: int
    n_found: int
    n_found_by_status: int
    delay_minutes: float
    n_readings: int
    n_unjudged: int
    auroc: float
    average_precision: float

    @property
    def recall(self) -> float:
        """Share of the faults that an alarm fell into."""
        return self.n_found / self.n_faults if self.n_faults else float("nan")


@dataclass(frozen=True)
class Evaluation:
    """How good the scores and alarms of a plant are.

    Attributes:
        kinds: One entry per kind of fault, then one for all of them.
        n_readings: Readings that were evaluated.
        n_days: Days that they cover, however many machines there are.
        n_false_alarms: Events of alarms that touch no fault.
        n_true_alarms: Events that touch one.
        n_healthy: Readings in no fault that have a score.
        n_healthy_alarms: Those of them that are anomalies.
        mean_auroc_of_machines: Mean over the machines that have both kinds of readings.
        is_unseen: Whether the readings that the models learned from were left out.
        unknown_machines: Machines of the labels that no reading comes from.
    """

    kinds: list[FaultKindScore]
    n_readings: int
    n_days: float
    n_false_alarms: int
    n_true_alarms: int
    n_healthy: int
    n_healthy_alarms: int
    mean_auroc_of_machines: float
    is_unseen: bool
    unknown_machines: list[str]

    @property
    def event_precision(self) -> float:
        """Share of the events that touch a fault; NaN without events."""
        n_events = self.n_true_alarms + self.n_false_alarms
        return self.n_true_alarms / n_events if n_events else float("nan")

    @property
    def healthy_share_in_alarm(self) -> float:
        """Share of the readings in no fault that are anomalies."""
        return self.n_healthy_alarms / self.n_healthy if self.n_healthy else float("nan")

    @property
    def false_alarms_per_day(self) -> float:
        """Events of false alarms per day of the plant."""
        return self.n_false_alarms / self.n_days if self.n_days else float("nan")


@dataclass(frozen=True, eq=False)
class _Judged:
    """Readings that are evaluated, by machine and time; `place` says where each machine's begin and end."""

    place: dict[str, slice]
    ts: Times
    score: NDArray[np.float64]
    is_scored: Bools
    is_anomaly: Bools
    is_stuck: Bools
    interval_seconds: float


@dataclass(frozen=True, eq=False)
class Events:
    """Alarms of one machine that follow each other, by start: first and last time, UTC, shape (n,)."""

    started_at: Times
    ended_at: Times

    def touching(self, start: np.datetime64, end: np.datetime64) -> Bools:
        """Return which of them overlap a time, both ends included, shape (n,)."""
        return np.asarray((self.started_at <= end) & (self.ended_at >= start))


_NO_EVENTS = Events(np.array([], dtype="datetime64[us]"), np.array([], dtype="datetime64[us]"))


def evaluate_plant(plant: Plant, labels: Labels, *, with_training: bool = False) -> Evaluation:
    """Evaluate the scores in the warehouse against labels.

    Arguments:
        plant: The plant.
        labels: When it was faulty.
        with_training: Evaluate also the time that the models learned from. It is left out otherwise, where the
            configuration bounds it.

    Raises:
        LabelsError: No reading is in any fault, or none is outside.
        NotFittedError: There are no scores yet.
    """
    is_unseen = not with_training and any(plant.config.training.model_dump().values())
    with plant.warehouse.snapshot() as connection:
        unknown = _find_unknown_machines(connection, labels)
        judged = _fetch_readings(plant, connection, labels, is_unseen)
        events = fetch_events(connection)
    faults = [(fault, rows) for fault in labels.faults if (rows := _rows_of(fault, judged)) is not None]
    if not faults:
        raise LabelsError(
            f"Expected labels of the machines {list_few(list(judged.place))} between {judged.ts.min()} and "
            f"{judged.ts.max()} UTC, but none of the {len(labels.faults):,} faults holds a reading of theirs: correct "
            "the time zone, or evaluate the training time too."
        )
    is_faulty = np.zeros(len(judged.ts), dtype=np.bool_)
    for _, rows in faults:
        is_faulty[rows] = True
    of_kind = {kind: [pair for pair in faults if pair[0].kind == kind] for kind in sorted({f.kind for f, _ in faults})}
    counts = [
        _count_events(events.get(machine, _NO_EVENTS), judged.ts[place], _of_machine(labels, machine))
        for machine, place in judged.place.items()
    ]
    is_healthy = judged.is_scored & ~is_faulty
    return Evaluation(
        kinds=[_score_kind(kind, own, judged, is_faulty, events) for kind, own in {**of_kind, TOTAL: faults}.items()],
        n_readings=len(judged.ts),
        n_days=len(np.unique(judged.ts)) * judged.interval_seconds / 86_400,
        n_false_alarms=sum(n_false for _, n_false in counts),
        n_true_alarms=sum(n_true for n_true, _ in counts),
        n_healthy=int(is_healthy.sum()),
        n_healthy_alarms=int((is_healthy & judged.is_anomaly).sum()),
        mean_auroc_of_machines=_mean_auroc(judged, is_faulty),
        is_unseen=is_unseen,
        unknown_machines=unknown,
    )


def fetch_events(connection: duckdb.DuckDBPyConnection) -> dict[str, Events]:
    """Return the events of each machine, in the order of time."""
    frame = connection.execute(
        "SELECT machine_id, started_at, ended_at FROM mart.anomaly_events ORDER BY machine_id, started_at"
    ).df()
    return {
        str(machine): Events(_microseconds(own["started_at"]), _microseconds(own["ended_at"]))
        for machine, own in frame.groupby("machine_id")
    }


def _find_unknown_machines(connection: duckdb.DuckDBPyConnection, labels: Labels) -> list[str]:
    """Return the machines of the labels that have no scores.

    Raises:
        LabelsError: None has.
        NotFittedError: There are no scores yet.
    """
    machines = {row[0] for row in connection.execute("SELECT DISTINCT machine_id FROM mart.anomaly_scores").fetchall()}
    if not machines:
        raise NotFittedError("There are no scores yet: run `pwflow run` first.")
    named = {fault.machine_id for fault in labels.faults}
    named |= set() if labels.known is None else set(labels.known["machine_id"])
    unknown = sorted(map(str, named - machines))
    if named and not named & machines:
        raise LabelsError(
            f"Expected labels of the machines {list_few(sorted(machines))}, got {list_few(unknown)}: name the "
            "machines as the source does."
        )
    return unknown


def _fetch_readings(plant: Plant, connection: duckdb.DuckDBPyConnection, labels: Labels, is_unseen: bool) -> _Judged:
    training = (
        f"""
        ANTI JOIN (
            SELECT machine_id, segment, min(ts) AS trained_from, max(ts) AS trained_until
            FROM ({select_training_rows(plant.config.training)})
            GROUP BY machine_id, segment
        ) AS training
          ON training.machine_id = score.machine_id AND training.segment = score.segment
         AND score.ts BETWEEN training.trained_from AND training.trained_until
        """
        if is_unseen
        else ""
    )
    known = (
        "SEMI JOIN known_times AS known ON known.machine_id = score.machine_id "
        "AND score.ts BETWEEN known.known_from AND known.known_until"
    )
    query = (
        "SELECT score.machine_id, score.ts, score.anomaly_score, score.status = 'scored' AS is_scored, "
        "coalesce(score.is_anomaly, false) AS is_anomaly, "
        f"score.status = 'stuck' AS is_stuck FROM mart.anomaly_scores AS score {training} "
        f"{'' if labels.known is None else known} ORDER BY ALL"
    )
    with registered(connection, **({} if labels.known is None else {"known_times": labels.known})):
        frame = connection.execute(query, training_window(plant.config.training) if is_unseen else {}).df()
    if frame.empty:
        raise NotFittedError(
            "There are no scores of labelled readings: run `pwflow run` first, or evaluate the training time too."
        )
    machines, starts = np.unique(frame["machine_id"].to_numpy(dtype=str), return_index=True)
    ends = [*starts[1:], len(frame)]
    return _Judged(
        place={str(machine): slice(int(a), int(b)) for machine, a, b in zip(machines, starts, ends, strict=True)},
        ts=_microseconds(frame["ts"]),
        score=frame["anomaly_score"].to_numpy(dtype=np.float64),
        is_scored=frame["is_scored"].to_numpy(dtype=np.bool_),
        is_anomaly=frame["is_anomaly"].to_numpy(dtype=np.bool_),
        is_stuck=frame["is_stuck"].to_numpy(dtype=np.bool_),
        interval_seconds=read_block_seconds(connection) / BLOCK_READINGS,
    )


def _rows_of(fault: Fault, judged: _Judged) -> slice | None:
    """Return the rows of a fault, or None if there are none."""
    place = judged.place.get(fault.machine_id)
    if place is None:
        return None
    first = place.start + int(np.searchsorted(judged.ts[place], fault.started_at, side="left"))
    last = place.start + int(np.searchsorted(judged.ts[place], fault.ended_at, side="right"))
    return slice(first, last) if first < last else None


def _of_machine(labels: Labels, machine: str) -> list[Fault]:
    return [fault for fault in labels.faults if fault.machine_id == machine]


def _score_kind(
    kind: str, faults: list[tuple[Fault, slice]], judged: _Judged, is_faulty: Bools, events: dict[str, Events]
) -> FaultKindScore:
    of_kind = np.zeros(len(judged.ts), dtype=np.bool_)
    delays: list[float] = []
    n_by_status = 0
    for fault, rows in faults:
        of_kind[rows] = True
        delay = _delay_minutes(fault, events.get(fault.machine_id, _NO_EVENTS))
        if delay is not None:
            delays.append(delay)
        elif judged.is_stuck[rows].any():
            n_by_status += 1
    compared = judged.is_scored & (of_kind | ~is_faulty)
    auroc, precision = _rank(of_kind[compared], judged.score[compared])
    return FaultKindScore(
        kind=kind,
        n_faults=len(faults),
        n_found=len(delays),
        n_found_by_status=n_by_status,
        delay_minutes=float(np.median(delays)) if delays else float("nan"),
        n_readings=int(of_kind.sum()),
        n_unjudged=int((of_kind & ~judged.is_scored).sum()),
        auroc=auroc,
        average_precision=precision,
    )


def _delay_minutes(fault: Fault, events: Events) -> float | None:
    """Return the minutes from the start of a fault to its first alarm, or None if there is none."""
    inside = events.touching(fault.started_at, fault.ended_at)
    if not inside.any():
        return None
    first: np.timedelta64 = events.started_at[inside].min() - fault.started_at
    return max(float(first / np.timedelta64(1, "m")), 0.0)


def _count_events(events: Events, ts: Times, faults: list[Fault]) -> tuple[int, int]:
    """Count the events of a machine that begin in the evaluated time: those that touch a fault, and the others."""
    is_counted, is_true = np.isin(events.started_at, ts), np.zeros(len(events.started_at), dtype=np.bool_)
    for fault in faults:
        is_true |= events.touching(fault.started_at, fault.ended_at)
    return int((is_counted & is_true).sum()), int((is_counted & ~is_true).sum())


def _mean_auroc(judged: _Judged, is_faulty: Bools) -> float:
    scores = []
    for place in judged.place.values():
        is_scored = judged.is_scored[place]
        scores.append(_rank(is_faulty[place][is_scored], judged.score[place][is_scored])[0])
    return float(np.nanmean(scores)) if np.isfinite(scores).any() else float("nan")


def _rank(is_faulty: Bools, score: NDArray[np.float64]) -> tuple[float, float]:
    """Return AUROC and average precision, NaN where there is only one kind of reading."""
    if not is_faulty.any() or is_faulty.all():
        return float("nan"), float("nan")
    return float(roc_auc_score(is_faulty, score)), float(average_precision_score(is_faulty, score))


def _microseconds(times: pd.Series) -> Times:
    return times.to_numpy(dtype="datetime64[us]")
