"""Nights: the statistics count days, the warehouse has dates, and readings have times in UTC."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pwflow_core.warehouse import in_utc

__all__ = ["begin_of", "from_ordinal", "to_ordinal", "to_ordinals"]

_EPOCH = date(1970, 1, 1)


def begin_of(night: date, timezone: str) -> datetime:
    """Return when a night of the schedule's time zone begins, UTC."""
    return in_utc(datetime.combine(night, time(), ZoneInfo(timezone)))


def to_ordinal(night: date) -> int:
    """Return the days since 1970-01-01."""
    return (night - _EPOCH).days


def to_ordinals(nights: ArrayLike) -> NDArray[np.int64]:
    """Return the days since 1970-01-01 of each night, shape (N,)."""
    return np.asarray(nights, dtype="datetime64[D]").astype(np.int64)


def from_ordinal(days: int) -> date:
    """Return the date this many days after 1970-01-01."""
    return _EPOCH + timedelta(days=int(days))
