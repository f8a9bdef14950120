"""Stretches of the history that are unlike the rest of it: found before anything learns, and kept as questions.

What a plant does on many days is normal. What it did in one stretch, or in a few, may be a fault or a way of running
that is rare; nothing in the data says which. Such a stretch neither teaches nor calibrates, so that it alarms if it
comes back, until a person says that it is normal. The arithmetic is in `modelling.recurrence`.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING

import duckdb
import numpy as np
from numpy.typing import NDArray

from pwflow_core.errors import RegimeError, UnknownStretchError, count
from pwflow_core.pipeline.readings.training_rows import select_training_rows, training_window
from pwflow_core.pipeline.source.source import read_source
from pwflow_core.plant import Plant
from pwflow_core.warehouse import fetch_value, insert_row, quote_columns, utc_now
from pwflow_core.warehouse.streaming import fetch_matrix

if TYPE_CHECKING:
    from pwflow_core.modelling.recurrence import Recurrence

__all__ = [
    "Stretch",
    "decide_stretch",
    "is_stretch_id",
    "normal_stretches",
    "open_stretches",
    "read_stretch",
    "record_decision",
    "reopen_stretch",
    "screen_history",
]

_log = logging.getLogger("pwflow.recurrence")

_PREFIX = "U-"
"""What the id of a stretch begins with, and that of a verdict never does."""

_MOST_ROWS = 30_000
_MOST_SHARE = 0.2
"""Where more of the readings are unlike the rest, the plant does not repeat itself, and nothing is left out."""
_TOP_SENSORS, _LEAST_OF_TOP = 3, 0.3


@dataclass(frozen=True)
class Stretch:
    """A stretch of time of a machine that is unlike the rest of the history.

    Attributes:
        stretch_id: Short identifier.
        machine_id: The machine.
        segment: Process condition that its readings were compared within.
        started_at: Time of the first reading, UTC.
        ended_at: Time of the last reading, UTC.
        n_readings: Readings in it.
        excess: How far it lies from what other days have seen, at its worst, see `Recurrence.excess`.
        top_sensors: Sensors that stand out, the most first.
        status: open, fault or normal.
        cluster_key: The regime that was added for it; None if there is none.
    """

    stretch_id: str
    machine_id: str
    segment: str
    started_at: datetime
    ended_at: datetime
    n_readings: int
    excess: float
    top_sensors: tuple[str, ...]
    status: str = "open"
    cluster_key: str | None = None


def screen_history(plant: Plant) -> list[Stretch]:
    """Find the stretches of the training window that are unlike the rest, and keep them in `mart.unusual_stretches`.

    What a person decided stays; open ones are found again or go.

    Returns:
        The open stretches, the longest first.
    """
    with plant.warehouse.snapshot() as connection:
        sensors = list(read_source(connection).measured)
        rows = select_training_rows(plant.config.training, with_unusual=True)
        window = training_window(plant.config.training)
        sizes = connection.execute(
            f"SELECT segment, count(*) FROM ({rows}) GROUP BY segment ORDER BY segment", window
        ).fetchall()
    found = [stretch for segment, size in sizes for stretch in _screen_segment(plant, segment, size, sensors)]
    with plant.warehouse.transaction() as connection:
        connection.execute("DELETE FROM mart.unusual_stretches WHERE status = 'open'")
        for stretch in found:
            if not _is_decided(connection, stretch):
                values = asdict(stretch) | {"top_sensors": list(stretch.top_sensors), "found_at": utc_now()}
                insert_row(connection, "mart.unusual_stretches", values)
        kept = open_stretches(connection)
    n_readings = sum(stretch.n_readings for stretch in kept)
    if kept:
        found_now = count(len(kept), "stretch", "stretches"), count(n_readings, "reading")
        _log.info("unlike the rest of the history: %s, %s", *found_now)
    return kept


def open_stretches(connection: duckdb.DuckDBPyConnection) -> list[Stretch]:
    """Return the stretches that nobody has decided about, the longest first."""
    return _select(connection, "status = 'open' ORDER BY n_readings DESC, started_at, machine_id")


def normal_stretches(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Return the stretches that a person has called normal and that got no regime of their own.

    What the regimes are depends on them: the next time that regimes are found, they are learned from.
    """
    found = _select(connection, "status = 'normal' AND cluster_key IS NULL ORDER BY stretch_id")
    return [stretch.stretch_id for stretch in found]


def is_stretch_id(finding_id: str) -> bool:
    """Whether an id is that of a stretch; others are those of verdicts."""
    return finding_id.startswith(_PREFIX)


