"""Features over time: what a window is, what it never reaches across, and that only what a change touches moves."""

import shutil

import numpy as np
import pandas as pd
import pytest

from pwflow_core.errors import ConfigurationError, SchemaMismatchError
from pwflow_core.pipeline.readings.deriving import derive_readings
from pwflow_core.pipeline.readings.faulty import SensorFaults
from pwflow_core.pipeline.readings.features import features_by_sensor, read_features
from pwflow_core.pipeline.readings.training_rows import select_training_rows, training_window
from pwflow_core.pipeline.regimes.assigning import assign_readings
from pwflow_core.pipeline.regimes.finding import needs_cluster_model
from pwflow_core.pipeline.source.ingest import ingest_files
from tests.conftest import (
    TRAINED,
    copy_folder,
    frame,
    learn_all,
    merge,
    open_plant,
    put_file,
    query,
    read_all,
    reopen,
    score_all,
)

FEATURES = {"windows": [4], "statistics": ["mean", "std", "slope"], "lags": [1], "differences": [2]}
FIVE = {"windows": [5], "statistics": ["mean"]}
NAMES = ["mean_4", "std_4", "slope_4", "lag_1", "difference_2"]
ALL = "SELECT * FROM core.model_readings ORDER BY machine_id, ts"


def steady(n: int = 300, seed: int = 0, seconds: float = 60.0, machine: str = "m1") -> pd.DataFrame:
    """A steady process: noise around one level."""
    rng = np.random.default_rng(seed)
    stamps = pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(np.arange(n) * seconds, unit="s")
    return pd.DataFrame(
        {
            "ts": stamps.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "machine": machine,
            "recipe": "A",
            "temperature": rng.normal(20, 1, n),
            "pressure": rng.normal(3, 0.5, n),
        }
    )


def by_hand(values: pd.Series, seconds: float = 60.0) -> dict[str, pd.Series]:
    """Return the features of one unbroken run, by pandas and numpy."""
    slope = values.rolling(4).apply(lambda x: np.polyfit(np.arange(4) * seconds, x, 1)[0], raw=True)
    window = values.rolling(4)
    return dict(zip(NAMES, [window.mean(), window.std(), slope, values.shift(1), values.diff(2)], strict=True))


def test_every_statistic_is_that_of_the_readings_so_far_and_never_crosses_a_gap_a_machine_or_a_segment(make_plant):
    first, second = steady(80), steady(80, seed=1, machine="m2")
    first.loc[50:, "recipe"] = "B"
    later = pd.to_datetime(second.ts).where(second.index < 30, pd.to_datetime(second.ts) + pd.Timedelta(minutes=30))
    second["ts"] = later.dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    plant = make_plant({"a.csv": pd.concat([first, second])}, source={"segments": ["recipe"]}, features=FEATURES)
    read_all(plant)
    rows = frame(plant, ALL)
    runs = [rows[:50], rows[50:80], rows[80:110], rows[110:]]
    assert [run.machine_id.iloc[0] for run in runs] == ["m1", "m1", "m2", "m2"]
    for run in runs:
        for sensor in ("temperature", "pressure"):
            for name, expected in by_hand(run[sensor]).items():
                np.testing.assert_allclose(run[f"{sensor}__{name}"], expected, rtol=1e-9, atol=1e-12, err_msg=name)
        assert run.is_complete.tolist() == [False] * 3 + [True] * (len(run) - 3)


def test_a_missing_value_in_a_window_is_left_out_and_one_that_is_mostly_missing_is_unknown(make_plant):
    table = steady(40)
    table.loc[10, "temperature"] = None
    table.loc[[20, 21], "temperature"] = None
    plant = make_plant({"a.csv": table}, features={"windows": [4], "statistics": ["mean"]})
    read_all(plant)
    mean = frame(plant, ALL).temperature__mean_4
    assert mean[12] == pytest.approx(table.temperature[[9, 11, 12]].mean())
    assert mean[[21, 22, 23]].isna().all(), "two of four are not enough"
    assert mean.notna().sum() == 40 - 3 - 3


def test_readings_that_come_night_by_night_get_the_features_of_one_load(make_plant, tmp_path):
    table = steady(120)
    plant = make_plant({}, features=FEATURES)
    for number, part in enumerate((table[:50], table[50:51], table[60:100], table[100:], table[51:60])):
        put_file(plant.config.folder / "data" / f"{number}.csv", part)
        read_all(plant)
    put_file(tmp_path / "other" / "data" / "a.csv", table)
    other = open_plant(tmp_path / "other", {"features": FEATURES})
    read_all(other)
    columns = "SELECT * EXCLUDE (batch_id) FROM core.model_readings ORDER BY ts"
    pd.testing.assert_frame_equal(frame(plant, columns), frame(other, columns), rtol=1e-9)


