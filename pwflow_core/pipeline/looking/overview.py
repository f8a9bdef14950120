"""The plant in a few numbers, for people who just ran it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pwflow_core.pipeline.readings.recurrence import open_stretches
from pwflow_core.pipeline.scoring.events import Event, worst_events
from pwflow_core.pipeline.scoring.scores import alpha_in_force
from pwflow_core.plant import Plant

__all__ = ["PlantOverview", "summarise_plant"]


@dataclass(frozen=True)
class PlantOverview:
    """Readings, regimes and alarms of a plant.

    Attributes:
        n_readings: Readings in the warehouse.
        n_machines: Machines that they come from.
        first: Time of the first, UTC.
        last: Time of the last, UTC.
        n_segments: Segments with regimes.
        n_clusters: Regimes in force.
        n_scored: Readings with a score.
        n_unjudged: Readings without one, by status.
        n_anomalies: Readings that are anomalies.
        alpha: The false-alarm rate per reading that they were judged by; NaN before the first scores.
        n_alarm_days: Days of a machine with at least one anomaly.
        n_events: Events that they come to.
        n_unusual: Readings in stretches of the history unlike the rest, which nothing learned from.
        worst: The three with the largest peak scores.
    """

    n_readings: int
    n_machines: int
    first: datetime
    last: datetime
    n_segments: int
    n_clusters: int
    n_scored: int
    n_unjudged: dict[str, int]
    n_anomalies: int
    alpha: float
    n_alarm_days: int
    n_events: int
    n_unusual: int
    worst: list[Event]


def summarise_plant(plant: Plant) -> PlantOverview:
    """Count what is in the warehouse.

    Raises:
        NotFittedError: There is no warehouse yet.
    """
    with plant.warehouse.snapshot() as connection:
        readings = connection.execute(
            "SELECT count(*), count(DISTINCT machine_id), min(ts), max(ts) FROM core.readings"
        ).fetchall()[0]
        clusters = connection.execute(
            "SELECT count(DISTINCT segment), count(*) FROM mart.clusters WHERE status = 'active'"
        ).fetchall()[0]
        statuses = dict(
            connection.execute(
                "SELECT status, count(*) FROM mart.anomaly_scores GROUP BY status ORDER BY status"
            ).fetchall()
        )
        alarms = connection.execute(
            "SELECT count(*), count(DISTINCT (machine_id, ts::DATE)) FROM mart.anomaly_scores WHERE is_anomaly"
        ).fetchall()[0]
        n_events = connection.execute("SELECT count(*) FROM mart.anomaly_events").fetchall()[0][0]
        n_unusual = sum(stretch.n_readings for stretch in open_stretches(connection))
        worst = worst_events(connection, 3)
        alpha = alpha_in_force(connection)
    return PlantOverview(
        n_readings=readings[0],
        n_machines=readings[1],
        first=readings[2],
        last=readings[3],
        n_segments=clusters[0],
        n_clusters=clusters[1],
        n_scored=statuses.pop("scored", 0),
        n_unjudged=statuses,
        n_anomalies=alarms[0],
        alpha=alpha,
        n_alarm_days=alarms[1],
        n_events=n_events,
        n_unusual=n_unusual,
        worst=worst,
    )
