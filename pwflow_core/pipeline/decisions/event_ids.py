"""Ids of events as people give them: the whole id, its first digits, or the number that earlier releases printed."""

from __future__ import annotations

import re

import duckdb

from pwflow_core.errors import UnknownEventError, list_few

__all__ = ["find_event", "is_event_id"]

_ID = re.compile(r"(?:E-)?([0-9a-f]{1,16})", re.IGNORECASE)
_NUMBER = re.compile(r"\d{1,19}")
_SHORT = 6


def is_event_id(text: str) -> bool:
    """Whether a text names an event and nothing else: it begins with E-, or is a number of an earlier release."""
    text = text.strip()
    return text[:2].upper() == "E-" or (len(text) > 2 * _SHORT and _NUMBER.fullmatch(text) is not None)


def find_event(connection: duckdb.DuckDBPyConnection, event_id: str) -> str:
    """Return the whole id of an event, as it is now or was told.

    Raises:
        UnknownEventError: No event has this id, or its first digits fit several.
    """
    given = event_id.strip()
    match = _ID.fullmatch(given)
    values = {
        "start": f"E-{match[1].lower()}" if match else None,
        "number": int(given) if _NUMBER.fullmatch(given) and int(given) < 2**63 else None,
    }
    rows = connection.execute(
        """
        SELECT event_id, event_id = $start OR reading_id = $number::BIGINT AS is_exact
        FROM core.event_ids
        WHERE (starts_with(event_id, $start) OR reading_id = $number::BIGINT)
          AND event_id IN (FROM (SELECT event_id FROM mart.anomaly_events UNION SELECT event_id FROM mart.case_events))
        ORDER BY event_id
        """,
        values,
    ).fetchall()
    found = [name for name, is_exact in rows if is_exact] or [name for name, _ in rows]
    if len(found) == 1:
        return str(found[0])
    if found:
        raise UnknownEventError(f"{event_id[:80]!r} matches {len(found)} events ({list_few(found)}): give more digits.")
    raise UnknownEventError(
        f"Expected the id of an event, such as E-3f9a2c, got {event_id[:80]!r}: `pwflow events` lists them."
    )