@pytest.fixture(scope="module")
def _five_folder(_trained_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("five") / "plant"
    shutil.copytree(_trained_folder, folder)
    plant = open_plant(folder, merge(TRAINED, {"features": FIVE}))
    derive_readings(plant)
    learn_all(plant)
    return folder


@pytest.fixture
def five_plant(_five_folder, tmp_path):
    """A copy of a plant that has learned with features of five readings."""
    return open_plant(copy_folder(_five_folder, tmp_path / "five"), merge(TRAINED, {"features": FIVE}))


def test_a_late_reading_moves_the_scores_of_those_within_the_window_behind_it_and_no_others(five_plant):
    plant, folder = five_plant, five_plant.config.folder / "data"
    table = steady(60).drop(index=30)
    put_file(folder / "night.csv", table)
    read_all(plant)
    score_all(plant)
    scores = "SELECT * FROM mart.anomaly_scores ORDER BY reading_id"
    before = frame(plant, scores)
    put_file(folder / "late.csv", steady(60).loc[[30]])
    ingest_files(plant)
    summary = derive_readings(plant)
    assert (summary.n_new, summary.n_changed) == (1, 4)
    kept = frame(plant, scores)
    lost = before[~before.reading_id.isin(kept.reading_id)]
    assert sorted(lost.ts.dt.strftime("%H:%M")) == ["00:31", "00:32", "00:33", "00:34"]
    score_all(plant)
    after = frame(plant, scores).set_index("reading_id")
    assert len(after) == len(before) + 1
    untouched = kept.set_index("reading_id")
    pd.testing.assert_frame_equal(after.loc[untouched.index], untouched, check_exact=True)


def test_a_reading_whose_window_is_not_full_is_scored_but_never_learned_from(five_plant):
    plant = five_plant
    statuses = dict(
        query(
            plant,
            "SELECT is_complete, count(*) FILTER (status = 'scored') / count(*) FROM mart.anomaly_scores "
            "JOIN core.model_readings USING (reading_id) WHERE quality = 'ok' GROUP BY is_complete",
        )
    )
    assert statuses == {False: 1.0, True: 1.0}
    learned = select_training_rows(plant.config.training)
    with plant.warehouse.snapshot() as connection:
        rows = connection.execute(learned, training_window(plant.config.training)).df()
    assert len(rows) > 2000
    assert rows.notna().all(axis=None)
    share = query(
        plant,
        "SELECT avg((p_value <= 0.01)::INTEGER) FROM mart.anomaly_scores JOIN core.model_readings USING (reading_id) "
        "WHERE NOT is_complete AND status = 'scored'",
    )[0][0]
    assert share < 0.03, "what is known of a reading alarms no more often than a whole one"


def test_without_features_nothing_is_copied(trained_plant):
    assert query(trained_plant, "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'features'") == [(0,)]
    values = "SELECT reading_id, quality, batch_id, temperature, pressure FROM core.{} ORDER BY reading_id"
    pd.testing.assert_frame_equal(
        frame(trained_plant, values.format("model_readings")), frame(trained_plant, values.format("readings"))
    )


def irregular(table: pd.DataFrame) -> pd.DataFrame:
    seconds = np.cumsum(np.random.default_rng(0).exponential(60, len(table)))
    stamps = pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(seconds, unit="s")
    return table.assign(ts=stamps.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))


def moving(table: pd.DataFrame) -> pd.DataFrame:
    wave = 10 * np.sin(np.arange(len(table)) / 5)
    return table.assign(temperature=table.temperature + wave, pressure=table.pressure + wave)


