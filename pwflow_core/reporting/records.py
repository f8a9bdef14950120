"""Rows of the public tables, as the report reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import date, datetime
from typing import TypeVar

import duckdb

__all__ = [
    "CaseChange",
    "ClusterRow",
    "Decision",
    "EventRow",
    "HealthRow",
    "Record",
    "ScoreRow",
    "StretchRow",
    "Version",
    "fetch_records",
]

Record = TypeVar("Record")


@dataclass(frozen=True)
class EventRow:
    """A row of `mart.anomaly_events`, with its ranks and how many events there are."""

    event_id: str
    machine_id: str
    started_at: datetime
    ended_at: datetime
    lasted_until: datetime
    peak_score: float
    n_readings: int
    cluster_key: str | None
    top_sensors: list[str]
    segment: str | None
    summary: str
    n_events: int
    by_peak: int
    by_time: int


@dataclass(frozen=True)
class CaseChange:
    """A row of `mart.case_changes`."""

    case_id: str
    change: str
    label: str | None
    label_kind: str | None
    as_of: datetime
    changed_by: str | None
    reason: str | None


@dataclass(frozen=True)
class StretchRow:
    """A row of `mart.unusual_stretches`."""

    stretch_id: str
    machine_id: str
    segment: str
    started_at: datetime
    ended_at: datetime
    n_readings: int
    top_sensors: list[str]
    status: str
    decided_at: datetime | None
    decided_by: str | None


@dataclass(frozen=True)
class ScoreRow:
    """A reading and its anomaly score."""

    machine_id: str
    ts: datetime
    anomaly_score: float
    cluster_key: str | None


@dataclass(frozen=True)
class HealthRow:
    """A row of `mart.cluster_health`."""

    night: date
    cluster_key: str | None
    channel: str
    evidence: float | None
    threshold: float | None
    verdict: str | None
    n_readings: int | None
    share: float | None
    share_threshold: float | None


@dataclass(frozen=True)
class ClusterRow:
    """A row of `mart.clusters`."""

    cluster_key: str
    segment: str
    weight: float | None
    status: str


@dataclass(frozen=True)
class Version:
    """A row of `mart.flow_versions`."""

    flow_version: str
    cluster_key: str
    in_force: bool | None
    trained_at: datetime | None
    trained_from: datetime | None
    trained_until: datetime | None
    n_rows: int | None
    n_held_out: int | None
    held_out_log_density: float | None
    train_seconds: float | None
    is_gaussian: bool | None
    promoted_at: datetime | None
    promoted_by: str | None
    reason: str | None


@dataclass(frozen=True)
class Decision:
    """A row of `mart.flow_decisions`."""

    decided_at: datetime | None
    cluster_key: str
    flow_version: str | None
    decision: str
    previous_version: str | None
    gain_recent: float | None
    gain_recent_error: float | None
    decided_by: str | None
    reason: str | None


def fetch_records(
    connection: duckdb.DuckDBPyConnection, kind: type[Record], query: str, values: Mapping[str, object]
) -> tuple[Record, ...]:
    """Run a query and return its rows as records, by the names of their columns."""
    cursor = connection.execute(query, dict(values))
    places = {column[0]: place for place, column in enumerate(cursor.description or ())}
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    return tuple(kind(**{name: row[places[name]] for name in names}) for row in cursor.fetchall())
