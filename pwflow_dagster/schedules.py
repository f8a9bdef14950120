"""Schedules: the night, and once a week old runs."""

import dagster as dg

from pwflow_core.config import ScheduleConfig
from pwflow_dagster.names import NIGHTLY, NIGHTLY_SCORING, PRUNE_RUNS
from pwflow_dagster.partitions import partition_range_tags

__all__ = ["build_nightly_schedule", "build_pruning_schedule"]


def build_nightly_schedule(
    schedule: ScheduleConfig, partitions: dg.DynamicPartitionsDefinition
) -> dg.ScheduleDefinition:
    """Return the schedule of the nightly job, running by default."""

    @dg.schedule(
        name=NIGHTLY,
        job_name=NIGHTLY_SCORING,
        cron_schedule=schedule.cron,
        execution_timezone=schedule.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Scores what arrived since the last night.",
    )
    def nightly(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        keys = context.instance.get_dynamic_partitions(str(partitions.name))
        if not keys:
            return dg.SkipReason("No regimes have been learned yet: run `pwflow run` or the job whole_path once.")
        return dg.RunRequest(run_key=context.scheduled_execution_time.isoformat(), tags=partition_range_tags(keys))

    return nightly


def build_pruning_schedule(schedule: ScheduleConfig) -> dg.ScheduleDefinition:
    """Return the schedule that deletes old runs; it runs by default where the configuration says how old they get."""
    is_wanted = schedule.keep_runs_days is not None
    return dg.ScheduleDefinition(
        name="pruning",
        job_name=PRUNE_RUNS,
        cron_schedule="0 5 * * 0",
        execution_timezone=schedule.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING if is_wanted else dg.DefaultScheduleStatus.STOPPED,
        description="Deletes Dagster's record of runs that are older than schedule.keep_runs_days.",
    )
