"""Long exports, quality columns, times per channel: they become one reading per machine and time."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pwflow_core.config import parse_config
from pwflow_core.errors import ConfigurationError
from pwflow_core.pipeline.source import long
from tests.conftest import examples, open_plant, put_file, query, read_all

LONG = {"timestamp": "time", "layout": "long", "tag": "tag", "value": "value", "machine": None}
READINGS = "SELECT strftime(ts, '%H:%M'), machine_id, temperature, pressure, quality FROM core.readings ORDER BY ALL"
REFUSALS = "SELECT sensor, value, reason FROM mart.rejected_readings ORDER BY ALL"


def rows(*lines: str, header: str = "time,tag,value") -> str:
    return "\n".join([header, *lines]) + "\n"


def test_a_row_per_value_becomes_a_reading_per_time(make_plant):
    lines = ["2024-01-01T00:00Z,temperature,1", "2024-01-01T00:00Z,pressure,2", "2024-01-01T00:01Z,pressure,3"]
    plant = make_plant({"a.csv": rows(*lines, "2024-01-01T00:01Z,other,9")}, source=LONG)
    read_all(plant)
    assert query(plant, READINGS) == [
        ("00:00", "machine", 1.0, 2.0, "ok"),
        ("00:01", "machine", None, 3.0, "missing"),
    ]


def test_tags_are_found_by_their_own_names_with_machine_quality_and_several_value_columns(make_plant):
    header = "when;asset;point;num;alt;status"
    lines = [
        "2024-01-01T00:00Z;P1;101;1,5;;Good",
        "2024-01-01T00:00Z;P1;102;;2,5;192",
        "2024-01-01T00:00Z;P2;101;0;;Bad",
        "2024-01-01T00:00Z;P2;102;7;;216",
        "2024-01-01T00:01Z;P2;101;off;;GOOD, local override",
    ]
    source = {
        "timestamp": "when", "machine": "asset", "layout": "long", "tag": "point", "value": ["num", "alt"],
        "quality": "status", "delimiter": ";", "decimal": ",",
    }  # fmt: skip
    plant = make_plant(
        {"a.csv": rows(*lines, header=header)},
        source=source,
        sensors={"temperature": {"column": "101"}, "pressure": {"column": "102"}},
    )
    read_all(plant)
    assert query(plant, READINGS) == [
        ("00:00", "P1", 1.5, 2.5, "ok"),
        ("00:00", "P2", None, 7.0, "missing"),
        ("00:01", "P2", None, None, "invalid"),
    ]
    assert query(plant, REFUSALS) == [("temperature", "0 (Bad)", "bad_quality"), ("temperature", "off", "not_a_number")]


def test_a_tag_that_comes_in_a_later_file_joins_and_a_second_value_of_a_time_is_refused(make_plant):
    plant = make_plant(
        {"a.csv": rows("2024-01-01T00:00Z,temperature,1", "2024-01-01T00:00Z,temperature,5")}, source=LONG
    )
    read_all(plant)
    put_file(
        plant.config.folder / "data" / "b.csv",
        rows("2024-01-01T01:00+01:00,pressure,2", "2024-01-01T00:00Z,temperature,6"),
    )
    read_all(plant)
    assert query(plant, READINGS) == [("00:00", "machine", 1.0, 2.0, "ok")]
    assert (
        sorted(query(plant, "SELECT reason, sensor IS NULL FROM mart.rejected_readings")) == [("duplicate", True)] * 2
    )


@pytest.mark.parametrize("per_part", [2, 6_000_000])
def test_parts_that_fit_into_memory_end_as_one(make_plant, monkeypatch, per_part):
    monkeypatch.setattr(long, "_ROWS_PER_PART", per_part)
    lines = [f"2024-01-01T00:0{i}Z,{tag},{10 * i + len(tag)}" for tag in ("temperature", "pressure") for i in range(8)]
    plant = make_plant({"a.csv": rows(*lines)}, source=LONG)
    read_all(plant)
    assert query(plant, READINGS) == [(f"00:0{i}", "machine", 10.0 * i + 11, 10.0 * i + 8, "ok") for i in range(8)]


def test_quality_columns_beside_sensors_make_bad_values_missing(make_plant):
    header = "ts,machine,temperature,q,pressure,p"
    lines = ["2024-01-01T00:00Z,m,1,Good,2,192", "2024-01-01T00:01Z,m,0,Bad,2,0", "2024-01-01T00:02Z,m,5,,x,24"]
    plant = make_plant(
        {"a.csv": rows(*lines, header=header)}, sensors={"temperature": {"quality": "q"}, "pressure": {"quality": "p"}}
    )
    read_all(plant)
    assert [row[2:] for row in query(plant, READINGS)] == [
        (1.0, 2.0, "ok"),
        (None, None, "missing"),
        (5.0, None, "missing"),
    ]
    assert query(plant, REFUSALS) == [
        ("pressure", "2 (0)", "bad_quality"),
        ("pressure", "x (24)", "bad_quality"),
        ("temperature", "0 (Bad)", "bad_quality"),
    ]


def test_values_with_times_of_their_own_never_share_a_reading_by_their_row(make_plant):
    header = "machine,t1,temperature,t2,pressure"
    lines = [
        "m,2024-01-01T00:00Z,1,2024-01-01T00:00Z,2",
        "m,2024-01-01T00:01Z,3,2024-01-01T00:02Z,4",
        "m,2024-01-01T00:02Z,5,,",
    ]
    plant = make_plant(
        {"a.csv": rows(*lines, header=header)},
        source={"timestamp": "t1"},
        sensors={"temperature": {}, "pressure": {"timestamp": "t2"}},
    )
    read_all(plant)
    assert query(plant, READINGS) == [
        ("00:00", "m", 1.0, 2.0, "ok"),
        ("00:01", "m", 3.0, None, "missing"),
        ("00:02", "m", 5.0, 4.0, "ok"),
    ]


def test_machine_and_tag_may_stand_in_the_path(make_plant):
    frame = pd.DataFrame({"time": ["2024-01-01T00:00Z"], "value": [1.0]})
    files = {f"pump={pump}/{tag}_20240101.csv": frame for pump in "AB" for tag in ("temperature", "pressure")}
    source = LONG | {
        "path": "data", "path_columns": r"pump=(?P<pump>[^/]+)/(?P<what>.+)_\d{8}", "machine": "pump", "tag": "what",
    }  # fmt: skip
    plant = make_plant(files, source=source)
    read_all(plant)
    assert [row[1:] for row in query(plant, READINGS)] == [("A", 1.0, 1.0, "ok"), ("B", 1.0, 1.0, "ok")]


def test_nanoseconds_belong_to_the_time(make_plant):
    lines = ["1704067200,500000000,temperature,1", "1704067200,500000000,pressure,2", "1704067201,0,temperature,1"]
    source = LONG | {"timestamp": "s", "nanoseconds": "ns", "timestamp_format": "unix_s"}
    plant = make_plant({"a.csv": rows(*lines, header="s,ns,tag,value")}, source=source)
    read_all(plant)
    times = query(plant, "SELECT strftime(ts, '%S.%f') FROM core.readings ORDER BY ts")
    assert times == [("00.500000",), ("01.000000",)]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"layout": "long", "tag": "tag"}, "needs tag and value"),
        ({"value": "value"}, "layout = 'long' only"),
        ({"encoding": "klingon"}, "expected an encoding"),
        ({"path_columns": "a(b"}, "expected a regular expression"),
        ({"path_columns": "ab"}, "expected a named group"),
    ],
)
def test_keys_that_make_no_sense_are_refused(tmp_path, source, message):
    with pytest.raises(ConfigurationError, match=message):
        parse_config({"source": {"path": "x"} | source}, name="test", folder=tmp_path)


def written(rows_of_file: list[tuple[int, str]]) -> str:
    return rows(*(f"2024-01-01T00:{minute:02d}Z,{tag},{minute}.{len(tag)}" for minute, tag in rows_of_file))


ALL = [(minute, tag) for minute in range(6) for tag in ("temperature", "pressure")]


@settings(
    max_examples=examples(2, 100),
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)
@given(order=st.permutations(ALL), n_files=st.integers(1, 4), runs=st.lists(st.integers(0, 2), min_size=4, max_size=4))
def test_in_whatever_files_and_runs_the_values_come_they_end_as_one_load(order, n_files, runs):
    with TemporaryDirectory() as one, TemporaryDirectory() as many:
        at_once, by_run = (open_plant(Path(folder), {"source": LONG}) for folder in (one, many))
        put_file(Path(one) / "data" / "all.csv", written(ALL))
        read_all(at_once)
        for run in sorted(set(runs[:n_files])):
            for number in range(n_files):
                if runs[number] == run:
                    put_file(Path(many) / "data" / f"{number}.csv", written(order[number::n_files]))
            read_all(by_run)
        everything = "SELECT * EXCLUDE (file_id, row_number, batch_id, fold) FROM core.readings ORDER BY ALL"
        assert query(by_run, everything) == query(at_once, everything)
        assert query(by_run, "SELECT count(*) FROM mart.rejected_readings") == [(0,)]
