"""What the report shows of single events: the sensors that caused them, and their signals around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import duckdb
import numpy as np
from numpy.typing import NDArray

from pwflow_core.modelling.fleet import Winners
from pwflow_core.pipeline.flows.fleet import read_fleet
from pwflow_core.pipeline.source.source import Sensor
from pwflow_core.plant import Plant
from pwflow_core.reporting.drawing.signals import Trace
from pwflow_core.reporting.facts import PlantFacts
from pwflow_core.reporting.records import EventRow
from pwflow_core.warehouse import quote_columns, quote_identifier, read_sql
from pwflow_core.warehouse.streaming import fetch_matrix

__all__ = [
    "Blame",
    "EventFacts",
    "EventReadings",
    "PlantTiming",
    "choose_events",
    "read_anomalies",
    "read_events",
    "read_traces",
]

_WORST, _LATEST, _WORST_OF_LAST_DAY, _MOST_CASES = 12, 3, 3, 12
_MOST_SIGNALS = 3
_BINS, _BAND_BINS, _MOST_ANOMALIES = 240, 160, 300
_MARGIN_READINGS = 40


class PlantTiming(Protocol):
    """What has to be known of a plant to read signals from it; `PlantFacts` knows it."""

    @property
    def sensors(self) -> tuple[Sensor, ...]:
        """The sensors."""

    @property
    def interval_seconds(self) -> float:
        """Usual time from one reading to the next; NaN if it is not known."""


@dataclass(frozen=True)
class Blame:
    """One sensor of an event: its share in the cause, and its worst reading beside what was expected."""

    sensor: str
    unit: str
    share: float
    observed: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class EventReadings:
    """What the models saw around an event: times, segments, columns of the model, shape (n, D), and the regimes."""

    times: NDArray[np.datetime64]
    segments: NDArray[Any]
    X: NDArray[np.float64]
    winners: Winners


@dataclass(frozen=True, eq=False)
class EventFacts:
    """One event.

    Attributes:
        event_id: Its identifier.
        machine_id: Its machine.
        started_at: Time of the first anomaly, UTC.
        ended_at: Time of the last one, UTC.
        blame: The sensors that caused it, the largest share first.
        score: The anomaly score around it.
        traces: What those sensors read around it, in the same order.
        anomalies: What they read in the anomalies.
        readings: What the models saw around it.
    """

    event_id: str
    machine_id: str
    started_at: datetime
    ended_at: datetime
    blame: tuple[Blame, ...]
    score: Trace
    traces: dict[str, Trace]
    anomalies: dict[str, Trace]
    readings: EventReadings


def choose_events(facts: PlantFacts) -> list[EventRow]:
    """Return the events that are shown in full, worst first.

    They are the worst of all, of the last day, and of each case to decide, and the latest.
    """
    events = sorted(facts.events, key=lambda event: event.by_peak)
    of_last_day = [event for event in events if event.started_at > facts.last - timedelta(days=1)]
    chosen = {event.event_id for event in of_last_day[:_WORST_OF_LAST_DAY]}
    chosen |= {case.worst_event_id for case in facts.cases.to_decide[:_MOST_CASES] if case.worst_event_id is not None}
    return [
        event for event in events if event.by_peak <= _WORST or event.by_time <= _LATEST or event.event_id in chosen
    ]


def read_events(plant: Plant, facts: PlantFacts, columns: tuple[str, ...]) -> dict[str, EventFacts]:
    """Read what is shown of the chosen events, by their identifiers.

    Arguments:
        plant: The plant.
        facts: What is known of it.
        columns: What the models see; without any, nothing is expected of the readings.
    """
    chosen = choose_events(facts)
    if not chosen:
        return {}
    with plant.warehouse.snapshot() as connection:
        blame = _read_blame(connection, [event.event_id for event in chosen])
        return {
            event.event_id: _read_event(connection, facts, event, blame.get(event.event_id, ()), columns)
            for event in chosen
        }


def _read_blame(connection: duckdb.DuckDBPyConnection, event_ids: list[str]) -> dict[str, tuple[Blame, ...]]:
    rows = connection.execute(read_sql(__package__, "event_blame.sql"), {"event_ids": event_ids}).fetchall()
    totals: dict[str, float] = {}
    for event_id, _, _, contribution, _ in rows:
        totals[event_id] = totals.get(event_id, 0.0) + contribution
    blame: dict[str, list[Blame]] = {}
    for event_id, sensor, unit, contribution, worst in rows:
        share = contribution / totals[event_id] if totals[event_id] > 0 else 0.0
        found = Blame(sensor, unit or "", share, *(float(worst[name]) for name in ("observed", "low", "high")))
        blame.setdefault(event_id, []).append(found)
    return {event_id: tuple(parts) for event_id, parts in blame.items()}


def _read_event(
    connection: duckdb.DuckDBPyConnection,
    facts: PlantFacts,
    event: EventRow,
    blame: tuple[Blame, ...],
    columns: tuple[str, ...],
) -> EventFacts:
    started, ended = event.started_at, event.ended_at
    start, end = _around(facts, started, ended)
    window: dict[str, object] = {"machine": event.machine_id, "start": start, "end": end}
    shown = [part.sensor for part in blame[:_MOST_SIGNALS]] or event.top_sensors[:_MOST_SIGNALS]
    score, traces = read_traces(connection, facts, event.machine_id, started, ended, shown)
    return EventFacts(
        event.event_id,
        event.machine_id,
        started,
        ended,
        blame,
        score,
        traces,
        {sensor: read_anomalies(connection, event.machine_id, sensor, started, ended) for sensor in traces},
        _read_readings(
            connection, columns, window | {"bin_seconds": max((end - start).total_seconds() / _BAND_BINS, 1e-6)}
        ),
    )


def read_traces(
    connection: duckdb.DuckDBPyConnection,
    facts: PlantTiming,
    machine: str,
    started: datetime,
    ended: datetime,
    sensors: Sequence[str],
) -> tuple[Trace, dict[str, Trace]]:
    """Return the anomaly score of a machine around a time, and what some of its sensors read, those that there are."""
    start, end = _around(facts, started, ended)
    seconds = (end - start).total_seconds()
    bins = {"machine": machine, "start": start, "end": end, "bin_seconds": max(seconds / _BINS, 1e-6)}
    gap = max(5 * _interval(facts), 3 * seconds / _BINS)
    known = {sensor.name for sensor in facts.sensors}
    score = _read_trace(connection, "anomaly_score", "mart.anomaly_scores", bins, gap)
    return score, {
        sensor: _read_trace(connection, quote_identifier(sensor), "core.readings", bins, gap)
        for sensor in sensors
        if sensor in known
    }


def _interval(facts: PlantTiming) -> float:
    return facts.interval_seconds if np.isfinite(facts.interval_seconds) else 60.0


def _around(facts: PlantTiming, started: datetime, ended: datetime) -> tuple[datetime, datetime]:
    """Return a time with a margin on both sides."""
    margin = timedelta(seconds=max((ended - started).total_seconds() / 2, _MARGIN_READINGS * _interval(facts)))
    return started - margin, ended + margin


def _read_trace(
    connection: duckdb.DuckDBPyConnection, value: str, table: str, bins: dict[str, object], gap_seconds: float
) -> Trace:
    query = read_sql(__package__, "event_signal.sql", value=value, table=table)
    rows = connection.execute(query, bins).fetchnumpy()
    times = np.concatenate([rows["low_at"], rows["high_at"]]).astype("datetime64[us]")
    values = np.concatenate([rows["low"], rows["high"]]).astype(np.float64)
    times, first = np.unique(times, return_index=True)
    return break_gaps(times, values[first], gap_seconds)


def break_gaps(times: NDArray[np.datetime64], values: NDArray[np.float64], gap_seconds: float) -> Trace:
    """Return the values as a trace that is broken where nothing was read for longer than the gap."""
    breaks = np.flatnonzero(np.diff(times) > np.timedelta64(int(gap_seconds * 1e6), "us"))
    middle = times[breaks] + np.diff(times)[breaks] // 2
    return Trace(np.insert(times, breaks + 1, middle), np.insert(values, breaks + 1, np.nan))


def read_anomalies(
    connection: duckdb.DuckDBPyConnection, machine: str, sensor: str, start: datetime, end: datetime
) -> Trace:
    """Return what one sensor of a machine read in the anomalies of a time."""
    rows = connection.execute(
        read_sql(__package__, "event_anomalies.sql"),
        {"machine": machine, "sensor": sensor, "start": start, "end": end, "most": _MOST_ANOMALIES},
    ).fetchnumpy()
    return Trace(np.asarray(rows["ts"]).astype("datetime64[us]"), np.asarray(rows["observed"], dtype=np.float64))


def _read_readings(
    connection: duckdb.DuckDBPyConnection, columns: tuple[str, ...], window: dict[str, object]
) -> EventReadings:
    if not columns:
        none = np.empty(0, dtype=np.str_)
        return EventReadings(np.empty(0, "datetime64[us]"), none, np.empty((0, 0)), Winners({}, none, none))
    query = read_sql(__package__, "event_readings.sql", columns=quote_columns(columns))
    X, others = fetch_matrix(connection, query, window, columns)
    seen = np.isfinite(X).all(axis=1)
    times = np.asarray(others["ts"]).astype("datetime64[us]")
    keys, versions = (np.asarray(others[name]).astype(np.str_)[seen] for name in ("cluster_key", "flow_version"))
    fleets = {}
    for key, version in {*zip(keys.tolist(), versions.tolist(), strict=True)}:
        if (fleet := read_fleet(connection, key, version)) is not None:
            fleets[key] = fleet
    winners = Winners(fleets, np.full(len(keys), window["machine"], dtype=np.str_), keys)
    return EventReadings(times[seen], np.asarray(others["segment"])[seen], X[seen], winners)
