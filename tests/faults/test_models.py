"""Model files that are damaged, gone, another's or no model at all: nothing is scored with them, the rest goes on."""

import hashlib
import pickle
import re

import pytest

from pwflow_core import PiecewiseFlow
from pwflow_core.errors import ModelFileError
from pwflow_core.pipeline.flows.training import train_cluster_flows
from pwflow_core.pipeline.publishing.publishing import publish_warehouse
from pwflow_core.pipeline.regimes.assigning import assign_readings
from pwflow_core.pipeline.regimes.finding import fit_cluster_model
from pwflow_core.pipeline.regimes.model import ClusterModel
from pwflow_core.pipeline.scoring.checks import check_scores
from pwflow_core.pipeline.scoring.contributions import explain_anomalies
from pwflow_core.pipeline.scoring.densities import score_slices
from pwflow_core.pipeline.scoring.scores import derive_scores
from tests.conftest import learn_all, plant_readings, put_file, query, read_all, reopen, score_all
from tests.faults.conftest import copy_plant

HURT = "c0002"
IN_FORCE = "SELECT cluster_key, flow_version FROM mart.flow_versions WHERE in_force"
STATUSES = (
    "SELECT score.status, score.reason, count(*) FROM mart.anomaly_scores AS score "
    "JOIN core.readings USING (reading_id) WHERE score.ts >= '2024-04-01' AND quality = 'ok' AND reading_id {} "
    f"(SELECT reading_id FROM core.cluster_assignments WHERE cluster_key = '{HURT}') GROUP BY ALL"
)
RESULTS = "SELECT * EXCLUDE (scored_at, model_set_id) FROM mart.anomaly_scores ORDER BY reading_id"


