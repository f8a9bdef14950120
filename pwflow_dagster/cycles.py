"""Short cycles: what is scored between two nights, by a schedule, and never while another run of the plant scores.

A cycle is skipped while another run is under way; a run that scores waits for a cycle that is. Both together would do
no harm, for each step is one transaction, but would do the same work twice.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg

from pwflow_core.config import PlantConfig
from pwflow_dagster.names import CYCLES, DELIVER_NOTICES, PRUNE_RUNS, SEEN_TAG, SHORT_CYCLE
from pwflow_dagster.partitions import partition_range_tags
from pwflow_dagster.run_records import NOT_ENDED, is_active, records_of_plant

__all__ = ["build_cycles_schedule", "wait_for_cycle"]

_LONGEST_CYCLE = timedelta(hours=1)
"""A cycle that began longer ago and did not end was killed."""
_AT_WORK = (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)
_PAUSE_SECONDS = 2.0


def build_cycles_schedule(
    config: PlantConfig, partitions: dg.DynamicPartitionsDefinition
) -> list[dg.ScheduleDefinition]:
    """Return the schedule of short cycles, running by default; none where `schedule.every_minutes` is not given."""
    minutes = config.schedule.every_minutes
    if minutes is None:
        return []

    @dg.schedule(
        name=CYCLES,
        job_name=SHORT_CYCLE,
        cron_schedule="0 * * * *" if minutes == 60 else f"*/{minutes} * * * *",
        execution_timezone=config.schedule.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Scores what arrived since, if anything has, and if no other run of the plant is under way.",
    )
    def cycles(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        from pwflow_core.errors import PwflowError
        from pwflow_core.pipeline.source.source import digest_files

        keys = context.instance.get_dynamic_partitions(str(partitions.name))
        if not keys:
            return dg.SkipReason("No regimes have been learned yet: run `pwflow run` or the job whole_path once.")
        if (active := _active_run(context.instance, config.plant.name)) is not None:
            return dg.SkipReason(f"Run {active.run_id[:8]} of {active.job_name} is under way.")
        try:
            seen = digest_files(config)
        except PwflowError as error:
            return dg.SkipReason(str(error))
        if seen is not None and seen == _seen_last(context.instance, config.plant.name):
            return dg.SkipReason("No file of the source has changed since the last cycle.")
        return dg.RunRequest(
            run_key=context.scheduled_execution_time.isoformat(),
            tags=partition_range_tags(keys) | ({} if seen is None else {SEEN_TAG: seen}),
        )

    return [cycles]


def wait_for_cycle(context: dg.AssetExecutionContext, plant_name: str) -> None:
    """Wait until no short cycle is under way, if the run is not one itself."""
    if context.run.job_name == SHORT_CYCLE:
        return
    while (active := _active_run(context.instance, plant_name, SHORT_CYCLE, statuses=_AT_WORK)) is not None:
        context.log.info(f"Waiting for run {active.run_id[:8]} of {SHORT_CYCLE} to end.")
        time.sleep(_PAUSE_SECONDS)


def _active_run(
    instance: dg.DagsterInstance,
    plant_name: str,
    job: str | None = None,
    *,
    statuses: Sequence[dg.DagsterRunStatus] = NOT_ENDED,
) -> dg.DagsterRun | None:
    """Return a run that has not ended and writes scores or models, of one job or of any."""
    now = datetime.now(UTC)
    for record in records_of_plant(instance, plant_name, dg.RunsFilter(job_name=job, statuses=list(statuses))):
        run = record.dagster_run
        if run.job_name in (DELIVER_NOTICES, PRUNE_RUNS) or not is_active(record, now):
            continue
        if run.job_name == SHORT_CYCLE and now - record.update_timestamp > _LONGEST_CYCLE:
            continue
        return run
    return None


def _seen_last(instance: dg.DagsterInstance, plant_name: str) -> str | None:
    """Return what the files of the source were for the last cycle that succeeded."""
    wanted = dg.RunsFilter(job_name=SHORT_CYCLE, statuses=[dg.DagsterRunStatus.SUCCESS])
    record = next(records_of_plant(instance, plant_name, wanted), None)
    return None if record is None else record.dagster_run.tags.get(SEEN_TAG)
