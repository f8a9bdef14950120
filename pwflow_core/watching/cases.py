"""Live events and cases: the steps of the nightly job on a copy of the night with the live scores in it.

What they find depends on the record of readings and not on when they run. So a case that begins between two nights has
the id that the next night gives it, and what is told of it is known to the outbox when the night would tell it again.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb

from pwflow_core.config import SEVERITIES, PlantConfig
from pwflow_core.notifying.cases import read_cases
from pwflow_core.notifying.delivering import is_wanted
from pwflow_core.notifying.notices import Notice, identify
from pwflow_core.notifying.outbox import Outbox
from pwflow_core.notifying.record import name_regimes
from pwflow_core.pipeline.cases.deriving import derive_cases
from pwflow_core.pipeline.decisions.verdicts import Decider
from pwflow_core.pipeline.regimes.naming import read_names
from pwflow_core.pipeline.scoring.events import derive_events
from pwflow_core.plant import Plant
from pwflow_core.storage import working_folder
from pwflow_core.warehouse import FileWarehouse, fetch_value, read_sql, utc_now
from pwflow_core.watching.live_tables import copy_rows
from pwflow_core.watching.night import CASES, Night
from pwflow_core.watching.store import LiveStore

__all__ = ["LiveCases", "derive_live_cases", "tell_live"]

_TOLD = ("opened", "reopened", "worse")
"""What is told at once. That something is over is for the night to say."""
_BY = Decider("pwflow watch")


@dataclass(frozen=True)
class LiveCases:
    """What the live scores show.

    Attributes:
        events: Events with live readings, as rows of `mart.live_events`; times are text in ISO 8601, UTC.
        notices: What there is to tell of cases that they began, or that came back.
    """

    events: tuple[Mapping[str, Any], ...]
    notices: tuple[Notice, ...]


def derive_live_cases(plant: Plant, night: Night, store: LiveStore, folder: Path) -> LiveCases:
    """Derive events and cases from the scores of the night and those since.

    Arguments:
        plant: The plant; its warehouse is not opened.
        night: The last night.
        store: The live scores.
        folder: Where the copy is made, and removed.
    """
    with working_folder(folder, "cases") as work:
        shutil.copyfile(night.folder / CASES, work / CASES)
        warehouse = FileWarehouse(work / CASES, wait_seconds=1.0, memory_limit=plant.config.compute.memory_limit)
        copy = Plant(plant.config, warehouse, plant.models)
        with warehouse.transaction() as connection:
            known = {notice.notice_id for notice in read_cases(connection, is_first=False)}
            _add_live(connection, store)
            since = fetch_value(connection, "SELECT min(ts) FROM new_scores")
        if since is None:
            return LiveCases((), ())
        derive_events(copy)
        derive_cases(copy, by=_BY)
        with warehouse.snapshot() as connection:
            found = read_cases(connection, is_first=False)
            events = _read_events(connection, since)
            names = read_names(connection)
    fresh = [n for n in found if n.kind in _TOLD and not n.is_over and n.notice_id not in known]
    return LiveCases(tuple(events), tuple(name_regimes(_as_live(notice), names) for notice in fresh))


def tell_live(config: PlantConfig, notices: Sequence[Notice]) -> int:
    """Note what there is to tell of live cases in the outbox; return how much of it is new.

    A case that was noted when it was less grave is told again, as one that is worse.
    """
    if not notices or not is_wanted(config):
        return 0
    outbox = Outbox(config.outbox_path)
    before = outbox.severities(notice.notice_id for notice in notices)
    worse = [
        replace(
            notice, notice_id=identify(notice.subject.removeprefix("case "), "worse", notice.severity), kind="worse"
        )
        for notice in notices
        if notice.kind != "worse"
        and SEVERITIES.index(before.get(notice.notice_id, notice.severity)) < SEVERITIES.index(notice.severity)
    ]
    return outbox.note([*notices, *worse], config.notify.targets, now=utc_now())


def _add_live(connection: duckdb.DuckDBPyConnection, store: LiveStore) -> None:
    """Add the live scores that are later than those of the night, and keep them as the table `new_scores` too."""
    for table in ("anomaly_scores", "sensor_contributions"):
        connection.execute(f"CREATE OR REPLACE TEMP TABLE live_{table} AS FROM mart.{table} LIMIT 0")
    with store.session() as session, session.snapshot():
        copy_rows(connection, session, "live_scores", "live_anomaly_scores")
        copy_rows(connection, session, "live_contributions", "live_sensor_contributions")
    for statement in duckdb.extract_statements(read_sql(__package__, "live_scores.sql")):
        connection.execute(statement)


def _read_events(connection: duckdb.DuckDBPyConnection, since: datetime) -> list[dict[str, Any]]:
    cursor = connection.execute(read_sql(__package__, "live_events.sql"), {"since": since})
    names = [column[0] for column in cursor.description or ()]
    rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    return [{k: v.isoformat() if isinstance(v, datetime) else v for k, v in row.items()} for row in rows]


def _as_live(notice: Notice) -> Notice:
    """Return a notice with what can be done about a case that the warehouse does not have yet."""
    case_id = notice.subject.removeprefix("case ")
    said = f'`pwflow sql "FROM mart.live_events"` shows it now; after the next run, `pwflow cases {case_id}`'
    return replace(notice, next_step=said, event=None)
