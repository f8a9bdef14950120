"""`pwflow events`, `regimes`, `name`, `undo` and `doctor` on a finished plant, and names wherever regimes are shown."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple

import pytest
from click.testing import CliRunner

from pwflow_dagster.cli import main
from pwflow_dagster.run_records import find_last_run
from tests.dagster.conftest import CONFIG, VERDICT, add_verdict


def invoke(*arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(main, [*map(str, arguments)])
    assert done.exit_code == code, done.output
    return done.stdout


LARGE = 2**53 + 1
"""A number that JavaScript reads as another one."""


def test_ids_are_text_where_a_query_is_answered_as_json(here):
    asked = f"SELECT {LARGE}::BIGINT AS event_id, NULL::BIGINT AS no_id, 3 AS n"
    assert json.loads(invoke("sql", "--json", asked)) == [{"event_id": str(LARGE), "no_id": None, "n": 3}]


def test_events_are_listed_by_machine_time_and_regime(here):
    with here.plant.warehouse.transaction() as connection:
        connection.execute(
            "INSERT INTO mart.anomaly_events BY NAME FROM (VALUES ('E-0f1e2d', 'M1', 'c0001', "
            "TIMESTAMP '2026-01-06 10:00', TIMESTAMP '2026-01-06 11:00', TIMESTAMP '2026-01-06 11:00', 4.2, 5, "
            "['spindle_load'], 'M1: spindle_load')) AS made (event_id, machine_id, cluster_key, started_at, ended_at, "
            "lasted_until, peak_score, n_readings, top_sensors, summary)"
        )
        connection.execute("INSERT INTO core.event_ids VALUES (?, 'E-0f1e2d')", [LARGE])
    known = here.query("SELECT event_id, machine_id, cluster_key, started_at::VARCHAR FROM mart.anomaly_events")
    every = json.loads(invoke("events", "--json", "--most", 1000))
    assert every["n_events"] == len(known)
    assert {event["event_id"] for event in every["events"]} == {row[0] for row in known}
    for named in ("E-0f1e2d", "e-0f1e", str(LARGE)):
        [one] = json.loads(invoke("events", named, "--json"))["events"]
        assert (one["event_id"], one["peak_score"]) == ("E-0f1e2d", 4.2)
    assert "  E-0f1e2d  2026-01-06 10:00  M1, c0001, score 4.2" in invoke("events", "E-0f1e2d")
    assert json.loads(invoke("events", "E-zzz", "--json", code=1))["error"]["kind"] == "UnknownEventError"
    assert all(event["started_at"].endswith("+00:00") for event in every["events"])
    for option, place in (("--machine", 1), ("--regime", 2)):
        for value in {row[place] for row in known}:
            found = json.loads(invoke("events", "--json", "--most", 1000, option, value))["events"]
            assert {event["event_id"] for event in found} == {row[0] for row in known if row[place] == value}
    assert json.loads(invoke("events", "--json", "--since", "2100-01-01"))["events"] == []
    assert json.loads(invoke("events", "--json", "--until", "2000-01-01"))["events"] == []
    refused = json.loads(invoke("events", "--json", "--machine", "M9", code=1))
    assert refused["error"]["kind"] == "UnknownMachineError"
    done = CliRunner().invoke(main, ["events", "--machine", "M9"])
    assert done.exit_code == 1
    assert "Expected a machine (M1, M2, M3), got 'M9'" in done.stderr
    assert f"{len(known)} event" in invoke("events")


def test_a_name_is_shown_wherever_the_regime_is(here):
    invoke("name", "c0002", "roughing, B", "--reason", "as we say")
    add_verdict(here, "c0002")
    assert "c0002 (roughing, B)" in invoke("regimes")
    status = invoke("status")
    assert "  c0002 (roughing, B)  " in status
    assert "Regime c0002 (roughing, B) moved" in status
    assert [outcome.error for outcome in here.run()] == [None]
    published = json.loads(
        invoke("sql", "--json", "SELECT name, profile FROM mart.regimes WHERE cluster_key = 'c0002'")
    )
    assert published[0]["name"] == "roughing, B"
    assert published[0]["profile"].count(",") == 2
    invoke("report", "--output", "r.html")
    page = (here.folder / "r.html").read_text()
    assert "Regime c0002 (roughing, B) moved" in page
    regimes = json.loads(invoke("status", "--json"))["status"]["regimes"]
    assert [regime["name"] for regime in regimes] == [None, "roughing, B", None, None]
    runs = json.loads(invoke("sql", "--json", "SELECT job, outcome FROM mart.runs ORDER BY started_at"))
    assert runs[0] == {"job": "learn_regimes", "outcome": "success"}
    assert runs[-1] == {"job": "nightly_scoring", "outcome": "started"}, "the run that published has not ended then"
    assert "has no name now; it was 'roughing, B'" in invoke("name", "c0002", "")
    assert "roughing" not in invoke("status")


def test_what_was_dismissed_is_undone(here):
    add_verdict(here, "c0002")
    assert f"`pwflow undo {VERDICT}` takes that back" in invoke("dismiss", VERDICT)
    assert f"{VERDICT}: open again" in invoke("undo", VERDICT)
    assert here.query("SELECT status FROM mart.drift_verdicts") == [("open",)]
    refused = CliRunner().invoke(main, ["undo", VERDICT])
    assert refused.exit_code == 1
    assert "is open; only one that was dismissed can be undone" in refused.stderr


def test_the_doctor_says_what_is_wrong_and_what_to_do(here, monkeypatch):
    found = {f["about"]: f for f in json.loads(invoke("doctor", "--json", code=1))["findings"]}
    assert found["disk"]["is_well"]
    assert found["machines"]["is_well"]
    assert found["last run"]["is_well"]
    assert not found["data"]["is_well"], "the readings are of January"
    assert found["schedule"]["is_well"]
    assert "something else starts the runs" in found["schedule"]["sentence"]
    add_verdict(here, "c0002")
    with here.plant.warehouse.transaction() as connection:
        connection.execute("UPDATE mart.anomaly_scores SET ts = ts - INTERVAL 2 DAY WHERE machine_id = 'M1'")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 10**12, 10**6))
    here.config.published_path.unlink()
    here.config.published_path.mkdir()
    (here.config.published_path / "in the way").touch()
    assert here.run()[-1].error is not None
    shown = invoke("doctor", code=1)
    for said in (
        "0.0 GB are free",
        "1 of 3 machines stopped while others go on: M1 (48 hours)",
        "nightly_scoring failed",
        f"`pwflow answer {VERDICT}`",
    ):
        assert said in shown


@pytest.mark.quick
def test_a_new_plant_is_told_to_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pwflow.toml").write_text(CONFIG)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.delenv("PWFLOW_CONFIG", raising=False)
    shown = invoke("doctor", code=1)
    assert "no run is on record" in shown
    assert "run `pwflow run`" in shown


def test_the_last_run_is_that_of_the_plant_and_not_of_another_in_the_same_dagster(here):
    with here.instance() as instance:
        assert find_last_run(instance, "small").job == "train_and_score"
        assert find_last_run(instance, "another") is None
