"""What is found in exports: layout, time, machines, segments, sensors."""

from __future__ import annotations

import gzip
import tomllib
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from pwflow_core.config import parse_config
from pwflow_core.errors import SourceError
from pwflow_core.onboarding import inspect_source
from pwflow_core.onboarding.writing import write_config

pytestmark = pytest.mark.quick


def _german(number: float) -> str:
    return f"{number:.3f}".replace(".", ",")


def test_german_excel_export_is_understood(write_csv, wave):
    path = write_csv(
        "de.csv",
        "Zeit;Temp [°C];Druck (bar);Zustand",
        lambda i, t: f"{t:%d.%m.%Y %H:%M};{_german(20 + wave(i))};{_german(3 + wave(i, 9))};an",
        encoding="utf-8-sig",
    )
    seen = inspect_source([path])
    assert (seen.delimiter, seen.decimal) == (";", ",")
    assert (seen.timestamp, seen.timestamp_format, seen.is_naive) == ("Zeit", "%d.%m.%Y %H:%M", True)
    assert [(s.name, s.unit) for s in seen.sensors] == [("Temp [°C]", "°C"), ("Druck (bar)", "bar")]
    assert 18 < seen.sensors[0].low_seen < seen.sensors[0].high_seen < 22
    assert seen.interval_seconds == 60
    assert (seen.first.year, seen.first.month, seen.first.day) == (2024, 2, 1)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ("%Y-%m-%d %H:%M:%S", None),
        ("%Y-%m-%dT%H:%M:%S", None),
        ("%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M:%S"),
        ("%d.%m.%y %H:%M", "%d.%m.%y %H:%M"),
        ("%d-%b-%y %H:%M:%S", "%d-%b-%y %H:%M:%S"),
        ("%m/%d/%Y %I:%M:%S %p", "%m/%d/%Y %I:%M:%S %p"),
        ("%Y%m%d%H%M%S", "%Y%m%d%H%M%S"),
        ("%Y%m%dT%H%M%S", "%Y%m%dT%H%M%S"),
        ("%Y.%m.%d %H:%M:%S", None),
        ("%Y-%m-%d %H:%M:%S,250", None),
        ("%d.%m.%Y %H:%M:%S +0200", "%d.%m.%Y %H:%M:%S %z"),
    ],
)
def test_time_formats_are_found(write_csv, shown, expected, wave):
    path = write_csv("t.csv", "when;x", lambda i, t: f"{t.strftime(shown)};{wave(i)}", step=timedelta(hours=5))
    seen = inspect_source([path])
    assert (seen.timestamp, seen.timestamp_format) == ("when", expected)
    assert seen.is_naive == ("+0200" not in shown)
    assert seen.interval_seconds == 5 * 3600


def test_day_and_month_are_told_apart_by_the_data_or_doubted(write_csv, wave):
    def line(i, t):
        return f"{t:%m/%d/%Y %H:%M},{wave(i)}"

    months = inspect_source([write_csv("long.csv", "time,x", line, step=timedelta(hours=4))])
    assert months.timestamp_format == "%m/%d/%Y %H:%M"
    assert not any("swapped" in sentence for sentence in months.assumptions)
    one_day = inspect_source([write_csv("short.csv", "time,x", line)])
    assert any("swapped" in sentence for sentence in one_day.assumptions)


@pytest.mark.parametrize(("factor", "expected"), [(1, "unix_s"), (1000, "unix_ms")])
def test_unix_times_are_found_and_are_not_naive(write_csv, factor, expected, wave):
    path = write_csv("e.csv", "time,x", lambda i, t: f"{(1_700_000_000 + i) * factor},{wave(i)}")
    seen = inspect_source([path])
    assert (seen.timestamp, seen.timestamp_format, seen.is_naive) == ("time", expected, False)


def test_offsets_are_not_dropped(write_csv, wave):
    path = write_csv("o.csv", "time,x", lambda i, t: f"{t:%Y-%m-%dT%H:%M:%S}+02:00,{wave(i)}")
    seen = inspect_source([path])
    assert not seen.is_naive
    assert seen.first.hour == 8


def test_one_row_without_offset_makes_times_naive(write_csv, wave):
    path = write_csv("o.csv", "time,x", lambda i, t: f"{t:%Y-%m-%dT%H:%M:%S}{'' if i == 7 else 'Z'},{wave(i)}")
    assert inspect_source([path]).is_naive


