"""Pruning: old runs are deleted from Dagster's storage, which otherwise only grows.

Ticks of schedules and sensors are Dagster's own to delete: `retention` in dagster.yaml. Nothing in the warehouse is
about runs that Dagster still has to know.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
from dagster._core.storage.event_log import SqliteEventLogStorage

from pwflow_core.config import PlantConfig
from pwflow_core.errors import count
from pwflow_dagster.names import PLANT_TAG, PRUNE_RUNS
from pwflow_dagster.op_jobs import job_of
from pwflow_dagster.run_records import is_active, read_records

__all__ = ["build_pruning_job", "prune_runs"]


def prune_runs(
    instance: dg.DagsterInstance,
    plant: str,
    *,
    keep_days: int,
    now: datetime,
    location: str | None = None,
) -> list[str]:
    """Delete runs that last changed more than some days ago, with their events and their output.

    Kept whatever their age are runs that may still do something, and those that materialized an asset or a partition
    last: the asset page shows them.

    Arguments:
        instance: Where the runs are.
        plant: Name of the plant: runs of another plant in the same instance are kept.
        keep_days: How many days a run is kept.
        now: With its time zone.
        location: Code location of the plant. Runs without a tag that are about no asset are known by it; without it
            they are kept.

    Returns:
        The ids of the runs that were deleted, the oldest first.
    """
    shown = _runs_that_assets_show(instance)
    before = now - timedelta(days=keep_days)
    old = [
        record.dagster_run
        for record in read_records(instance, dg.RunsFilter(updated_before=before))
        if not is_active(record, now)
        and record.dagster_run.run_id not in shown
        and _is_of(instance, record.dagster_run, plant, location)
    ]
    for run in reversed(old):
        instance.delete_run(run.run_id)
        instance.compute_log_manager.delete_logs(prefix=[run.run_id])
        storage = instance.event_log_storage
        if isinstance(
            storage, SqliteEventLogStorage
        ):  # deleting the rows leaves the file of the run as large as it was
            Path(storage.path_for_shard(run.run_id)).unlink(missing_ok=True)
    return [run.run_id for run in reversed(old)]


def build_pruning_job(config: PlantConfig) -> dg.JobDefinition:
    """Return the job that deletes the runs of a plant that are older than the configuration says."""

    @dg.op(description="Deletes runs that are older than schedule.keep_runs_days, with their events and output.")
    def run_pruning(context: dg.OpExecutionContext) -> None:
        keep_days = config.schedule.keep_runs_days
        if keep_days is None:
            context.log.info("All runs are kept: set schedule.keep_runs_days to have old ones deleted.")
            return
        origin = context.run.remote_job_origin
        deleted = prune_runs(
            context.instance,
            config.plant.name,
            keep_days=keep_days,
            now=datetime.now(UTC),
            location=None if origin is None else origin.location_name,
        )
        context.log.info(f"{count(len(deleted), 'run')} deleted, older than {count(keep_days, 'day')}.")

    return job_of(
        run_pruning,
        config.plant.name,
        PRUNE_RUNS,
        "Delete Dagster's record of runs of this plant that are older than schedule.keep_runs_days. Runs that made an "
        "asset or a partition last are kept, and nothing in the warehouse changes. The schedule pruning starts it.",
    )


def _runs_that_assets_show(instance: dg.DagsterInstance) -> set[str]:
    """Return the ids of the runs that materialized an asset last, or one of its partitions."""
    kind = dg.DagsterEventType.ASSET_MATERIALIZATION
    runs = set()
    for key in instance.all_asset_keys():
        if (latest := instance.get_latest_materialization_event(key)) is not None:
            runs.add(latest.run_id)
        by_partition = instance.event_log_storage.get_latest_storage_id_by_partition(key, kind)
        for storage_id in set(by_partition.values()):
            wanted = dg.AssetRecordsFilter(asset_key=key, storage_ids=[storage_id])
            runs |= {record.run_id for record in instance.fetch_materializations(wanted, limit=1).records}
    return runs


def _is_of(instance: dg.DagsterInstance, run: dg.DagsterRun, plant: str, location: str | None) -> bool:
    """Whether a run is of a plant: by its tag, else the assets that it was to make, else its code location."""
    if tagged := run.tags.get(PLANT_TAG):
        return bool(tagged == plant)
    planned = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED)
    keys = [event.asset_key for entry in planned if (event := entry.dagster_event) is not None]
    if keys:
        return all(key is not None and key.path[0] == plant for key in keys)
    origin = run.remote_job_origin
    return location is not None and origin is not None and origin.location_name == location
