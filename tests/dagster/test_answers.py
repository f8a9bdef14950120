"""Answers to verdicts on drift: as few runs as there are neighbours, and none that waits for another."""

from datetime import timedelta

import dagster as dg
import duckdb
import pytest

from pwflow_core.errors import RegimeError
from pwflow_core.pipeline.decisions.verdicts import Decider, claim_verdicts
from pwflow_dagster.definitions import build
from pwflow_dagster.names import ANSWER_DRIFT, ANSWER_VERDICTS, RETRAIN_CLUSTER, op_config, verdict_tags
from pwflow_dagster.runs import answer_verdict, answer_verdicts
from tests.dagster.conftest import add_verdict, tick

IDS = ("a" * 12, "b" * 12)


def answer(made, instance):
    return list(answer_verdicts(made.runner(instance), IDS, by=Decider("the drift sensor", "the-run")))


def statuses(made):
    return dict(made.query("SELECT verdict_id, status FROM mart.drift_verdicts"))


def published_statuses(made):
    with duckdb.connect(str(made.config.published_path), read_only=True) as connection:
        return dict(connection.execute("SELECT verdict_id, status FROM mart.drift_verdicts").fetchall())


def test_regimes_that_moved_together_are_learned_again_in_one_run(plant):
    add_verdict(plant, "c0002", verdict_id=IDS[0])
    add_verdict(plant, "c0003", verdict_id=IDS[1])
    with plant.instance() as instance:
        [outcome] = answer(plant, instance)
    assert (outcome.job, outcome.error) == (RETRAIN_CLUSTER, None)
    assert statuses(plant) == dict.fromkeys(IDS, "done")
    assert published_statuses(plant) == dict.fromkeys(IDS, "done"), "analysts see the answer as soon as the new scores"
    decided = plant.query("SELECT DISTINCT cluster_key FROM mart.flow_decisions WHERE run_id = 'the-run'")
    assert sorted(decided) == [("c0002",), ("c0003",)]


def test_a_verdict_that_cannot_be_answered_holds_up_no_other(plant):
    add_verdict(plant, "c0002", verdict_id=IDS[0])
    add_verdict(plant, "c0003", verdict_id=IDS[1])
    with plant.plant.warehouse.transaction() as connection:
        connection.execute("UPDATE mart.drift_verdicts SET since = DATE '2030-01-01' WHERE verdict_id = ?", [IDS[0]])
    with plant.instance() as instance:
        outcomes = answer(plant, instance)
    assert [outcome.error is None for outcome in outcomes] == [False, True]
    assert "c0002 has no readings to learn from" in outcomes[0].error
    assert statuses(plant) == {IDS[0]: "requested", IDS[1]: "done"}


def test_what_no_run_can_answer_is_refused_with_a_sentence_and_stays_open(plant):
    add_verdict(plant, "c0002", verdict_id=IDS[0], answer="ask")
    job = build(plant.config).resolve_job_def(ANSWER_DRIFT)
    for given, said in ((IDS[0], "No run can answer"), (IDS[1], f"an open verdict in mart.drift_verdicts ({IDS[0]})")):
        chosen = op_config(ANSWER_VERDICTS, verdict_ids=[given])
        with plant.instance() as instance:
            done = job.execute_in_process(instance=instance, run_config=chosen, raise_on_error=False)
        [failure] = [event.step_failure_data for event in done.all_events if event.is_step_failure]
        assert said in failure.user_failure_data.description
    assert statuses(plant) == {IDS[0]: "open"}


@pytest.mark.long(reason="8 CPU s: that what cannot be answered holds up no other stays")
def test_shares_that_cannot_be_weighed_are_said_and_hold_up_no_training(plant):
    add_verdict(plant, "c0099", verdict_id=IDS[0], answer="update_weights")
    add_verdict(plant, "c0003", verdict_id=IDS[1])
    with plant.instance() as instance:
        outcomes = answer(plant, instance)
    assert [outcome.job for outcome in outcomes] == [RETRAIN_CLUSTER, ANSWER_DRIFT]
    assert "c0099" in outcomes[1].error
    assert statuses(plant)[IDS[1]] == "done"


@pytest.mark.long(reason="8 CPU s: a verdict that is done is left alone in test_sensors.py")
def test_the_sensor_knows_of_a_run_that_a_person_started(plant):
    add_verdict(plant, "c0002", verdict_id=IDS[0])
    with plant.instance() as instance:
        outcome = answer_verdict(plant.runner(instance), IDS[0])
        assert instance.get_run_by_id(outcome.run_id).tags.items() >= verdict_tags([IDS[0]]).items()
        assert tick(plant, instance).skip_message == "No verdict on drift is open."
    assert statuses(plant) == {IDS[0]: "done"}


def test_a_verdict_whose_run_was_killed_is_waited_for_but_not_for_ever(plant, monkeypatch):
    add_verdict(plant, "c0002", verdict_id=IDS[0])
    killed = "11111111-0000-0000-0000-000000000000"
    claim_verdicts(plant.plant, [IDS[0]], by=Decider("kim", killed))
    with plant.instance() as instance:
        instance.add_run(dg.DagsterRun(job_name=ANSWER_DRIFT, run_id=killed, status=dg.DagsterRunStatus.STARTED))
        with pytest.raises(RegimeError, match=r"Run 11111111 is answering .* If it was killed, terminate it"):
            answer_verdict(plant.runner(instance), IDS[0])
        monkeypatch.setattr("pwflow_dagster.run_records._LONGEST_RUN", timedelta(0))
        assert answer_verdict(plant.runner(instance), IDS[0]).error is None
    assert statuses(plant) == {IDS[0]: "done"}
