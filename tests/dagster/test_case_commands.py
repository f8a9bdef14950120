"""Cases by command and by click: listed, shown, decided about; and the asset with its check."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from pwflow_core.pipeline.cases.deriving import derive_cases
from pwflow_core.pipeline.cases.view import read_cases
from pwflow_core.pipeline.decisions.verdicts import Decider
from pwflow_core.pipeline.scoring.events import derive_events
from pwflow_dagster.cli import main
from pwflow_dagster.names import op_config
from tests.dagster.conftest import VERDICT, add_verdict, materialize


def invoke(*arguments: object) -> str:
    done = CliRunner().invoke(main, [*map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture
def open_case(here) -> str:
    """Return the case of a fault of M1, half an hour before the end of the readings, that goes on."""
    with here.plant.warehouse.transaction() as connection:
        connection.execute(
            "UPDATE mart.anomaly_scores SET p_value = 1e-9, anomaly_score = 9, is_anomaly = true "
            "WHERE machine_id = 'M1' AND status = 'scored' "
            "AND ts > (SELECT max(ts) - INTERVAL 30 MINUTE FROM mart.anomaly_scores)"
        )
        connection.execute("DELETE FROM core.progress WHERE step = 'cases'")
    derive_events(here.plant)
    derive_cases(here.plant, by=Decider("test"))
    [(case_id,)] = here.query("SELECT case_id FROM mart.cases WHERE state = 'open' AND machine_ids = ['M1']")
    return case_id


def state_of(here, case_id: str) -> tuple:
    [row] = here.query(f"SELECT state, label, label_kind FROM mart.cases WHERE case_id = '{case_id}'")
    return row


def test_a_case_names_the_verdicts_in_it_that_wait_and_no_others(here, open_case):
    add_verdict(here, "c0001")
    with here.plant.warehouse.transaction() as connection:
        connection.execute("UPDATE mart.cases SET verdict_ids = [?] WHERE case_id = ?", [VERDICT, open_case])
    assert f"for verdict {VERDICT} in it see `pwflow status`" in invoke("cases")
    invoke("dismiss", VERDICT)
    assert VERDICT not in invoke("cases")


def test_cases_are_listed_shown_and_decided_about_on_the_command_line(here, open_case):
    shown = invoke("cases")
    assert f"{open_case}  " in shown
    assert f"`pwflow acknowledge {open_case}`" in shown
    event = here.query(f"SELECT event_id FROM mart.case_events WHERE case_id = '{open_case}' ORDER BY told_at")[0][0]
    assert f"    {event}  " in invoke("cases", event), "an event stands for its case"
    assert invoke("cases", event) == invoke("cases", open_case)
    assert open_case in invoke("events", event)
    assert "acknowledged" in invoke("acknowledge", event, "--reason", "on my way")
    assert state_of(here, open_case)[0] == "acknowledged"
    assert "shelved until 2026-03-01" in invoke("shelve", open_case, "2026-03-01")
    assert "a fault. Nothing learns" in invoke("mark", open_case[2:], "--fault")
    assert state_of(here, open_case) == ("closed", "fault", None)
    one = invoke("cases", open_case)
    assert "marked fault" in one
    assert "on my way" in one
    document = json.loads(invoke("mark", open_case, "--undo", "--json"))
    assert document["case"]["state"] == "open"
    assert "known: tool change" in invoke("mark", open_case, "--known", "tool change")
    listed = json.loads(invoke("cases", "--all", "--json"))["cases"]
    assert {case["label_kind"] for case in listed if case["case_id"] == open_case} == {"tool change"}


def test_a_mark_needs_one_label_and_a_case_that_is_there(here):
    done = CliRunner().invoke(main, ["mark", "K-0123ab"])
    assert done.exit_code == 2
    assert "Give one of --fault" in done.output
    done = CliRunner().invoke(main, ["mark", "K-xyz", "--fault"])
    assert done.exit_code == 1
    assert "got 'K-xyz'" in done.output


def test_decisions_are_jobs_with_forms(here, open_case):
    def decide(job: str, op: str, **values: object):
        return materialize(here, job, run_config=op_config(op, **values))

    with here.plant.warehouse.snapshot() as connection:
        waiting = [case.case_id for case in read_cases(connection, "UTC").to_decide]
    is_only = waiting == [open_case]
    assert decide("acknowledge_case", "run_acknowledgement").success is is_only, "the only one needs no id"
    assert is_only or decide("acknowledge_case", "run_acknowledgement", case_id=open_case).success
    assert state_of(here, open_case)[0] == "acknowledged"
    assert decide("mark_case", "run_marking", case_id=open_case, label="known", kind="tool change").success
    assert state_of(here, open_case) == ("closed", "known", "tool change")
    assert decide("undo_decision", "run_undoing", finding_id=open_case).success
    assert decide("shelve_case", "run_shelving", case_id=open_case, until="2026-03-01").success
    assert state_of(here, open_case)[0] == "shelved"
    refused = decide("mark_case", "run_marking", case_id=open_case, label="broken")
    assert not refused.success
    [failure] = [event for event in refused.all_events if event.is_step_failure]
    assert "Expected a label out of fault, normal, known, got 'broken'" in str(failure.step_failure_data.error)
    by = here.query("SELECT DISTINCT changed_by LIKE 'dagster run %' FROM mart.case_changes WHERE change = 'marked'")
    assert by == [(True,)]


def test_the_asset_has_told_what_the_tables_hold(finished):
    told = finished.query("SELECT count(*) FROM mart.alarm_log WHERE entry = 'event'")
    assert told == finished.query("SELECT count(*) FROM mart.anomaly_events")
    with finished.instance() as instance:
        [record] = instance.get_latest_materialization_events([finished_key(finished)]).values()
        assert record is not None


def finished_key(made):
    from pwflow_dagster.names import asset_key

    return asset_key(made.config.plant.name, "cases")
