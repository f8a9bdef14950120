"""Health of the regimes: unjudged readings and alarms counted per night, only where something changed."""

import pandas as pd
import pytest

from pwflow_core.errors import NotFittedError
from pwflow_core.pipeline.drift.health import derive_health
from pwflow_core.warehouse.days import note_changed_days
from tests.conftest import frame, plant_readings, put_file, query, read_all, reopen, score_all

HEALTH = "SELECT * FROM mart.cluster_health ORDER BY ALL"


def add_night(plant, n_times=60, seed=7, **changes) -> None:
    night = plant_readings(n_times, seed=seed, start="2024-04-01").assign(**changes)
    put_file(plant.config.folder / "data" / f"night-{seed}.parquet", night)
    read_all(plant)
    score_all(plant)


def test_every_reading_without_a_score_is_counted_once_in_its_channel(trained_plant):
    add_night(trained_plant, recipe="C")
    derive_health(trained_plant)
    counted = query(
        trained_plant,
        "SELECT night, channel, sum(n_readings)::BIGINT FROM mart.cluster_health WHERE channel <> 'alarms' "
        "GROUP BY ALL ORDER BY ALL",
    )
    expected = query(
        trained_plant,
        "SELECT ts::DATE, status, count(*) FROM mart.anomaly_scores WHERE status <> 'scored' GROUP BY ALL ORDER BY ALL",
    )
    assert counted == expected
    assert {channel for _, channel, _ in counted} == {"missing", "invalid", "thin"}


def test_alarms_are_compared_with_ten_times_alpha(trained_plant):
    add_night(trained_plant, pressure=40.0)
    summary = derive_health(trained_plant)
    alarms = frame(
        trained_plant, "SELECT * FROM mart.cluster_health WHERE channel = 'alarms' ORDER BY night"
    ).set_index(["night", "cluster_key"])
    expected = frame(
        trained_plant,
        "SELECT ts::DATE AS night, cluster_key, avg(is_anomaly::INT) AS share, sum(is_anomaly::INT) AS n "
        "FROM mart.anomaly_scores WHERE status = 'scored' GROUP BY ALL ORDER BY night",
    ).set_index(["night", "cluster_key"])
    assert (alarms.share - expected.share).abs().max() < 1e-12
    assert (alarms.n_readings - expected.n).abs().max() == 0
    assert (alarms.share_threshold == 0.1).all()
    last = alarms.loc[pd.Timestamp("2024-04-01")]
    assert (last.verdict == "exceeded").any()
    assert {(night, key) for night, key, _ in summary.exceeded} >= {
        ("2024-04-01", key) for key in last.index[last.verdict == "exceeded"]
    }


def test_shares_of_a_regime_are_of_its_night_and_those_without_one_of_the_whole_night(trained_plant):
    add_night(trained_plant, recipe="C")
    derive_health(trained_plant)
    [(share, n)] = query(
        trained_plant,
        "SELECT share, n_readings FROM mart.cluster_health "
        "WHERE night = '2024-04-01' AND cluster_key IS NULL AND channel = 'thin'",
    )
    [(total,)] = query(trained_plant, "SELECT count(*) FROM mart.anomaly_scores WHERE ts::DATE = '2024-04-01'")
    assert share == pytest.approx(n / total)
    plant = reopen(trained_plant, scoring={"min_calibration_rows": 100_000})
    score_all(plant)
    derive_health(plant)
    shares = query(plant, "SELECT share FROM mart.cluster_health WHERE channel = 'thin' AND cluster_key = 'c0001'")
    assert shares
    assert {share for (share,) in shares} == {1.0}, "every reading of a thin regime is thin"


def test_readings_that_were_filled_in_are_counted_and_still_judged(trained_plant):
    with trained_plant.warehouse.transaction() as connection:
        connection.execute(
            "UPDATE core.readings SET quality = 'filled' WHERE reading_id IN "
            "(SELECT reading_id FROM mart.anomaly_scores WHERE status = 'scored' ORDER BY reading_id LIMIT 5)"
        )
    summary = derive_health(trained_plant)
    assert summary.n_by_channel["filled"] == 5


def test_a_second_run_derives_nothing_and_a_new_night_only_itself(trained_plant):
    first = derive_health(trained_plant)
    assert first.n_nights == 2
    before = frame(trained_plant, HEALTH)
    assert derive_health(trained_plant).n_nights == 0
    pd.testing.assert_frame_equal(frame(trained_plant, HEALTH), before)
    add_night(trained_plant)
    assert derive_health(trained_plant).n_nights == 1
    after = frame(trained_plant, HEALTH)
    pd.testing.assert_frame_equal(after[after.night < pd.Timestamp("2024-04-01")].reset_index(drop=True), before)


def test_a_night_whose_readings_went_away_goes_away(trained_plant):
    add_night(trained_plant)
    derive_health(trained_plant)
    with trained_plant.warehouse.transaction() as connection:
        connection.execute("DELETE FROM mart.anomaly_scores WHERE ts >= '2024-04-01'")
    assert derive_health(trained_plant).n_nights == 1
    assert query(trained_plant, "SELECT count(*) FROM mart.cluster_health WHERE night >= '2024-04-01'") == [(0,)]


def test_evidence_of_other_channels_stays(trained_plant):
    derive_health(trained_plant)
    with trained_plant.warehouse.transaction() as connection:
        connection.execute(
            "INSERT INTO mart.cluster_health "
            "VALUES ('2024-03-01', 'c0001', 'log_density', 3.5, 10, 'normal', 40, NULL, NULL);"
            "UPDATE mart.anomaly_scores SET scored_at = scored_at + INTERVAL 1 SECOND"
        )
        note_changed_days(connection, "FROM mart.anomaly_scores")
    assert derive_health(trained_plant).n_nights == 2
    assert query(trained_plant, "SELECT evidence FROM mart.cluster_health WHERE channel = 'log_density'") == [(3.5,)]


def test_a_night_is_a_day_in_the_time_zone_of_the_schedule(trained_plant):
    plant = reopen(trained_plant, schedule={"timezone": "Asia/Tokyo"})
    derive_health(plant)
    expected = query(
        plant, "SELECT DISTINCT (ts + INTERVAL 9 HOUR)::DATE AS night FROM mart.anomaly_scores ORDER BY night"
    )
    assert query(plant, "SELECT DISTINCT night FROM mart.cluster_health ORDER BY night") == expected


def test_health_before_scoring_says_what_to_do(make_plant):
    plant = make_plant({"a.csv": "ts,machine,temperature,pressure\n2024-01-01,m,1,2\n"})
    read_all(plant)
    with pytest.raises(NotFittedError, match="materialize anomaly_scores"):
        derive_health(plant)
