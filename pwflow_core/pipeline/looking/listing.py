"""Lists for people and programs: events by machine, time and regime, and the regimes with their profiles."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import duckdb

from pwflow_core.errors import UnknownClusterError, UnknownMachineError, list_few
from pwflow_core.pipeline.cases.storage import fetch_rows
from pwflow_core.pipeline.decisions.event_ids import find_event
from pwflow_core.pipeline.regimes.naming import read_names
from pwflow_core.plant import Plant

__all__ = ["EventList", "ListedEvent", "ListedRegime", "list_events", "list_regimes"]


@dataclass(frozen=True)
class ListedEvent:
    """A row of `mart.anomaly_events` with its case and the name of its regime; times are UTC."""

    event_id: str
    case_id: str | None
    machine_id: str
    started_at: datetime
    ended_at: datetime
    lasted_until: datetime
    peak_score: float
    n_readings: int
    cluster_key: str | None
    regime_name: str | None
    segment: str | None
    top_sensors: list[str]
    summary: str


@dataclass(frozen=True)
class EventList:
    """Events, the latest first.

    Attributes:
        events: Those that are listed.
        n_events: How many there are that meet the conditions.
    """

    events: tuple[ListedEvent, ...]
    n_events: int


@dataclass(frozen=True)
class ListedRegime:
    """A row of `mart.regimes`; times are UTC."""

    cluster_key: str
    name: str | None
    segment: str
    status: str
    profile: str | None
    share_of_time: float | None
    n_readings: int
    n_machines: int
    first_seen_at: datetime | None
    last_seen_at: datetime | None
    n_anomalies: int
    flow_version: str | None
    trained_at: datetime | None
    is_blind: bool
    named_by: str | None
    named_at: datetime | None


def list_events(
    plant: Plant,
    *,
    event: str | None = None,
    machine: str | None = None,
    regime: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    most: int = 20,
) -> EventList:
    """Return the events that meet all conditions, the latest first.

    Arguments:
        plant: The plant.
        event: This event only, by its id or its first digits.
        machine: Of this machine only.
        regime: In this regime only, by its key or its name.
        since: That were still going on at this time or later, UTC.
        until: That began before this time, UTC.
        most: Most events to return.

    Raises:
        UnknownEventError: The event does not exist.
        UnknownMachineError: The machine does not exist.
        UnknownClusterError: The regime does not exist.
    """
    with plant.warehouse.snapshot() as connection:
        conditions = {
            "event": None if event is None else find_event(connection, event),
            "machine": None if machine is None else _find_machine(connection, machine),
            "regime": None if regime is None else _find_regime(connection, regime),
            "since": since,
            "until": until,
        }
        rows = fetch_rows(
            connection,
            """
            SELECT
                event.event_id, told.case_id, event.machine_id, event.started_at, event.ended_at, event.lasted_until,
                event.peak_score, event.n_readings, event.cluster_key, regimes.name AS regime_name, event.segment,
                event.top_sensors, event.summary, count(*) OVER () AS n_events
            FROM mart.anomaly_events AS event
            LEFT JOIN (
                SELECT event_id, arg_max(case_id, told_at) AS case_id
                FROM mart.case_events
                WHERE is_found
                GROUP BY event_id
            ) AS told USING (event_id)
            LEFT JOIN (
                SELECT cluster_key, arg_max_null(name, change_number) AS name
                FROM mart.regime_names
                GROUP BY cluster_key
            ) AS regimes USING (cluster_key)
            WHERE ($event::VARCHAR IS NULL OR event.event_id = $event)
              AND ($machine::VARCHAR IS NULL OR event.machine_id = $machine)
              AND ($regime::VARCHAR IS NULL OR event.cluster_key = $regime)
              AND ($since::TIMESTAMP IS NULL OR event.ended_at >= $since::TIMESTAMP)
              AND ($until::TIMESTAMP IS NULL OR event.started_at < $until::TIMESTAMP)
            ORDER BY event.started_at DESC, event.event_id
            LIMIT $most
            """,
            conditions | {"most": most},
        )
    n_events = rows[0]["n_events"] if rows else 0
    return EventList(tuple(ListedEvent(**{k: v for k, v in row.items() if k != "n_events"}) for row in rows), n_events)


def list_regimes(plant: Plant, *, with_retired: bool = False) -> list[ListedRegime]:
    """Return the regimes in use, and the retired ones where they are wanted, with the profiles of the last publication.

    Raises:
        NotFittedError: The plant has not been run yet.
    """
    with plant.warehouse.snapshot() as connection:
        rows = fetch_rows(
            connection,
            "FROM mart.regimes WHERE status = 'active' OR $all ORDER BY status, cluster_key",
            {"all": with_retired},
        )
    return [ListedRegime(**row) for row in rows]


def _find_machine(connection: duckdb.DuckDBPyConnection, machine: str) -> str:
    rows = connection.execute("SELECT DISTINCT machine_id FROM core.readings ORDER BY machine_id").fetchall()
    known = [row[0] for row in rows]
    if machine not in known:
        raise UnknownMachineError(
            f"Expected a machine ({list_few(known, 8) or 'there is none yet'}), got {machine[:80]!r}: name one of "
            "those."
        )
    return machine


def _find_regime(connection: duckdb.DuckDBPyConnection, regime: str) -> str:
    rows = connection.execute("SELECT cluster_key FROM mart.clusters ORDER BY status, cluster_key").fetchall()
    known, names = [key for (key,) in rows], read_names(connection)
    for key in known:
        if regime == key or regime.casefold() == names.of.get(key, key).casefold():
            return str(key)
    raise UnknownClusterError(
        f"Expected the key or the name of a regime ({list_few(known, 8) or 'there is none yet'}), "
        f"got {regime[:80]!r}: `pwflow regimes` lists them."
    )
