"""Runs on record: which of them may still do something."""

from __future__ import annotations

from datetime import datetime, timedelta

import dagster as dg

__all__ = ["is_active"]

_LONGEST_RUN = timedelta(hours=12)
_ENDED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


def is_active(record: dg.RunRecord, now: datetime) -> bool:
    """Whether a run may still do something; one that was killed stays under way on record, but not for ever."""
    return record.dagster_run.status not in _ENDED and now - record.update_timestamp < _LONGEST_RUN
