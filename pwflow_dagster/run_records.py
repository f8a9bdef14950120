"""Runs on record: those of a plant, what became of them, and whether the schedule goes on."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING

import dagster as dg

from pwflow_core.config import PlantConfig
from pwflow_dagster.names import (
    ANSWER_DRIFT,
    DECIDED_BY_TAG,
    LEARN_REGIMES,
    NIGHTLY,
    PLANT_JOBS,
    PLANT_TAG,
    REASON_TAG,
    SCORING_JOBS,
    SHORT_CYCLE,
)

if TYPE_CHECKING:
    from pwflow_core.pipeline.publishing.runs import PlantRun

__all__ = [
    "NOT_ENDED",
    "examine_runs",
    "find_last_run",
    "find_late_scoring",
    "is_active",
    "read_failure",
    "read_records",
    "read_runs",
    "records_of_plant",
    "usual_pause",
]

_LONGEST_RUN = timedelta(hours=12)
_ENDED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
NOT_ENDED = tuple(status for status in dg.DagsterRunStatus if status not in _ENDED)
"""Statuses of a run that may still do something."""
_MOST_READ = 200
_PAGE = 200
_HEARTBEAT = timedelta(minutes=5)
"""A daemon that has not said that it runs for so long does not; it says so every 30 seconds."""
_DAY, _WEEK = timedelta(hours=26), timedelta(days=8)
_STARTERS = (
    (DECIDED_BY_TAG, "{}"),
    ("dagster/schedule_name", "the schedule {}"),
    ("dagster/sensor_name", "the sensor {}"),
    ("dagster/user", "{}"),
)
"""Tags that say who or what started a run, and how that is written; the first one counts."""

Facts = tuple[str, bool, str, str]
"""What a finding is made of: what it is about, whether that is well, a sentence, and what to do."""


def is_active(record: dg.RunRecord, now: datetime) -> bool:
    """Whether a run may still do something; one that was killed stays under way on record, but not for ever."""
    return record.dagster_run.status not in _ENDED and now - record.update_timestamp < _LONGEST_RUN


def read_records(instance: dg.DagsterInstance, filters: dg.RunsFilter | None = None) -> Iterator[dg.RunRecord]:
    """Yield the records of runs, the newest first, page by page."""
    cursor = None
    while records := instance.get_run_records(filters, limit=_PAGE, cursor=cursor):
        yield from records
        cursor = records[-1].dagster_run.run_id


def records_of_plant(
    instance: dg.DagsterInstance, plant_name: str, filters: dg.RunsFilter | None = None
) -> Iterator[dg.RunRecord]:
    """Yield the records of runs of a plant, the newest first; other plants and projects may share the instance."""
    return (record for record in read_records(instance, filters) if _is_of(record.dagster_run, plant_name))


def read_failure(instance: dg.DagsterInstance, run_id: str) -> str | None:
    """Return the sentence of the step of a run on record that failed first; None if there is none."""
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
        data = entry.get_dagster_event().step_failure_data
        if data.user_failure_data and data.user_failure_data.description:
            return str(data.user_failure_data.description)
    return None


def read_runs(instance: dg.DagsterInstance, plant_name: str, *, most: int = _MOST_READ) -> list[PlantRun]:
    """Return the last runs of a plant, the one that was asked for last first."""
    from pwflow_core.pipeline.publishing.runs import PlantRun
    from pwflow_core.warehouse import in_utc

    def moment(seconds: float | None) -> datetime | None:
        return None if seconds is None else in_utc(datetime.fromtimestamp(seconds, UTC))

    runs: list[PlantRun] = []
    for record in islice(records_of_plant(instance, plant_name), most):
        run, started, ended = record.dagster_run, record.start_time, record.end_time
        failed = run.status is dg.DagsterRunStatus.FAILURE
        runs.append(
            PlantRun(
                run.run_id,
                run.job_name,
                run.status.value.lower(),
                moment(started),
                moment(ended),
                None if started is None or ended is None else ended - started,
                next((said.format(run.tags[tag]) for tag, said in _STARTERS if tag in run.tags), None),
                run.tags.get(REASON_TAG),
                read_failure(instance, run.run_id) if failed else None,
            )
        )
    return runs


def find_last_run(instance: dg.DagsterInstance, plant_name: str) -> PlantRun | None:
    """Return the run of a plant that was asked for last; None if there is none."""
    return next(iter(read_runs(instance, plant_name, most=1)), None)


def usual_pause(config: PlantConfig) -> timedelta:
    """Return how long after a scoring the next one is late, by the schedule."""
    return _DAY if config.schedule.cron.split()[-3:] == ["*", "*", "*"] else _WEEK


def find_late_scoring(instance: dg.DagsterInstance, config: PlantConfig, now: datetime) -> dg.RunRecord | None:
    """Return the last scoring if the next one is late and nothing else says so; `now` has a zone.

    A scoring that failed says so itself, one under way will end, and a schedule that a person stopped is not late.
    """
    if (NIGHTLY, "STOPPED") in _instigators(instance):
        return None
    ended = []
    for job in SCORING_JOBS:
        wanted = dg.RunsFilter(job_name=job, statuses=[dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE])
        ended += [
            record for record in islice(records_of_plant(instance, config.plant.name, wanted), 1) if record.end_time
        ]
    last = max(ended, key=lambda record: record.end_time or 0.0, default=None)
    if last is None or last.dagster_run.status is not dg.DagsterRunStatus.SUCCESS:
        return None
    return last if now.timestamp() - (last.end_time or 0.0) > usual_pause(config).total_seconds() else None


def _instigators(instance: dg.DagsterInstance) -> list[tuple[str, str]]:
    return [(state.instigator_name, state.status.value) for state in instance.all_instigator_state()]


def examine_runs(instance: dg.DagsterInstance, config: PlantConfig) -> Iterator[Facts]:
    """Say whether the schedule goes on, and how the last run ended."""
    from pwflow_core.warehouse import utc_now

    runs = read_runs(instance, config.plant.name)
    yield _examine_schedule(instance, config, utc_now())
    # a decision that was refused was seen by who made it
    last = next((run for run in runs if run.job in (*SCORING_JOBS, SHORT_CYCLE, LEARN_REGIMES, ANSWER_DRIFT)), None)
    if last is None:
        yield "last run", False, "no run is on record in this Dagster instance", "run `pwflow run`"
    elif last.outcome == "failure":
        why = f": {last.error}" if last.error else ""
        yield "last run", False, f"{last.job} failed{why}", f"`pwflow run`, or look at {last.run_id[:8]} in `pwflow ui`"
    else:
        yield "last run", True, f"{last.job}: {last.outcome}", ""


def _examine_schedule(instance: dg.DagsterInstance, config: PlantConfig, now: datetime) -> Facts:
    usual = usual_pause(config)
    done = _last_nights(instance, config.plant.name)
    scored = f"the last scoring ended on {max(done):%Y-%m-%d %H:%M} UTC" if done else "nothing has been scored yet"
    beats = [beat.timestamp for beat in instance.get_daemon_heartbeats().values()]
    is_alive = bool(beats) and now.replace(tzinfo=UTC).timestamp() - max(beats) < _HEARTBEAT.total_seconds()
    is_off = (NIGHTLY, "STOPPED") in _instigators(instance)
    if is_alive and is_off:
        return (
            "schedule",
            False,
            f"the schedule {NIGHTLY} is switched off in Dagster; {scored}",
            "switch it on in `pwflow ui`",
        )
    if is_alive and (not done or now - max(done) < usual):
        return "schedule", True, f"the daemon of Dagster runs; {scored}", ""
    if done and now - max(done) < usual:
        return "schedule", True, f"{scored}; the daemon of Dagster does not run, so something else starts the runs", ""
    what = "the daemon of Dagster runs" if is_alive else "the daemon of Dagster does not run"
    step = "look at the last runs in `pwflow ui`" if is_alive else "start `pwflow ui`, or have cron call `pwflow run`"
    return "schedule", False, f"{what}, and {scored}", step


def _last_nights(instance: dg.DagsterInstance, plant_name: str) -> list[datetime]:
    """Return when the last success of each job ended that does all that a night does, UTC."""
    from pwflow_core.warehouse import in_utc

    ended = []
    for job in SCORING_JOBS:
        wanted = dg.RunsFilter(job_name=job, statuses=[dg.DagsterRunStatus.SUCCESS])
        record = next(records_of_plant(instance, plant_name, wanted), None)
        if record is not None and record.end_time is not None:
            ended.append(in_utc(datetime.fromtimestamp(record.end_time, UTC)))
    return ended


def _is_of(run: dg.DagsterRun, plant_name: str) -> bool:
    """Whether a run is one of a plant: by its tag, else by its assets, else, of earlier releases, by its job."""
    if tagged := run.tags.get(PLANT_TAG):
        return bool(tagged == plant_name)
    if run.asset_selection:
        return any(key.path[0] == plant_name for key in run.asset_selection)
    return run.job_name in PLANT_JOBS
