"""States in the pipeline: what is new is an alarm that names the state, at night and at the edge."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from pwflow_core.edge import EdgeScorer
from pwflow_core.pipeline.cases.deriving import derive_cases
from pwflow_core.pipeline.decisions.verdicts import Decider
from pwflow_core.pipeline.scoring.contributions import explain_anomalies
from pwflow_core.pipeline.scoring.events import derive_events
from pwflow_core.pipeline.using.bundling import export_bundle
from pwflow_core.pipeline.using.scoring_files import score_file
from tests.conftest import WITH_STATES, frame, merge, open_plant, plant_readings, put_file, query, read_all, score_all
from tests.conftest import with_states as add_states
from tests.edge.test_edge import assert_same_as_the_night, microseconds

LATER = "2024-03-02T01:00:00"
MEASURED = ["temperature", "pressure"]


@pytest.fixture
def later() -> pd.DataFrame:
    """Readings in which a setpoint moves a little on one machine, and on the other a heater is on without the pump."""
    readings = add_states(plant_readings(300, seed=7, start=LATER))
    minute = readings.groupby("machine").cumcount()
    one, other = (readings.machine == name for name in ("press-1", "press-2"))
    readings.loc[one & minute.between(100, 109), "setpoint"] = 4.6
    readings.loc[other & minute.between(230, 239), "heater"] = 1
    assert (readings[other & minute.between(230, 239)].pump == 0).all()
    return readings


def test_what_is_new_in_states_is_an_alarm_that_names_them_at_night_and_at_the_edge(plant_with_states, later, tmp_path):
    plant = plant_with_states
    [before] = query(plant, "SELECT count_if(is_anomaly) FROM mart.anomaly_scores")[0]
    assert before < 0.02 * 2900
    export_bundle(plant, tmp_path / "bundle")
    put_file(tmp_path / "data" / "later.parquet", later)
    read_all(plant)
    score_all(plant)
    explain_anomalies(plant)
    derive_events(plant)
    derive_cases(plant, by=Decider("test", "test"))

    scores = frame(plant, "SELECT * FROM mart.anomaly_scores WHERE status = 'scored' AND ts >= ?", LATER)
    told = frame(plant, "SELECT * FROM mart.sensor_contributions WHERE ts >= ?", LATER)
    sums = told.groupby("reading_id").contribution.sum()
    flagged = scores[scores.is_anomaly].set_index("reading_id")
    pd.testing.assert_series_equal(sums, flagged.anomaly_score.loc[sums.index], check_names=False)
    worst = told.loc[told.groupby("reading_id").contribution.idxmax()]
    assert set(worst[(worst.sensor == "setpoint")].machine_id) == {"press-1"}
    assert len(worst[(worst.sensor == "setpoint")]) >= 8
    assert len(worst[worst.sensor.isin(["heater", "pump"])]) >= 8
    summaries = frame(plant, "SELECT machine_id, summary FROM mart.anomaly_events WHERE started_at >= ?", LATER)
    assert "press-1: setpoint 4.6 where 4.5 was expected, for 10 minutes" in {
        summary.replace(", recipe A", "").replace(", recipe B", "") for summary in summaries.summary
    }
    assert sum("heater 1" in summary or "pump 0" in summary for summary in summaries.summary) == 1
    assert len(query(plant, "SELECT case_id FROM mart.cases WHERE list_contains(sensors, 'setpoint')")) == 1

    scorer = EdgeScorer.open(tmp_path / "bundle")
    ordered = later.iloc[microseconds(later).argsort(kind="stable")]
    values = ordered[list(scorer.sensors)].to_numpy(dtype=float)
    found = scorer.score(ordered.machine.tolist(), microseconds(ordered), values, ordered.recipe.tolist())
    assert_same_as_the_night(plant, found, LATER.replace("T", " "))


def test_a_scored_file_hears_of_states_and_a_missing_one_leaves_a_reading_judged(plant_with_states, later, tmp_path):
    later.loc[later.index[:20], ["pump", "heater"]] = float("nan")
    put_file(tmp_path / "later.csv", later)
    score_file(plant_with_states, tmp_path / "later.csv", tmp_path / "scores.csv")
    scores = pd.read_csv(tmp_path / "scores.csv")
    moved = pd.to_datetime(scores.ts).between("2024-03-02 02:40:00", "2024-03-02 02:49:00")
    flagged = scores[moved & (scores.machine_id == "press-1") & (scores.status == "scored")]
    assert len(flagged) >= 8
    assert flagged.is_anomaly.all()
    assert (scores.status == "scored").sum() >= 0.95 * len(scores)


def test_states_are_learned_again_where_other_sensors_are_states(plant_with_states, later):
    sensors = {name: given for name, given in WITH_STATES["sensors"].items() if name != "setpoint"}
    plant = open_plant(plant_with_states.config.folder, merge(WITH_STATES, {"sensors": sensors}))
    put_file(plant.config.folder / "data" / "first.parquet", add_states(plant_readings()))
    put_file(plant.config.folder / "data" / "later.parquet", later)
    read_all(plant)
    score_all(plant)
    [(document,)] = query(plant, "SELECT document FROM core.known_states WHERE segment = 'A'")
    assert json.loads(document)["sensors"] == ["pump", "heater"]
    moved = "ts BETWEEN '2024-03-02 02:40' AND '2024-03-02 02:49' AND machine_id = 'press-1'"
    assert query(plant, f"SELECT count_if(is_anomaly) FROM mart.anomaly_scores WHERE {moved}")[0][0] <= 2