def damage(plant, kind: str, key: str = HURT):
    """Damage the model file of a cluster on the disk; return its path."""
    versions = dict(query(plant, IN_FORCE))
    file = plant.config.folder / "models" / f"{versions[key]}.safetensors"
    other = file.with_name(f"{versions['c0001']}.safetensors")
    data = file.read_bytes()
    match kind:
        case "flipped bit":
            file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        case "truncated":
            file.write_bytes(data[: len(data) // 2])
        case "empty":
            file.write_bytes(b"")
        case "deleted":
            file.unlink()
        case "another cluster's":
            file.write_bytes(other.read_bytes())
    return file


def add_night(plant):
    put_file(plant.config.folder / "data" / "night.csv", plant_readings(60, seed=7, start="2024-04-01"))
    read_all(plant)
    assign_readings(plant)


AT_NIGHT = pytest.mark.long(reason="3 CPU s each: a changed byte and a file that is gone stay at each push")


@pytest.mark.parametrize(
    "kind",
    [
        "flipped bit",
        pytest.param("truncated", marks=AT_NIGHT),
        pytest.param("empty", marks=AT_NIGHT),
        "deleted",
        pytest.param("another cluster's", marks=AT_NIGHT),
    ],
)
def test_a_damaged_model_file_is_named_with_the_remedy_and_the_other_clusters_are_scored(trained_plant, caplog, kind):
    file = damage(trained_plant, kind)
    add_night(trained_plant)
    before = query(trained_plant, f"FROM core.component_log_density WHERE cluster_key = '{HURT}' ORDER BY ALL")
    summaries = dict(score_slices(trained_plant))
    assert str(file) in summaries[HURT].problem
    assert "Restore it from a backup, or train it again" in summaries[HURT].problem
    assert f"{HURT} is not judged" in caplog.text
    assert {key for key, summary in summaries.items() if summary.n_new} == {"c0001", "c0003", "c0004"}
    after = query(trained_plant, f"FROM core.component_log_density WHERE cluster_key = '{HURT}' ORDER BY ALL")
    assert after == before, "nothing is scored with it"


def test_readings_of_a_damaged_cluster_say_why_they_are_not_judged_and_the_run_says_so_too(trained_plant):
    before = query(trained_plant, RESULTS)
    damage(trained_plant, "flipped bit")
    add_night(trained_plant)
    list(score_slices(trained_plant))
    derive_scores(trained_plant)
    explain_anomalies(trained_plant)
    [(status, reason, n_unjudged)] = query(trained_plant, STATUSES.format("IN"))
    assert status == "thin"
    assert reason == f"The model file of regime {HURT} cannot be used: restore it, or retrain the regime"
    assert n_unjudged > 10
    assert {row[0] for row in query(trained_plant, STATUSES.format("NOT IN"))} == {"scored"}
    assert set(before) <= set(query(trained_plant, RESULTS)), "what the whole file scored stays"
    checks = check_scores(trained_plant)
    [warning] = [result for result in checks if result.name == "storage_is_whole"]
    assert not warning.passed
    assert HURT in warning.sentence
    assert all(result.passed for result in checks if result.is_blocking)
    publish_warehouse(trained_plant)


@pytest.mark.parametrize(
    "remedy", ["restore", pytest.param("retrain", marks=pytest.mark.long(reason="6 CPU s: restoring stays"))]
)
def test_once_the_file_is_restored_or_learned_again_the_scores_are_as_if_nothing_had_happened(
    trained_plant, tmp_path_factory, remedy
):
    healthy = copy_plant(trained_plant, tmp_path_factory.mktemp("healthy") / "plant")
    add_night(healthy)
    score_all(healthy)
    file = damage(trained_plant, "flipped bit")
    add_night(trained_plant)
    score_all(trained_plant)
    assert query(trained_plant, RESULTS) != query(healthy, RESULTS)
    if remedy == "restore":
        file.write_bytes((healthy.config.folder / "models" / file.name).read_bytes())
    else:  # as in its first training: the night of April is outside the window
        plant = reopen(trained_plant, training={"until": "2024-03-15"})
        train_cluster_flows(plant, [HURT], reason="its file was damaged", promoted_by="test")
    score_all(trained_plant)
    assert query(trained_plant, RESULTS) == query(healthy, RESULTS)
    assert all(result.passed for result in check_scores(trained_plant) if result.name == "storage_is_whole")


def test_if_no_model_file_can_be_used_the_run_fails_and_what_was_published_stays(trained_plant):
    published = trained_plant.config.published_path.read_bytes()
    for file in (trained_plant.config.folder / "models").glob("*.safetensors"):
        if file.stem in dict(query(trained_plant, IN_FORCE)).values():
            file.unlink()
    with pytest.raises(ModelFileError, match="it is missing"):
        list(score_slices(trained_plant))
    assert trained_plant.config.published_path.read_bytes() == published


def test_a_damaged_cluster_alone_in_a_run_fails_it(trained_plant):
    file = damage(trained_plant, "truncated")
    with pytest.raises(ModelFileError, match=re.escape(str(file))):
        list(score_slices(trained_plant, [HURT]))


def test_a_damaged_file_of_the_regimes_is_named_and_fitting_them_again_mends_it(trained_plant, caplog):
    [(version,)] = query(trained_plant, "SELECT cluster_model_id FROM core.cluster_models WHERE in_force")
    file = trained_plant.config.folder / "models" / f"{version}.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    scores = query(trained_plant, RESULTS)
    with pytest.raises(ModelFileError, match=f"{file}.*or cluster_model if it holds the regimes"):
        list(score_slices(trained_plant))
    assert query(trained_plant, RESULTS) == scores
    summary = fit_cluster_model(trained_plant)
    assert "every regime gets a new key" in caplog.text
    assert not {key for keys in summary.clusters.values() for key in keys} & {"c0001", "c0002", "c0003", "c0004"}
    learn_all(trained_plant)
    assert query(trained_plant, "SELECT count(*) FROM mart.anomaly_scores WHERE status = 'scored'") > [(2000,)]


class _Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_pickle_offered_as_a_model_is_refused_unread(trained_plant, tmp_path):
    """Also where it is registered under its own hash, so that the hash is right."""
    proof = tmp_path / "it ran"
    data = pickle.dumps(_Bomb(proof))
    version = hashlib.sha256(data).hexdigest()
    (trained_plant.config.folder / "models" / f"{version}.safetensors").write_bytes(data)
    with trained_plant.warehouse.transaction() as connection:
        connection.execute(
            "UPDATE mart.flow_versions SET flow_version = ? WHERE in_force AND cluster_key = ?", [version, HURT]
        )
    add_night(trained_plant)
    summaries = dict(score_slices(trained_plant))
    assert "cannot be read as one" in summaries[HURT].problem
    assert summaries["c0001"].n_new > 0
    saved = tmp_path / "model.safetensors"
    saved.write_bytes(data)
    with pytest.raises(ModelFileError):
        PiecewiseFlow.load(saved)
    with pytest.raises(ModelFileError):
        ClusterModel.from_bytes(data)
    assert not proof.exists()
    pickle.loads(data)  # noqa: S301 - only to show that it would have run
    assert proof.exists(), "the pickle was a live one"
