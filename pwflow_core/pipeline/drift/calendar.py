"""Nights as numbers: the statistics count days, the warehouse has dates."""

from __future__ import annotations

from datetime import date, timedelta

__all__ = ["from_ordinal", "to_ordinal"]

_EPOCH = date(1970, 1, 1)


def to_ordinal(night: date) -> int:
    """Return the days since 1970-01-01."""
    return (night - _EPOCH).days


def from_ordinal(days: int) -> date:
    """Return the date so many days after 1970-01-01."""
    return _EPOCH + timedelta(days=int(days))
