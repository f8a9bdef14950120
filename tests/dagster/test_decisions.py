"""What a person decides, by clicking and by command: one pointer, one slice, one event."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass

import dagster as dg
import duckdb
import numpy as np
import pandas as pd
import pytest

from pwflow_dagster.definitions import build
from pwflow_dagster.names import op_config
from tests.conftest import put_file
from tests.dagster.conftest import (
    KEYS,
    SLICE_HASHES,
    UNCHALLENGED,
    VERDICT,
    DagsterPlant,
    add_verdict,
    copy_plant,
    materialize,
    write_config,
)

IN_FORCE = "SELECT flow_version FROM mart.flow_versions WHERE cluster_key = 'c0002' AND in_force"


JOBS = {
    "run_rollback": "roll_back_flow",
    "run_promotion": "promote_flow",
    "run_approval": "approve_regime",
    "run_dismissal": "dismiss",
}
"""The jobs that a person starts with something to fill in, by their ops."""


@dataclass
class Retrained:
    """A plant whose c0002 has been retrained, and its two flows."""

    plant: DagsterPlant
    first: str
    second: str


@pytest.fixture(scope="module")
def _retrained(finished, tmp_path_factory) -> Retrained:
    plant = copy_plant(finished, tmp_path_factory.mktemp("retrained") / "plant")
    [(first,)] = plant.query(IN_FORCE)
    seed, config = plant.config.flow.model_copy(update={"random_state": 1}), plant.config
    plant.config = config.model_copy(update={"flow": seed})
    assert materialize(plant, "retrain_cluster", partition_key="c0002", run_config=UNCHALLENGED).success
    plant.config = config
    [(second,)] = plant.query(IN_FORCE)
    assert second != first
    return Retrained(plant, first, second)


@pytest.fixture
def retrained(_retrained, tmp_path) -> Retrained:
    return Retrained(copy_plant(_retrained.plant, tmp_path / "plant"), _retrained.first, _retrained.second)


@dataclass
class Clicked:
    """How a job ended, and what it and the run that it started have logged."""

    success: bool
    all_events: list[dg.DagsterEvent]


def launch(made, instance, op, **given) -> dg.ExecuteInProcessResult:
    """Start a job from the launchpad, with what a person has to fill in there for its op."""
    definition = build(made.config).resolve_job_def(JOBS[op])
    return definition.execute_in_process(instance=instance, run_config=op_config(op, **given), raise_on_error=False)


def sentences(result) -> list[str]:
    """Return what the steps say that failed."""
    failures = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    return [failure.user_failure_data.description for failure in failures]


def click(made, op, **given) -> Clicked:
    """Switch the flow of c0002 from the launchpad; see what the run does that this starts."""
    with made.instance() as instance:
        done = launch(made, instance, op, **{"cluster_key": "c0002", **given})
        started = instance.get_runs(dg.RunsFilter(job_name="retrain_cluster"), limit=1)
        records = [record for run in started for record in instance.all_logs(run.run_id)]
    inner = [record.dagster_event for record in records if record.dagster_event is not None]
    return Clicked(done.success, [*done.all_events, *inner])


def materialized(result, asset) -> list[str]:
    return [
        event.partition
        for event in result.all_events
        if event.is_step_materialization and event.asset_key == dg.AssetKey(["small", asset])
    ]


def test_a_rollback_by_one_click_makes_that_slice_alone_again(retrained):
    plant = retrained.plant
    before = dict(plant.query(SLICE_HASHES))
    result = click(plant, "run_rollback")
    assert result.success
    assert plant.query(IN_FORCE) == [(retrained.first,)]
    after = dict(plant.query(SLICE_HASHES))
    assert {key for key in KEYS if before[key] != after[key]} == {"c0002"}
    assert materialized(result, "component_log_density") == ["c0002"]
    assert len(materialized(result, "published_warehouse")) == 1
    [event] = [
        event
        for event in result.all_events
        if event.is_step_materialization and event.asset_key == dg.AssetKey(["small", "cluster_flow"])
    ]
    metadata = event.step_materialization_data.materialization.metadata
    assert metadata["decision"].value == "rolled back"
    assert metadata["flow version"].value == retrained.first
    assert metadata["flow before"].value == retrained.second
    decisions = plant.query(
        "SELECT decision, flow_version, previous_version, reason FROM mart.flow_decisions "
        "WHERE cluster_key = 'c0002' ORDER BY decided_at DESC LIMIT 1"
    )
    assert decisions == [("rolled_back", retrained.first, retrained.second, "rolled back in Dagster")]


def test_a_form_left_empty_changes_nothing_and_is_refused_with_a_sentence(plant):
    before = plant.query(IN_FORCE)
    with plant.instance() as instance:
        for op in JOBS:
            result = launch(plant, instance, op)
            [sentence, *_] = sentences(result)
            assert sentence[0].isupper(), op
    assert plant.query(IN_FORCE) == before


def test_a_regime_that_does_not_exist_is_refused_with_a_sentence(plant):
    result = click(plant, "run_rollback", cluster_key="c0099")
    [sentence] = sentences(result)
    assert "'c0099'" in sentence


def test_a_promotion_without_a_version_lists_those_that_there_are_and_changes_nothing(retrained):
    plant = retrained.plant
    before = plant.query(SLICE_HASHES)
    result = click(plant, "run_promotion", flow_version="")
    assert not result.success
    [sentence, *_] = sentences(result)
    assert retrained.first[:12] in sentence
    assert plant.query(IN_FORCE) == [(retrained.second,)]
    assert plant.query(SLICE_HASHES) == before


def test_a_refused_challenger_leaves_the_slice_and_says_so_in_the_ui(plant, monkeypatch):
    from pwflow_core.pipeline.flows import challenges

    seed = plant.config.flow.model_copy(update={"random_state": 1})
    plant.config = plant.config.model_copy(update={"flow": seed})
    monkeypatch.setattr(challenges, "judge_retraining", lambda *_: challenges.Challenge(False, "it is worse"))
    before = plant.query(SLICE_HASHES)
    result = materialize(plant, "retrain_cluster", partition_key="c0002")
    assert result.success
    assert plant.query(SLICE_HASHES) == before
    [event] = [
        event
        for event in result.all_events
        if event.is_step_materialization and event.asset_key == dg.AssetKey(["small", "cluster_flow"])
    ]
    metadata = event.step_materialization_data.materialization.metadata
    assert (metadata["decision"].value, metadata["why"].value) == ("refused", "materialized in Dagster: it is worse")
    [check] = [made for made in result.get_asset_check_evaluations() if made.check_name == "new_flows_are_in_use"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert check.description == "c0002: materialized in Dagster: it is worse"


@pytest.mark.parametrize(
    "learn_from",
    [
        pytest.param("2026-01-06T00:00:00", marks=pytest.mark.long(reason="8 CPU s: the one with an offset says more")),
        "2026-01-06T01:00:00+01:00",
    ],
)
def test_a_refit_from_a_time_on_can_be_asked_for_in_the_launchpad(plant, learn_from):
    config = {"ops": {"small__cluster_flow": {"config": {"learn_from": learn_from, "reason": "wear"}}}}
    assert materialize(plant, "retrain_cluster", partition_key="c0001", run_config=config).success
    [(window,)] = plant.query(
        "SELECT training_window FROM mart.flow_versions WHERE cluster_key = 'c0001' AND reason = 'wear'"
    )
    assert '"start": "2026-01-06T00:00:00"' in window


def test_a_refit_from_a_time_that_is_none_is_refused_with_a_sentence(plant):
    config = {"ops": {"small__cluster_flow": {"config": {"learn_from": "yesterday"}}}}
    result = materialize(plant, "retrain_cluster", partition_key="c0001", run_config=config)
    [sentence, *_] = sentences(result)
    assert "got 'yesterday'" in sentence


@pytest.mark.long
def test_promote_rollback_and_confirm_on_the_command_line(retrained):
    plant = retrained.plant
    write_config(plant)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PWFLOW_", "DAGSTER_"))}

    def pwflow(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pwflow_dagster", *arguments],
            cwd=plant.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )

    done = pwflow("promote", "c0002", retrained.first[:10], "--reason", "the new one is loud")
    assert done.returncode == 0, done.stderr
    assert f"c0002: flow {retrained.first[:12]}… is in use instead of {retrained.second[:12]}…" in done.stdout
    assert plant.query(IN_FORCE) == [(retrained.first,)]
    stale = "SELECT * FROM core.component_log_density WHERE cluster_key = 'c0002' AND flow_version <> ?"
    with plant.plant.warehouse.snapshot() as connection:
        assert connection.execute(stale, [retrained.first]).fetchall() == []
    done = pwflow("rollback", "c0002")
    assert done.returncode == 0, done.stderr
    assert plant.query(IN_FORCE) == [(retrained.second,)]
    last = "SELECT decision, reason FROM mart.flow_decisions WHERE cluster_key = 'c0002' ORDER BY decided_at"
    assert plant.query(last)[-2:] == [("promoted", "the new one is loud"), ("rolled_back", "pwflow rollback")]
    number, event_id = 10**18 + 42, "E-64002a"
    with plant.plant.warehouse.transaction() as connection:
        connection.execute(
            "INSERT INTO mart.anomaly_events BY NAME "
            "SELECT ? AS event_id, machine_id, ts AS started_at, ts AS ended_at "
            "FROM mart.anomaly_scores ORDER BY ts LIMIT 1",
            [event_id],
        )
        connection.execute("INSERT INTO core.event_ids VALUES (?, ?)", [number, event_id])
    for named in (event_id, "e-6400", str(number)):
        done = pwflow("confirm", named)
        assert done.returncode == 0, done.stderr
    assert done.returncode == 0, done.stderr
    assert plant.query("SELECT event_id FROM core.confirmations") == [(event_id,)]
    for arguments, expected in {
        ("promote", "c0002", retrained.second): "is in use already",
        ("promote", "c0099", retrained.first): "c0001, c0002, c0003, c0004",
        ("rollback", "c0001"): "No flow of c0001 was in use before",
        ("confirm", "5"): "got '5': `pwflow events` lists them",
        ("approve", "nonsense"): "got 'nonsense'",
    }.items():
        refused = pwflow(*arguments)
        assert refused.returncode == 1
        assert expected in refused.stderr
        assert "Traceback" not in refused.stderr


def propose_a_regime(plant) -> None:
    """A tool that runs hot for a day on one machine, and the verdict that says so."""
    *_, last = sorted((plant.folder / "exports").iterdir())
    day = duckdb.read_parquet(str(last)).df()
    day = day.assign(timestamp=day.timestamp + pd.Timedelta(days=7))
    rng = np.random.default_rng(0)
    hot = (day.machine == day.machine.min()) & (day.recipe == "A")
    numbers = day.select_dtypes("number").columns
    usual = day.loc[hot, numbers].to_numpy()
    middle, spread = np.nanmean(usual, axis=0), np.nanstd(usual, axis=0)
    day.loc[hot, numbers] = middle + spread * (0.9 + 0.02 * rng.standard_normal(usual.shape))
    put_file(plant.folder / "exports" / "hot.parquet", day)
    assert [outcome.error for outcome in plant.run()] == [None]
    with plant.plant.warehouse.transaction() as connection:
        connection.execute(
            "INSERT INTO mart.drift_verdicts BY NAME SELECT 'hot' AS verdict_id, $day::DATE AS night, "
            "'new_regime' AS verdict, ['c0001'] AS cluster_keys, [$machine] AS machine_ids, $day::DATE AS since, "
            "'it runs hot' AS summary, 'ask' AS answer, 'open' AS status",
            {"day": str(day.timestamp.min().date()), "machine": day.machine.min()},
        )


@pytest.mark.long
def test_an_approved_verdict_becomes_a_regime_of_its_own_by_one_click(plant):
    propose_a_regime(plant)
    before = dict(plant.query(SLICE_HASHES))
    with plant.instance() as instance:
        result = launch(plant, instance, "run_approval", verdict_id="hot")
        assert result.success, sentences(result)
        assert instance.get_dynamic_partitions("small_clusters") == [*KEYS, "c0005"]
        for asset in ("cluster_assignments", "cluster_flow", "component_log_density"):
            assert "c0005" in instance.get_materialized_partitions(dg.AssetKey(["small", asset]))
    after = dict(plant.query(SLICE_HASHES))
    assert {key: after[key] for key in KEYS} == before
    assert plant.query("SELECT count(*) FROM mart.flow_versions WHERE cluster_key = 'c0005' AND in_force") == [(1,)]
    assert plant.query("SELECT status FROM mart.drift_verdicts") == [("done",)]
    [outcome] = plant.run()
    assert (outcome.job, outcome.error) == ("nightly_scoring", None)


def test_an_approval_of_nothing_is_refused_with_a_sentence(plant):
    with plant.instance() as instance:
        for op, unknown in (
            ("run_approval", "nonsense"),
            ("run_dismissal", "nonsense"),
            ("run_approval", "U-nonsense"),
        ):
            [sentence] = sentences(launch(plant, instance, op, verdict_id=unknown))
            assert f"got '{unknown}'" in sentence


def find_unusual(plant, *stretch_ids) -> None:
    """Stretches of a quarter of an hour, unlike the rest: far too short for a regime of their own."""
    with plant.plant.warehouse.transaction() as connection:
        connection.executemany(
            "INSERT INTO mart.unusual_stretches BY NAME SELECT ? AS stretch_id, machine_id, segment, "
            "min(ts) AS started_at, min(ts) + INTERVAL 15 MINUTE AS ended_at, 15 AS n_readings, 2.0 AS excess, "
            "['spindle_speed'] AS top_sensors, 'open' AS status FROM core.readings "
            "GROUP BY machine_id, segment ORDER BY machine_id, segment LIMIT 1",
            [[stretch_id] for stretch_id in stretch_ids],
        )


def test_an_unusual_stretch_is_called_normal_or_a_fault_by_one_click(plant):
    find_unusual(plant, "U-000001", "U-000002")
    with plant.instance() as instance:
        runs_before = len(instance.get_run_ids())
        approved = launch(plant, instance, "run_approval", verdict_id="U-000001", reason="a trial")
        dismissed = launch(plant, instance, "run_dismissal", verdict_id="U-000002")
        assert approved.success, sentences(approved)
        assert dismissed.success, sentences(dismissed)
        assert len(instance.get_run_ids()) == runs_before + 2, "what is too short for a regime starts no run of its own"
        said = [record.user_message for record in instance.all_logs(approved.run_id)]
        assert "U-000001: normal. Too short for a regime of its own; the next `pwflow run` learns from it." in said
    assert plant.query("SELECT stretch_id, status, decided_by FROM mart.unusual_stretches ORDER BY stretch_id") == [
        ("U-000001", "normal", f"dagster run {approved.run_id}: a trial"),
        ("U-000002", "fault", f"dagster run {dismissed.run_id}: dismissed in Dagster"),
    ]
    assert plant.query("SELECT cluster_key FROM mart.clusters WHERE status = 'active' ORDER BY 1") == [
        (key,) for key in KEYS
    ]


def test_a_verdict_is_dismissed_by_one_click(plant):
    add_verdict(plant, "c0002")
    with plant.instance() as instance:
        result = launch(plant, instance, "run_dismissal", verdict_id=VERDICT, reason="a trial")
        again = launch(plant, instance, "run_dismissal", verdict_id=VERDICT)
    assert result.success, sentences(result)
    [sentence] = sentences(again)
    assert "is dismissed already" in sentence
    changes = plant.query("SELECT to_status, run_id, reason FROM mart.verdict_changes")
    assert changes == [("dismissed", result.run_id, "a trial")]


AUDIT = """
    SELECT score.reading_id, score.anomaly_score, flow.flow_version, flow.trained_from, flow.trained_until,
           flow.training_window, flow.settings, flow.random_state, flow.data_hash, made.decision, made.decided_at,
           made.decided_by, made.reason
    FROM mart.anomaly_scores AS score
    JOIN mart.flow_versions AS flow USING (cluster_key, flow_version)
    ASOF JOIN mart.flow_decisions AS made
      ON made.cluster_key = score.cluster_key AND made.flow_version = score.flow_version
     AND made.decided_at <= score.scored_at
    WHERE made.decision <> 'refused'
