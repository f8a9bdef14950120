"""Contributions: every anomaly explained once, by the flows that scored it, and only while it is one."""

import shutil

import numpy as np
import pandas as pd
import pytest

from pwflow_core.errors import NotFittedError
from pwflow_core.pipeline.flows.training import train_cluster_flows
from pwflow_core.pipeline.scoring import contributions
from pwflow_core.pipeline.scoring.contributions import explain_anomalies
from pwflow_core.pipeline.scoring.densities import score_slices
from pwflow_core.pipeline.scoring.scores import derive_scores
from tests.conftest import (
    TRAINED,
    copy_folder,
    frame,
    kill_at,
    learn_all,
    open_plant,
    plant_readings,
    put_file,
    query,
    read_all,
    reopen,
    score_all,
)

ALL = "SELECT * FROM mart.sensor_contributions ORDER BY reading_id, sensor"
ANOMALIES = "SELECT reading_id, anomaly_score, scored_at FROM mart.anomaly_scores WHERE is_anomaly ORDER BY reading_id"


def add_faulty_night(plant, seed=7):
    """Add a night in which the pressure of press-1 reads 40 bar too much for 42 minutes."""
    night = plant_readings(200, seed=seed, start="2024-04-01")
    is_faulty = (night.machine == "press-1") & (night.index % 200 >= 60) & (night.index % 200 < 102)
    night.loc[is_faulty, "pressure"] += 40.0
    put_file(plant.config.folder / "data" / f"night-{seed}.parquet", night)
    read_all(plant)
    score_all(plant)


@pytest.fixture(scope="module")
def _explained_folder(_trained_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("explained") / "plant"
    shutil.copytree(_trained_folder, folder)
    plant = open_plant(folder, TRAINED)
    add_faulty_night(plant)
    explain_anomalies(plant)
    return folder


@pytest.fixture
def explained_plant(_explained_folder, tmp_path):
    """A copy of a plant with a faulty night, whose anomalies have been explained."""
    return open_plant(copy_folder(_explained_folder, tmp_path / "explained"), TRAINED)


def test_every_anomaly_has_one_row_per_sensor_and_nothing_else_has_any(explained_plant):
    rows = frame(explained_plant, ALL)
    anomalies = frame(explained_plant, ANOMALIES)
    assert len(anomalies) > 40
    assert not rows.duplicated(["reading_id", "sensor"]).any()
    assert set(rows.reading_id) == set(anomalies.reading_id)
    assert len(rows) == 2 * len(anomalies)
    assert rows.notna().all(axis=None)
    assert dict(zip(rows.sensor, rows.unit, strict=True)) == {"temperature": "°C", "pressure": "bar"}


def test_the_contributions_of_a_reading_add_up_to_its_anomaly_score(explained_plant):
    summed = frame(explained_plant, ALL).groupby("reading_id").contribution.agg(["sum", "min"])
    scores = frame(explained_plant, ANOMALIES).set_index("reading_id").anomaly_score
    np.testing.assert_allclose(summed["sum"], scores.loc[summed.index], rtol=1e-12)
    assert summed["min"].min() >= 0


def test_the_faulty_sensor_is_blamed_with_what_it_read_and_what_was_expected(explained_plant):
    rows = frame(
        explained_plant,
        "SELECT part.*, pressure, temperature FROM mart.sensor_contributions AS part JOIN core.readings "
        "USING (reading_id) WHERE part.ts BETWEEN '2024-04-01 01:00' AND '2024-04-01 01:41' "
        "AND part.machine_id = 'press-1' AND sensor = 'pressure'",
    )
    assert len(rows) > 35
    assert np.array_equal(rows.observed, rows.pressure)
    scores = frame(explained_plant, ANOMALIES).set_index("reading_id").anomaly_score
    assert (rows.contribution > 0.8 * scores.loc[rows.reading_id].to_numpy()).mean() > 0.9
    healthy = rows.pressure - 40.0
    assert np.median(np.abs(rows.expected - healthy)) < 1.5
    assert (rows.expected_high < rows.observed).all()


def test_a_second_run_explains_nothing(explained_plant):
    before = query(explained_plant, ALL)
    assert explain_anomalies(explained_plant).n_new == 0
    assert query(explained_plant, ALL) == before


def test_another_flow_renews_just_the_anomalies_that_were_scored_again(explained_plant):
    before = frame(explained_plant, ALL)
    changed = reopen(explained_plant, flow={"random_state": 1})
    train_cluster_flows(changed, ["c0002"], reason="drift", promoted_by="test", challenge=False)
    list(score_slices(explained_plant))
    derive_scores(explained_plant)
    scored = dict(query(explained_plant, "SELECT reading_id, scored_at FROM mart.anomaly_scores WHERE is_anomaly"))
    stays = before[[scored.get(row.reading_id) == row.scored_at for row in before.itertuples()]]
    assert 0 < len(stays) < len(before)
    summary = explain_anomalies(explained_plant)
    after = frame(explained_plant, ALL)
    kept = after[after.reading_id.isin(stays.reading_id)].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, stays.reset_index(drop=True), check_exact=True)
    assert 2 * summary.n_new == len(after) - len(kept) > 0
    assert set(after.reading_id) == set(scored)


