"""Commands on a finished plant: what they print, as text and as JSON, and what they leave as it is."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pty
import threading
from pathlib import Path

import duckdb
import pandas as pd
import pytest
from click.testing import CliRunner

from pwflow_core.simulation import SENSORS
from pwflow_dagster.cli import main
from tests.dagster.conftest import VERDICT, add_verdict


def invoke(*arguments: object):
    done = CliRunner().invoke(main, [*map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done


def refusal(*arguments: object) -> str:
    done = CliRunner().invoke(main, [*map(str, arguments)])
    assert done.exit_code == 1
    assert "Traceback" not in done.output
    return done.stderr


def test_the_status_says_how_the_plant_is_and_what_to_do_next(here):
    add_verdict(here, "c0002")
    shown = invoke("status").stdout
    [(n_readings,)] = here.query("SELECT count(*) FROM core.readings")
    assert f"readings    {n_readings:,} from 3 machines, 2026-01-05 to 2026-01-07 23:59 UTC" in shown
    assert "last run    train_and_score: success" in shown
    assert "last day    2026-01-07: 4,320 readings" in shown
    for key, version in here.query("SELECT cluster_key, flow_version FROM mart.flow_versions WHERE in_force"):
        assert f"{key}  " in shown
        assert f"flow {version[:8]}" in shown
    assert f"{VERDICT}  2026-01-07  Regime c0002 moved" in shown
    assert f"`pwflow answer {VERDICT}`" in shown


def test_the_status_names_what_is_blind_and_what_to_do_about_it(here):
    with here.plant.warehouse.transaction() as connection:
        connection.execute(
            "UPDATE mart.detectability SET is_blind = true, reason = 'other_regime', hidden_by = 'c0001', shift = 2.5 "
            "WHERE cluster_key = 'c0002' AND sensor = 'coolant_flow'"
        )
    shown = invoke("status").stdout
    assert (
        "c0002 raises no alarm on some lasting shifts of coolant_flow (below 2.5 l/min): shifted readings look normal "
        "in c0001\n      next: look at c0001 in `pwflow report`" in shown
    )


def test_the_status_says_why_no_drift_is_seen(here):
    with here.plant.warehouse.transaction() as connection:
        connection.execute("DELETE FROM mart.cluster_health WHERE cluster_key IN ('c0001', 'c0002')")
        connection.execute("UPDATE core.drift_references SET reference = NULL WHERE cluster_key = 'c0001'")
        connection.execute("DELETE FROM core.drift_references WHERE cluster_key = 'c0002'")
        connection.execute("DELETE FROM mart.flow_versions WHERE cluster_key = 'c0003'")
    printed = [line for line in invoke("status").stdout.splitlines() if line.startswith("    c000")]
    lines = {line.split()[0]: line for line in printed if "raises no alarm" not in line}
    assert "too few held-out readings to follow drift" in lines["c0001"]
    assert "drift is followed from the next night on" in lines["c0002"]
    assert "no flow  drift is followed once there is a flow" in lines["c0003"]


def test_a_warehouse_is_copied_to_another_url_whole(here):
    tables = json.loads(invoke("migrate", f"duckdb:///{here.folder}/copy.duckdb", "--json").stdout)["tables"]
    with duckdb.connect(f"{here.folder}/copy.duckdb", read_only=True) as copy:
        for table in tables:
            assert copy.execute(f"SELECT count(*) FROM {table['name']}").fetchone() == (table["n_rows"],)
    assert {"name": "core.readings", "n_rows": 3 * 1440 * 3} in [
        {name: table[name] for name in ("name", "n_rows")} for table in tables
    ]


def test_the_status_as_json_has_the_same_facts(here):
    add_verdict(here, "c0002")
    document = json.loads(invoke("status", "--json").stdout)
    assert document["last_run"]["outcome"] == "success"
    assert document["status"]["last_night"]["night"] == "2026-01-07"
    assert [regime["cluster_key"] for regime in document["status"]["regimes"]] == ["c0001", "c0002", "c0003", "c0004"]
    assert document["status"]["findings"][0]["verdict_id"] == VERDICT
    assert VERDICT in document["next_steps"][0]["next_step"]


def test_a_run_that_failed_is_told_with_its_sentence(here):
    here.config.published_path.unlink()
    here.config.published_path.mkdir()
    (here.config.published_path / "in the way").touch()
    assert here.run()[-1].error is not None
    assert "last run    nightly_scoring: failure" in invoke("status").stdout


def test_a_score_is_printed_as_csv_and_the_summary_beside_it(here):
    file = here.folder / "exports" / "2026-01-07.parquet"
    shown = invoke("score", file, "--output", "scores.csv")
    assert "4,3" in shown.stderr
    assert "alpha = 0.001" in shown.stderr
    printed = invoke("score", file)
    assert printed.stdout == (here.folder / "scores.csv").read_text()
    scores = pd.read_csv(here.folder / "scores.csv")
    known = here.query("SELECT count(*), sum(is_anomaly::INT) FROM mart.anomaly_scores WHERE ts >= '2026-01-07'")
    assert [(len(scores), (scores.is_anomaly == True).sum())] == known  # noqa: E712 - NULL is neither
    (here.folder / "short.csv").write_text("timestamp,machine,recipe\n2026-01-08T00:00:00Z,M1,A\n")
    assert "has no column 'spindle_speed'" in refusal("score", "short.csv")
    counted = json.loads(invoke("score", file, "--output", "again.csv", "--json").stdout)["scored"]
    assert (sum(counted["n_by_status"].values()), counted["n_anomalies"]) == known[0]
    assert "--output" in json.loads(CliRunner().invoke(main, ["score", str(file), "--json"]).stdout)["error"]["message"]


def test_readings_are_simulated_to_a_file(here):
    assert "50 of c0002" in invoke("sample", 50, "--cluster", "c0002", "--output", "drawn.csv").stdout
    counted = invoke("sample", 50, "--cluster", "c0002", "--output", "again.csv", "--json").stdout
    assert json.loads(counted)["sample"]["n_by_cluster"] == {"c0002": 50}
    drawn = pd.read_csv(here.folder / "drawn.csv")
    assert list(drawn.columns) == ["segment", "cluster_key", *(sensor.name for sensor in SENSORS)]
    assert "Expected the key of a regime in use" in refusal("sample", 5, "--cluster", "c9", "--output", "x.csv")


def test_a_verdict_is_dismissed_once_and_by_name(here):
    add_verdict(here, "c0002")
    assert "Dismissed: Regime c0002 moved" in invoke("dismiss", VERDICT, "--reason", "a trial").stdout
    [(status, by)] = here.query("SELECT status, decided_by FROM mart.drift_verdicts")
    assert status == "dismissed"
    assert here.query("SELECT to_status, changed_by, reason FROM mart.verdict_changes") == [(status, by, "a trial")]
    assert "is dismissed already" in refusal("dismiss", VERDICT)
    assert "got 'nonsense'" in refusal("dismiss", "nonsense")
    assert "is dismissed already" in refusal("answer", VERDICT)
    assert "verdicts    0 open" in invoke("status").stdout


def test_an_unusual_stretch_is_listed_until_a_person_decides_and_the_last_word_counts(here):
    with here.plant.warehouse.transaction() as connection:
        connection.execute(
            "INSERT INTO mart.unusual_stretches BY NAME SELECT 'U-3f9a2c' AS stretch_id, 'M2' AS machine_id, "
            "'A' AS segment, TIMESTAMP '2026-01-06 10:00' AS started_at, TIMESTAMP '2026-01-06 10:05' AS ended_at, "
            "6 AS n_readings, 9.0 AS excess, ['coolant_flow'] AS top_sensors, 'open' AS status, now() AS found_at"
        )
    shown = invoke("status").stdout
    assert "U-3f9a2c  M2  2026-01-06 10:00 to 2026-01-06 10:05  coolant_flow" in shown
    assert "`pwflow approve U-3f9a2c`" in shown
    decided = "SELECT status, decided_by LIKE '%: pump' FROM mart.unusual_stretches"
    assert "a fault. Nothing learns from it." in invoke("dismiss", "U-3f9a2c", "--reason", "pump").stdout
    assert here.query(decided) == [("fault", True)]
    assert "U-3f9a2c" not in invoke("status").stdout
    assert "Too short for a regime of its own" in invoke("approve", "U-3f9a2c").stdout
    assert here.query(decided) == [("normal", False)]


def test_a_verdict_is_answered_by_learning_the_regime_again(here):
    add_verdict(here, "c0002")
    document = json.loads(invoke("answer", VERDICT, "--json").stdout)
    assert document["verdict"]["status"] == "done"
    [decision] = document["decisions"]
    assert decision["cluster_key"] == "c0002"
    assert decision["decision"] in ("promoted", "refused")
    assert here.query("SELECT status FROM mart.drift_verdicts") == [("done",)]
    assert here.query("SELECT count(*) FROM mart.flow_decisions WHERE cluster_key <> 'c0002'") == [(3,)]


def test_no_run_answers_what_only_a_person_can(here):
    add_verdict(here, "c0002", answer="ask")
    assert f"No run can answer {VERDICT}" in refusal("answer", VERDICT)


def test_results_come_as_json_where_a_program_asks_and_progress_as_plain_lines_in_its_log(here, caplog):
    with caplog.at_level(logging.INFO, logger="pwflow"):
        document = json.loads(invoke("run", "--json").stdout)
    assert "nightly_scoring: 13 steps" in caplog.messages
    assert any(message.startswith("anomaly_scores: ") for message in caplog.messages)
    assert [run["job"] for run in document["runs"]] == ["nightly_scoring"]
    assert document["result"]["n_machines"] == 3
    [row] = json.loads(invoke("sql", "--json", "SELECT count(*) AS n, max(ts) AS last FROM mart.readings").stdout)
    assert row == {"n": document["result"]["n_readings"], "last": "2026-01-07T23:59:00.000"}
    written = json.loads(invoke("report", "--json", "--days", 1, "--output", "r.html").stdout)
    assert written["size_bytes"] == (here.folder / "r.html").stat().st_size


@pytest.mark.long(reason="10 CPU s: progress is plain lines at each push")
def test_progress_is_a_bar_on_a_terminal(here, stem):
    ours, theirs = pty.openpty()
    shown = b""

    def read() -> None:
        nonlocal shown
        with contextlib.suppress(OSError):  # the other end is closed
            while part := os.read(ours, 4096):
                shown += part

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        done = stem.command(here.folder, "run", environment=os.environ, errors=Path(os.ttyname(theirs)))
    finally:
        os.close(theirs)
    reader.join(timeout=30)
    assert done.code == 0
    text = shown.decode()
    assert "nightly_scoring  [####" in text
    steps = [line for line in text.split("\r") if "nightly_scoring" in line]
    assert len(steps) > 10
    assert "[########################]" in steps[-1]
