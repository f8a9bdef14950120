"""What a flow learns from and is judged on: the readings of a regime inside a window, by fold."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from pwflow_core.config import PlantConfig, TrainingConfig
from pwflow_core.pipeline.decisions.verdicts import select_suspects
from pwflow_core.pipeline.readings.folds import N_FOLDS, STOPPING_FOLDS
from pwflow_core.pipeline.readings.timing import read_block_seconds
from pwflow_core.pipeline.readings.training_rows import LARGEST_READING_ID, select_training_rows, training_window
from pwflow_core.pipeline.regimes.model import ClusterModel
from pwflow_core.plant import Plant
from pwflow_core.warehouse import fetch_value, quote_columns, read_sql
from pwflow_core.warehouse.streaming import fetch_matrix

__all__ = [
    "RegimeRows",
    "TrainingWindow",
    "count_flagged",
    "count_rows",
    "fetch_rows",
]

_MIN_RESPONSIBILITY = 1e-3
_BLOCK = "machine_id, floor(epoch(ts) / $block_seconds)"


@dataclass(frozen=True)
class TrainingWindow:
    """Which readings of a regime a flow may learn from.

    Attributes:
        readings: Start, end and first rows, as in `[training]`.
        max_rows: Most readings; more are sampled.
        without_events: Whether anomalies in alarm events are left out, unless a person has confirmed them as normal,
            and machines that moved in the regime while others held still.
    """

    readings: TrainingConfig
    max_rows: int
    without_events: bool = False

    @classmethod
    def configured(cls, config: PlantConfig) -> TrainingWindow:
        """Return the window of `[training]`."""
        return cls(config.training, config.flow.max_rows)

    @classmethod
    def since(cls, start: datetime, config: PlantConfig) -> TrainingWindow:
        """Return the window from a time up to now, without what alarmed."""
        return cls(TrainingConfig(start=start), config.flow.max_rows, without_events=True)

    @classmethod
    def from_json(cls, text: str | None, config: PlantConfig) -> TrainingWindow:
        """Read what `to_json` wrote; a version from before windows were kept has that of `[training]`."""
        if text is None:
            return cls.configured(config)
        document = json.loads(text)
        readings = {name: document[name] for name in ("start", "until", "first_rows")}
        return cls(TrainingConfig(**readings), document["max_rows"], document["without_events"])

    def up_to(self, last: datetime | None) -> TrainingWindow:
        """Return the window without what came after the last reading that was learned from."""
        bound = training_window(self.readings)["training_until"]
        if last is None or (isinstance(bound, datetime) and bound <= last):
            return self
        return replace(self, readings=self.readings.model_copy(update={"until": last + timedelta(microseconds=1)}))

    def to_json(self) -> str:
        """Write for the registry; times are UTC."""
        bound = training_window(self.readings)
        times = {"start": bound["training_start"], "until": bound["training_until"]}
        described: dict[str, object] = {
            name: time.isoformat() if isinstance(time, datetime) else None for name, time in times.items()
        }
        described |= {"first_rows": self.readings.first_rows, "max_rows": self.max_rows}
        return json.dumps(described | {"without_events": self.without_events})


@dataclass(frozen=True, eq=False)
class RegimeRows:
    """Readings of a regime, in the order of machine and time.

    Attributes:
        X: What the models see, raw units, shape (N, D).
        weight: Responsibility of the regime, shape (N,).
        held_out: Whether a reading stops the training instead of being learned from, shape (N,).
        block: Time block of its machine that each reading lies in, shape (N,).
        first: Time of the first, UTC; None if there are none.
        last: Time of the last, UTC.
        machine: Machine of each, shape (N,).
    """

    X: NDArray[np.float64]
    weight: NDArray[np.float64]
    held_out: NDArray[np.bool_]
    block: NDArray[np.intp]
    first: datetime | None
    last: datetime | None
    machine: NDArray[np.str_]

    @property
    def n_learned(self) -> int:
        """Readings that are learned from."""
        return int((~self.held_out).sum())

    @property
    def n_held_out(self) -> int:
        """Readings that stop the training."""
        return int(self.held_out.sum())

    def of(self, keep: NDArray[np.bool_]) -> RegimeRows:
        """Return some of the readings."""
        parts = {name: getattr(self, name)[keep] for name in ("X", "weight", "held_out", "block", "machine")}
        return replace(self, **parts)

    @property
    def hash(self) -> str:
        """SHA-256 of what is learned from and of how it is split."""
        digest = hashlib.sha256()
        for array in (self.X, self.weight, self.held_out):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def fetch_rows(
    plant: Plant,
    connection: duckdb.DuckDBPyConnection,
    model: ClusterModel,
    key: str,
    window: TrainingWindow,
    folds: tuple[int, ...],
    machine: str | None = None,
) -> RegimeRows:
    """Fetch the readings of a regime in some folds of a window; of more than `max_rows` a fixed sample.

    With a machine, only its own.
    """
    eligible = _eligible(window, folds) + ("" if machine is None else " AND machine_id = $machine")
    size, most = count_rows(plant, connection, key, window, folds)[0], window.max_rows
    bound = LARGEST_READING_ID - 1 if size <= most else int(LARGEST_READING_ID * (most / size))
    X, others = fetch_matrix(
        connection,
        f"SELECT machine_id, fold, ts, responsibility, {quote_columns(model.columns)}, "
        f"dense_rank() OVER (ORDER BY {_BLOCK}) - 1 AS block "
        f"FROM {eligible} AND reading_id <= $bound ORDER BY machine_id, ts",
        _values(plant, connection, key, window) | {"bound": bound} | ({} if machine is None else {"machine": machine}),
        model.columns,
    )
    times = others["ts"]
    return RegimeRows(
        X,
        np.asarray(others["responsibility"], dtype=np.float64),
        np.isin(others["fold"], STOPPING_FOLDS),
        np.asarray(others["block"], dtype=np.intp),
        _moment(times.min()) if len(times) else None,
        _moment(times.max()) if len(times) else None,
        np.asarray(others["machine_id"]).astype(np.str_),
    )


def count_rows(
    plant: Plant,
    connection: duckdb.DuckDBPyConnection,
    key: str,
    window: TrainingWindow,
    folds: tuple[int, ...],
) -> tuple[int, int]:
    """Return the number of readings of a regime in some folds of a window, and of the time blocks that they lie in."""
    row = connection.execute(
        f"SELECT count(*), count(DISTINCT ({_BLOCK})) FROM {_eligible(window, folds)}",
        _values(plant, connection, key, window),
    ).fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)


def count_flagged(connection: duckdb.DuckDBPyConnection, key: str, window: TrainingWindow) -> int:
    """Count the readings of a regime that the window leaves out because they are anomalies in alarm events."""
    everything = TrainingWindow(window.readings, window.max_rows)
    query = f"SELECT count(*) FROM {_eligible(everything, tuple(range(N_FOLDS)))} AND reading_id IN ({_flagged()})"
    return int(fetch_value(connection, query, training_window(window.readings) | {"key": key}))


def _values(plant: Plant, connection: duckdb.DuckDBPyConnection, key: str, window: TrainingWindow) -> dict[str, object]:
    """Return what `_eligible` and `_BLOCK` bind."""
    values = training_window(window.readings) | {"key": key}
    values |= {"block_seconds": read_block_seconds(connection)}
    return values | ({"timezone": plant.config.schedule.timezone} if window.without_events else {})


def _eligible(window: TrainingWindow, folds: tuple[int, ...]) -> str:
    flagged = f"AND reading_id NOT IN ({_flagged()})" if window.without_events else ""
    unsuspected = (
        f"ANTI JOIN ({select_suspects()}) AS suspect ON suspect.machine_id = reading.machine_id "
        "AND suspect.cluster_key = assigned.cluster_key "
        "AND night_of(reading.ts, $timezone) >= suspect.since "
    )
    return (
        f"({select_training_rows(window.readings)}) AS reading "
        "JOIN core.cluster_assignments AS assigned USING (reading_id) "
        f"{unsuspected if window.without_events else ''}"
        f"WHERE assigned.cluster_key = $key AND responsibility > {_MIN_RESPONSIBILITY} "
        f"AND fold IN {folds} {flagged}"
    )


def _flagged() -> str:
    return read_sql(__package__, "flagged_readings.sql")


def _moment(time: Any) -> datetime:  # noqa: ANN401 - a numpy scalar of any unit
    moment: datetime = time.astype("datetime64[us]").item()
    return moment
