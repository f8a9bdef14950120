"""From a plant's warehouse to a trial: a bounded sample of its readings, as the product would split them.

What a flow of the product may learn from is learned from here; what calibrates it is held out here, half of it for
thresholds. What is judged lies outside the training window if there are labels of that time; otherwise it is the other
half of what is held out, with faults put in.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pwflow_core.config import PlantConfig
from pwflow_core.errors import LabelsError
from pwflow_core.pipeline.evaluation.labels import Labels
from pwflow_core.pipeline.readings.deriving import derive_readings
from pwflow_core.pipeline.readings.folds import CALIBRATION_FOLDS
from pwflow_core.pipeline.readings.rate import SCORABLE_READINGS, affordable_readings, readings_per_week
from pwflow_core.pipeline.readings.timing import BLOCK_READINGS, read_timing
from pwflow_core.pipeline.readings.training_rows import LARGEST_READING_ID, select_training_rows, training_window
from pwflow_core.pipeline.source.ingest import ingest_files
from pwflow_core.pipeline.source.source import read_source
from pwflow_core.plant import Plant
from pwflow_core.poc.faults import inject_faults
from pwflow_core.poc.trial import Stretch, Trial, TrialFacts
from pwflow_core.warehouse import fetch_value, quote_columns, read_sql, registered
from pwflow_core.warehouse.streaming import fetch_matrix

__all__ = ["ensure_readings", "read_facts", "read_trial"]

_log = logging.getLogger("pwflow.poc")

Array = NDArray[np.float64]

LEARNED, HELD_OUT, CALIBRATED, JUDGED = 20_000, 10_000, 20_000, 100_000
"""Most readings that are learned from, get a density, set thresholds and are judged."""
_SHORTEST_RECORD_WEEKS = 1 / 7
"""Of less than a day of labels, no rate of faults is made."""
_FEWEST_STRETCHES = 20
_STRETCH_BLOCKS = 10


@dataclass(frozen=True, eq=False)
class _Rows:
    """Readings as they come from the warehouse, by machine and time."""

    X: Array
    machine: NDArray[np.int64]
    seconds: Array
    names: NDArray[np.str_]

    def blocks(self, seconds: float) -> NDArray[np.intp]:
        """Return the number of the machine's block of time that each is in, shape (n,)."""
        pairs = np.column_stack([self.machine, np.floor(self.seconds / seconds)])
        return np.unique(pairs, axis=0, return_inverse=True)[1].ravel()


def ensure_readings(plant: Plant) -> None:
    """Ingest and make readings if the plant has none yet.

    Raises:
        SourceError: The source cannot be read.
    """
    if plant.warehouse.exists:
        with plant.warehouse.snapshot() as connection:
            if fetch_value(connection, "SELECT count(*) FROM core.readings"):
                return
    _log.info("no readings yet: reading the source first")
    ingest_files(plant)
    derive_readings(plant)


def read_facts(plant: Plant) -> TrialFacts:
    """Read what is known of the plant; `sensors` are all, and faults are taken to be injected.

    Raises:
        ConfigurationError: The budget of alarms is one that no run accepts.
    """
    config = plant.config
    with plant.warehouse.snapshot() as connection:
        if config.scoring.alarms_per_week is not None:
            affordable_readings(connection, config.scoring.alarms_per_week)
        timing = read_timing(connection, config)
        return TrialFacts(
            plant=config.plant.name,
            sensors=read_source(connection).measured,
            n_readings=fetch_value(connection, "SELECT count(*) FROM core.readings"),
            n_complete=fetch_value(
                connection,
                f"SELECT count(*) FROM ({select_training_rows(config.training)})",
                training_window(config.training),
            ),
            n_machines=fetch_value(connection, "SELECT count(DISTINCT machine_id) FROM core.readings"),
            n_segments=fetch_value(connection, "SELECT count(DISTINCT segment) FROM core.readings"),
            readings_per_week=readings_per_week(connection),
            interval_seconds=timing.interval_seconds if timing else 1.0,
            block_readings=BLOCK_READINGS,
            fault_source="injected",
            alpha=None if config.scoring.alarms_per_week else config.scoring.alpha,
            alarms_per_week=config.scoring.alarms_per_week,
        )


