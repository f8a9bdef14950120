"""Sampling: readings as the models imagine them, in the units of the sensors."""

from __future__ import annotations

import duckdb
import numpy as np
import pandas as pd
import pytest

from pwflow_core.errors import RegimeError, UnknownClusterError
from pwflow_core.pipeline.using.scoring_files import score_file
from pwflow_core.pipeline.using.simulating import sample_readings
from tests.conftest import frame, put_file


def read(path) -> pd.DataFrame:
    with duckdb.connect() as connection:
        return connection.execute(f"FROM '{path}'").df()


def test_a_regime_is_drawn_as_its_readings_are(trained_plant, tmp_path):
    made = sample_readings(trained_plant, 4000, tmp_path / "drawn.parquet", cluster_key="c0001")
    drawn = read(made.path)
    assert list(drawn.columns) == ["segment", "cluster_key", "temperature", "pressure"]
    assert set(drawn.cluster_key) == {"c0001"}
    assert made.n_by_cluster == {"c0001": 4000}
    observed = frame(
        trained_plant,
        "SELECT temperature, pressure FROM core.readings JOIN mart.anomaly_scores USING (reading_id) "
        "WHERE cluster_key = 'c0001' AND anomaly_scores.status = 'scored'",
    )
    for sensor in ("temperature", "pressure"):
        assert abs(drawn[sensor].median() - observed[sensor].median()) < 0.25 * observed[sensor].std()


def test_a_segment_is_drawn_by_the_weights_of_its_regimes(trained_plant, tmp_path):
    made = sample_readings(trained_plant, 5000, tmp_path / "drawn.csv", segment="A")
    weights = frame(trained_plant, "SELECT cluster_key, weight FROM mart.clusters WHERE segment = 'A'")
    for row in weights.itertuples():
        assert abs(made.n_by_cluster[row.cluster_key] / 5000 - row.weight) < 0.05
    assert len(pd.read_csv(made.path)) == 5000


def test_drawn_readings_are_normal_to_the_models(trained_plant, tmp_path):
    drawn = read(sample_readings(trained_plant, 1000, tmp_path / "drawn.parquet", segment="A").path)
    times = pd.date_range("2024-05-01", periods=len(drawn), freq="60s").strftime("%Y-%m-%dT%H:%M:%SZ")
    file = put_file(tmp_path / "drawn.csv", drawn.assign(ts=times, machine="press-1", recipe="A"))
    made = score_file(trained_plant, file, tmp_path / "scores.parquet")
    assert made.n_anomalies / made.n_by_status["scored"] < 0.05


def test_the_seed_decides_and_nothing_else(trained_plant, tmp_path):
    first, same, other = (
        read(sample_readings(trained_plant, 50, tmp_path / f"{n}.csv", segment="B", random_state=seed).path)
        for n, seed in enumerate((1, 1, 2))
    )
    pd.testing.assert_frame_equal(first, same)
    assert not np.allclose(first.temperature, other.temperature)


def test_what_is_not_there_is_refused_by_name(trained_plant, tmp_path):
    target = tmp_path / "drawn.csv"
    with pytest.raises(RegimeError, match=r"Expected a segment with regimes \('A', 'B'\), got none"):
        sample_readings(trained_plant, 10, target)
    with pytest.raises(RegimeError, match=r"got 'C'"):
        sample_readings(trained_plant, 10, target, segment="C")
    with pytest.raises(UnknownClusterError, match="c0099"):
        sample_readings(trained_plant, 10, target, cluster_key="c0099")
    with pytest.raises(RegimeError, match=r"c0001 is a regime of segment 'A', not of 'B'"):
        sample_readings(trained_plant, 10, target, cluster_key="c0001", segment="B")
