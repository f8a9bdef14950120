"""Few readings: a regime of five, one of none; what is said of a reading whether it comes alone or with a year's."""

import numpy as np
import pandas as pd
import pytest

from pwflow_core.errors import NotFittedError
from pwflow_core.modelling import ClusterFlow, SensorAttributor
from pwflow_core.pipeline.flows.training import clusters_without_flow, train_cluster_flows
from tests.conftest import put_file, query
from tests.faults.conftest import UNTIL_PUBLISHED

LEARN = """
ingest_files(plant)
derive_readings(plant)
fit_cluster_model(plant)
assign_readings(plant)
train_cluster_flows(plant, reason="first", promoted_by="test")
"""
STATUSES = "SELECT cluster_key, status, count(*), count(p_value) FROM mart.anomaly_scores GROUP BY ALL ORDER BY ALL"


@pytest.fixture
def flows(trained_plant):
    versions = query(trained_plant, "SELECT flow_version FROM mart.flow_versions WHERE in_force ORDER BY cluster_key")
    return [ClusterFlow.from_bytes(trained_plant.models.get(version)) for (version,) in versions]


@pytest.mark.parametrize("at_once", [1, 2, 3, 7])
def test_a_few_readings_have_the_densities_and_explanations_of_many(flows, at_once):
    """To the last bit: a recomputation from raw files has to end with the same tables."""
    rng = np.random.default_rng(0)
    X = np.concatenate([flow.sample(70, 0) for flow in flows]) + 3 * rng.standard_normal((70 * len(flows), 2))
    parts = [X[start : start + at_once] for start in range(0, len(X), at_once)]
    for flow in flows:
        assert not flow.is_gaussian
        whole = flow.evaluate(X)
        for name in ("log_prob", "log_det", "conformity"):
            np.testing.assert_array_equal(
                np.concatenate([getattr(flow.evaluate(part), name) for part in parts]), getattr(whole, name)
            )
    attributor = SensorAttributor(np.full(len(flows), 1 / len(flows)), flows)
    whole = attributor.attribute(X)
    explained = [attributor.attribute(part) for part in parts]
    for name in ("share", "cluster", "expected", "low", "high"):
        np.testing.assert_array_equal(np.concatenate([getattr(one, name) for one in explained]), getattr(whole, name))


def readings(n_times: int, start: str, level: float) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "ts": pd.date_range(start, periods=n_times, freq="60s").strftime("%Y-%m-%dT%H:%M:%SZ"),
            "machine": "press-1",
            "temperature": rng.normal(level, 1, n_times),
            "pressure": rng.normal(level, 1, n_times),
        }
    )


@pytest.fixture
def plant_with_five(make_plant, stem):
    """A plant with a regime of 1,500 readings, c0001, and one of five, c0002, scored and published."""
    plant = make_plant(
        {"usual.csv": readings(1500, "2024-03-01", 20), "far.csv": readings(5, "2024-03-06", 1000)},
        clustering={"n_clusters": 2},
        features={"windows": []},
        flow={"max_steps": 32},
        training={"until": "2024-03-07T00:00:00Z"},
    )
    ended = stem.run(plant, LEARN + UNTIL_PUBLISHED)
    assert ended.code == 0, ended.output
    return plant


def test_a_regime_of_five_readings_is_a_gaussian_that_judges_nothing_and_the_other_is_scored(plant_with_five):
    flows = "SELECT cluster_key, n_rows + n_held_out <= 5, is_gaussian FROM mart.flow_versions ORDER BY ALL"
    assert query(plant_with_five, flows)[1] == ("c0002", True, True)
    assert query(plant_with_five, STATUSES) == [("c0001", "scored", 1500, 1500), ("c0002", "thin", 5, 0)]


@pytest.mark.long(reason="10 CPU s: the regime of five readings stays")
def test_a_regime_whose_readings_went_away_stops_no_night_and_says_so_when_it_is_to_be_learned(plant_with_five, stem):
    """The export of its five readings is corrected: they were usual ones."""
    put_file(plant_with_five.config.folder / "data" / "far.csv", readings(6, "2024-03-06", 20))
    ended = stem.run(plant_with_five, UNTIL_PUBLISHED)
    assert ended.code == 0, ended.output
    assert query(plant_with_five, "SELECT DISTINCT cluster_key FROM core.cluster_assignments") == [("c0001",)]
    assert query(plant_with_five, STATUSES) == [("c0001", "scored", 1506, 1506)]
    assert clusters_without_flow(plant_with_five) == []
    before = query(plant_with_five, "FROM mart.flow_versions ORDER BY ALL")
    with pytest.raises(NotFittedError, match=r"c0002 has no readings to learn from.*\[training\]"):
        train_cluster_flows(plant_with_five, reason="again", promoted_by="test")
    assert query(plant_with_five, "FROM mart.flow_versions ORDER BY ALL") == before


@pytest.mark.long(reason="12 CPU s: readings without a whole window are held in tests/pipeline/readings")
def test_of_a_night_after_a_pause_all_readings_are_scored_and_those_with_whole_windows_are_evidence(make_plant, stem):
    """The windows of the first nineteen readings after a pause are not whole; of the first night none is."""
    plant = make_plant(
        {"usual.csv": readings(1500, "2024-03-01", 20)},
        clustering={"n_clusters": 1},
        features={"windows": [20]},
        flow={"max_steps": 32},
    )
    assert stem.run(plant, LEARN + UNTIL_PUBLISHED).code == 0
    for night, n_readings, n_whole in (("2024-03-05", 6, 0), ("2024-03-06", 40, 21)):
        put_file(plant.config.folder / "data" / f"{night}.csv", readings(n_readings, night, 20))
        ended = stem.run(plant, UNTIL_PUBLISHED)
        assert ended.code == 0, ended.output
        evidence = "SELECT coalesce(sum(n_readings), 0)::BIGINT FROM core.drift_blocks WHERE night = ?"
        assert query(plant, evidence, night) == [(n_whole,)]
    assert query(plant, STATUSES) == [("c0001", "scored", 1546, 1546)]
