"""Flows: each cluster is trained on its own readings, registered, and replaceable alone."""

import json
from dataclasses import replace

import numpy as np
import pytest

from pwflow_core.errors import NotFittedError
from pwflow_core.pipeline.flows import training
from pwflow_core.pipeline.flows.registry import read_training_history
from pwflow_core.pipeline.flows.training import clusters_without_flow, train_cluster_flows
from pwflow_core.pipeline.readings.folds import CALIBRATION_FOLDS
from tests.conftest import frame, query, read_all, reopen, score_all

IN_FORCE = "SELECT cluster_key, flow_version FROM mart.flow_versions WHERE in_force"
HASHES = (
    "SELECT cluster_key, md5(string_agg(slice::VARCHAR, '|' ORDER BY reading_id)) "
    "FROM core.component_log_density AS slice GROUP BY cluster_key"
)


def retrain(plant, *keys, seed=1):
    """Train again and put in use what comes out, better or not: which seed wins depends on the processor."""
    changed = reopen(plant, flow={"random_state": seed})
    return train_cluster_flows(changed, list(keys), reason="drift", promoted_by="night", challenge=False)


def test_retraining_one_cluster_leaves_the_slices_of_the_others_byte_equal(trained_plant):
    hashes, versions = dict(query(trained_plant, HASHES)), dict(query(trained_plant, IN_FORCE))
    retrain(trained_plant, "c0002")
    score_all(trained_plant)
    after, versions_after = dict(query(trained_plant, HASHES)), dict(query(trained_plant, IN_FORCE))
    assert {key for key in hashes if hashes[key] != after[key]} == {"c0002"}
    assert {key for key in versions if versions[key] != versions_after[key]} == {"c0002"}


def test_a_regime_can_have_a_flow_of_its_own_kind(trained_plant, caplog):
    own = {"c0002": {"kind": "spline", "max_steps": 160}, "c0099": {"hidden": 8}}
    changed = reopen(trained_plant, flow={"hidden": 16, "clusters": own})
    summaries = train_cluster_flows(changed, ["c0001", "c0002"], reason="test", promoted_by="test")
    settings = {
        key: json.loads(row)
        for key, row in query(trained_plant, "SELECT cluster_key, settings FROM mart.flow_versions WHERE in_force")
    }
    assert [settings[key]["kind"] for key in ("c0001", "c0002")] == ["affine", "spline"]
    assert [settings[key]["hidden"] for key in ("c0001", "c0002", "c0003")] == [16, 16, 32]
    assert max(summaries["c0002"].history.steps) <= 160
    assert "c0099, which is not a regime in use" in caplog.text


def test_the_same_data_and_seed_give_the_same_version_and_that_nothing_is_new_is_said_before(trained_plant, caplog):
    version = dict(query(trained_plant, IN_FORCE))["c0001"]
    caplog.set_level("INFO")
    assert retrain(trained_plant, "c0001", seed=0)["c0001"].flow_version == version
    rows = query(
        trained_plant, "SELECT flow_version, in_force, reason FROM mart.flow_versions WHERE cluster_key = 'c0001'"
    )
    assert rows == [(version, True, "drift")]
    nothing, training_begins = (caplog.text.index(said) for said in ("c0001: nothing new to learn", "training 1 flows"))
    assert nothing < training_begins


def test_a_flow_trained_alone_in_another_process_is_the_version_that_was_trained_in_a_stack(trained_plant, stem):
    before = query(trained_plant, IN_FORCE)
    ended = stem.run(trained_plant, "train_cluster_flows(plant, ['c0002'], reason='again', promoted_by='test')")
    assert ended.code == 0, ended.output
    assert query(trained_plant, IN_FORCE) == before
    [(reason, n_versions)] = query(
        trained_plant, "SELECT any_value(reason), count(*) FROM mart.flow_versions WHERE cluster_key = 'c0002'"
    )
    assert (reason, n_versions) == ("again", 1)


def test_how_a_flow_was_trained_is_kept(trained_plant):
    summary = retrain(trained_plant, "c0003")["c0003"]
    with trained_plant.warehouse.snapshot() as connection:
        kept = read_training_history(connection, summary.flow_version)
    assert kept == replace(summary.history, seconds=0.0)
    assert len(kept.steps) > 1