"""


def test_from_every_score_one_query_leads_to_its_flow_and_to_who_promoted_it(retrained):
    plant = retrained.plant
    assert click(plant, "run_rollback").success
    with duckdb.connect(str(plant.config.published_path), read_only=True) as published:
        rows = published.execute(AUDIT).df()
        [(n_scored,)] = published.execute("SELECT count(*) FROM mart.anomaly_scores WHERE status = 'scored'").fetchall()
    assert len(rows) == rows.reading_id.nunique() == n_scored
    assert rows.notna().all(axis=None)
    of_it = rows[rows.flow_version == retrained.first]
    assert set(of_it.decision) == {"rolled_back"}
    assert set(of_it.reason) == {"rolled back in Dagster"}


@pytest.mark.long(reason="8 CPU s: a rollback is clicked by others, what is kept is held by tests of the model store")
def test_a_model_store_that_cannot_delete_does_not_stop_publication(retrained, monkeypatch):
    from pwflow_core.model_store import ModelStore
    from pwflow_core.pipeline.flows import retention

    refused = []

    def refuse(_, version):
        refused.append(version)
        raise PermissionError("the bucket is read-only")

    plant = retrained.plant
    monkeypatch.setattr(ModelStore, "delete", refuse)
    monkeypatch.setattr(
        retention,
        "read_sql",
        lambda *_: "SELECT flow_version FROM mart.flow_versions WHERE NOT in_force AND $expiry IS NOT NULL",
    )
    result = click(plant, "run_rollback")
    assert result.success
    assert refused == [retrained.second]
    assert materialized(result, "published_warehouse")