@pytest.mark.parametrize(
    ("table", "features", "why"),
    [
        (
            steady(300),
            ["temperature__mean_20", "pressure__mean_20", "temperature__std_20", "pressure__std_20"],
            "is noise",
        ),
        (irregular(steady(300)), [], "usual interval"),
        (moving(steady(300)), [], "is noise"),
        (steady(60), [], "too few"),
        (steady(300).assign(recipe=np.arange(300) // 25 % 2), [], "without a break"),
        (steady(1), [], "no machine has two readings"),
    ],
    ids=["steady and noisy", "irregular", "moving", "few", "short runs", "one reading"],
)
def test_auto_takes_averages_where_a_steady_process_is_read_noisily(make_plant, table, features, why):
    plant = make_plant({"a.csv": table}, source={"segments": ["recipe"]})
    ingest_files(plant)
    chosen = derive_readings(plant).features
    assert [feature.name for feature in chosen.features] == features
    assert why in chosen.why


def test_what_auto_decided_stays_until_the_configuration_changes(make_plant):
    plant = make_plant({"a.csv": steady(300)})
    ingest_files(plant)
    first = derive_readings(plant).features
    assert first.features
    put_file(plant.config.folder / "data" / "b.csv", moving(steady(3000, machine="m2")))
    ingest_files(plant)
    assert derive_readings(plant).features == first
    other = open_plant(plant.config.folder, {"features": {"windows": [], "lags": [3], "sensors": ["pressure"]}})
    changed = derive_readings(other)
    assert changed.features.columns == ("temperature", "pressure", "pressure__lag_3")
    assert changed.n_changed == 0
    lagged = frame(other, ALL)
    np.testing.assert_array_equal(lagged[lagged.machine_id == "m1"].pressure__lag_3[3:], steady(300).pressure[:-3])


def test_other_features_want_other_regimes_and_models_do_not_score_without_their_own(trained_plant, five_plant):
    assert not needs_cluster_model(trained_plant)
    plant = reopen(trained_plant, features=FIVE)
    assert needs_cluster_model(plant)  # the run that follows a change of the configuration learns already
    derive_readings(plant)
    assert needs_cluster_model(plant)
    score_all(plant)  # the models in use go on with the columns that they know
    assert not needs_cluster_model(five_plant)
    back = reopen(five_plant, features={"windows": []})
    derive_readings(back)
    with pytest.raises(SchemaMismatchError, match=r"2 of them .'temperature__mean_5' first. are no longer"):
        assign_readings(back)


def test_a_feature_of_an_unknown_sensor_or_with_the_name_of_a_sensor_is_an_error(make_plant):
    config = {"sensors": {}, "features": {"lags": [1], "sensors": ["temprature"]}}
    plant = make_plant({"a.csv": steady(30)}, **config)
    ingest_files(plant)
    with pytest.raises(ConfigurationError, match="got 'temprature'"):
        derive_readings(plant)
    named = {"temperature": {}, "Temperature__lag_1": {"column": "pressure"}}
    with pytest.raises(ConfigurationError, match="called like a sensor"):
        read_all(make_plant(sensors=named, features={"lags": [1]}))


@pytest.mark.long(reason="10 CPU s: what it finds is a figure; that the averages are right stays")
def test_a_long_average_finds_a_slow_drift_that_single_readings_miss(make_plant, tmp_path):
    """A sensor drifts by one and a half standard deviations over 1,500 readings, after 3,000 to learn from."""
    table = steady(6000, seed=3)
    table.loc[4500:, "temperature"] += np.linspace(0, 1.5, 1500)
    found = {}
    for name, windows in (("without", []), ("with", [60])):
        put_file(tmp_path / name / "data" / "a.csv", table)
        plant = open_plant(
            tmp_path / name,
            {
                "features": {"windows": windows, "statistics": ["mean"], "sensors": ["temperature"]},
                "training": {"until": "2024-01-03T02:00:00Z"},
                "clustering": {"n_clusters": 1},
                "scoring": {"alpha": 0.01},
            },
        )
        read_all(plant)
        learn_all(plant)
        alarms = frame(plant, "SELECT is_anomaly FROM mart.anomaly_scores ORDER BY ts").is_anomaly.astype(float)
        assert alarms[3100:4500].mean() < 0.06, "few false alarms before the drift"
        found[name] = alarms[-300:].mean()
    assert found["with"] > 0.9
    assert found["without"] < 0.5


def test_each_column_belongs_to_the_sensor_that_it_was_made_from():
    sensors = ["a", "a__mean_3", "b_mean"]
    columns = [*sensors, "a__mean_10", "b_mean__difference_1", "a__mean_3__lag_2", "a__std_5"]
    assert features_by_sensor(columns, sensors) == {"a": [0, 3, 6], "a__mean_3": [1, 5], "b_mean": [2, 4]}


def test_an_error_of_a_sensor_moves_its_features_as_it_would_in_the_readings(tmp_path):
    """Read again with the error in the file, the columns are what probing makes of them."""
    found = []
    for name, off in (("as it was", slice(0, 0)), ("shift", slice(0, 60)), ("spike", slice(30, 31))):
        readings = steady(60)
        readings.loc[readings.index[off], "temperature"] += 3.0
        put_file(tmp_path / name / "data" / "a.csv", readings)
        plant = open_plant(tmp_path / name, {"source": {"segments": ["recipe"]}, "features": FEATURES})
        read_all(plant)
        found.append(frame(plant, ALL).iloc[[30]])
    with plant.warehouse.snapshot() as connection:
        features = read_features(connection)
    faults = SensorFaults(features.columns, features, 60.0)
    before, shifted, spiked = (rows[list(features.columns)].to_numpy() for rows in found)
    place = faults.sensors.index("temperature")
    np.testing.assert_allclose(faults.shifted(before, place, 3.0), shifted, rtol=1e-9)
    np.testing.assert_allclose(faults.spiked(before, place, 3.0), spiked, rtol=1e-9)
