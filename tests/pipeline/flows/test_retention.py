"""Retention: old model files go, but never one in use, nor one that a score or a recent model set refers to."""

import shutil
from pathlib import Path

import pytest

from pwflow_core.errors import ModelFileError
from pwflow_core.pipeline.flows.registry import rollback
from pwflow_core.pipeline.flows.retention import collect_model_files
from pwflow_core.pipeline.flows.training import train_cluster_flows
from pwflow_core.pipeline.scoring.contributions import explain_anomalies
from pwflow_core.plant import Plant
from tests.conftest import TRAINED, open_plant, query, reopen
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


@pytest.fixture(scope="module")
def _replaced_folder(_trained_folder, tmp_path_factory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("replaced") / "plant"
    shutil.copytree(_trained_folder, folder)
    plant = open_plant(folder, TRAINED)
    explain_anomalies(plant)
    old = in_force(plant)["c0002"]
    replace_flow(plant, 1)
    score_all(plant)
    return folder, old


@pytest.fixture
def replaced_plant(_replaced_folder, tmp_path) -> Plant:
    """A copy of a plant with another flow of c0002 than its first one, by which all is scored and explained."""
    shutil.copytree(_replaced_folder[0], tmp_path, dirs_exist_ok=True)
    return open_plant(tmp_path, TRAINED)


@pytest.fixture
def old(_replaced_folder) -> str:
    """The flow of c0002 that was replaced there."""
    return _replaced_folder[1]


def test_nothing_is_deleted_within_the_retention(replaced_plant):
    age(replaced_plant, 364)
    before = files(replaced_plant)
    assert collect_model_files(replaced_plant) == []
    assert files(replaced_plant) == before


def test_a_flow_out_of_force_for_longer_loses_its_file_and_keeps_its_row(replaced_plant, old):
    age(replaced_plant, 366)
    score_all(replaced_plant)
    before = files(replaced_plant)
    assert collect_model_files(replaced_plant) == [old]
    assert before - files(replaced_plant) == {old}
    assert collect_model_files(replaced_plant) == []
    rows = query(replaced_plant, "SELECT flow_version FROM mart.flow_versions WHERE file_deleted_at IS NOT NULL")
    assert rows == [(old,)]
    with pytest.raises(ModelFileError, match=r"its file was deleted on .*models.keep_days.* train a new one"):
        rollback(replaced_plant, "c0002", decided_by="a", reason="x")


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
def test_a_file_that_something_refers_to_stays(replaced_plant, old, reference):
    age(replaced_plant, 400)
    with replaced_plant.warehouse.transaction() as connection:
        changed = connection.execute(REFERENCES[reference], {"old": old}).fetchone()
    assert changed[0] > 0
    assert collect_model_files(replaced_plant) == []
    assert old in files(replaced_plant)


def test_a_flow_that_is_trained_again_to_the_same_file_has_it_back(replaced_plant, old):
    plant = reopen(replaced_plant, models={"url": "models", "keep_days": 0})
    age(plant, 1)
    assert collect_model_files(plant) == [old]
    made = train_cluster_flows(plant, ["c0002"], reason="again", promoted_by="test", challenge=False)["c0002"]
    assert made.flow_version == old
    assert old in files(plant)
    assert query(plant, "SELECT file_deleted_at FROM mart.flow_versions WHERE flow_version = ?", old) == [(None,)]


def test_a_file_that_is_collected_while_the_same_flow_is_trained_again_is_put_back(replaced_plant, old, monkeypatch):
    from pwflow_core.pipeline.flows import training

    plant = reopen(replaced_plant, models={"url": "models", "keep_days": 0})
    age(plant, 1)
    register = training.register_flows

    def register_behind_the_collection(*arguments):
        assert collect_model_files(plant) == [old]
        return register(*arguments)

    monkeypatch.setattr(training, "register_flows", register_behind_the_collection)
    train_cluster_flows(plant, ["c0002"], reason="again", promoted_by="test", challenge=False)
    assert old in files(plant)
    assert in_force(plant)["c0002"] == old
