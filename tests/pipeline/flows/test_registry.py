"""The registry: one pointer per regime, moved in one transaction, and a row for every decision."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pwflow_core.errors import ModelFileError, PromotionError, UnknownClusterError, UnknownVersionError
from pwflow_core.pipeline.flows.registry import list_versions, promote, rollback
from pwflow_core.pipeline.flows.training import clusters_without_flow, train_cluster_flows
from pwflow_core.pipeline.scoring.densities import score_slices
from pwflow_core.pipeline.scoring.scores import derive_scores
from pwflow_core.plant import Plant
from tests.conftest import TRAINED, frame, kill_at, open_plant, query, reopen, score_all
from tests.faults.conftest import RELEASE_0_1, as_of

SLICES = "SELECT * FROM core.component_log_density WHERE cluster_key <> ? ORDER BY cluster_key, reading_id"
OWN_SLICE = "SELECT * EXCLUDE (scored_at) FROM core.component_log_density WHERE cluster_key = ? ORDER BY reading_id"
SCORES = "SELECT * FROM mart.anomaly_scores ORDER BY reading_id"
DECISIONS = (
    "SELECT cluster_key, flow_version, decision, previous_version, decided_by, reason FROM mart.flow_decisions "
    "WHERE cluster_key = ? ORDER BY decided_at"
)


def in_force(plant, key="c0002") -> str:
    [(version,)] = query(plant, "SELECT flow_version FROM mart.flow_versions WHERE cluster_key = ? AND in_force", key)
    return version


def train_another(plant, key="c0002", seed=1) -> str:
    """Train another version and put it in use, whatever it is worth."""
    changed = reopen(plant, flow={"random_state": seed})
    train_cluster_flows(changed, [key], reason="another seed", promoted_by="test", challenge=False)
    return in_force(plant, key)


def registry(plant):
    return (
        query(plant, "FROM mart.flow_versions ORDER BY ALL"),
        query(plant, "FROM mart.flow_decisions ORDER BY ALL"),
        query(plant, "FROM core.component_log_density ORDER BY ALL"),
        query(plant, SCORES),
    )


@pytest.fixture(scope="module")
def _second_folder(_trained_folder, tmp_path_factory) -> tuple[Path, str, str]:
    folder = tmp_path_factory.mktemp("second") / "plant"
    shutil.copytree(_trained_folder, folder)
    plant = open_plant(folder, TRAINED)
    return folder, in_force(plant), train_another(plant)


@pytest.fixture
def plant(_second_folder, tmp_path) -> Plant:
    """A copy of a plant with a second flow of c0002 in use, by which nothing has been scored yet."""
    shutil.copytree(_second_folder[0], tmp_path, dirs_exist_ok=True)
    return open_plant(tmp_path, TRAINED)


@pytest.fixture
def first(_second_folder) -> str:
    """The first flow of c0002 there."""
    return _second_folder[1]


@pytest.fixture
def second(_second_folder) -> str:
    """The flow of c0002 that is in use there."""
    return _second_folder[2]


def test_every_flow_that_came_into_force_has_a_decision(plant, first, second):
    assert query(plant, DECISIONS, "c0002") == [
        ("c0002", first, "promoted", None, "test", "first"),
        ("c0002", second, "promoted", first, "test", "another seed"),
    ]
    undecided = "SELECT * FROM mart.flow_versions ANTI JOIN mart.flow_decisions USING (cluster_key, flow_version)"
    assert query(plant, undecided) == []


def test_moving_the_pointer_changes_no_slice_and_no_score(plant, first, second):
    score_all(plant)
    _, _, slices, scores = registry(plant)
    made = promote(plant, "c0002", first, decided_by="Ada", reason="the new one is loud")
    assert (made.decision, made.flow_version, made.previous_version) == ("promoted", first, second)
    assert in_force(plant) == first
    _, _, slices_after, scores_after = registry(plant)
    assert slices_after == slices
    assert scores_after == scores
    [*_, last] = query(plant, DECISIONS, "c0002")
    assert last == ("c0002", first, "promoted", second, "Ada", "the new one is loud")


def test_after_a_rollback_that_slice_alone_is_made_again_and_is_what_it_was(trained_plant):
    """The other slices stay byte by byte, scores without the regime too; its own scores are those of before."""
    slice_before, scores_before = frame(trained_plant, OWN_SLICE, "c0002"), frame(trained_plant, SCORES)
    calibration = query(trained_plant, "FROM core.calibration WHERE cluster_key = 'c0002'")
    train_another(trained_plant)
    score_all(trained_plant)
    others = query(trained_plant, SLICES, "c0002")
    rollback(trained_plant, "c0002", decided_by="test", reason="x")
    list(score_slices(trained_plant))
    affected = derive_scores(trained_plant).n_derived
    assert query(trained_plant, SLICES, "c0002") == others
    pd.testing.assert_frame_equal(frame(trained_plant, OWN_SLICE, "c0002"), slice_before, check_exact=False, atol=1e-5)
    assert affected == len(slice_before)
    after = frame(trained_plant, SCORES)
    np.testing.assert_allclose(
        after.p_value.to_numpy(float), scores_before.p_value.to_numpy(float), rtol=1e-3, equal_nan=True
    )
    kept = query(
        trained_plant, "FROM core.calibration WHERE cluster_key = 'c0002' AND flow_version = ?", in_force(trained_plant)
    )
    assert kept == calibration, "a version that comes back has the calibration that it had"


def test_rolling_back_twice_goes_two_versions_back(plant, first, second):
    third = train_another(plant, seed=2)
    assert len({first, second, third}) == 3
    assert rollback(plant, "c0002", decided_by="a", reason="x").flow_version == second
    assert rollback(plant, "c0002", decided_by="a", reason="x").flow_version == first
    with pytest.raises(UnknownVersionError, match="No flow of c0002 was in use before the present one: name"):
        rollback(plant, "c0002", decided_by="a", reason="x")
    assert rollback(plant, "c0002", third, decided_by="a", reason="x").decision == "rolled_back"
    assert in_force(plant) == third
    assert [row[2] for row in query(plant, DECISIONS, "c0002")] == ["promoted"] * 3 + ["rolled_back"] * 3


def test_the_first_digits_of_a_version_are_enough_if_they_fit_one(plant, first):
    assert promote(plant, "c0002", first[:9].upper(), decided_by="a", reason="x").flow_version == first
    twin = first[:5] + ("0" if first[5] != "0" else "1") + first[6:]
    with plant.warehouse.transaction() as connection:
        connection.execute(
            "UPDATE mart.flow_versions SET flow_version = ? WHERE flow_version <> ? AND cluster_key = 'c0002'",
            [twin, first],
        )
    with pytest.raises(UnknownVersionError, match=f"'{first[:5]}' fits 2 flows of c0002 .*give more digits"):
        promote(plant, "c0002", first[:5], decided_by="a", reason="x")


def test_what_cannot_be_put_in_use_is_one_sentence_and_nothing_is_written(plant, first, second):
    foreign = in_force(plant, "c0003")
    with plant.warehouse.transaction() as connection:
        connection.execute("UPDATE mart.clusters SET status = 'retired' WHERE cluster_key = 'c0004'")
    cases = [
        (UnknownClusterError, "c0001, c0002, c0003", ("c9999", first)),
        (UnknownClusterError, "got the retired regime c0004: name one of those", ("c0004", first)),
        (UnknownVersionError, f"Expected a flow version of c0002 .*{first[:12]}.*got 'feed'", ("c0002", "feed")),
        (UnknownVersionError, "Expected a flow version of c0002", ("c0002", "")),
        (UnknownVersionError, 'got "x\'; DROP TABLE y"', ("c0002", "x'; DROP TABLE y")),
        (UnknownVersionError, "is one of c0003, not of c0002: name one of its own", ("c0002", foreign)),
        (PromotionError, f"The flow {second[:12]}… of c0002 is in use already", ("c0002", second)),
    ]
    before = registry(plant)
    for error, match, arguments in cases:
        for step in (promote, rollback):
            with pytest.raises(error, match=match) as caught:
                step(plant, *arguments, decided_by="a", reason="x")
            assert len(str(caught.value)) < 400
    assert registry(plant) == before


@pytest.mark.parametrize("damage", ["missing", "one byte", "cut short", "deleted by retention"])
def test_a_damaged_file_stops_the_pointer_before_it_moves(plant, first, damage):
    file = plant.config.folder / "models" / f"{first}.safetensors"
    data = file.read_bytes()
    match = first
    if damage == "one byte":
        file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage == "cut short":
        file.write_bytes(data[: len(data) // 2])
    else:
        file.unlink()
    if damage == "deleted by retention":
        match = "its file was deleted on 2024-05-06.*models.keep_days"
        with plant.warehouse.transaction() as connection:
            connection.execute(
                "UPDATE mart.flow_versions SET file_deleted_at = '2024-05-06' WHERE flow_version = ?", [first]
            )
    before = registry(plant)
    with pytest.raises(ModelFileError, match=match):
        rollback(plant, "c0002", decided_by="a", reason="x")
    assert registry(plant) == before


def test_a_flow_of_other_sensors_is_not_promoted(plant, first):
    from pwflow_core.modelling.serialization import pack, unpack

    arrays, document = unpack(plant.models.get(first), "cluster_flow")
    other = plant.models.put(pack("cluster_flow", arrays | {"centre": np.zeros(5)}, document))
    with plant.warehouse.transaction() as connection:
        connection.execute("UPDATE mart.flow_versions SET flow_version = ? WHERE flow_version = ?", [other, first])
    with pytest.raises(PromotionError, match="trained on 5 columns, but the models see 2 now"):
        promote(plant, "c0002", other, decided_by="a", reason="x")


def test_a_process_killed_between_pointer_and_decision_leaves_neither(plant, first, stem):
    before = registry(plant)
    code = (
        "from pwflow_core.pipeline.flows.registry import promote; "
        f"promote(plant, 'c0002', {first!r}, decided_by='a', reason='x')"
    )
    kill_at(stem, plant, "pwflow_core.pipeline.flows.registry", "insert_decision", code)
    assert registry(plant) == before


def test_versions_are_listed_the_latest_first(plant, first, second):
    listed = list_versions(plant, "c0002")
    assert [(version.flow_version, version.in_force) for version in listed] == [(second, True), (first, False)]
    assert all(version.promoted_at is not None for version in listed)
    with pytest.raises(UnknownClusterError):
        list_versions(plant, "c9999")


def test_in_a_warehouse_of_release_0_1_flows_are_retrained_and_rolled_back(trained_plant):
    first = in_force(trained_plant)
    as_of(trained_plant, RELEASE_0_1)
    plant = reopen(trained_plant)
    assert clusters_without_flow(plant) == []
    assert [version.flow_version for version in list_versions(plant, "c0002")] == [first]
    second = train_another(plant)
    score_all(plant)
    assert rollback(plant, "c0002", decided_by="a", reason="x").flow_version == first
    score_all(plant)
    assert second != first