def read_trial(plant: Plant, facts: TrialFacts, labels: Labels | None, *, rows: int = LEARNED) -> Trial:
    """Sample the readings of a trial.

    Arguments:
        plant: The plant, with enough readings.
        facts: What `read_facts` returned.
        labels: When the plant was faulty, or None.
        rows: Most readings to learn from.

    Raises:
        LabelsError: There are labels, but no fault holds a reading that can be judged.
    """
    block_seconds = facts.interval_seconds * facts.block_readings
    with plant.warehouse.snapshot() as connection:
        learn = _learnable(connection, plant.config, facts, rows)
        first, second = (_held_out(connection, plant.config, facts, fold, CALIBRATED) for fold in CALIBRATION_FOLDS)
        outside = None if labels is None else _outside(connection, plant.config, facts, labels)
        faults_per_week = None if labels is None else _faults_per_week(connection, facts, labels)
    varies = np.ptp(learn.X, axis=0) > 0
    learn, first, second = (replace(part, X=part.X[:, varies]) for part in (learn, first, second))
    judged = None
    if labels is not None:
        parts = [replace(outside, X=outside.X[:, varies])] if outside is not None and len(outside.X) else []
        judged = next((found for part in [*parts, second] if (found := _labelled(part, labels)).kinds), None)
        if judged is None:
            raise LabelsError(
                f"Expected labels of readings that can be judged, but none of the {len(labels.faults):,} faults holds "
                "one: correct the names of the machines or the time zone, or leave --labels out."
            )
        facts = replace(facts, fault_source="labelled", faults_per_week=faults_per_week)
    if judged is None:
        healthy = Stretch(second.X, second.machine, second.seconds, np.full(len(second.X), -1, dtype=np.int64), ())
        judged = inject_faults(healthy, second.blocks(block_seconds), learn.X)
    held_out = _thinned(_joined(first, second), HELD_OUT)
    stretch = held_out.blocks(_STRETCH_BLOCKS * block_seconds)
    if len(np.unique(stretch)) < _FEWEST_STRETCHES:
        stretch = held_out.blocks(block_seconds)
    kept = tuple(name for name, keep in zip(facts.sensors, varies, strict=True) if keep)
    return Trial(
        replace(facts, sensors=kept),
        learn.X,
        held_out.X,
        stretch,
        first.X,
        first.blocks(block_seconds),
        judged,
    )


def _learnable(connection: duckdb.DuckDBPyConnection, config: PlantConfig, facts: TrialFacts, rows: int) -> _Rows:
    """Draw readings that a flow may learn from, thinned evenly to the number that is wanted."""
    share = min(1.0, 1.2 * rows / max(0.8 * facts.n_complete, 1.0))
    query = (
        f"SELECT machine_id, epoch(ts) AS seconds, {quote_columns(facts.sensors)} "
        f"FROM ({select_training_rows(config.training)}) "
        "WHERE NOT list_contains($folds::INTEGER[], fold) AND reading_id <= $bound ORDER BY machine_id, ts"
    )
    bound = min(int(share * LARGEST_READING_ID), LARGEST_READING_ID - 1)
    values = training_window(config.training) | {"folds": list(CALIBRATION_FOLDS), "bound": bound}
    return _thinned(_fetch(connection, query, values, facts), rows)


def _held_out(
    connection: duckdb.DuckDBPyConnection, config: PlantConfig, facts: TrialFacts, fold: int, most: int
) -> _Rows:
    query = read_sql(
        __package__,
        "held_out.sql",
        training_rows=select_training_rows(config.training),
        columns=quote_columns(facts.sensors),
    )
    values = training_window(config.training) | {
        "folds": [fold],
        "block_seconds": facts.interval_seconds * facts.block_readings,
        "share": min(1.0, most / max(0.1 * facts.n_complete, 1.0)),
    }
    return _fetch(connection, query, values, facts)


def _outside(
    connection: duckdb.DuckDBPyConnection, config: PlantConfig, facts: TrialFacts, labels: Labels
) -> _Rows | None:
    """Read whole machine-days outside of the training window: those with faults first, then others, evenly."""
    if not any(config.training.model_dump().values()):
        return None
    days = connection.execute(
        "SELECT machine_id, ts::DATE AS day, count(*) AS n FROM core.readings GROUP BY ALL ORDER BY ALL"
    ).df()
    chosen = _choose_days(days, labels)
    query = read_sql(
        __package__,
        "judged.sql",
        training_rows=select_training_rows(config.training),
        columns=quote_columns(facts.sensors, "reading."),
    )
    with registered(connection, chosen_days=chosen):
        return _fetch(connection, query, training_window(config.training), facts)


