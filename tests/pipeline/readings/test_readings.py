"""Readings: typed, UTC, one per machine and time; what is refused says why, and nothing that arrived is lost."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pwflow_core.errors import SourceError
from pwflow_core.pipeline.readings.deriving import derive_readings
from pwflow_core.pipeline.readings.folds import CALIBRATION_FOLDS, STOPPING_FOLDS
from pwflow_core.pipeline.source.ingest import ingest_files
from tests.conftest import examples, frame, open_plant, put_file, query, read_all, score_all

HEADER = "ts,machine,temperature,pressure"


def csv(*rows: str) -> str:
    return "\n".join([HEADER, *rows]) + "\n"


def times(plant) -> list[str]:
    return [row[0] for row in query(plant, "SELECT ts::VARCHAR FROM core.readings ORDER BY row_number")]


def refusals(plant, *columns: str) -> list[tuple]:
    return query(plant, f"SELECT {', '.join(columns)} FROM mart.rejected_readings ORDER BY file, row_number, sensor")


def read_timestamps(make_plant, *stamps: str, **source):
    plant = make_plant({"a.csv": csv(*(f'"{s}",m{i},1,2' for i, s in enumerate(stamps)))}, source=source)
    read_all(plant)
    return plant


def test_a_timestamp_with_an_offset_is_read_as_that_instant_in_every_zone(make_plant):
    stamps = [
        "2024-01-01T10:00:00Z",
        "2024-01-01 12:00:00+02:00",
        "2024-01-01T12:00:00+0200",
        "2024-01-01 12:00:00+02",
        "2024-01-01T06:30:00.000-03:30",
        "2024-01-01 10:00:00 UTC",
        "2024-01-01T10:00Z",
        "2024-01-01T12:00:00.000000000+02:00",
        "2024-01-01T12:00:00,000+02:00",
    ]
    plant = read_timestamps(make_plant, *stamps, timezone="Asia/Tokyo")
    assert times(plant) == ["2024-01-01 10:00:00"] * len(stamps)


def test_naive_timestamps_without_a_zone_are_refused_with_that_reason(make_plant):
    stamps = ["2024-01-01T10:00:00Z", "2024-01-01 10:00:00", "2024-01-01", "yesterday", " "]
    plant = read_timestamps(make_plant, *stamps, timezone=None)
    assert times(plant) == ["2024-01-01 10:00:00"]
    assert [row[0] for row in refusals(plant, "reason")] == [
        "naive_timestamp",
        "naive_timestamp",
        "unreadable_timestamp",
        "missing_timestamp",
    ]


def test_only_naive_timestamps_is_an_error_that_says_how_to_name_the_zone(make_plant):
    plant = make_plant({"a.csv": csv("2024-01-01 10:00:00,m1,1,2")}, source={"timezone": None})
    ingest_files(plant)
    with pytest.raises(SourceError, match='add timezone = "UTC"'):
        derive_readings(plant)
    read_all(make_plant())  # the zone is UTC here
    assert times(plant) == ["2024-01-01 10:00:00"]


def test_naive_timestamps_are_converted_from_the_configured_zone(make_plant):
    stamps = ["2024-01-01 10:00", "2024-07-01 10:00", "2024-07-01T10:00+00:00"]
    plant = read_timestamps(make_plant, *stamps, timezone="Europe/Berlin")
    assert times(plant) == ["2024-01-01 09:00:00", "2024-07-01 08:00:00", "2024-07-01 10:00:00"]


@pytest.mark.parametrize(
    ("timestamp_format", "stamp", "expected"),
    [
        ("unix_s", "1704103200", "2024-01-01 10:00:00"),
        ("unix_s", "1704103200.25", "2024-01-01 10:00:00.25"),
        ("unix_ms", "1704103200250", "2024-01-01 10:00:00.25"),
        ("unix_ms", "1.70410320025e12", "2024-01-01 10:00:00.25"),
        ("%d.%m.%Y %H:%M", "01.02.2024 11:00", "2024-02-01 10:00:00"),
        ("%m/%d/%Y %I:%M:%S %p", "02/01/2024 11:00:00 AM", "2024-02-01 10:00:00"),
        ("%d.%m.%Y %H:%M %z", "01.02.2024 11:00 +0300", "2024-02-01 08:00:00"),
        ("%d.%m.%Y %H:%M %Z", "01.02.2024 11:00 UTC", "2024-02-01 11:00:00"),
    ],
)
def test_a_timestamp_format_is_followed(make_plant, timestamp_format, stamp, expected):
    plant = read_timestamps(make_plant, stamp, "nonsense", timestamp_format=timestamp_format, timezone="Europe/Berlin")
    assert times(plant) == [expected]
    assert refusals(plant, "reason") == [("unreadable_timestamp",)]


def test_a_naive_format_without_a_zone_is_refused_as_naive(make_plant):
    plant = make_plant(
        {"a.csv": csv("01.02.2024 11:00,m1,1,2")}, source={"timestamp_format": "%d.%m.%Y %H:%M", "timezone": None}
    )
    ingest_files(plant)
    with pytest.raises(SourceError, match="time zone"):
        derive_readings(plant)


def test_parquet_instants_need_no_zone_and_parquet_clock_times_do(make_plant):
    moment = datetime(2024, 1, 1, 10, 0, 0, 123456, tzinfo=UTC)
    values = {"machine": ["m1"], "temperature": [1.0], "pressure": [2.0]}
    plant = make_plant(
        {
            "a.parquet": pd.DataFrame({"ts": pd.Series([moment]).dt.tz_convert("Asia/Tokyo"), **values}),
            "b.parquet": pd.DataFrame({"ts": [moment.replace(tzinfo=None)], **values}),
        },
        source={"timezone": None},
    )
    read_all(plant)
    assert times(plant) == ["2024-01-01 10:00:00.123456"]
    assert refusals(plant, "reason", "ts") == [("naive_timestamp", "2024-01-01 10:00:00.123456")]


def test_a_time_that_does_not_exist_is_refused(make_plant):
    stamps = ["infinity", "294247-01-10", "0", "1e400", "2024-02-30T00:00:00Z", "2024-01-01T25:00:00Z"]
    plant = read_timestamps(make_plant, "2024-01-01T00:00:00Z", *stamps)
    assert len(times(plant)) == 1
    assert refusals(plant, "reason", "ts") == [("unreadable_timestamp", stamp) for stamp in stamps]


def test_the_first_of_several_rows_of_a_machine_and_time_is_kept(make_plant):
    plant = make_plant(
        {
            "a.csv": csv("2024-01-01T00:00Z,m1,1,0", "2024-01-01T02:00+02:00,m1 ,2,0", "2024-01-01T00:00Z,m2,3,0"),
            "b.csv": csv("2024-01-01T00:00Z,m1,4,0", "2024-01-01T00:01Z,m1,5,0"),
        }
    )
    read_all(plant)
    put_file(plant.config.folder / "data" / "c.csv", csv("2024-01-01T00:01Z,m1,6,0", "2024-01-01T00:01Z,m1,7,0"))
    read_all(plant)
    kept = "SELECT machine_id, temperature FROM core.readings ORDER BY temperature"
    assert query(plant, kept) == [("m1", 1.0), ("m2", 3.0), ("m1", 5.0)]
    assert refusals(plant, "reason", "file_id", "row_number", "kept_file_id") == [
        ("duplicate", 1, 2, 1),
        ("duplicate", 2, 1, 1),
        ("duplicate", 3, 1, 2),
        ("duplicate", 3, 2, 2),
    ]


def test_a_duplicate_takes_its_place_when_the_kept_row_goes_away(make_plant):
    plant = make_plant({"a.csv": csv("2024-01-01T00:00Z,m1,1,0", "2024-01-01T00:01Z,m1,2,0")})
    read_all(plant)
    for name, value in (("b.csv", 3), ("c.csv", 4)):
        put_file(plant.config.folder / "data" / name, csv(f"2024-01-01T00:00Z,m1,{value},0"))
    read_all(plant)
    put_file(plant.config.folder / "data" / "a.csv", csv("2024-01-01T00:01Z,m1,2,0"))
    read_all(plant)
    assert query(plant, "SELECT temperature FROM core.readings ORDER BY ts") == [(3.0,), (2.0,)]
    assert refusals(plant, "reason", "file_id", "kept_file_id") == [("duplicate", 3, 2)]
    put_file(plant.config.folder / "data" / "b.csv", csv("2024-01-01T00:02Z,m1,9,0"))
    read_all(plant)
    assert query(plant, "SELECT temperature FROM core.readings ORDER BY ts") == [(4.0,), (2.0,), (9.0,)]
    assert refusals(plant, "reason") == []


def test_values_beyond_the_physical_limits_are_refused_one_by_one(make_plant):
    limits = {"temperature": {"low": -10.0, "high": 50.0, "unit": "°C"}, "pressure": {"low": 0.0}}
    rows = [
        "2024-01-01T00:00Z,m1,-10,0",
        "2024-01-01T00:01Z,m1,50,1e300",
        "2024-01-01T00:02Z,m1,-10.01,-0.1",
        "2024-01-01T00:03Z,m1,50.01,1",
        "2024-01-01T00:04Z,m1,inf,1",
        "2024-01-01T00:05Z,m1,1,-inf",
        "2024-01-01T00:06Z,m1,NaN,1",
        "2024-01-01T00:07Z,m1,,1",
        "2024-01-01T00:08Z,m1,,Bad",
    ]
    plant = make_plant({"a.csv": csv(*rows)}, sensors=limits)
    read_all(plant)
    assert query(plant, "SELECT quality, temperature, pressure FROM core.readings ORDER BY ts") == [
        ("ok", -10.0, 0.0),
        ("invalid", 50.0, None),
        ("invalid", None, None),
        ("invalid", None, 1.0),
        ("invalid", None, 1.0),
        ("invalid", 1.0, None),
        ("missing", None, 1.0),
        ("missing", None, 1.0),
        ("invalid", None, None),
    ]
    assert refusals(plant, "row_number", "sensor", "value", "reason", "detail") == [
        (2, "pressure", "1e+300", "not_physical", "Expected at most 1e+100 in size"),
        (3, "pressure", "-0.1", "below_limit", "Expected at least 0"),
        (3, "temperature", "-10.01", "below_limit", "Expected at least -10 °C"),
        (4, "temperature", "50.01", "above_limit", "Expected at most 50 °C"),
        (5, "temperature", "inf", "infinite", "Expected a finite number"),
        (6, "pressure", "-inf", "infinite", "Expected a finite number"),
        (9, "pressure", "Bad", "not_a_number", "Expected a number"),
    ]


def test_a_row_without_a_machine_is_refused_once(make_plant):
    rows = ["2024-01-01T00:00Z,,1,2", "2024-01-01T00:00Z,,1,2", '2024-01-01T00:00Z," ",1,2', "2024-01-01T00:00Z,m1,1,2"]
    plant = make_plant({"a.csv": csv(*rows)})
    read_all(plant)
    assert [row[0] for row in refusals(plant, "reason")] == ["missing_machine"] * 3
    assert query(plant, "SELECT count(*) FROM core.readings") == [(1,)]


field = st.sampled_from(["1", "2.5", "-1e3", "", "NaN", "inf", "Bad", "1,5", ' "', "999"])
stamp = st.one_of(
    st.integers(0, 5).map(lambda i: f"2024-01-01T00:0{i}:00Z"),
    st.integers(0, 5).map(lambda i: f"2024-01-01 01:0{i}:00+01:00"),
    st.sampled_from(["2024-01-01 00:03:00", "", "soon", "2024-01-01T00:00:00+0000"]),
)
machine = st.sampled_from(["m1", "m2", "", " m1 "])
row = st.tuples(stamp, machine, field, field).map(",".join)
line = st.one_of(row, row, row, st.sampled_from(["junk", "1,2,3,4,5,6"]))
messy_files = st.lists(st.lists(line, min_size=1, max_size=8), min_size=1, max_size=3)


@settings(
    max_examples=examples(8, 100),
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)
@given(nights=st.lists(messy_files, min_size=1, max_size=2))
def test_every_row_that_arrived_is_a_reading_or_refused_once(nights):
    """Raw rows + malformed lines = readings + further parts of readings + refusals of whole rows; no time twice."""
    with TemporaryDirectory() as folder:
        plant = open_plant(Path(folder), {"source": {"timezone": None}})
        for night, files in enumerate(nights):
            for number, lines in enumerate(files):  # the second night replaces files of the first
                put_file(Path(folder) / "data" / f"{number}.csv", csv("2024-01-01T09:00:00Z,m9,1,1", *lines))
            read_all(plant)
            [(raw, malformed, readings, parts, refused, distinct, keys)] = query(
                plant,
                """
                SELECT (SELECT count(*) FROM ingest.raw_readings), (SELECT count(*) FROM ingest.malformed_lines),
                       (SELECT count(*) FROM core.readings),
                       (SELECT count(*) - count(DISTINCT reading_id) FROM core.merged_rows),
                       (SELECT count(*) FROM mart.rejected_readings WHERE sensor IS NULL),
                       (SELECT count(DISTINCT (machine_id, ts)) FROM core.readings),
                       (SELECT count(DISTINCT reading_id) FROM core.readings)
                """,
            )
            assert raw + malformed == readings + parts + refused, night
            assert readings == distinct == keys


def test_a_reading_has_the_same_id_in_every_warehouse(make_plant, tmp_path):
    text = csv("2024-01-01T00:00Z,m1,1,2", "2024-01-01T01:00+01:00,m2,1,2", "2024-01-01T00:01Z,m1,1,2")
    ids = "SELECT reading_id FROM core.readings ORDER BY machine_id, ts"
    first = make_plant({"a.csv": text})
    read_all(first)
    put_file(tmp_path / "other" / "data" / "z.csv", csv(*reversed(text.splitlines()[1:])))
    second = open_plant(tmp_path / "other")
    read_all(second)
    assert query(first, ids) == query(second, ids)
    assert len(set(query(first, ids))) == 3
    assert all(0 <= key < 2**63 for (key,) in query(first, ids))


def test_sensors_may_have_hostile_names(make_plant):
    """Read, refused, changed and described like any other."""
    names = ["old", "new", "files", 'a"b', "it's", "a;b", "$now", "/*instant*/", "naïve col", "ORDER", "accepted"]
    table = pd.DataFrame({"ts": ["2024-01-01T00:00Z", "2024-01-01T00:01Z"], "machine": "m1"})
    values = {name: [5.0, 500.0 + i] for i, name in enumerate(names)}
    plant = make_plant({"a.csv": table.assign(**values)}, sensors={name: {"high": 100.0} for name in names})
    read_all(plant)
    put_file(
        plant.config.folder / "data" / "a.csv", table.assign(**{n: [6.0, high] for n, (_, high) in values.items()})
    )
    read_all(plant)
    found = frame(plant, "SELECT * FROM core.readings ORDER BY ts")[names]
    assert (found.iloc[0] == 6.0).all()
    assert found.iloc[1].isna().all()
    assert set(refusals(plant, "sensor", "value", "reason")) == {
        (name, str(high), "above_limit") for name, (_, high) in values.items()
    }


def test_folds_are_deterministic_all_present_and_not_tied_to_the_time_of_day(make_plant, tmp_path):
    start = datetime(2024, 1, 1, tzinfo=UTC)
    stamps = [(start + timedelta(minutes=i)).isoformat() for i in range(1440 * 40)]
    table = pd.DataFrame({"ts": stamps, "machine": "m1", "temperature": 1.0, "pressure": 2.0})
    plant = make_plant({"a.parquet": table})
    read_all(plant)
    shares = frame(
        plant,
        "SELECT fold, hour(ts) AS hour, count(*) / (SELECT count(*) FROM core.readings) * 24 AS share "
        "FROM core.readings GROUP BY ALL",
    )
    table = shares.pivot_table(index="hour", columns="fold", values="share", fill_value=0.0)
    assert sorted(table.columns) == list(range(10))
    assert table.sum().div(24).between(0.08, 0.12).all(), "every fold has its share"
    assert table.to_numpy().max() < 0.3, "no hour of the day belongs to one fold"
    assert table.to_numpy().min() > 0.01, "no hour of the day is missing from one"
    [(longest,)] = query(
        plant,
        "SELECT max(n) FROM (SELECT count(*) AS n FROM (SELECT fold, row_number() OVER (ORDER BY ts) - row_number() "
        "OVER (PARTITION BY fold ORDER BY ts) AS run FROM core.readings) GROUP BY fold, run)",
    )
    assert longest >= 32, "readings that follow each other share a fold"
    put_file(tmp_path / "other" / "data" / "a.parquet", (plant.config.folder / "data" / "a.parquet").read_bytes())
    other = open_plant(tmp_path / "other")
    read_all(other)
    folds = "SELECT reading_id, fold FROM core.readings ORDER BY reading_id"
    assert query(plant, folds) == query(other, folds)
    assert not set(CALIBRATION_FOLDS) & set(STOPPING_FOLDS)


def test_a_new_night_does_not_move_the_folds_of_earlier_readings(make_plant):
    def night(day: int, seconds: int) -> pd.DataFrame:
        stamps = pd.date_range(f"2024-01-0{day}", periods=500, freq=f"{seconds}s", tz="UTC").strftime(
            "%Y-%m-%dT%H:%M:%SZ"
        )
        return pd.DataFrame({"ts": stamps, "machine": "m1", "temperature": 1.0, "pressure": 2.0})

    plant = make_plant({"a.csv": night(1, 60)})
    read_all(plant)
    folds = "SELECT reading_id, fold, batch_id FROM core.readings WHERE ts < '2024-01-02' ORDER BY reading_id"
    before = query(plant, folds)
    put_file(plant.config.folder / "data" / "b.csv", night(2, 1))
    read_all(plant)
    assert query(plant, folds) == before


def test_changed_values_lose_their_scores_and_only_theirs(trained_plant):
    plant = trained_plant
    folder = plant.config.folder / "data"
    table = pd.DataFrame(
        {
            "ts": ["2024-04-01T00:00Z", "2024-04-01T00:01Z", "2024-04-01T00:02Z", "2024-04-01T00:03Z"],
            "machine": "press-1",
            "recipe": "A",
            "temperature": [20.0, 21.0, 22.0, 23.0],
            "pressure": 3.0,
        }
    )
    put_file(folder / "night.csv", table)
    read_all(plant)
    score_all(plant)
    scores = "SELECT ts::TIME::VARCHAR AS at, * FROM mart.anomaly_scores ORDER BY reading_id"
    batches = "SELECT * EXCLUDE (file_id, row_number) FROM core.readings ORDER BY reading_id"
    scored, read = frame(plant, scores), frame(plant, batches)
    table.loc[1, "temperature"] = 21.5  # one changed, one gone, one new, the others only moved
    put_file(folder / "night.csv", pd.concat([table.iloc[[3, 1, 0]], table.iloc[[0]].assign(ts="2024-04-01T00:09Z")]))
    ingest_files(plant)
    summary = derive_readings(plant)
    assert (summary.n_new, summary.n_changed) == (1, 2)
    of_night = scored.ts >= pd.Timestamp("2024-04-01")
    lost = of_night & scored["at"].isin(["00:01:00", "00:02:00"])
    assert lost.sum() == 2
    pd.testing.assert_frame_equal(frame(plant, scores), scored[~lost].reset_index(drop=True), check_exact=True)
    unchanged = frame(plant, batches)
    unchanged = unchanged[~unchanged.ts.dt.strftime("%F %T").isin(["2024-04-01 00:01:00", "2024-04-01 00:09:00"])]
    pd.testing.assert_frame_equal(
        unchanged.reset_index(drop=True), read[~lost].reset_index(drop=True), check_exact=True
    )
    for table_name in ("cluster_assignments", "component_log_density"):
        left = f"SELECT count(*) FROM core.{table_name} WHERE reading_id IN (SELECT unnest(?))"
        assert query(plant, left, scored[lost].reading_id.tolist()) == [(0,)]
    score_all(plant)
    assert query(plant, "SELECT count(*) FROM core.readings ANTI JOIN mart.anomaly_scores USING (reading_id)") == [(0,)]
