"""Asset checks in Dagster: a fault stops the run, and what was published before stays, byte by byte."""

from __future__ import annotations

import hashlib

import dagster as dg
import pytest

from pwflow_core.pipeline.scoring.checks import check_scores
from pwflow_dagster.definitions import build
from pwflow_dagster.names import NIGHTLY_SCORING, RETRAIN_CLUSTER, TRAIN_AND_SCORE
from pwflow_dagster.partitions import partition_range_tags

KEYS = ["c0001", "c0002", "c0003", "c0004"]
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
FAULTS = {
    "rows_balance": "DELETE FROM mart.anomaly_scores WHERE ts < '2026-01-05 01:00'",
    "schema_is_unchanged": "ALTER TABLE mart.flow_versions ALTER train_seconds TYPE VARCHAR",
    "model_sets_agree": "UPDATE mart.anomaly_scores SET model_set_id = 'other' WHERE ts < '2026-01-05 01:00'",
    "p_values_are_uniform": (
        "UPDATE core.component_log_density SET conformity = conformity - 5 WHERE cluster_key = 'c0001';"
        "DELETE FROM core.progress WHERE step = 'scores'"
    ),
}


def published(plant) -> str:
    return hashlib.sha256(plant.config.published_path.read_bytes()).hexdigest()


def break_it(plant, statements: str) -> None:
    with plant.plant.warehouse.transaction() as connection:
        connection.execute(statements)


def evaluations(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {check.check_name: check.passed for check in result.get_asset_check_evaluations()}


AT_NIGHT = pytest.mark.long(reason="5 CPU s each: one stops a run at each push, and all are failed in tests/pipeline")


@pytest.mark.parametrize(
    "check", [check if check == "rows_balance" else pytest.param(check, marks=AT_NIGHT) for check in FAULTS]
)
def test_a_fault_fails_the_nightly_run_with_its_sentence_and_leaves_what_was_published(plant, check):
    before = published(plant)
    break_it(plant, FAULTS[check])
    [outcome] = plant.run()
    [failed] = [result for result in check_scores(plant.plant) if result.is_blocking and not result.passed]
    assert failed.name == check
    assert outcome.error is not None
    assert outcome.error.startswith(failed.sentence)
    assert "what was published before stays in use" in outcome.error
    assert published(plant) == before


@pytest.mark.parametrize("job", [NIGHTLY_SCORING, TRAIN_AND_SCORE, RETRAIN_CLUSTER])
def test_every_job_that_scores_checks(plant, job):
    with plant.instance():  # Dagster remembers the last instance, even when it has gone
        definition = build(plant.config).resolve_job_def(job)
    checks = {key.name for key in definition.asset_layer.asset_graph.asset_check_keys}
    of_flows = {"new_flows_are_in_use"}
    assert checks - of_flows == {result.name for result in check_scores(plant.plant)} | {"no_flood_of_cases"}
    assert of_flows <= checks or job == NIGHTLY_SCORING, "a job that trains says which new flows are in use"


def test_a_blocking_check_stops_everything_downstream(plant):
    break_it(plant, FAULTS["rows_balance"])
    with plant.instance() as instance:
        result = (
            build(plant.config)
            .resolve_job_def(NIGHTLY_SCORING)
            .execute_in_process(
                instance=instance, run_config=QUIET, raise_on_error=False, tags=partition_range_tags(KEYS)
            )
        )
    assert not result.success
    assert evaluations(result)["rows_balance"] is False
    materialized = {event.asset_key.path[-1] for event in result.get_asset_materialization_events()}
    assert "anomaly_scores" in materialized
    assert not materialized & {"cluster_health", "published_warehouse"}


@pytest.mark.parametrize("asset", ["anomaly_scores", "published_warehouse"])
def test_a_click_on_one_asset_cannot_get_around_the_checks(plant, asset):
    """Checks run with the scores; a click on the publication alone is refused by the publication itself."""
    before = published(plant)
    break_it(plant, FAULTS["rows_balance"])
    with plant.instance() as instance:
        result = (
            build(plant.config)
            .resolve_implicit_global_asset_job_def()
            .execute_in_process(
                instance=instance,
                asset_selection=[dg.AssetKey(["small", asset])],
                run_config=QUIET,
                raise_on_error=False,
            )
        )
    assert not result.success
    if asset == "anomaly_scores":
        assert evaluations(result)["rows_balance"] is False
    else:
        [failure] = [event for event in result.all_events if event.is_step_failure]
        assert "Nothing was published" in failure.step_failure_data.user_failure_data.description
    assert published(plant) == before


def test_a_night_of_alarms_only_warns(plant):
    before = published(plant)
    break_it(
        plant,
        "UPDATE mart.anomaly_scores SET is_anomaly = true, scored_at = scored_at + INTERVAL 1 SECOND "
        "WHERE status = 'scored' AND ts >= '2026-01-07'",
    )
    [outcome] = plant.run()
    assert outcome.error is None
    [warning] = outcome.warnings
    assert "2026-01-07" in warning
    assert published(plant) != before


def test_the_checks_of_a_plant_in_order_pass_and_are_described(finished):
    with finished.instance() as instance:
        key = dg.AssetKey(["small", "anomaly_scores"])
        for result in check_scores(finished.plant):
            [record] = instance.event_log_storage.get_asset_check_execution_history(
                dg.AssetCheckKey(key, result.name), limit=1
            )
            evaluation = record.event.dagster_event.event_specific_data
            assert evaluation.passed == result.passed
            assert evaluation.description == result.sentence
            assert evaluation.blocking == result.is_blocking
