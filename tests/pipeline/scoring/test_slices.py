"""Slices: the log-density of each candidate reading under its cluster's flow, written whole, only what is missing."""

import numpy as np
import pandas as pd
import pytest

from pwflow_core.modelling import ClusterFlow
from pwflow_core.pipeline.regimes.assigning import assign_readings
from pwflow_core.pipeline.scoring import densities
from pwflow_core.pipeline.scoring.densities import score_slices
from tests.conftest import frame, kill_at, plant_readings, put_file, query, read_all, reopen

SLICES = "SELECT * EXCLUDE (scored_at) FROM core.component_log_density ORDER BY cluster_key, reading_id"


def add_night(plant) -> None:
    put_file(plant.config.folder / "data" / "night.parquet", plant_readings(60, seed=7, start="2024-04-01"))
    read_all(plant)
    assign_readings(plant)


def test_every_candidate_is_scored_once_and_by_the_flow_in_force(trained_plant):
    add_night(trained_plant)
    list(score_slices(trained_plant))
    expected = query(
        trained_plant,
        "SELECT cluster_key, reading_id, flow_version FROM core.cluster_assignments "
        "JOIN mart.flow_versions USING (cluster_key) WHERE in_force ORDER BY ALL",
    )
    found = "SELECT cluster_key, reading_id, flow_version FROM core.component_log_density ORDER BY ALL"
    assert query(trained_plant, found) == expected


def test_a_second_run_scores_nothing(trained_plant):
    everything = "FROM core.component_log_density ORDER BY ALL"
    before = query(trained_plant, everything)
    summaries = dict(score_slices(trained_plant))
    assert list(summaries) == ["c0001", "c0002", "c0003", "c0004"]
    assert sum(summary.n_new for summary in summaries.values()) == 0
    assert sum(summary.n_readings for summary in summaries.values()) == len(before)
    assert query(trained_plant, everything) == before


def test_only_new_readings_are_scored(trained_plant):
    before = query(trained_plant, "FROM core.component_log_density ORDER BY ALL")
    add_night(trained_plant)
    new = sum(summary.n_new for _, summary in score_slices(trained_plant))
    after = query(trained_plant, "FROM core.component_log_density ORDER BY ALL")
    assert 0 < new == len(after) - len(before)
    assert set(before) <= set(after)


def test_a_reading_that_another_one_took_the_place_of_is_scored_again(trained_plant):
    """As many readings as are assigned, but not all the same ones."""
    [(reading_id, log_density)] = query(
        trained_plant,
        "SELECT reading_id, log_density FROM core.component_log_density WHERE cluster_key = 'c0001' LIMIT 1",
    )
    with trained_plant.warehouse.transaction() as connection:
        connection.execute(
            "UPDATE core.component_log_density SET reading_id = -1 WHERE cluster_key = 'c0001' AND reading_id = ?",
            [reading_id],
        )
    assert dict(score_slices(trained_plant))["c0001"].n_new == 1
    found = "SELECT log_density FROM core.component_log_density WHERE cluster_key = 'c0001' AND reading_id = ?"
    assert query(trained_plant, found, reading_id) == [(pytest.approx(log_density),)]


@pytest.mark.parametrize("chunk_rows", [1_000, 100_000])
def test_the_values_are_those_of_the_flow_however_they_are_chunked(trained_plant, chunk_rows):
    plant = reopen(trained_plant, compute={"chunk_rows": chunk_rows})
    with plant.warehouse.transaction() as connection:
        connection.execute("DELETE FROM core.component_log_density")
    list(score_slices(plant))
    for key, version in query(plant, "SELECT cluster_key, flow_version FROM mart.flow_versions WHERE in_force"):
        stored = frame(
            plant,
            "SELECT temperature, pressure, log_density FROM core.component_log_density "
            "JOIN core.readings USING (reading_id) WHERE cluster_key = ?",
            key,
        )
        flow = ClusterFlow.from_bytes(plant.models.get(version))
        expected = flow.log_prob(stored[["temperature", "pressure"]].to_numpy())
        np.testing.assert_allclose(stored.log_density, expected, rtol=0, atol=1e-5)
        assert not flow.is_gaussian


def test_a_cluster_without_a_flow_is_said_to_have_none(trained_plant):
    with trained_plant.warehouse.transaction() as connection:
        connection.execute("UPDATE mart.flow_versions SET in_force = false WHERE cluster_key = 'c0004'")
    summaries = dict(score_slices(trained_plant))
    assert summaries["c0004"].flow_version is None
    assert summaries["c0001"].flow_version is not None


def test_a_process_killed_while_it_writes_leaves_whole_slices_and_the_next_run_completes(trained_plant, stem):
    """The kill comes inside the transaction of the first cluster, after its old slice was deleted and rows inserted."""
    before = frame(trained_plant, SLICES)
    with trained_plant.warehouse.transaction() as connection:
        connection.execute("UPDATE core.component_log_density SET flow_version = 'an earlier one'")
    everything = "FROM core.component_log_density ORDER BY ALL"
    old = query(trained_plant, everything)
    code = "from pwflow_core.pipeline.scoring.densities import score_slices; list(score_slices(plant))"
    kill_at(stem, trained_plant, "pwflow_core.pipeline.scoring.densities", "write_progress", code)
    assert query(trained_plant, everything) == old
    list(score_slices(trained_plant))
    after = frame(trained_plant, SLICES)
    pd.testing.assert_frame_equal(after, before, check_exact=False, atol=1e-5)


def test_two_runs_that_score_at_once_score_each_reading_once(trained_plant, monkeypatch):
    add_night(trained_plant)
    chunks = densities.read_chunks_of_machines

    def chunks_behind_another_run(*arguments):
        monkeypatch.setattr(densities, "read_chunks_of_machines", chunks)
        list(score_slices(trained_plant))
        yield from chunks(*arguments)

    monkeypatch.setattr(densities, "read_chunks_of_machines", chunks_behind_another_run)
    list(score_slices(trained_plant))
    twice = "SELECT cluster_key, reading_id FROM core.component_log_density GROUP BY ALL HAVING count(*) > 1"
    assert query(trained_plant, twice) == []


def test_nothing_holds_the_warehouse_while_it_scores(trained_plant, monkeypatch):
    add_night(trained_plant)
    chunks = densities.read_chunks_of_machines

    def chunks_while_another_writes(*arguments):
        with trained_plant.warehouse.transaction() as connection:
            connection.execute("INSERT INTO core.plant_facts VALUES ('meanwhile', 'written')")
        yield from chunks(*arguments)

    monkeypatch.setattr(densities, "read_chunks_of_machines", chunks_while_another_writes)
    list(score_slices(trained_plant))
    assert query(trained_plant, "SELECT count(*) FROM core.plant_facts WHERE fact = 'meanwhile'") == [(4,)]


def test_no_temporary_files_are_left(trained_plant):
    add_night(trained_plant)
    before = sorted(trained_plant.config.folder.rglob("*"))
    assert len(list(score_slices(trained_plant))) == 4
    assert sorted(trained_plant.config.folder.rglob("*")) == before
