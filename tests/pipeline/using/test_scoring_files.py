"""Scoring a file: the pipeline's own numbers for the pipeline's own readings, and a warehouse that stays as it is."""

from __future__ import annotations

import hashlib
import logging

import duckdb
import numpy as np
import pandas as pd
import pytest

from pwflow_core.errors import ConfigurationError, NotFittedError, SourceError
from pwflow_core.pipeline.flows.training import train_cluster_flows
from pwflow_core.pipeline.scoring.densities import score_slices
from pwflow_core.pipeline.using.scoring_files import SCORE_COLUMNS, score_file
from tests.conftest import frame, plant_readings, put_file, read_all, reopen, score_all

SCORES = f"SELECT {', '.join(SCORE_COLUMNS)} FROM mart.anomaly_scores WHERE ts >= ? ORDER BY machine_id, ts"
NUMBERS = ["log_density", "p_value", "anomaly_score"]
WINDOWS = {"features": {"windows": [5], "lags": [1]}}


def later(n_times=400, seed=7) -> pd.DataFrame:
    return plant_readings(n_times, seed=seed, start="2024-04-01")


def written(made) -> pd.DataFrame:
    with duckdb.connect() as connection:
        return connection.execute(f"FROM '{made.path}'").df()


def fingerprint(plant) -> str:
    return hashlib.sha256(plant.warehouse.path.read_bytes()).hexdigest()


def assert_same(scored: pd.DataFrame, expected: pd.DataFrame) -> None:
    assert list(scored.columns) == list(SCORE_COLUMNS)
    others = [name for name in SCORE_COLUMNS if name not in NUMBERS]
    pd.testing.assert_frame_equal(scored[others], expected[others], check_dtype=False)
    np.testing.assert_allclose(scored[NUMBERS], expected[NUMBERS], rtol=1e-9)


@pytest.mark.parametrize(
    "ending", ["csv", pytest.param("parquet", marks=pytest.mark.long(reason="3 CPU s: files are staged as by ingest"))]
)
def test_a_file_gets_the_scores_that_the_pipeline_gives_the_same_readings(trained_plant, tmp_path, ending):
    before = fingerprint(trained_plant)
    file = put_file(tmp_path / "apart" / f"later.{ending}", later())
    made = score_file(trained_plant, file, tmp_path / "scores.parquet")
    assert fingerprint(trained_plant) == before
    put_file(tmp_path / "data" / f"later.{ending}", later())
    read_all(trained_plant)
    score_all(trained_plant)
    expected = frame(trained_plant, SCORES, "2024-04-01")
    assert_same(written(made), expected)
    assert (expected.status == "scored").sum() > 700
    assert set(expected.status) == {"scored", "missing", "invalid"}
    assert made.n_by_status == expected.groupby("status").size().to_dict()
    assert made.n_anomalies == expected.is_anomaly.sum() > 0
    assert made.alpha == trained_plant.config.scoring.alpha
    assert made.refused == {"above_limit": (expected.status == "invalid").sum()}
    [model_set] = frame(trained_plant, "SELECT DISTINCT model_set_id AS id FROM mart.anomaly_scores").id
    assert made.model_set_id == model_set


def test_csv_holds_the_same_scores_as_parquet(trained_plant, tmp_path):
    file = put_file(tmp_path / "later.csv", later(50))
    parquet = written(score_file(trained_plant, file, tmp_path / "scores.parquet"))
    csv = pd.read_csv(score_file(trained_plant, file, tmp_path / "scores.csv").path, parse_dates=["ts"])
    pd.testing.assert_frame_equal(csv[NUMBERS], parquet[NUMBERS])
    assert (csv.ts == parquet.ts).all()


def test_gaps_are_bridged_and_scored_in_part_by_the_same_rules(trained_plant, tmp_path):
    rules = {"quality": {"fill_readings": 1, "max_missing_sensors": 1}}
    plant = reopen(trained_plant, **rules)
    readings = later()
    scored = written(
        score_file(plant, put_file(tmp_path / "apart" / "later.csv", readings), tmp_path / "scores.parquet")
    )
    put_file(tmp_path / "data" / "later.csv", readings)
    read_all(plant)
    score_all(plant)
    assert_same(scored, frame(plant, SCORES, "2024-04-01"))
    assert scored.reason.str.startswith("filled").sum() > 0


def test_an_alarm_budget_that_was_converted_is_used_and_another_is_refused(trained_plant, tmp_path):
    file = put_file(tmp_path / "apart" / "later.csv", later(50))
    budget = reopen(trained_plant, scoring={"alpha": None, "alarms_per_week": 50.0})
    with pytest.raises(NotFittedError, match=r"alarms_per_week = 50 has not been converted"):
        score_file(budget, file, tmp_path / "scores.csv")
    score_all(budget)
    [alpha] = frame(budget, "SELECT DISTINCT alpha FROM core.model_sets WHERE alarms_per_week = 50").alpha
    assert score_file(budget, file, tmp_path / "scores.csv").alpha == alpha


@pytest.mark.long(reason="10 CPU s: files without features have the scores of the pipeline at each push")
def test_features_over_time_are_those_of_the_file(make_plant, tmp_path):
    from tests.conftest import learn_all

    plant = make_plant(
        {"first.parquet": plant_readings()},
        **WINDOWS,
        source={"segments": ["recipe"]},
        clustering={"n_clusters": 1},
    )
    read_all(plant)
    learn_all(plant)
    made = score_file(plant, put_file(tmp_path / "first.parquet", plant_readings()), tmp_path / "scores.parquet")
    assert_same(written(made), frame(plant, SCORES, "2024-01-01"))


def test_a_missing_sensor_is_refused_by_name(trained_plant, tmp_path):
    file = put_file(tmp_path / "later.csv", later(50).drop(columns="pressure"))
    with pytest.raises(SourceError, match=r"later.csv has no column 'pressure'"):
        score_file(trained_plant, file, tmp_path / "scores.csv")
    assert not (tmp_path / "scores.csv").exists()


def test_what_cannot_be_scored_is_refused_before_anything_is_written(trained_plant, tmp_path):
    file = put_file(tmp_path / "later.csv", later(50))
    with pytest.raises(SourceError, match=r"There is no file .*nowhere.csv"):
        score_file(trained_plant, tmp_path / "nowhere.csv", tmp_path / "scores.csv")
    with pytest.raises(ConfigurationError, match=r"ends in .csv or .parquet, got .*scores.xlsx"):
        score_file(trained_plant, file, tmp_path / "scores.xlsx")
    with pytest.raises(ConfigurationError, match="There is no folder"):
        score_file(trained_plant, file, tmp_path / "nowhere" / "scores.csv")
    with pytest.raises(NotFittedError, match="run `pwflow run` first"):
        score_file(reopen(trained_plant, clustering={"n_clusters": 3}), file, tmp_path / "scores.csv")
    changed = reopen(trained_plant, flow={"random_state": 1})
    train_cluster_flows(changed, ["c0002"], reason="another seed", promoted_by="test", challenge=False)
    list(score_slices(changed))
    with pytest.raises(NotFittedError, match="c0002 is not calibrated yet"):
        score_file(changed, file, tmp_path / "scores.csv")


def test_progress_counts_the_regimes(trained_plant, tmp_path, caplog):
    file = put_file(tmp_path / "later.csv", later(50))
    with caplog.at_level(logging.INFO, logger="pwflow"):
        score_file(trained_plant, file, tmp_path / "scores.csv")
    assert [record.n_steps for record in caplog.records if hasattr(record, "n_steps")] == [4]
    assert sum(getattr(record, "is_step_end", False) for record in caplog.records) == 4