def test_gzip_with_upper_case_ending_is_read(tmp_path, plain_csv):
    packed = tmp_path / "PLAIN.CSV.GZ"
    packed.write_bytes(gzip.compress(plain_csv.read_bytes()))
    assert [s.name for s in inspect_source([packed]).sensors] == ["a", "b"]


def test_bad_values_in_a_numeric_column_are_counted_not_fatal(write_csv, wave):
    path = write_csv("bad.csv", "ts,flow_l_min", lambda i, t: f"{t},{'Scan Timeout' if i % 10 == 0 else wave(i)}")
    sensor = inspect_source([path]).sensors[0]
    assert sensor.unit == "l/min"
    assert "10%" in sensor.remark
    assert "Scan Timeout" in sensor.remark


def test_labels_and_counters_are_left_out_with_reasons_and_constants_and_flags_are_states(write_csv, wave):
    path = write_csv(
        "mixed.csv",
        ",ts,anomaly,serial,valve,temp,is_fault,cycle,setpoint_kind,empty,note",
        lambda i, t: f"{i},{t},{i // 290},7.25,{i // 40 % 2},{wave(i)},{i % 2},{i // 60},{i // 100},,text {i}",
    )
    seen = inspect_source([path])
    states = {"serial": "is always 7.25", "valve": "takes only 2 values (0, 1)"}
    assert [s.name for s in seen.sensors] == ["temp", *states]
    assert {s.name: s.remark for s in seen.sensors if s.is_state} == states
    written = parse_config(tomllib.loads(write_config(seen, patterns=["x.csv"])), name="x", folder=path.parent)
    assert {name for name, sensor in written.sensors.items() if sensor.state} == {*states}
    for column, word in {
        "column00": "counts up",
        "anomaly": "label",
        "is_fault": "label",
        "cycle": "counts up",
        "setpoint_kind": "counts up",
        "empty": "empty",
        "note": "text",
    }.items():
        assert word in seen.ignored[column], column


def test_a_valve_that_moved_once_is_a_state_and_not_a_counter(write_csv, wave):
    path = write_csv(
        "once.csv",
        "ts,temp,shut,opened,strokes",
        lambda i, t: f"{t},{wave(i)},{int(not 2500 <= i < 2530)},{i // 2900},{i // 400}",
        n=3000,
    )
    seen = inspect_source([path])
    assert [s.name for s in seen.sensors if s.is_state] == ["shut", "opened"]
    assert "counts up" in seen.ignored["strokes"]


def test_text_conditions_are_segments_and_whole_numbers_only_candidates(write_csv, wave):
    path = write_csv(
        "recipe.csv",
        "ts,recipe,program_no,operator,x",
        lambda i, t: f"{t},{'AB'[i // 150]},{(3, 7, 5)[i // 100]},{'Ann' if i < 200 else 'Bob'},{wave(i)}",
    )
    seen = inspect_source([path])
    assert seen.segments == ("recipe",)
    assert list(seen.segment_candidates) == ["program_no", "operator"]
    assert [(s.name, s.is_state) for s in seen.sensors] == [("x", False), ("program_no", True)]
    assert inspect_source([path], guess_segments=False).segments == ()
    assert inspect_source([path], segments=["program_no", "filename"]).segments == ("program_no", "filename")


@pytest.mark.parametrize("name", ["machine_id", "which"])
def test_interleaved_machines_are_found_by_name_or_by_repeated_times(write_csv, name, wave):
    path = write_csv("m.csv", f"ts,{name},x", lambda i, t: f"{t - (i % 3) * timedelta(minutes=1)},P{i % 3},{wave(i)}")
    seen = inspect_source([path])
    assert seen.machine == name
    assert seen.interval_seconds == 180


def test_same_times_in_several_files_make_machines_of_them(write_csv, wave):
    def line(i, t):
        return f"{t},{wave(i)}"

    files = [write_csv(f"pump{k}.csv", "ts,x", line) for k in range(2)]
    found = inspect_source(files)
    assert found.machine == "machine"
    assert any("tells the machine (pump0, pump1)" in sentence for sentence in found.assumptions)


def test_column_missing_in_some_files_is_no_sensor(write_csv, wave):
    old = write_csv("a.csv", "ts,x,y", lambda i, t: f"{t},{wave(i)},{wave(i, 5)}")
    new = write_csv("b.csv", "ts,x,y,z", lambda i, t: f"{t},{wave(i)},{wave(i, 5)},{wave(i, 7)}")
    seen = inspect_source([old, new])
    assert [s.name for s in seen.sensors] == ["x", "y"]
    assert "missing in 1 of 2 files" in seen.ignored["z"]


