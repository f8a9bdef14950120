"""Clusters: keys minted once, and every valid reading given to the regimes that could have produced it."""

import numpy as np
import pandas as pd
import pytest

from pwflow_core.errors import NotFittedError, UnknownClusterError
from pwflow_core.pipeline.flows.training import train_cluster_flows
from pwflow_core.pipeline.regimes import assigning
from pwflow_core.pipeline.regimes.assigning import assign_readings
from pwflow_core.pipeline.regimes.finding import fit_cluster_model, needs_cluster_model
from pwflow_core.pipeline.regimes.model import ClusterModel, load_cluster_model
from pwflow_core.pipeline.scoring.densities import score_slices
from tests.conftest import frame, plant_readings, put_file, query, read_all, reopen

ASSIGNMENTS = "SELECT * FROM core.cluster_assignments ORDER BY cluster_key, reading_id"


def registered(plant) -> dict[str, tuple[str, str]]:
    return {
        k: (seg, status) for k, seg, status in query(plant, "SELECT cluster_key, segment, status FROM mart.clusters")
    }


def add_night(plant, n_times: int = 60, seed: int = 7, **changes) -> pd.DataFrame:
    night = plant_readings(n_times, seed=seed, start="2024-04-01").assign(**changes)
    put_file(plant.config.folder / "data" / f"night-{seed}.parquet", night)
    read_all(plant)
    return night


def test_every_segment_has_its_own_regimes(trained_plant):
    assert registered(trained_plant) == {
        "c0001": ("A", "active"),
        "c0002": ("A", "active"),
        "c0003": ("B", "active"),
        "c0004": ("B", "active"),
    }
    weights = frame(trained_plant, "SELECT segment, sum(weight) AS total FROM mart.clusters GROUP BY segment")
    assert weights.total.to_numpy() == pytest.approx(1.0)


def test_fitting_again_on_the_same_readings_changes_nothing(trained_plant):
    before = frame(trained_plant, "SELECT * FROM mart.clusters ORDER BY cluster_key"), query(trained_plant, ASSIGNMENTS)
    summary = fit_cluster_model(trained_plant)
    assert (summary.minted, summary.retired) == ([], [])
    after = frame(trained_plant, "SELECT * FROM mart.clusters ORDER BY cluster_key"), query(trained_plant, ASSIGNMENTS)
    pd.testing.assert_frame_equal(before[0], after[0])
    assert before[1] == after[1]


def test_keys_are_minted_once_and_never_reused(trained_plant):
    ever: set[str] = {"c0001", "c0002", "c0003", "c0004"}
    for k in (1, 3, 2):
        plant = reopen(trained_plant, clustering={"n_clusters": k})
        assert needs_cluster_model(plant)
        before = {key for key, (_, status) in registered(plant).items() if status == "active"}
        summary = fit_cluster_model(plant)
        assert not needs_cluster_model(plant)
        in_force = {key for keys in summary.clusters.values() for key in keys}
        assert len(in_force) == 2 * k
        assert not set(summary.minted) & ever, "a retired key never comes back"
        assert in_force - set(summary.minted) <= before
        assert set(summary.retired) == before - in_force
        ever |= set(summary.minted)
        statuses = registered(plant)
        assert set(statuses) == ever, "retired keys are kept"
        assert {key for key, (_, status) in statuses.items() if status == "active"} == in_force


def test_a_regime_that_is_found_again_keeps_its_key_and_its_segment(trained_plant):
    plant = reopen(trained_plant, clustering={"random_state": 5})
    segment_of = {key: segment for key, (segment, _) in registered(plant).items()}
    old = load_cluster_model(plant)[1]
    add_night(plant, 300)
    summary = fit_cluster_model(plant)
    assert summary.minted == []
    new = load_cluster_model(plant)[1]
    for key in new.keys:
        (was, i), (now, j) = old.locate(key), new.locate(key)
        assert was.segment == now.segment == segment_of[key]
        assert was.seeds.means[i] == pytest.approx(now.seeds.means[j], abs=0.5)


