"""Quality: what is bridged, judged in part, stuck or not judged, and that every row that arrived is accounted for."""

import numpy as np
import pandas as pd
import pytest

from pwflow_core.pipeline.publishing.publishing import publish_warehouse
from pwflow_core.pipeline.publishing.querying import query_published
from pwflow_core.pipeline.readings.deriving import derive_readings
from pwflow_core.pipeline.source.ingest import ingest_files
from tests.conftest import frame, learn_all, open_plant, put_file, query, read_all, reopen, score_all

QUALITY = "SELECT quality FROM core.readings ORDER BY machine_id, ts"
REASONS = "SELECT quality, reason, count(*) FROM core.readings GROUP BY ALL ORDER BY ALL"


def minutes(temperature: np.ndarray, start: str = "2024-01-01", **columns: object) -> pd.DataFrame:
    n = len(temperature)
    stamps = pd.date_range(start, periods=n, freq="60s", tz="UTC").strftime("%Y-%m-%dT%H:%M:%SZ")
    noise = np.random.default_rng(n).normal(3, 0.5, n)
    values = {"ts": stamps, "machine": "m1", "recipe": "A", "temperature": temperature, "pressure": noise}
    return pd.DataFrame(values | columns)


def noisy(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(20, 1, n).round(3)


def qualities(plant) -> list[str]:
    return [row[0] for row in query(plant, QUALITY)]


def test_a_short_gap_is_bridged_within_its_bounds_and_the_reading_itself_stays_empty(make_plant):
    temperature = noisy(30)
    temperature[[0, 5, 10, 11, 12, 20]] = np.nan
    table = minutes(temperature)
    table.loc[20:, "recipe"] = "B"  # a value is not carried into another segment
    plant = make_plant({"a.csv": table}, source={"segments": ["recipe"]}, quality={"fill_readings": 2})
    read_all(plant)
    found = dict(enumerate(qualities(plant)))
    assert {i: q for i, q in found.items() if q != "ok"} == {
        0: "missing",
        5: "filled",
        10: "filled",
        11: "filled",
        12: "missing",
        20: "missing",
    }
    assert ("filled", "filled: temperature", 3) in query(plant, REASONS)
    rows = frame(
        plant,
        "SELECT model.temperature AS seen, raw.temperature AS raw FROM core.model_readings AS model "
        "JOIN core.readings AS raw USING (reading_id) ORDER BY model.ts",
    )
    assert rows.raw[[5, 10, 11]].isna().all()
    np.testing.assert_array_equal(rows.seen[[5, 10, 11]], temperature[[4, 9, 9]])


def test_a_value_older_than_the_configured_seconds_is_not_carried(make_plant):
    temperature = noisy(10)
    temperature[[3, 4]] = np.nan
    plant = make_plant({"a.csv": minutes(temperature)}, quality={"fill_readings": 5, "fill_seconds": 60})
    read_all(plant)
    assert qualities(plant)[3:5] == ["filled", "missing"]


def test_a_late_value_changes_what_was_bridged_behind_it(make_plant):
    temperature = noisy(10)
    temperature[5] = np.nan
    table = minutes(temperature)
    plant = make_plant({"a.csv": table.drop(index=4)}, quality={"fill_readings": 3})
    read_all(plant)
    seen = "SELECT temperature FROM core.filled_values"
    assert query(plant, seen) == [(temperature[3],)]
    put_file(plant.config.folder / "data" / "late.csv", table.loc[[4]])
    ingest_files(plant)
    assert derive_readings(plant).n_changed == 1
    assert query(plant, seen) == [(temperature[4],)]


def test_a_reading_with_few_sensors_missing_is_scored_if_allowed_and_never_learned_from(trained_plant):
    missing = (
        "SELECT status, count(*), count(p_value) FROM mart.anomaly_scores JOIN core.readings USING (reading_id) {}"
    )
    none_given = "WHERE quality IN ('partial', 'missing') GROUP BY status"
    [(status, count, n_scored)] = query(trained_plant, missing.format(none_given))
    assert (status, n_scored) == ("missing", 0)
    plant = reopen(trained_plant, quality={"max_missing_sensors": 1})
    assert derive_readings(plant).n_changed == count
    score_all(plant)
    assert query(plant, missing.format(none_given)) == [("scored", count, count)]
    assert query(plant, "SELECT DISTINCT quality, reason FROM core.readings WHERE quality <> 'ok' ORDER BY ALL") == [
        ("invalid", "refused: temperature (above_limit)"),
        ("partial", "missing: temperature"),
    ]


def test_a_reading_without_any_value_is_missing_however_many_may_be(make_plant):
    table = minutes(noisy(10))
    table.loc[4, ["temperature", "pressure"]] = None
    plant = make_plant({"a.csv": table}, quality={"max_missing_sensors": 2})
    read_all(plant)
    assert qualities(plant)[4] == "missing"


def frozen(values: np.ndarray, first: int, last: int) -> np.ndarray:
    values = values.copy()
    values[first:last] = values[first]
    return values


def idle(n: int, seed: int = 0) -> np.ndarray:
    """Working noisily for an hour, resting at exactly zero for two."""
    return np.where(np.arange(n) // 60 % 3 == 0, noisy(n, seed), 0.0)


HEALTHY = {
    "noisy": noisy(6000),
    "constant": np.full(6000, 4.2),
    "idle at zero for hours": idle(6000),
    "idle for longer than ever": np.r_[idle(5000), np.zeros(1000)],
    "coarse": np.round(np.cumsum(np.random.default_rng(0).normal(0, 0.05, 6000))),
    "coarse and noisy": noisy(6000).round(),
    "setpoint": np.repeat(np.random.default_rng(0).normal(50, 5, 60), 100),
    "two levels": np.where(np.random.default_rng(0).random(6000) < 0.9, 1.0, 0.0),
}


@pytest.mark.parametrize("values", HEALTHY.values(), ids=HEALTHY)
def test_a_healthy_sensor_is_never_stuck(make_plant, values):
    plant = make_plant({"a.csv": minutes(values)}, training={"until": "2024-01-03T12:00:00Z"})
    read_all(plant)
    assert set(qualities(plant)) == {"ok"}


@pytest.mark.parametrize("healthy", ["noisy", "idle at zero for hours", "coarse and noisy"])
def test_a_sensor_that_freezes_is_stuck_after_its_limit_until_it_moves_again(make_plant, healthy):
    plant = make_plant(
        {"a.csv": minutes(frozen(HEALTHY[healthy], 5220, 5270))}, training={"until": "2024-01-03T12:00:00Z"}
    )
    read_all(plant)
    limit = query(plant, "SELECT max_readings FROM core.stuck_limits WHERE sensor = 'temperature'")[0][0]
    assert 10 <= limit < 40
    found = np.flatnonzero(np.array(qualities(plant)) == "stuck")
    start = 5220
    while HEALTHY[healthy][start - 1] == HEALTHY[healthy][5220]:
        start -= 1  # a coarse sensor may have read the same just before
    end = 5270
    while HEALTHY[healthy][end] == HEALTHY[healthy][5220]:
        end += 1
    np.testing.assert_array_equal(found, np.arange(start + limit, end))
    assert ("stuck", "stuck: temperature", len(found)) in query(plant, REASONS)


def test_two_faults_in_the_history_do_not_teach_that_being_stuck_is_healthy(make_plant):
    values = frozen(frozen(frozen(noisy(6000), 500, 700), 2000, 2150), 5000, 5060)
    plant = make_plant({"a.csv": minutes(values)}, training={"until": "2024-01-03T12:00:00Z"})
    read_all(plant)
    assert qualities(plant).count("stuck") == 190 + 140 + 50


def test_night_by_night_and_late_the_same_readings_are_stuck_as_in_one_load(make_plant, tmp_path):
    table = minutes(frozen(noisy(3000), 2480, 2530))
    plant = make_plant({})
    for number, part in enumerate((table[:1500], table[1500:2500], table[2520:], table[2500:2520])):
        put_file(plant.config.folder / "data" / f"{number}.csv", part)
        read_all(plant)
    put_file(tmp_path / "other" / "data" / "a.csv", table)
    other = open_plant(tmp_path / "other")
    read_all(other)
    columns = "SELECT reading_id, quality, reason FROM core.readings ORDER BY reading_id"
    assert query(plant, columns) == query(other, columns)
    assert qualities(plant).count("stuck") == 40


def test_a_late_change_of_value_frees_the_readings_behind_it(make_plant):
    table = minutes(frozen(noisy(3000), 2000, 2015))
    plant = make_plant({"a.csv": table[:1900], "b.csv": table[1900:]}, features={"windows": []})
    read_all(plant)
    assert qualities(plant).count("stuck") == 5
    table.loc[2008, "temperature"] = 99.0
    put_file(plant.config.folder / "data" / "b.csv", table[1900:])
    ingest_files(plant)
    assert derive_readings(plant).n_changed == 1 + 5
    assert qualities(plant).count("stuck") == 0


def test_stuck_detection_can_be_switched_off(make_plant):
    table = minutes(frozen(noisy(3000), 2000, 2100))
    plant = make_plant({"a.csv": table}, quality={"stuck": False})
    read_all(plant)
    assert set(qualities(plant)) == {"ok"}


ACCOUNT = """
WITH counted AS (
    SELECT status AS outcome, count(*) AS n FROM mart.anomaly_scores GROUP BY status
    UNION ALL
    SELECT 'rejected: ' || reason, count(*) FROM mart.rejected_readings WHERE sensor IS NULL GROUP BY reason
)
FROM counted
UNION ALL
SELECT 'arrived', sum(n_rows) FROM mart.source_files
UNION ALL
SELECT 'unaccounted', (SELECT sum(n_rows) FROM mart.source_files) - (SELECT sum(n) FROM counted)
ORDER BY outcome;
"""

BAD_ROWS = """\
ts,machine,recipe,temperature,pressure
2024-05-01T00:00:00Z,press-1,A,NaN,3
2024-05-01T00:01:00Z,press-1,A,inf,3
2024-05-01T00:02:00Z,press-1,A,-Infinity,3
2024-05-01T00:03:00Z,press-1,A,20,1e300
2024-05-01T00:04:00Z,press-1,A,1e400,3
2024-05-01T00:05:00Z,press-1,A,Bad,3
2024-05-01T00:06:00Z,press-1,A,20,
2024-05-01T00:07:00Z,press-1,A,,
2024-05-01T00:08:00Z,press-1,A,500,3
2024-05-01T00:09:00Z,press-1,A,20,3
2024-05-01T00:09:00Z,press-1,A,21,3
yesterday,press-1,A,20,3
,press-1,A,20,3
2024-05-01T00:10:00Z,,A,20,3
2024-05-01T00:12:00Z,press-1,A,20,3,a,line,that,is,too,long
2024-05-01T00:13:00Z,press-1,C,20,4
"""


def test_each_bad_row_ends_in_the_status_that_it_should_and_every_row_is_accounted_for(trained_plant):
    plant = trained_plant
    folder = plant.config.folder / "data"
    put_file(folder / "bad.csv", BAD_ROWS)
    put_file(folder / "column.csv", "ts,machine,recipe,temperature\n2024-05-02T00:00:00Z,press-1,A,20\n")
    summary = ingest_files(plant)
    assert "no column 'pressure'" in summary.refused["column.csv"], "a file, not rows, is refused"
    derive_readings(plant)
    score_all(plant)
    publish_warehouse(plant)
    outcome = query(
        plant,
        "SELECT strftime(ts, '%M')::INTEGER, status, quality, anomaly_scores.reason, anomaly_score IS NULL, is_anomaly "
        "FROM mart.anomaly_scores JOIN (SELECT reading_id, quality, reason AS reason FROM core.readings) "
        "USING (reading_id) WHERE ts >= '2024-05-01' ORDER BY ts",
    )
    by_minute = {minute: tuple(rest) for minute, *rest in outcome}
    not_a_number = ("invalid", "invalid", "refused: temperature (not_a_number)", True, None)
    infinite = ("invalid", "invalid", "refused: temperature (infinite)", True, None)
    assert by_minute == {
        0: by_minute[0],
        1: infinite,
        2: infinite,
        3: ("invalid", "invalid", "refused: pressure (not_physical)", True, None),
        4: by_minute[4],
        5: not_a_number,
        6: ("missing", "missing", "missing: pressure", True, None),
        7: ("missing", "missing", "missing: temperature, pressure", True, None),
        8: ("invalid", "invalid", "refused: temperature (above_limit)", True, None),
        9: ("scored", "ok", None, False, False),
        13: ("thin", "ok", "No operating regime has been learned for segment C", True, None),
    }
    assert by_minute[0][3:] == by_minute[4][3:] == (True, None)
    assert by_minute[0][0] in ("missing", "invalid")
    assert by_minute[4] in (infinite, not_a_number)
    account = dict(query_published(plant.config, ACCOUNT).itertuples(index=False))
    assert account["unaccounted"] == 0
    assert account["arrived"] == 3000 + 16
    rejected = {reason: n for reason, n in account.items() if reason.startswith("rejected")}
    assert rejected == {
        "rejected: duplicate": 1,
        "rejected: malformed_line": 1,
        "rejected: missing_machine": 1,
        "rejected: missing_timestamp": 1,
        "rejected: unreadable_timestamp": 1,
    }
    silent = query(
        plant,
        "SELECT count(*) FROM mart.anomaly_scores WHERE (status = 'scored') <> (is_anomaly IS NOT NULL) "
        "OR (status = 'scored') <> (p_value IS NOT NULL)",
    )
    assert silent == [(0,)]


@pytest.mark.long(reason="13 CPU s: constant sensors are learned in tests/modelling")
def test_a_constant_sensor_is_learned_and_scored(make_plant):
    plant = make_plant({"a.csv": minutes(np.full(3000, 4.2))}, clustering={"candidates": [1, 2]})
    read_all(plant)
    learn_all(plant)
    assert query(plant, "SELECT status, count(*) FROM mart.anomaly_scores GROUP BY status") == [("scored", 3000)]
    assert query(plant, "SELECT avg(is_anomaly::INTEGER) < 0.01 FROM mart.anomaly_scores") == [(True,)]