def test_readings_that_are_no_anomalies_any_more_are_removed(explained_plant):
    before = frame(explained_plant, ALL)
    stricter = reopen(explained_plant, scoring={"alpha": 0.005})
    derive_scores(stricter)
    explain_anomalies(stricter)
    after = frame(stricter, ALL)
    assert set(after.reading_id) == set(frame(stricter, ANOMALIES).reading_id) < set(before.reading_id)


def test_a_corrected_reading_is_explained_anew(explained_plant):
    """The file comes again with less of a fault: the same reading ids, other values."""
    path = explained_plant.config.folder / "data" / "night-7.parquet"
    night = plant_readings(200, seed=7, start="2024-04-01")
    faulty = night.index[(night.machine == "press-1")][60:102]
    night.loc[faulty, "pressure"] += 30.0
    put_file(path, night)
    read_all(explained_plant)
    score_all(explained_plant)
    explain_anomalies(explained_plant)
    rows = frame(
        explained_plant,
        "SELECT observed, pressure FROM mart.sensor_contributions JOIN core.readings USING (reading_id) "
        "WHERE sensor = 'pressure'",
    )
    assert np.array_equal(rows.observed, rows.pressure)


def test_explaining_in_parts_gives_what_explaining_all_at_once_gives(explained_plant):
    add_faulty_night(explained_plant, seed=8)
    explain_anomalies(reopen(explained_plant, compute={"chunk_rows": 1_000}))
    in_parts = frame(explained_plant, ALL)
    with explained_plant.warehouse.transaction() as connection:
        connection.execute("DELETE FROM mart.sensor_contributions")
    summary = explain_anomalies(explained_plant)
    assert 2 * summary.n_new == len(in_parts) == summary.n_rows
    pd.testing.assert_frame_equal(frame(explained_plant, ALL), in_parts, check_exact=False, rtol=1e-4, atol=1e-4)


def test_nothing_holds_the_warehouse_while_it_explains(trained_plant, monkeypatch):
    add_faulty_night(trained_plant)
    chunks = contributions.read_chunks

    def chunks_while_another_writes(*arguments):
        with trained_plant.warehouse.transaction() as connection:
            connection.execute("INSERT INTO core.plant_facts VALUES ('meanwhile', 'written')")
        yield from chunks(*arguments)

    monkeypatch.setattr(contributions, "read_chunks", chunks_while_another_writes)
    assert explain_anomalies(trained_plant).n_new > 40
    assert query(trained_plant, "SELECT count(*) > 0 FROM core.plant_facts WHERE fact = 'meanwhile'") == [(True,)]


def test_anomalies_that_another_run_scored_again_meanwhile_are_not_explained_by_what_was_copied(
    trained_plant, monkeypatch
):
    add_faulty_night(trained_plant)
    chunks = contributions.read_chunks

    def chunks_while_scores_change(*arguments):
        with trained_plant.warehouse.transaction() as connection:
            connection.execute("UPDATE mart.anomaly_scores SET scored_at = scored_at + INTERVAL 1 HOUR")
        yield from chunks(*arguments)

    monkeypatch.setattr(contributions, "read_chunks", chunks_while_scores_change)
    assert explain_anomalies(trained_plant).n_explained == 0
    monkeypatch.undo()
    assert explain_anomalies(trained_plant).n_new == len(frame(trained_plant, ANOMALIES))


def test_a_process_killed_while_it_writes_leaves_what_was_there(explained_plant, stem):
    before = query(explained_plant, ALL)
    with explained_plant.warehouse.transaction() as connection:
        connection.execute("UPDATE mart.anomaly_scores SET scored_at = scored_at + INTERVAL 1 HOUR")
    code = "from pwflow_core.pipeline.scoring.contributions import explain_anomalies; explain_anomalies(plant)"
    kill_at(stem, explained_plant, "pwflow_core.pipeline.scoring.contributions", "_summarise", code)
    assert query(explained_plant, ALL) == before


@pytest.mark.long(reason="11 CPU s: a plant of hostile names goes the whole way in tests/reporting")
def test_a_sensor_may_have_any_name(make_plant):
    hostile = "x'); DROP TABLE mart.anomaly_scores; --"
    readings = plant_readings(1000).rename(columns={"temperature": hostile, "pressure": "scored_at"})
    readings.loc[900:910, "scored_at"] += 40.0
    plant = make_plant(
        {"first.parquet": readings},
        sensors={hostile: {"unit": '"'}, "scored_at": {}},
        clustering={"n_clusters": 2},
        scoring={"alpha": 0.01},
    )
    read_all(plant)
    learn_all(plant)
    summary = explain_anomalies(plant)
    assert summary.n_explained == len(frame(plant, ANOMALIES)) > 0
    assert set(frame(plant, ALL).sensor) == {hostile, "scored_at"}


def test_before_anything_was_learned_the_answer_is_a_sentence(make_plant):
    plant = make_plant({"first.parquet": plant_readings(100)})
    read_all(plant)
    with pytest.raises(NotFittedError, match="no regimes yet"):
        explain_anomalies(plant)