def test_the_registry_says_what_was_trained_on_what_and_why(trained_plant):
    summary = retrain(trained_plant, "c0003")["c0003"]
    rows = frame(trained_plant, "SELECT * FROM mart.flow_versions WHERE cluster_key = 'c0003' ORDER BY trained_at")
    assert rows.in_force.tolist() == [False, True]
    assert rows.reason.tolist() == ["first", "drift"]
    assert rows.promoted_by.tolist() == ["test", "night"]
    assert rows.data_hash.nunique() == 1
    new = rows.iloc[1]
    assert new.flow_version == summary.flow_version
    assert (new.n_rows, new.n_held_out) == (summary.n_rows, summary.n_held_out)
    assert new.held_out_log_density == summary.held_out_log_density
    assert np.isfinite(new.held_out_log_density)
    assert new.trained_from <= new.trained_until
    assert json.loads(new.settings)["min_rows"] == 200
    [(eligible, first, last)] = query(
        trained_plant,
        "SELECT count(*), min(ts), max(ts) FROM core.readings JOIN core.cluster_assignments USING (reading_id) "
        f"WHERE cluster_key = 'c0003' AND responsibility > 1e-3 AND fold NOT IN {CALIBRATION_FOLDS}",
    )
    assert new.n_rows + new.n_held_out == eligible
    assert (new.trained_from, new.trained_until) == (first, last)


def test_calibration_readings_are_never_learned_from(trained_plant, monkeypatch):
    """Change every calibration reading beyond recognition: what is learned stays the same byte by byte."""
    before = dict(query(trained_plant, IN_FORCE))
    with trained_plant.warehouse.transaction() as connection:
        connection.execute(f"UPDATE core.readings SET temperature = 1e6 WHERE fold IN {CALIBRATION_FOLDS}")
    summaries = train_cluster_flows(trained_plant, ["c0001"], reason="x", promoted_by="test")
    assert summaries["c0001"].flow_version == before["c0001"]


def test_a_cluster_with_few_readings_keeps_its_gaussian(trained_plant):
    plant = reopen(trained_plant, flow={"min_rows": 10_000})
    train_cluster_flows(plant, ["c0001"], reason="x", promoted_by="test", challenge=False)
    assert query(plant, "SELECT is_gaussian FROM mart.flow_versions WHERE in_force AND cluster_key = 'c0001'") == [
        (True,)
    ]


def test_only_the_training_window_is_learned_from(trained_plant):
    plant = reopen(trained_plant, training={"until": "2024-03-01T12:00:00+00:00"})
    train_cluster_flows(plant, ["c0001"], reason="x", promoted_by="test", challenge=False)
    [(last,)] = query(
        plant, "SELECT trained_until::VARCHAR FROM mart.flow_versions WHERE in_force AND cluster_key = 'c0001'"
    )
    assert last < "2024-03-01 12:00:00"
    plant = reopen(trained_plant, training={"until": "2020-01-01"})
    with pytest.raises(NotFittedError, match=r"c0001 has no readings to learn from.*\[training\]"):
        train_cluster_flows(plant, ["c0001"], reason="x", promoted_by="test")


def test_a_cluster_without_a_flow_is_found(trained_plant):
    assert clusters_without_flow(trained_plant) == []
    with trained_plant.warehouse.transaction() as connection:
        connection.execute("UPDATE mart.flow_versions SET in_force = false WHERE cluster_key = 'c0004'")
    assert clusters_without_flow(trained_plant) == ["c0004"]


def test_nothing_holds_the_warehouse_while_it_trains(trained_plant, monkeypatch):
    summarise = training._summarise

    def write_meanwhile(*arguments):
        with trained_plant.warehouse.transaction() as connection:
            connection.execute("INSERT INTO core.plant_facts VALUES ('meanwhile', 'written')")
        return summarise(*arguments)

    monkeypatch.setattr(training, "_summarise", write_meanwhile)
    retrain(trained_plant, "c0001", "c0002")
    assert query(trained_plant, "SELECT count(*) FROM core.plant_facts WHERE fact = 'meanwhile'") == [(2,)]


def test_training_before_readings_says_what_is_missing(make_plant):
    plant = make_plant({"a.csv": "ts,machine,temperature,pressure\n2024-01-01,m,1,2\n"})
    read_all(plant)
    with pytest.raises(NotFittedError, match="no regimes yet"):
        train_cluster_flows(plant, reason="x", promoted_by="test")