def decide_stretch(
    plant: Plant, stretch_id: str, *, is_normal: bool, decided_by: str, reason: str = "", run_id: str | None = None
) -> Stretch:
    """Record what a person says of a stretch; the last word counts.

    Arguments:
        plant: The plant.
        stretch_id: The stretch.
        is_normal: Whether it is learned from, when the regimes are found the next time; else it stays left out.
        decided_by: Who says so.
        reason: Why.
        run_id: The run in which it is said; None outside of runs.

    Raises:
        UnknownStretchError: There is none with this id.
    """
    with plant.warehouse.transaction() as connection:
        found = read_stretch(connection, stretch_id)
        record_decision(
            connection, stretch_id, is_normal=is_normal, decided_by=decided_by, reason=reason, run_id=run_id
        )
    return found


def read_stretch(connection: duckdb.DuckDBPyConnection, stretch_id: str) -> Stretch:
    """Return a stretch by its id.

    Raises:
        UnknownStretchError: There is none with this id.
    """
    found = _select(connection, "stretch_id = $id", {"id": stretch_id})
    if not found:
        ids = ", ".join(stretch.stretch_id for stretch in open_stretches(connection)[:10]) or "there is none"
        raise UnknownStretchError(
            f"Expected the id of a stretch in mart.unusual_stretches ({ids}), got {stretch_id[:80]!r}: name one "
            "of those."
        )
    return found[0]


def reopen_stretch(
    plant: Plant, stretch_id: str, *, decided_by: str, reason: str = "", run_id: str | None = None
) -> Stretch:
    """Take back what a person said of a stretch: nothing learns from it until somebody decides; return it.

    Arguments:
        plant: The plant.
        stretch_id: The stretch.
        decided_by: Who takes it back.
        reason: Why.
        run_id: The run in which it is taken back; None outside of runs.

    Raises:
        UnknownStretchError: There is none with this id.
        RegimeError: Nobody decided about it, or a regime was added for it.
    """
    with plant.warehouse.transaction() as connection:
        stretch = read_stretch(connection, stretch_id)
        if stretch.status == "open":
            raise RegimeError(f"Nobody has decided about {stretch_id}: there is nothing to undo.")
        if stretch.cluster_key is not None:
            raise RegimeError(
                f"{stretch_id} was approved and has the regime {stretch.cluster_key} now, which stays: to find all "
                "regimes again, materialize cluster_model."
            )
        connection.execute(
            "UPDATE mart.unusual_stretches SET status = 'open', decided_at = NULL, decided_by = NULL "
            "WHERE stretch_id = ?",
            [stretch_id],
        )
        _insert_change(connection, stretch, "open", decided_by, reason, run_id)
    return stretch


def record_decision(
    connection: duckdb.DuckDBPyConnection,
    stretch_id: str,
    *,
    is_normal: bool,
    decided_by: str,
    reason: str = "",
    run_id: str | None = None,
    cluster_key: str | None = None,
) -> None:
    """Record what a person says of a stretch and the regime that was added for it, in the caller's transaction."""
    status = "normal" if is_normal else "fault"
    _insert_change(connection, read_stretch(connection, stretch_id), status, decided_by, reason, run_id)
    connection.execute(
        "UPDATE mart.unusual_stretches SET status = ?, decided_at = ?, decided_by = ?, "
        "cluster_key = coalesce(?, cluster_key) WHERE stretch_id = ?",
        [
            status,
            utc_now(),
            f"{decided_by}: {reason}" if reason else decided_by,
            cluster_key,
            stretch_id,
        ],
    )


def _insert_change(
    connection: duckdb.DuckDBPyConnection,
    stretch: Stretch,
    status: str,
    decided_by: str,
    reason: str,
    run_id: str | None,
) -> None:
    values = {"stretch_id": stretch.stretch_id, "from_status": stretch.status, "to_status": status}
    who = {"changed_at": utc_now(), "changed_by": decided_by, "run_id": run_id, "reason": reason or None}
    insert_row(connection, "mart.stretch_changes", values | who)


def _select(
    connection: duckdb.DuckDBPyConnection, condition: str, values: dict[str, object] | None = None
) -> list[Stretch]:
    rows = connection.execute(
        "SELECT stretch_id, machine_id, segment, started_at, ended_at, n_readings, excess, top_sensors, status, "
        f"cluster_key FROM mart.unusual_stretches WHERE {condition}",
        values or {},
    ).fetchall()
    names = [field.name for field in fields(Stretch)]
    found = (dict(zip(names, row, strict=True)) for row in rows)
    return [Stretch(**values | {"top_sensors": tuple(values["top_sensors"] or ())}) for values in found]


