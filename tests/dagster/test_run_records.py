"""Whose a run on record is: several plants, and projects other than pwflow, may share one Dagster."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, ScheduleInstigatorData
from dagster._daemon.types import DaemonHeartbeat

from pwflow_core.demo import demo_config
from pwflow_dagster import run_records
from pwflow_dagster.definitions import build
from pwflow_dagster.names import NIGHTLY, NIGHTLY_SCORING, PLANT_JOBS, PLANT_TAG, SHORT_CYCLE
from pwflow_dagster.pruning import prune_runs
from pwflow_dagster.run_records import examine_runs, find_last_run, read_runs
from pwflow_dagster.sensors import REGIMES_SENSOR
from tests.dagster.conftest import tick

SUCCESS, STARTED = dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.STARTED


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as made:
        yield made


def add_run(instance, job=NIGHTLY_SCORING, *, plant=None, status=SUCCESS, assets=()) -> str:
    tags = {PLANT_TAG: plant} if plant else {}
    selection = frozenset(dg.AssetKey(list(key)) for key in assets) or None
    run_id = str(uuid.uuid4())
    instance.add_run(dg.DagsterRun(job, run_id, tags=tags, status=status, asset_selection=selection))
    return run_id


def test_the_jobs_of_a_plant_are_listed_and_their_runs_say_whose_they_are():
    own = [job for job in build(demo_config()).resolve_all_job_defs() if not job.name.startswith("__")]
    assert sorted(job.name for job in own) == sorted(PLANT_JOBS)
    assert {job.tags.get(PLANT_TAG) for job in own} == {"demo"}


def test_the_runs_of_a_plant_are_found_however_many_of_others_came_later(instance, monkeypatch):
    monkeypatch.setattr(run_records, "_PAGE", 2)
    mine = [
        add_run(instance, plant="demo"),
        add_run(instance),
        add_run(instance, "__ASSET_JOB", assets=[("demo", "readings")]),
    ]
    for _ in range(100):
        add_run(instance, plant="other")
        add_run(instance, "load_invoices")
        add_run(instance, "__ASSET_JOB", assets=[("other", "readings")])
    assert [run.run_id for run in read_runs(instance, "demo")] == mine[::-1]
    assert [run.run_id for run in read_runs(instance, "demo", most=2)] == mine[:0:-1]
    assert find_last_run(instance, "demo").run_id == mine[-1]


def test_a_decision_is_pruned_by_its_tag_wherever_its_code_came_from(instance):
    mine, other = add_run(instance, "dismiss", plant="demo"), add_run(instance, "dismiss", plant="other")
    later = datetime.now(UTC) + timedelta(days=100)
    assert prune_runs(instance, "demo", keep_days=99, now=later, location="elsewhere") == [mine]
    assert [run.run_id for run in instance.get_runs()] == [other]


@pytest.mark.parametrize(("stopped", "is_well"), [("pruning", True), (NIGHTLY, False)])
def test_only_the_schedule_of_the_night_has_to_run(instance, stopped, is_well):
    instance.add_daemon_heartbeat(DaemonHeartbeat(time.time(), "SCHEDULER", None, []))
    origin = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("pwflow"), "__repository__")
    instance.add_instigator_state(
        InstigatorState(
            origin.get_instigator_origin(stopped),
            InstigatorType.SCHEDULE,
            InstigatorStatus.STOPPED,
            ScheduleInstigatorData("0 5 * * 0"),
        )
    )
    [schedule] = [facts for facts in examine_runs(instance, demo_config()) if facts[0] == "schedule"]
    assert schedule[1] is is_well


def test_short_cycles_are_no_night_however_many_there_are(instance):
    instance.add_daemon_heartbeat(DaemonHeartbeat(time.time(), "SCHEDULER", None, []))
    for _ in range(3):
        add_run(instance, SHORT_CYCLE, plant="demo")
    facts = {facts[0]: facts for facts in examine_runs(instance, demo_config())}
    assert facts["schedule"][2] == "the daemon of Dagster runs; nothing has been scored yet"
    assert facts["last run"][1:3] == (True, "short_cycle: success")


def test_a_run_of_another_plant_holds_up_no_sensor(plant):
    with plant.plant.warehouse.transaction() as connection:
        connection.execute("UPDATE mart.flow_versions SET in_force = false WHERE cluster_key = 'c0003'")
    with plant.instance() as instance:
        add_run(instance, plant="other", status=STARTED)
        assert len(tick(plant, instance, REGIMES_SENSOR).run_requests) == 1
        add_run(instance, plant="small", status=STARTED)
        assert "is under way" in tick(plant, instance, REGIMES_SENSOR).skip_message
