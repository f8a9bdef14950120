from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta

import dagster as dg
import pytest

from pwflow_core.config import DriftConfig
from pwflow_dagster.definitions import build
from pwflow_dagster.names import ANSWER_DRIFT, ANSWER_VERDICTS
from pwflow_dagster.sensors import DRIFT_SENSOR, REGIMES_SENSOR
from tests.dagster.conftest import add_verdict, tick

HOLD = "import duckdb, sys; held = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.readline()"


def record_run(instance, request, status, run_id):
    """Put a run on record as the daemon does for a request, ended or not."""
    run = dg.DagsterRun(
        job_name=ANSWER_DRIFT, run_id=run_id, tags=dict(request.tags), status=dg.DagsterRunStatus.STARTED
    )
    instance.add_run(run)
    if status is not dg.DagsterRunStatus.STARTED:
        instance.report_run_failed(run)


def test_without_an_open_verdict_the_tick_says_so(plant):
    add_verdict(plant, "c0002", status="done")
    add_verdict(plant, "c0003", answer="ask", verdict_id="a" * 12)
    with plant.instance() as instance:
        assert tick(plant, instance).skip_message == "No verdict on drift is open."


@pytest.mark.parametrize("policy", ["propose", "observe"])
def test_a_person_decides_where_the_policy_says_so(plant, policy):
    add_verdict(plant, "c0002")
    plant.config = plant.config.model_copy(update={"drift": DriftConfig(policy=policy)})
    with plant.instance() as instance:
        data = tick(plant, instance)
    assert not data.run_requests
    assert policy in data.skip_message


def test_all_open_verdicts_are_answered_by_one_run_with_the_reason_in_its_tags(plant):
    add_verdict(plant, "c0002")
    add_verdict(plant, "c0004", verdict_id="b" * 12)
    with plant.instance() as instance:
        [request] = tick(plant, instance).run_requests
    config = request.run_config["ops"][ANSWER_VERDICTS]["config"]
    assert config["verdict_ids"] == ["0123456789ab", "b" * 12]
    assert request.tags["pwflow/clusters"] == "c0002,c0004"
    assert "c0002 moved" in request.tags["pwflow/reason"]


def test_a_tick_that_is_repeated_asks_for_the_same_run(plant):
    add_verdict(plant, "c0002")
    with plant.instance() as instance:
        keys = {tick(plant, instance).run_requests[0].run_key for _ in range(3)}
    assert len(keys) == 1


def test_a_run_under_way_is_waited_for(plant):
    add_verdict(plant, "c0002")
    with plant.instance() as instance:
        [request] = tick(plant, instance).run_requests
        record_run(instance, request, dg.DagsterRunStatus.STARTED, "11111111-0000-0000-0000-000000000000")
        data = tick(plant, instance)
    assert not data.run_requests
    assert "11111111" in data.skip_message


def test_a_failed_run_is_followed_by_a_pause_and_three_of_them_by_giving_up(plant, monkeypatch):
    add_verdict(plant, "c0002")
    with plant.plant.warehouse.transaction() as connection:
        connection.execute(
            "INSERT INTO mart.cluster_health "
            "VALUES (DATE '2026-01-07', 'c0002', 'drift', 5, 4, 'exceeded', 100, NULL, NULL)"
        )
    with plant.instance() as instance:
        [request] = tick(plant, instance).run_requests
        record_run(instance, request, dg.DagsterRunStatus.FAILURE, "11111111-0000-0000-0000-000000000000")
        assert "tried again in" in tick(plant, instance).skip_message
        monkeypatch.setattr("pwflow_dagster.sensors._PAUSES", (timedelta(0),))
        keys = {request.run_key}
        for number in (2, 3):
            [request] = tick(plant, instance).run_requests
            keys.add(request.run_key)
            assert len(request.run_config["ops"][ANSWER_VERDICTS]["config"]["given_up"]) == number - 1
            record_run(instance, request, dg.DagsterRunStatus.FAILURE, f"{number}" * 8 + "-0000-0000-0000-000000000000")
        data = tick(plant, instance)
        assert len(keys) == 3
        assert not data.run_requests
        assert "given up after 3 runs" in data.skip_message
    assert plant.query("SELECT status FROM mart.drift_verdicts") == [("failed",)]
    assert plant.query("SELECT verdict FROM mart.cluster_health WHERE channel = 'drift'") == [("refit_failed",)]
    [(in_force,)] = plant.query("SELECT count(*) FROM mart.flow_versions WHERE cluster_key = 'c0002' AND in_force")
    assert in_force == 1


