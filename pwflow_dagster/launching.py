"""Runs that a run puts into Dagster's queue, from which the run launcher starts them in other processes or machines.

A run that Dagster launched starts others in this way; one that a program executes in its own process does not.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.origin import JobPythonOrigin
from dagster._core.remote_origin import RemoteJobOrigin
from dagster._core.run_coordinator import QueuedRunCoordinator

from pwflow_dagster.run_records import is_active

if TYPE_CHECKING:
    from dagster._core.origin import RepositoryPythonOrigin
    from dagster._core.remote_origin import RemoteRepositoryOrigin

__all__ = ["EndedRun", "Launcher", "find_launcher"]

_log = logging.getLogger("pwflow.runs")

_LONGEST_IN_QUEUE = timedelta(hours=1)
_POLL_SECONDS = 1.0
_PARTITION_TAG = "dagster/partition"


@dataclass(frozen=True)
class EndedRun:
    """A run that ended.

    Attributes:
        run_id: Its id.
        events: What happened in it.
        success: Whether it did what it was for.
        problem: Why it ended without an error of its own; None if it did not.
    """

    run_id: str
    events: Sequence[dg.DagsterEvent]
    success: bool
    problem: str | None = None


@dataclass(frozen=True)
class Launcher:
    """Puts runs of a code location into the queue, and waits for them.

    Attributes:
        instance: The Dagster instance.
        remote: Where its daemon finds the jobs.
        local: Where the process of a run finds them.
    """

    instance: dg.DagsterInstance
    remote: RemoteRepositoryOrigin
    local: RepositoryPythonOrigin

    def start(
        self,
        job: dg.JobDefinition,
        *,
        tags: Mapping[str, str] | None,
        run_config: Mapping[str, Any] | None,
        partition_key: str | None,
    ) -> str:
        """Put a run of a job into the queue, and return its id."""
        named = {_PARTITION_TAG: partition_key} if partition_key else {}
        run = self.instance.create_run_for_job(
            job,
            run_config=run_config,
            tags={**job.run_tags, **(tags or {}), **named},
            remote_job_origin=RemoteJobOrigin(self.remote, job.name),
            job_code_origin=JobPythonOrigin(job.name, self.local),
        )
        self.instance.report_dagster_event(dg.DagsterEvent.job_enqueue(run), run_id=run.run_id)
        return str(run.run_id)

    def wait(self, run_ids: Sequence[str]) -> list[EndedRun]:
        """Wait until all runs have ended; if this is interrupted, they are told to end, too."""
        try:
            return [self._wait_for(run_id) for run_id in run_ids]
        except BaseException:
            for run_id in run_ids:
                self.instance.run_coordinator.cancel_run(run_id)
            raise

    def _wait_for(self, run_id: str) -> EndedRun:
        while True:
            record = self.instance.get_run_record_by_id(run_id)
            if record is None:
                return EndedRun(run_id, [], success=False, problem=f"Run {run_id[:8]} was deleted before it ended.")
            now, status = datetime.now(UTC), record.dagster_run.status
            if record.dagster_run.is_finished:
                entries = self.instance.all_logs(run_id)
                events = [entry.get_dagster_event() for entry in entries if entry.is_dagster_event]
                problem = f"Run {run_id[:8]} was terminated." if status is dg.DagsterRunStatus.CANCELED else None
                return EndedRun(run_id, events, status is dg.DagsterRunStatus.SUCCESS, problem)
            if status is dg.DagsterRunStatus.QUEUED and now - record.create_timestamp > _LONGEST_IN_QUEUE:
                self.instance.run_coordinator.cancel_run(run_id)
                why = (
                    f"Run {run_id[:8]} was in the queue for an hour and is taken out of it: allow more runs at once "
                    "(concurrency.runs.max_concurrent_runs in dagster.yaml), or see whether the daemon of Dagster runs."
                )
                return EndedRun(run_id, [], success=False, problem=why)
            if not is_active(record, now):
                why = f"Run {run_id[:8]} has said nothing for 12 hours: terminate it in `pwflow ui` under Runs."
                return EndedRun(run_id, [], success=False, problem=why)
            time.sleep(_POLL_SECONDS)


def find_launcher(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Launcher | None:
    """Return what launches runs beside one; None where that one was not launched, or where they could not start."""
    if run.remote_job_origin is None or run.job_code_origin is None:
        return None  # a program executes it in its own process
    if not isinstance(instance.run_coordinator, QueuedRunCoordinator):
        return None
    queue = instance.get_concurrency_config().run_queue_config
    if queue is not None and queue.max_concurrent_runs == 1:
        _log.info("Dagster allows one run at a time: the runs that this one starts are executed in its process")
        return None
    return Launcher(instance, run.remote_job_origin.repository_origin, run.job_code_origin.repository_origin)