def test_a_thin_segment_gets_no_regime_and_is_reported(trained_plant):
    night = add_night(trained_plant, 8, recipe="C")
    summary = fit_cluster_model(trained_plant)
    assert set(summary.clusters) == {"A", "B"}
    assert 0 < summary.thin_segments["C"] <= len(night)


def test_nothing_but_thin_segments_is_an_error_with_the_next_step(make_plant):
    plant = make_plant({"a.csv": plant_readings(8)})
    read_all(plant)
    with pytest.raises(NotFittedError, match="Expected at least 30 valid readings in a segment, got at most"):
        fit_cluster_model(plant)


def test_every_valid_reading_of_a_known_segment_has_a_candidate_and_shares_of_at_most_one(trained_plant):
    add_night(trained_plant)
    assign_readings(trained_plant)
    per_reading = frame(
        trained_plant,
        "SELECT quality, count(cluster_key) AS n, count(DISTINCT cluster_key) AS n_keys, sum(responsibility) AS total, "
        "min(responsibility) AS least, bool_and(clusters.segment = reading.segment) AS own "
        "FROM core.readings AS reading LEFT JOIN core.cluster_assignments USING (reading_id) "
        "LEFT JOIN mart.clusters USING (cluster_key) "
        "GROUP BY reading_id, quality",
    )
    ok = per_reading[per_reading.quality == "ok"]
    assert (ok.n >= 1).all()
    assert (ok.n == ok.n_keys).all()
    assert (ok.n == 2).any(), "regimes overlap here"
    assert (ok.total <= 1 + 1e-9).all()
    assert (ok.total > 0.999).all()
    assert (ok.least >= 0).all()
    assert ok.own.all()
    assert (per_reading[per_reading.quality != "ok"].n == 0).all()


def test_assignments_are_those_of_the_model(trained_plant):
    _, model = load_cluster_model(trained_plant)
    part = model.segments[0]
    readings = frame(
        trained_plant,
        "SELECT * FROM core.readings WHERE quality = 'ok' AND segment = ? ORDER BY reading_id",
        part.segment,
    )
    share = part.seeds.responsibilities(readings[list(model.columns)].to_numpy())
    for position, key in enumerate(part.keys):
        stored = frame(
            trained_plant, "SELECT * FROM core.cluster_assignments WHERE cluster_key = ? ORDER BY reading_id", key
        )
        expected = share[np.isin(readings.reading_id, stored.reading_id), position]
        np.testing.assert_array_equal(stored.responsibility, expected)


def test_night_by_night_gives_the_same_assignments_as_from_scratch(trained_plant):
    for seed in (7, 8):
        add_night(trained_plant, seed=seed, machine=f"press-{seed}")
        summary = assign_readings(trained_plant)
        assert 0 < sum(s.n_new for s in summary.values()) < sum(s.n_readings for s in summary.values())
    assert all(s.n_new == 0 for s in assign_readings(trained_plant).values())
    by_night = query(trained_plant, ASSIGNMENTS)
    with trained_plant.warehouse.transaction() as connection:
        connection.execute("DELETE FROM core.progress WHERE step = 'assign'")
    assign_readings(trained_plant)
    assert query(trained_plant, ASSIGNMENTS) == by_night


def test_assigning_one_cluster_leaves_the_others_for_later(trained_plant):
    add_night(trained_plant)
    assert list(assign_readings(trained_plant, ["c0002"])) == ["c0002"]
    rest = assign_readings(trained_plant)
    assert rest["c0002"].n_new == 0
    assert rest["c0001"].n_new > 0


