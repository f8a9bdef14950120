"""Retention: old model files go, but never one in use, nor one that a score or a recent model set refers to."""

import pytest

from pwflow_core.errors import ModelFileError
from pwflow_core.pipeline.flows.registry import rollback
from pwflow_core.pipeline.flows.retention import collect_model_files
from pwflow_core.pipeline.flows.training import train_cluster_flows
from pwflow_core.pipeline.scoring.contributions import explain_anomalies
from tests.conftest import query, reopen
from tests.conftest import score_all as derive_all


def score_all(plant) -> None:
    derive_all(plant)
    explain_anomalies(plant)


def files(plant) -> set[str]:
    return {path.stem for path in (plant.config.folder / "models").glob("*.safetensors")}


def in_force(plant) -> dict[str, str]:
    return dict(query(plant, "SELECT cluster_key, flow_version FROM mart.flow_versions WHERE in_force"))


def replace_flow(plant, seed, key="c0002") -> str:
    changed = reopen(plant, flow={"random_state": seed})
    made = train_cluster_flows(changed, [key], reason="x", promoted_by="test", challenge=False)
    return made[key].flow_version


def age(plant, days: int) -> None:
    """Let time pass for everything that has been done so far."""
    with plant.warehouse.transaction() as connection:
        for table, column in (
            ("mart.flow_versions", "trained_at"),
            ("mart.flow_versions", "promoted_at"),
            ("mart.flow_decisions", "decided_at"),
            ("core.model_sets", "pinned_at"),
        ):
            connection.execute(f"UPDATE {table} SET {column} = {column} - to_days({days:d})")


def test_nothing_is_deleted_within_the_retention(trained_plant):
    replace_flow(trained_plant, 1)
    score_all(trained_plant)
    age(trained_plant, 364)
    before = files(trained_plant)
    assert collect_model_files(trained_plant) == []
    assert files(trained_plant) == before


def test_a_flow_out_of_force_for_longer_loses_its_file_and_keeps_its_row(trained_plant):
    old = in_force(trained_plant)["c0002"]
    replace_flow(trained_plant, 1)
    score_all(trained_plant)
    age(trained_plant, 366)
    score_all(trained_plant)
    before = files(trained_plant)
    assert collect_model_files(trained_plant) == [old]
    assert before - files(trained_plant) == {old}
    assert collect_model_files(trained_plant) == []
    rows = query(trained_plant, "SELECT flow_version FROM mart.flow_versions WHERE file_deleted_at IS NOT NULL")
    assert rows == [(old,)]
    with pytest.raises(ModelFileError, match=r"its file was deleted on .*models.keep_days.* train a new one"):
        rollback(trained_plant, "c0002", decided_by="a", reason="x")


REFERENCES = {
    "in use": "UPDATE mart.flow_versions SET in_force = true WHERE flow_version = $old",
    "a slice": "UPDATE core.component_log_density SET flow_version = $old WHERE cluster_key = 'c0002'",
    "a score": "UPDATE mart.anomaly_scores SET flow_version = $old WHERE reading_id = (SELECT min(reading_id) "
    "FROM mart.anomaly_scores WHERE cluster_key = 'c0002')",
    "an anomaly without an explanation": "DELETE FROM mart.sensor_contributions WHERE reading_id IN "
    "(SELECT reading_id FROM mart.anomaly_scores JOIN core.model_sets AS pins USING (model_set_id) "
    "WHERE pins.flow_version = $old)",
    "a recent model set": "UPDATE core.model_sets SET pinned_at = pinned_at + to_days(100) WHERE flow_version = $old",
    "it left force lately": "UPDATE mart.flow_decisions SET decided_at = decided_at + to_days(100) "
    "WHERE previous_version = $old",
    "it was trained lately": "UPDATE mart.flow_versions SET trained_at = trained_at + to_days(100) "
    "WHERE flow_version = $old",
}


@pytest.mark.parametrize("reference", REFERENCES)
def test_a_file_that_something_refers_to_stays(trained_plant, reference):
    explain_anomalies(trained_plant)
    old = in_force(trained_plant)["c0002"]
    replace_flow(trained_plant, 1)
    score_all(trained_plant)
    age(trained_plant, 400)
    with trained_plant.warehouse.transaction() as connection:
        changed = connection.execute(REFERENCES[reference], {"old": old}).fetchone()
    assert changed[0] > 0
    assert collect_model_files(trained_plant) == []
    assert old in files(trained_plant)


def test_a_flow_that_is_trained_again_to_the_same_file_has_it_back(trained_plant):
    plant = reopen(trained_plant, models={"url": "models", "keep_days": 0})
    old = in_force(plant)["c0002"]
    replace_flow(plant, 1)
    score_all(plant)
    age(plant, 1)
    assert collect_model_files(plant) == [old]
    made = train_cluster_flows(plant, ["c0002"], reason="again", promoted_by="test", challenge=False)["c0002"]
    assert made.flow_version == old
    assert old in files(plant)
    assert query(plant, "SELECT file_deleted_at FROM mart.flow_versions WHERE flow_version = ?", old) == [(None,)]


def test_a_file_that_is_collected_while_the_same_flow_is_trained_again_is_put_back(trained_plant, monkeypatch):
    from pwflow_core.pipeline.flows import training

    plant = reopen(trained_plant, models={"url": "models", "keep_days": 0})
    old = in_force(plant)["c0002"]
    replace_flow(plant, 1)
    score_all(plant)
    age(plant, 1)
    register = training.register_flows

    def register_behind_the_collection(*arguments):
        assert collect_model_files(plant) == [old]
        return register(*arguments)

    monkeypatch.setattr(training, "register_flows", register_behind_the_collection)
    train_cluster_flows(plant, ["c0002"], reason="again", promoted_by="test", challenge=False)
    assert old in files(plant)
    assert in_force(plant)["c0002"] == old
