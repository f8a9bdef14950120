"""People are told by runs and sensors: what fails there fails no run, and every failed run is noted once."""

from __future__ import annotations

from datetime import timedelta

import dagster as dg
import pytest

from pwflow_core.notifying.delivering import tell
from pwflow_core.notifying.outbox import Outbox
from pwflow_core.pipeline.decisions.verdicts import Decider, dismiss_verdict
from pwflow_core.warehouse import utc_now
from pwflow_dagster.assets.publication import tell_what_is_new
from pwflow_dagster.definitions import build
from pwflow_dagster.names import DELIVER_NOTICES, DISMISS, NIGHTLY_SCORING, SHORT_CYCLE, TRAIN_AND_SCORE, WHOLE_PATH
from pwflow_dagster.sensors import FAILURE_SENSOR, NOTIFY_SENSOR
from tests.conftest import open_plant
from tests.notifying.conftest import make_notified, receiver, record, verdict  # noqa: F401 - fixtures


@pytest.fixture
def instance(tmp_path):
    with dg.DagsterInstance.local_temp(str(tmp_path)) as made:
        yield made


def tick(plant, instance):
    definitions = build(plant.config)
    sensor = definitions.resolve_sensor_def(NOTIFY_SENSOR)
    return sensor.evaluate_tick(dg.build_sensor_context(instance=instance, definitions=definitions))


def fail(instance, job, **changes):
    run = dg.DagsterRun(job_name=job, status=dg.DagsterRunStatus.STARTED, **changes)
    instance.add_run(run)
    instance.report_run_failed(run, "the disk is full")
    return run


def note_failure(plant, instance, run):
    sensor = build(plant.config).resolve_sensor_def(FAILURE_SENSOR)
    [event] = [
        entry.dagster_event
        for entry in instance.all_logs(run.run_id)
        if entry.dagster_event and entry.dagster_event.event_type is dg.DagsterEventType.RUN_FAILURE
    ]
    context = dg.build_run_status_sensor_context(FAILURE_SENSOR, event, instance, instance.get_run_by_id(run.run_id))
    return sensor(context.for_run_failure())


def test_without_targets_nobody_is_told_and_nothing_is_asked_for(tmp_path, instance):
    plant = open_plant(tmp_path)
    record(plant, verdict("1"))
    assert "none" in tell_what_is_new(plant)["targets"]
    assert "[notify.targets.NAME]" in tick(plant, instance).skip_message
    assert not plant.config.outbox_path.exists()


def test_a_target_that_is_gone_fails_no_run_and_has_the_sensor_ask_again(make_notified, instance, monkeypatch):  # noqa: F811
    plant = make_notified()
    monkeypatch.setenv("TEST_HOOK_URL", "http://127.0.0.1:9/hook")
    record(plant, verdict("1"))
    assert "127.0.0.1" not in str(tell_what_is_new(plant)["new"])
    assert "due" not in tick(plant, instance).skip_message, "not before a minute has passed"
    keys = []
    for minutes in (0, 2, 8):
        now = utc_now() + timedelta(minutes=minutes)
        monkeypatch.setattr("pwflow_core.warehouse.in_utc", lambda _, now=now: now)
        if requests := tick(plant, instance).run_requests:
            keys += [request.run_key for request in requests]
            assert keys[-1] == tick(plant, instance).run_requests[0].run_key, "a tick that is repeated"
            tell(plant, now=now)
    assert len(set(keys)) == len(keys) == 2


def test_what_a_killed_run_left_untold_and_what_a_person_decided_has_the_sensor_ask(make_notified, receiver, instance):  # noqa: F811
    plant = make_notified()
    record(plant, verdict("1"))
    [first] = tick(plant, instance).run_requests
    job = build(plant.config).resolve_job_def(DELIVER_NOTICES)
    assert job.execute_in_process(instance=instance).success
    assert len(receiver.got) == 1
    assert tick(plant, instance).skip_message == "Everybody was told everything."
    dismiss_verdict(plant, "1", by=Decider("me"))
    [second] = tick(plant, instance).run_requests
    assert first.run_key != second.run_key


def test_while_a_run_scores_the_sensor_waits_for_it(make_notified, instance):  # noqa: F811
    plant = make_notified()
    record(plant, verdict("1"))
    instance.add_run(dg.DagsterRun(job_name=NIGHTLY_SCORING, status=dg.DagsterRunStatus.STARTED))
    assert "under way" in tick(plant, instance).skip_message


def test_a_failed_run_is_noted_once(make_notified, instance):  # noqa: F811
    plant = make_notified()
    run = fail(instance, NIGHTLY_SCORING)
    for _ in range(2):
        note_failure(plant, instance, run)
    [queued] = Outbox(plant.config.outbox_path).queued("hook")
    assert queued.subject == f"run {run.run_id}"
    assert queued.severity == "high"


def test_a_nightly_run_that_does_not_come_is_told_once_unless_the_last_one_failed(make_notified, instance, monkeypatch):  # noqa: F811
    @dg.op
    def score():
        pass

    @dg.job(name=NIGHTLY_SCORING)
    def nightly():
        score()

    plant = make_notified()
    nightly.execute_in_process(instance=instance)
    tick(plant, instance)
    assert Outbox(plant.config.outbox_path).queued("hook") == []
    monkeypatch.setattr("pwflow_dagster.run_records.usual_pause", lambda _: timedelta(0))
    for _ in range(2):
        tick(plant, instance)
    [late] = Outbox(plant.config.outbox_path).queued("hook")
    assert (late.subject, late.severity) == ("the nightly run", "high")
    nightly.execute_in_process(instance=instance)
    fail(instance, NIGHTLY_SCORING)
    tick(plant, instance)
    assert len(Outbox(plant.config.outbox_path).queued("hook")) == 1, "people are told of the run that failed"


def test_of_a_run_and_the_one_that_it_started_one_is_noted(make_notified, instance):  # noqa: F811
    plant = make_notified()
    whole = dg.DagsterRun(job_name=WHOLE_PATH, status=dg.DagsterRunStatus.STARTED)
    instance.add_run(whole)
    part = fail(instance, TRAIN_AND_SCORE)
    instance.report_run_failed(whole, "the run that it started failed")
    for run in (part, whole):
        note_failure(plant, instance, run)
    assert [queued.subject for queued in Outbox(plant.config.outbox_path).queued("hook")] == [f"run {part.run_id}"]


def test_of_cycles_that_fail_one_after_the_other_the_first_is_told(make_notified, instance):  # noqa: F811
    plant = make_notified()
    first, second = fail(instance, SHORT_CYCLE), fail(instance, SHORT_CYCLE)
    instance.add_run(dg.DagsterRun(job_name=SHORT_CYCLE, status=dg.DagsterRunStatus.SUCCESS))
    third = fail(instance, SHORT_CYCLE)
    for run in (first, second, third):
        note_failure(plant, instance, run)
    told = [queued.subject for queued in Outbox(plant.config.outbox_path).queued("hook")]
    assert told == [f"run {first.run_id}", f"run {third.run_id}"]


@pytest.mark.parametrize("job", [DISMISS, DELIVER_NOTICES])
def test_what_a_person_watches_and_the_delivery_itself_are_not_told(make_notified, instance, job):  # noqa: F811
    plant = make_notified()
    note_failure(plant, instance, fail(instance, job))
    assert Outbox(plant.config.outbox_path).queued("hook") == []
