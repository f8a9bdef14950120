"""Events: anomalies of a machine that follow each other closely, as one event with a plain sentence."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from pwflow_core.marks import SEGMENT_JOINT
from pwflow_core.pipeline.readings.features import read_features
from pwflow_core.pipeline.readings.rate import DEFAULT_GAP_INTERVALS, RARE_FACTOR
from pwflow_core.pipeline.source.source import read_source
from pwflow_core.plant import Plant
from pwflow_core.warehouse import mint_event_ids, quote_literal, read_sql, registered, run_script

__all__ = ["Event", "EventsSummary", "derive_events", "find_events", "worst_events"]

_log = logging.getLogger("pwflow.events")


@dataclass(frozen=True)
class Event:
    """One event, for people: when it began (UTC), its largest anomaly score, its anomalies and its sentence."""

    started_at: datetime
    peak_score: float
    n_readings: int
    summary: str


@dataclass(frozen=True)
class EventsSummary:
    """What deriving the events came to.

    Attributes:
        n_events: Events, all together.
        n_machines: Machines that have any.
        n_anomalies: Anomalies in events; the others are too few together to be one.
        worst: The events with the largest peak scores.
    """

    n_events: int
    n_machines: int
    n_anomalies: int
    worst: list[Event]


def derive_events(plant: Plant) -> EventsSummary:
    """Derive `anomaly_events` from the anomalies and what explains them, in one transaction.

    Anomalies that are at most `events.max_gap_minutes` apart are one event, whatever is between them; so an event
    reaches over a silence, or over readings that were not judged, for no longer than that.

    Raises:
        NotFittedError: The plant has no source yet: nothing was ingested.
    """
    events = plant.config.events
    with plant.warehouse.transaction() as connection:
        values = {
            "max_gap_minutes": events.max_gap_minutes,
            "default_gap_intervals": DEFAULT_GAP_INTERVALS,
            "min_readings": events.min_readings,
            "rare_factor": RARE_FACTOR,
            "reach_readings": max((feature.reach for feature in read_features(connection).features), default=0),
            "segment_columns": list(read_source(connection).segments),
        }
        script = read_sql(__package__, "event_rule.sql")
        script += read_sql(__package__, "events.sql", joint=quote_literal(SEGMENT_JOINT), event_ids=mint_event_ids())
        run_script(connection, script, values)
        n_events, n_machines, n_anomalies = connection.execute(
            "SELECT count(*), count(DISTINCT machine_id), coalesce(sum(n_readings), 0)::BIGINT FROM mart.anomaly_events"
        ).fetchall()[0]
        summary = EventsSummary(n_events, n_machines, n_anomalies, worst_events(connection, 10))
    _log.info("%s events of %d machines", f"{n_events:,}", n_machines)
    return summary


def find_events(
    p_value: ArrayLike, machine: ArrayLike, seconds: ArrayLike, *, alpha: float, gap_seconds: float, min_readings: int
) -> list[NDArray[np.intp]]:
    """Return the anomalies of each event among readings that are in no table, by the rule of the tables.

    Arguments:
        p_value: Of each reading, shape (n,); at most `alpha` is an anomaly.
        machine: Name or number of its machine, shape (n,).
        seconds: Its time, shape (n,).
        alpha: The false-alarm rate per reading.
        gap_seconds: Anomalies further apart are two events.
        min_readings: Fewest anomalies of an event, unless one is rare enough to be one alone.

    Returns:
        The rows of the anomalies of each event in the order of time, by the first row of each.
    """
    readings = pd.DataFrame({"p_value": p_value, "machine": machine, "seconds": seconds})
    anomalies = readings[readings.p_value <= alpha].rename_axis("place").reset_index()
    values = {"alpha": alpha, "gap_seconds": gap_seconds, "min_readings": min_readings, "rare_factor": RARE_FACTOR}
    with duckdb.connect() as connection, registered(connection, anomalies=anomalies):
        run_script(connection, read_sql(__package__, "event_rule.sql"))
        found = connection.execute(read_sql(__package__, "events_of_arrays.sql"), values).fetchall()
    return [np.array(places, dtype=np.intp) for (places,) in found]


def worst_events(connection: duckdb.DuckDBPyConnection, limit: int) -> list[Event]:
    """Return the events with the largest peak scores, of equal ones those with the most anomalies first."""
    rows = connection.execute(
        "SELECT started_at, peak_score, n_readings, summary FROM mart.anomaly_events "
        "ORDER BY peak_score DESC, n_readings DESC, started_at, event_id LIMIT ?",
        [limit],
    ).fetchall()
    return [Event(*row) for row in rows]