def test_ragged_lines_do_not_hide_the_rest(write_csv, wave):
    path = write_csv("r.csv", "ts,x,y", lambda i, t: f"{t},{wave(i)},{wave(i, 5)}" if i != 250 else f"{t},1")
    seen = inspect_source([path])
    assert seen.skip_lines == 0
    assert seen.n_rows_read == 299


def test_conditions_late_in_a_large_file_are_seen(write_parquet, tmp_path):
    select = (
        "TIMESTAMP '2024-01-01' + to_seconds(i) AS ts, 'R' || (i // 50000) AS recipe, "
        "CASE WHEN i < 60000 THEN 1.5 ELSE sin(i) END AS late, sin(i / 9) AS x"
    )
    parquet = write_parquet("large.parquet", select, n=200_000)
    csv = tmp_path / "large.csv"
    with duckdb.connect(":memory:") as connection:
        connection.execute(f"COPY (FROM '{parquet}') TO '{csv}'")
    for path in (parquet, csv):
        seen = inspect_source([path])
        assert seen.n_rows_read <= 20_000
        assert seen.segments == ("recipe",)
        assert {s.name for s in seen.sensors} == {"late", "x"}
        assert seen.interval_seconds == 1


def test_parquet_types_decide(write_parquet):
    path = write_parquet(
        "p.parquet",
        "TIMESTAMPTZ '2024-01-01 00:00:00+02' + to_minutes(i) AS t, sin(i)::FLOAT AS x, [i] AS list, "
        "{'a': i} AS struct, CASE WHEN i % 4 = 0 THEN 'nan'::DOUBLE ELSE cos(i) END AS gaps, 'nan'::DOUBLE AS gone",
    )
    seen = inspect_source([path])
    assert (seen.timestamp, seen.is_naive, seen.delimiter) == ("t", False, None)
    assert [(s.name, s.remark) for s in seen.sensors] == [("x", ""), ("gaps", "")]
    assert set(seen.ignored) == {"list", "struct", "gone"}


def test_given_columns_win_and_ignored_ones_stay_out(write_csv, wave):
    path = write_csv("g.csv", "ts,other,x,y", lambda i, t: f"{t},{t + timedelta(hours=1)},{wave(i)},{wave(i, 5)}")
    seen = inspect_source([path], timestamp="OTHER", ignore=["x"])
    assert seen.timestamp == "other"
    assert [s.name for s in seen.sensors] == ["y"]
    assert seen.ignored["x"] == "is left out on request"


def test_given_timestamp_format_is_used(write_csv, wave):
    path = write_csv("f.csv", "when,x", lambda i, t: f"at {t:%Y_%m_%d %H-%M},{wave(i)}")
    seen = inspect_source([path], timestamp="when", timestamp_format="at %Y_%m_%d %H-%M")
    assert seen.first.year == 2024


@pytest.mark.parametrize("option", ["timestamp", "machine", "segments", "ignore"])
def test_given_column_that_does_not_exist_is_an_error_that_lists_the_columns(plain_csv, option):
    value = "bb" if option in ("timestamp", "machine") else ["bb"]
    with pytest.raises(SourceError, match=r"'bb' \(given as .*'ts', 'a', 'b': did you mean 'b'\?"):
        inspect_source([plain_csv], **{option: value})


def test_decimal_comma_that_the_configuration_denies_is_named(write_csv, wave):
    path = write_csv("d.csv", "ts;x", lambda i, t: f"{t};{_german(wave(i))}")
    with pytest.raises(SourceError, match=r"source\.decimal = ','"):
        inspect_source([path], decimal=".")


def test_path_may_hold_quotes_and_glob_letters(tmp_path: Path, plain_csv: Path):
    for name in ("it's [1]*.csv", 'say "x"?.csv'):
        odd = tmp_path / name
        odd.write_bytes(plain_csv.read_bytes())
        assert len(inspect_source([odd]).sensors) == 2


def test_every_file_can_be_a_machine_of_its_own(tmp_path):
    for name in ("a", "b"):
        rows = "".join(f"2024-01-01T00:{minute:02d}:00Z,{minute * 1.5 + 0.25}\n" for minute in range(40))
        (tmp_path / f"{name}.csv").write_text("time,load\n" + rows)
    found = inspect_source([tmp_path / "a.csv", tmp_path / "b.csv"], machine="filename")
    assert found.machine == "filename"
    assert [sensor.name for sensor in found.sensors] == ["load"]