def test_two_runs_that_assign_at_once_give_each_reading_once(trained_plant, monkeypatch):
    add_night(trained_plant)
    chunks = assigning.read_chunks

    def chunks_behind_another_run(*arguments):
        monkeypatch.setattr(assigning, "read_chunks", chunks)
        assign_readings(trained_plant)
        yield from chunks(*arguments)

    monkeypatch.setattr(assigning, "read_chunks", chunks_behind_another_run)
    assign_readings(trained_plant)
    twice = "SELECT * FROM core.cluster_assignments GROUP BY ALL HAVING count(*) > 1"
    assert query(trained_plant, twice) == []


def test_a_reading_that_changes_while_it_is_assigned_waits_for_the_next_run(trained_plant, monkeypatch):
    night = add_night(trained_plant)
    chunks = assigning.read_chunks

    def chunks_while_readings_change(*arguments):
        monkeypatch.setattr(assigning, "read_chunks", chunks)
        put_file(trained_plant.config.folder / "data" / "night-7.parquet", night.assign(pressure=night.pressure + 0.5))
        read_all(trained_plant)
        yield from chunks(*arguments)

    monkeypatch.setattr(assigning, "read_chunks", chunks_while_readings_change)
    for _ in range(2):
        assign_readings(trained_plant)
    by_night = query(trained_plant, ASSIGNMENTS)
    with trained_plant.warehouse.transaction() as connection:
        connection.execute("DELETE FROM core.progress WHERE step = 'assign'")
    assign_readings(trained_plant)
    assert query(trained_plant, ASSIGNMENTS) == by_night


def test_regimes_fitted_anew_start_from_no_assignments_of_the_old(trained_plant):
    plant = reopen(trained_plant, clustering={"n_clusters": 3})
    fit_cluster_model(plant)
    with pytest.raises(NotFittedError, match="materialize its cluster_assignments"):
        train_cluster_flows(plant, reason="x", promoted_by="test")
    assign_readings(plant)
    stale = (
        "SELECT * FROM core.component_log_density ANTI JOIN core.cluster_assignments USING (cluster_key, reading_id)"
    )
    assert query(plant, stale) == []


def test_an_unknown_key_is_an_error_that_lists_the_valid_ones(trained_plant):
    steps = [
        lambda key: assign_readings(trained_plant, [key]),
        lambda key: train_cluster_flows(trained_plant, [key], reason="x", promoted_by="test"),
        lambda key: list(score_slices(trained_plant, [key])),
    ]
    for key in ("c9999", "", "c0001'; DROP TABLE x; --", "C0001", "x" * 500):
        for step in steps:
            with pytest.raises(UnknownClusterError, match="c0001, c0002, c0003, c0004") as caught:
                step(key)
            assert len(str(caught.value)) < 300


HOSTILE_SEGMENTS = ["it's", 'a "b"', "$key", "A; DROP TABLE core.readings", "ünï / --", "/*training_rows*/"]


def test_segments_with_hostile_names_are_segments_like_any_other(make_plant):
    readings = [
        plant_readings(300, seed=i).assign(recipe=name, machine=f"m{i}") for i, name in enumerate(HOSTILE_SEGMENTS)
    ]
    plant = make_plant(
        {"a.parquet": pd.concat(readings)}, source={"segments": ["recipe"]}, clustering={"n_clusters": 1}
    )
    read_all(plant)
    assert set(fit_cluster_model(plant).clusters) == set(HOSTILE_SEGMENTS)
    assert all(summary.n_new for summary in assign_readings(plant).values())
    unassigned = (
        "SELECT * FROM core.readings ANTI JOIN core.cluster_assignments USING (reading_id) WHERE quality = 'ok'"
    )
    assert query(plant, unassigned) == []


def test_a_cluster_model_comes_back_from_its_file_as_it_was(trained_plant):
    model_id, model = load_cluster_model(trained_plant)
    data = model.to_bytes()
    assert data == trained_plant.models.get(model_id)
    again = ClusterModel.from_bytes(data)
    assert (again.columns, again.keys) == (model.columns, model.keys)
    assert again.to_bytes() == data
