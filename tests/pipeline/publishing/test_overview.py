"""What analysts ask first: the plant, its latest day, machines, sensors, regimes with their profiles, and runs."""

from __future__ import annotations

from datetime import datetime

import pandas as pd
import pytest

from pwflow_core.pipeline.decisions.verdicts import Decider
from pwflow_core.pipeline.publishing.publishing import publish_warehouse
from pwflow_core.pipeline.publishing.runs import PlantRun, record_runs
from pwflow_core.pipeline.regimes.naming import name_regime
from pwflow_core.pipeline.scoring.scores import alpha_in_force
from tests.conftest import TRAINED, frame, merge, open_plant, plant_readings, put_file, query, read_all, score_all

SCORED = """
    SELECT score.cluster_key, score.machine_id, score.ts, reading.temperature, reading.pressure
    FROM mart.anomaly_scores AS score JOIN core.readings AS reading USING (reading_id)
    WHERE score.status = 'scored' AND NOT score.is_anomaly
"""


def test_profiles_are_the_quantiles_of_what_is_no_anomaly_and_shares_add_up(trained_plant):
    publish_warehouse(trained_plant)
    readings = frame(trained_plant, SCORED)
    profiles = frame(trained_plant, "FROM mart.regime_profiles").set_index(["cluster_key", "sensor"])
    for key, own in readings.groupby("cluster_key"):
        for sensor in ("temperature", "pressure"):
            found, values = profiles.loc[(key, sensor)], own[sensor].dropna()
            low, high = values.quantile([0.16, 0.84])
            assert found.typical == pytest.approx(values.median())
            assert found.spread == pytest.approx((high - low) / 2)
            assert [found.usual_low, found.usual_high] == pytest.approx(list(values.quantile([0.05, 0.95])))
            assert found.n_readings == len(values)
    regimes = frame(trained_plant, "FROM mart.regimes WHERE status = 'active'")
    assert regimes.share_of_time.sum() == pytest.approx(1)
    assert all("temperature" in profile for profile in regimes.profile)
    [sensor] = frame(trained_plant, "FROM mart.sensors WHERE sensor = 'temperature'").itertuples()
    values = frame(trained_plant, "SELECT temperature FROM core.readings").temperature
    assert (sensor.unit, sensor.n_values, sensor.n_missing) == ("°C", values.count(), values.isna().sum())
    assert [sensor.lowest, sensor.highest] == [values.min(), values.max()]
    assert sensor.typical == pytest.approx(values.median())


def test_the_latest_day_has_a_row_for_each_machine_also_for_one_that_went_silent(trained_plant):
    night = plant_readings(30, seed=7, start="2024-04-01")
    silent = sorted(night.machine.unique())[0]
    put_file(trained_plant.config.folder / "data" / "night.parquet", night[night.machine != silent])
    read_all(trained_plant)
    score_all(trained_plant)
    publish_warehouse(trained_plant)
    [plant] = frame(trained_plant, "FROM mart.plant").itertuples()
    assert plant.latest_day == pd.Timestamp("2024-04-01")
    with trained_plant.warehouse.snapshot() as connection:
        assert plant.alpha == alpha_in_force(connection)
    days = frame(trained_plant, "FROM mart.latest_day").set_index("machine_id")
    machines = frame(trained_plant, "FROM mart.machines").set_index("machine_id")
    assert list(days.index) == list(machines.index)
    assert days.n_readings[silent] == 0
    assert machines.hours_silent[silent] > 24 > 1 > machines.hours_silent.drop(silent).max()
    counted = query(trained_plant, "SELECT count(*) FROM mart.anomaly_scores WHERE ts >= '2024-04-01'")
    assert [(days.n_readings.sum(),)] == counted


def test_the_overview_is_made_again_only_when_a_day_or_the_plant_changed(trained_plant):
    publish_warehouse(trained_plant)
    lowest = "SELECT lowest FROM mart.sensors WHERE sensor = 'temperature'"
    [(before,)] = query(trained_plant, lowest)

    def mark():
        with trained_plant.warehouse.transaction() as connection:
            connection.execute("UPDATE mart.sensors SET lowest = -1e6")

    mark()
    publish_warehouse(trained_plant)
    assert query(trained_plant, lowest) == [(-1e6,)], "nothing changed"
    renamed = open_plant(trained_plant.config.folder, merge(TRAINED, {"plant": {"name": "renamed"}}))
    publish_warehouse(renamed)
    assert query(renamed, "SELECT plant FROM mart.plant") == [("renamed",)]
    assert query(trained_plant, lowest) == [(before,)]
    mark()
    put_file(trained_plant.config.folder / "data" / "night.csv", plant_readings(30, seed=7, start="2024-04-01"))
    read_all(trained_plant)
    score_all(trained_plant)
    publish_warehouse(renamed)
    assert query(trained_plant, lowest)[0][0] > -1e6


def test_the_name_that_a_person_gave_is_beside_the_key(trained_plant):
    name_regime(trained_plant, "c0001", "roughing, B", by=Decider("Ada"))
    names = dict(query(trained_plant, "SELECT cluster_key, name FROM mart.regimes"))
    assert names["c0001"] == "roughing, B"
    assert {names[key] for key in names if key != "c0001"} == {None}


def test_a_run_is_one_row_with_what_is_known_of_it_last(trained_plant):
    start, end = datetime(2024, 4, 1, 3), datetime(2024, 4, 1, 4)  # noqa: DTZ001 - UTC, as the tables have it
    record_runs(trained_plant, [PlantRun("a", "nightly_scoring", "started", start, None, None, "schedule", None, None)])
    done = PlantRun("a", "nightly_scoring", "success", start, end, 3600.0, "schedule", None, None)
    record_runs(trained_plant, [done, PlantRun("b", "whole_path", "queued", None, None, None, None, None, None)])
    assert query(trained_plant, "SELECT * FROM mart.runs ORDER BY run_id") == [
        ("a", "nightly_scoring", "success", start, end, 3600.0, "schedule", None, None),
        ("b", "whole_path", "queued", None, None, None, None, None, None),
    ]