def _choose_days(days: pd.DataFrame, labels: Labels) -> pd.DataFrame:
    if days["n"].sum() <= JUDGED:
        return days
    day = days["day"].to_numpy(dtype="datetime64[us]")
    machine, faulty = days["machine_id"].to_numpy(dtype=str), np.zeros(len(days), dtype=bool)
    for fault in labels.faults:
        last_moment = day + np.timedelta64(86_400_000_000 - 1, "us")
        faulty |= (machine == fault.machine_id) & (fault.started_at <= last_moment) & (fault.ended_at >= day)
    half = _evenly(days[faulty], JUDGED // 2)
    return pd.concat([half, _evenly(days[~faulty], JUDGED - int(half["n"].sum()))])


def _evenly(days: pd.DataFrame, most: int) -> pd.DataFrame:
    total = int(days["n"].sum())
    if total <= most:
        return days
    keep = np.linspace(0, len(days) - 1, max(1, int(len(days) * most / total))).round().astype(np.intp)
    return days.iloc[np.unique(keep)]


def _labelled(rows: _Rows, labels: Labels) -> Stretch:
    """Number the faults that hold a reading; readings of a time that nobody labelled are left out."""
    moment = (rows.seconds * 1e6).round().astype("int64").astype("datetime64[us]")
    machine = rows.names[rows.machine]
    is_known = np.full(len(moment), labels.known is None)
    if labels.known is not None:
        for name, start, end in labels.known[["machine_id", "known_from", "known_until"]].itertuples(index=False):
            is_known |= (machine == name) & (moment >= np.datetime64(start)) & (moment <= np.datetime64(end))
    fault = np.full(len(moment), -1, dtype=np.int64)
    kinds: list[str] = []
    for known in labels.faults:
        inside = is_known & (machine == known.machine_id) & (moment >= known.started_at) & (moment <= known.ended_at)
        if inside.any():
            fault[inside] = len(kinds)
            kinds.append(known.kind)
    return Stretch(rows.X, rows.machine, rows.seconds, fault, tuple(kinds)).take(is_known)


def _faults_per_week(connection: duckdb.DuckDBPyConnection, facts: TrialFacts, labels: Labels) -> float:
    """Count the faults of the whole record: what is judged is a sample in which they are more frequent."""
    if not labels.faults:
        return 0.0
    known = labels.known
    if known is None:
        known = connection.execute(
            "SELECT machine_id, min(ts) AS known_from, max(ts) AS known_until "
            f"FROM {SCORABLE_READINGS} GROUP BY machine_id"
        ).df()
    query = read_sql(__package__, "fault_rate.sql", scorable=SCORABLE_READINGS)
    with registered(connection, labelled_faults=pd.DataFrame([vars(f) for f in labels.faults]), known_times=known):
        [(n_faults, n_readings)] = connection.execute(query).fetchall()
    weeks = n_readings / facts.readings_per_week
    return float(n_faults / max(weeks, _SHORTEST_RECORD_WEEKS))


def _fetch(connection: duckdb.DuckDBPyConnection, query: str, values: dict[str, object], facts: TrialFacts) -> _Rows:
    X, columns = fetch_matrix(connection, query, values, facts.sensors)
    names, machine = np.unique(np.asarray(columns["machine_id"], dtype=str), return_inverse=True)
    return _Rows(X, machine.astype(np.int64), np.asarray(columns["seconds"], dtype=np.float64), names)


def _joined(first: _Rows, second: _Rows) -> _Rows:
    names, number = np.unique(
        np.concatenate([first.names[first.machine], second.names[second.machine]]), return_inverse=True
    )
    X, seconds = np.concatenate([first.X, second.X]), np.concatenate([first.seconds, second.seconds])
    order = np.lexsort((seconds, number))
    return _Rows(X[order], number[order].astype(np.int64), seconds[order], names)


def _thinned(rows: _Rows, most: int) -> _Rows:
    if len(rows.X) <= most:
        return rows
    keep = np.linspace(0, len(rows.X) - 1, most).round().astype(np.intp)
    return _Rows(rows.X[keep], rows.machine[keep], rows.seconds[keep], rows.names)