def test_a_warehouse_that_is_held_by_another_process_is_a_reason_to_skip(plant, monkeypatch):
    monkeypatch.setattr("pwflow_dagster.sensors._WAIT_SECONDS", 0.2)
    add_verdict(plant, "c0002")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(plant.config.warehouse_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with plant.instance() as instance:
            data = tick(plant, instance)
    finally:
        holder.communicate("go\n", timeout=20)
    assert not data.run_requests
    assert "is held by" in data.skip_message


def test_regimes_without_a_flow_are_asked_for_once(plant):
    with plant.instance() as instance:
        assert tick(plant, instance, REGIMES_SENSOR).skip_message == "Every regime in use has a flow."
        with plant.plant.warehouse.transaction() as connection:
            connection.execute("UPDATE mart.flow_versions SET in_force = false WHERE cluster_key = 'c0003'")
        requests = [tick(plant, instance, REGIMES_SENSOR).run_requests for _ in range(2)]
    assert [len(asked) for asked in requests] == [1, 1]
    assert requests[0][0].run_key == requests[1][0].run_key
    assert "c0003" in requests[0][0].tags["pwflow/reason"]


def test_before_anything_was_learned_both_sensors_say_so(plant):
    plant.config.warehouse_path.unlink()
    with plant.instance() as instance:
        for sensor in (DRIFT_SENSOR, REGIMES_SENSOR):
            assert "There is no warehouse" in tick(plant, instance, sensor).skip_message


def test_run_configuration_of_a_request_is_valid_for_the_job(plant):
    add_verdict(plant, "c0002")
    with plant.instance() as instance:
        [request] = tick(plant, instance).run_requests
        job = build(plant.config).resolve_job_def(ANSWER_DRIFT)
    assert dg.validate_run_config(job, json.loads(json.dumps(request.run_config)))


@pytest.mark.long(reason="12 CPU s: three failures on record are told apart at each push")
def test_a_refit_that_really_fails_three_times_leaves_the_old_flow_in_force(plant, monkeypatch):
    monkeypatch.setattr("pwflow_dagster.sensors._PAUSES", (timedelta(0),))
    before = plant.query("SELECT flow_version FROM mart.flow_versions WHERE cluster_key = 'c0002' AND in_force")
    add_verdict(plant, "c0002")
    with plant.plant.warehouse.transaction() as connection:
        connection.execute(
            "INSERT INTO mart.cluster_health "
            "VALUES (DATE '2026-01-07', 'c0002', 'drift', 5, 4, 'exceeded', 100, NULL, NULL)"
        )
    models = plant.folder / "models"
    models.rename(plant.folder / "away")
    models.write_text("no folder")
    with plant.instance() as instance:
        for _ in range(3):
            [request] = tick(plant, instance).run_requests
            result = (
                build(plant.config)
                .resolve_job_def(ANSWER_DRIFT)
                .execute_in_process(
                    instance=instance, run_config=request.run_config, tags=request.tags, raise_on_error=False
                )
            )
            assert not result.success
        assert "given up after 3 runs" in tick(plant, instance).skip_message
    assert plant.query("SELECT status FROM mart.drift_verdicts") == [("failed",)]
    assert plant.query("SELECT verdict FROM mart.cluster_health WHERE channel = 'drift'") == [("refit_failed",)]
    models.unlink()
    (plant.folder / "away").rename(models)
    assert plant.run()[-1].error is None
    assert plant.query("SELECT flow_version FROM mart.flow_versions WHERE cluster_key = 'c0002' AND in_force") == before
