"""Times as the tables keep them, in UTC without a zone, and the nights of a time zone that they fall in."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["NIGHT_OF", "in_utc", "utc_now"]

NIGHT_OF = """
    CREATE TEMP MACRO night_of(moment, timezone) AS (moment AT TIME ZONE 'UTC' AT TIME ZONE timezone)::DATE
"""
"""What every connection knows: the calendar day in `timezone` that a time of a table is in."""


def utc_now() -> datetime:
    """Return the time now."""
    return in_utc(datetime.now(UTC))


def in_utc(moment: datetime) -> datetime:
    """Return a time of any zone as the tables keep it; one without a zone is in UTC already."""
    return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)