def _screen_segment(plant: Plant, segment: str, size: int, sensors: Sequence[str]) -> list[Stretch]:
    from pwflow_core.modelling.recurrence import measure_recurrence

    step = -(-size // _MOST_ROWS)
    with plant.warehouse.snapshot() as connection:
        X, others = fetch_matrix(
            connection,
            f"SELECT machine_id, ts, {quote_columns(sensors)} FROM ("
            "  SELECT *, row_number() OVER (PARTITION BY machine_id ORDER BY ts) - 1 AS place "
            f"  FROM ({select_training_rows(plant.config.training, with_unusual=True)}) WHERE segment = $segment"
            ") WHERE place % $step = 0 ORDER BY machine_id, ts",
            training_window(plant.config.training) | {"segment": segment, "step": step},
            sensors,
        )
    usable = np.isfinite(X).all(axis=1)
    X, machine, ts = X[usable], np.asarray(others["machine_id"])[usable], np.asarray(others["ts"])[usable]
    seconds = ts.astype("datetime64[us]").astype(np.int64) / 1e6
    seen = measure_recurrence(X, seconds, machine, readings_per_row=step) if len(X) else None
    if seen is None:
        return []
    if (share := float(seen.is_unusual.mean())) > _MOST_SHARE:
        _log.warning(
            "segment %s: %.0f%% of the readings are unlike the rest, so the plant does not repeat itself from day to "
            "day; nothing is left out of the training", segment, 100 * share,
        )  # fmt: skip
        return []
    return list(_stretches(segment, seen, machine, ts, step, sensors))


def _stretches(
    segment: str,
    seen: Recurrence,
    machine: NDArray[np.object_],
    ts: NDArray[np.datetime64],
    step: int,
    sensors: Sequence[str],
) -> Iterator[Stretch]:
    """Yield the runs of unusual rows; where rows are a sample, a run reaches half way to its usual neighbours."""
    unusual = seen.is_unusual
    for run in np.split(np.flatnonzero(unusual), _breaks(unusual, machine)):
        if not len(run):
            continue
        first, last = int(run[0]), int(run[-1])
        start, end = ts[first], ts[last]
        if step > 1:
            if first and machine[first - 1] == machine[first]:
                start = ts[first - 1] + (start - ts[first - 1]) / 2
            if last + 1 < len(ts) and machine[last + 1] == machine[last]:
                end = end + (ts[last + 1] - end) / 2
        deviation = seen.deviation[run].mean(axis=0)
        order = [k for k in np.argsort(-deviation)[:_TOP_SENSORS] if deviation[k] >= _LEAST_OF_TOP * deviation.max()]
        started_at = start.astype("datetime64[us]").item()
        name = hashlib.sha256(f"{machine[first]}|{segment}|{started_at}".encode()).hexdigest()[:6]
        yield Stretch(
            stretch_id=f"{_PREFIX}{name}",
            machine_id=str(machine[first]),
            segment=segment,
            started_at=started_at,
            ended_at=end.astype("datetime64[us]").item(),
            n_readings=len(run) * step,
            excess=float(seen.excess[run].max()),
            top_sensors=tuple(sensors[k] for k in order),
        )


def _breaks(unusual: NDArray[np.bool_], machine: NDArray[np.object_]) -> NDArray[np.intp]:
    """Return where, among the unusual rows, a new run begins."""
    place = np.flatnonzero(unusual)
    return np.flatnonzero((np.diff(place) > 1) | (machine[place[1:]] != machine[place[:-1]])) + 1


def _is_decided(connection: duckdb.DuckDBPyConnection, stretch: Stretch) -> bool:
    """Whether a person has decided about most of a stretch."""
    shared = fetch_value(
        connection,
        "SELECT sum(epoch(least(ended_at, $ended_at)) - epoch(greatest(started_at, $started_at))) "
        "FROM mart.unusual_stretches WHERE status <> 'open' AND machine_id = $machine_id AND segment = $segment "
        "AND started_at <= $ended_at AND ended_at >= $started_at",
        {
            name: value
            for name, value in asdict(stretch).items()
            if name in ("machine_id", "segment", "started_at", "ended_at")
        },
    )
    return shared is not None and shared >= 0.5 * (stretch.ended_at - stretch.started_at).total_seconds()
