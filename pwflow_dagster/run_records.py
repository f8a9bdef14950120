"""Runs on record: which of them may still do something."""

from __future__ import annotations

from datetime import datetime, timedelta

import dagster as dg

__all__ = ["is_active", "read_failure"]

_LONGEST_RUN = timedelta(hours=12)
_ENDED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


def is_active(record: dg.RunRecord, now: datetime) -> bool:
    """Whether a run may still do something; one that was killed stays under way on record, but not for ever."""
    return record.dagster_run.status not in _ENDED and now - record.update_timestamp < _LONGEST_RUN


def read_failure(instance: dg.DagsterInstance, run_id: str) -> str | None:
    """Return the sentence of the step of a run on record that failed first; None if there is none."""
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
        data = entry.get_dagster_event().step_failure_data
        if data.user_failure_data and data.user_failure_data.description:
            return str(data.user_failure_data.description)
    return None
