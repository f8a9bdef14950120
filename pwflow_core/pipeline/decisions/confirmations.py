"""Confirmations: events that a person has looked at and found to be normal, so that refits may learn from them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime

from pwflow_core.errors import UnknownEventError
from pwflow_core.pipeline.decisions.event_ids import find_event
from pwflow_core.plant import Plant
from pwflow_core.warehouse import insert_row, utc_now

__all__ = ["Confirmation", "confirm_event"]

_log = logging.getLogger("pwflow.confirmations")


@dataclass(frozen=True)
class Confirmation:
    """A time of a machine whose anomalies are normal; times are UTC.

    Attributes:
        machine_id: The machine.
        started_at: Time of the first of them.
        ended_at: Time of the last.
        event_id: The event that was confirmed.
        confirmed_by: Who said so.
    """

    machine_id: str
    started_at: datetime
    ended_at: datetime
    event_id: str
    confirmed_by: str


def confirm_event(plant: Plant, event_id: str, *, confirmed_by: str) -> Confirmation:
    """Confirm an event as normal: a refit may learn from its readings. Its alarms stay what they are.

    The time is kept, once, not the event: events are derived again from the scores.

    Arguments:
        plant: The plant.
        event_id: The event, or its first digits.
        confirmed_by: Who says so.

    Raises:
        UnknownEventError: No event has this id, or not any longer.
    """
    with plant.warehouse.transaction() as connection:
        found = find_event(connection, event_id)
        row = connection.execute(
            "SELECT machine_id, started_at, ended_at FROM mart.anomaly_events WHERE event_id = ?", [found]
        ).fetchone()
        if row is None:
            raise UnknownEventError(
                f"{found} was told, but the scores as they are now have no event there: `pwflow mark {found} --normal` "
                "says it of its case."
            )
        made = Confirmation(row[0], row[1], row[2], found, confirmed_by)
        known = connection.execute(
            "SELECT 1 FROM core.confirmations WHERE machine_id = ? AND started_at = ? AND ended_at = ?",
            [made.machine_id, made.started_at, made.ended_at],
        ).fetchone()
        if known is None:
            values = vars(made) | {"confirmed_at": utc_now()}
            insert_row(connection, "core.confirmations", values)
    _log.info("%s, %s to %s: confirmed as normal by %s", made.machine_id, made.started_at, made.ended_at, confirmed_by)
    return made
