"""Lines at the edge: read as the night reads them, or refused with a reason."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import duckdb
import pytest

from pwflow_core.edge.lines import LineReader
from pwflow_core.edge.texts import NumberReader, RefusedError, TimeReader
from pwflow_core.errors import SourceError
from pwflow_core.marks import MISSING_WORDS
from pwflow_core.pipeline.source.source import Sensor, Source
from pwflow_core.pipeline.using.bundling import describe_source
from pwflow_core.spelling import InstantSpelling, NumberSpelling, read_zones

pytestmark = pytest.mark.quick

SOURCE = Source(
    timestamp=("Date", "Time"),
    timestamp_format=None,
    timezone="Europe/Berlin",
    machine="mill",
    segments=("recipe",),
    sensors=(Sensor("t", "T"),),
    delimiter=";",
    decimal=",",
)
PLAIN = replace(SOURCE, timestamp="ts", timestamp_format="unix_ms", timezone=None, machine=None, segments=())
HEADER = "Date;Time;mill;recipe;T"
ROW = "2024-03-01;12:00:00;m1;A;1,5"

NUMBERS = [
    "1", "1.5", "1,5", "1.234,5", "1,234.5", "1 234,5", "1'234.5", "1.234", "1,234", "-1", "−1", "+-1", "+1", "1_000",
    "1e3", "1E-3", "1e400", "-1e400", ".5", "5.", ",5", "5,", " 5 ", "\t5", "5 °C", "5°C", "5 kg", "°C", "inf", "-inf",
    "Infinity", "nan", "NaN", "٥", "0x10", "1 2", "12 34", "1 000 000", "oops", "", "--", "No Data", "#N/A", "true",
    "\u00a05", "5\u00a0°C", "1\u202f234", "1;2", "1e", "e5", "-", "1.2.3", "1,2,3", "1d5", "1f", "5\n", "1e5 °C",
]  # fmt: skip
TIMES = [
    "2024-03-01T12:00:00", "2024-03-01 12:00:00.5", "2024-03-01 12:00:00,1234567", "2024-03-01T12:00:00.9999999",
    "2024-03-01 12:00", "2024-03-01", "2024/3/1 5:00:01", "2024.03.01 05:00", "20240301T120000", "2024-W09-5",
    "2024-03-01T12", "2024-03-01T12:00:00Z", "2024-03-01T12:00:00+01:00", "2024-03-01T12:00:00 +0130", "2024-060",
    "2024-03-01 12:00:00-05", "2024-03-01 12:00:00 UTC", "2024-02-30 12:00:00", "2024-03-01 24:00:00", "0000-01-01",
    "2024-03-01 12:00:60", "2024-03-31 02:30:00", "2024-10-27 02:30:00", "2024-07-01 12:00:00", "0001-01-01 00:00:00",
    "9999-12-31 23:59:59.999", "01.03.2024 12:00:00", "1.3.2024 9:05:00", "01.03.2024 12:00:00.25",
    "14-Mai-26 10:00:00", "14-Mär-26 10:00:00", "14-MAY-26 10:00:00.5", "14-Xyz-26 10:00:00",
    "03/01/24 01:02:03 PM", "03/01/69 12:30:00 am", "3/1/68 12:00:00 p.m.",
    "03/01/24 PM 1:02:03", "03/01/24 午後0:02:03", "03/01/24 오전 12:02:03.5+09:00", "03/01/24 0:02:03 AM",
    "1709290800", "1709290800.123", "1709290800,5", "1.7092908e9",
    "1709290800123456789", "-1", "-1500", "-1501", "-0.5", "0.0000005", "1.5", "inf", "1e30", "99999999999999999999",
    "-62135596801", "-9e15", "45352.5", "45352,25", "60.9", "61", "1_000", "+-5", "5e-3", "٥", "soon", " 1709290800 ",
    "2024-03-01 12:00:00\u00a0", "2024-03-01  12:00:00", "2024-03-01T12:00:00.+01:00", "253402300799", "253402300800",
]  # fmt: skip
FORMATS = [
    None, "%d.%m.%Y %H:%M:%S", "%-d.%-m.%Y %-H:%M:%S", "%m/%d/%y %I:%M:%S %p", "%Y-%m-%d %H:%M:%S.%f",
    "%d-%b-%y %H:%M:%S", "unix_s", "unix_ms", "unix_us", "unix_ns", "labview_s", "excel_days",
]  # fmt: skip


@pytest.fixture(scope="module")
def database():
    with duckdb.connect() as connection:
        connection.execute("SET threads = 1; SET TimeZone = 'UTC'")
        yield connection


@pytest.mark.parametrize(
    ("decimal", "thousands", "unit"),
    [*itertools.product(".", [None, ","], ["", "°C"]), *itertools.product(",", [None, "."], ["", "°C"])],
)
def test_a_number_is_what_the_night_reads(database, decimal, thousands, unit):
    spelling = NumberSpelling(decimal, thousands, unit, ("No Data",))
    texts = NUMBERS + [shown for word in MISSING_WORDS for shown in (word, word.upper(), f" {word} ")]
    rows = database.execute(
        f"SELECT t, {spelling.value('t')}, {spelling.is_missing('t')} FROM (SELECT unnest($texts::VARCHAR[]) AS t)",
        {"texts": texts},
    ).fetchall()
    reader = NumberReader(decimal, thousands, unit, ("No Data",))
    for text, value, is_missing in rows:
        expected = math.nan if value is None and is_missing else value
        found = reader.read(text)
        assert found == expected or (found != found and expected is not None and expected != expected), text


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
@pytest.mark.parametrize("format", FORMATS)
def test_a_time_is_what_the_night_reads_or_refused(database, format, zone):
    spelling = InstantSpelling(format, zone)
    database.execute("CREATE OR REPLACE TEMP TABLE written AS SELECT unnest($texts::VARCHAR[]) AS ts", {"texts": TIMES})
    spelling = replace(spelling, zones=read_zones(database, "written", "ts", spelling))
    rows = database.execute(
        f"SELECT ts, epoch_us(written) FROM (SELECT ts, try({spelling.instant('ts')}) AS written FROM written) "
        "WHERE written BETWEEN TIMESTAMP '0001-01-01' AND TIMESTAMP '9999-12-31 23:59:59'"
    ).fetchall()
    night = dict(rows)
    source = describe_source(replace(PLAIN, timestamp_format=format, timezone=zone))
    reader, found = TimeReader(format, zone, source["times"]), {}
    for text in TIMES:
        try:
            found[text] = reader.read([text.strip(" ")])
        except RefusedError as error:
            found[text] = str(error)
    at = {text: moment for text, moment in found.items() if isinstance(moment, int)}
    assert at == {text: night.get(text) for text in at}
    assert at or zone is None
    left = {found[text] for text in night if text not in at and "24:00" not in text}  # to the night alone
    assert left <= {"unknown_time_zone", "naive_timestamp", "ambiguous_timestamp", "nonexistent_timestamp"}


def test_lines_are_read_as_the_source_says():
    reader = LineReader(describe_source(SOURCE), is_csv=True)
    lines = [HEADER, ROW, "2024-07-01;12:00:00;m1; ;oops", "x;y", "2024-03-01;12:00:60;m1;A;NaN", HEADER]
    found = reader.read([f"{line}\r\n" for line in lines])
    assert found.at.tolist() == [1_709_290_800_000_000, 1_719_828_000_000_000]
    assert found.segment == ["A", "unknown"]
    assert found.values[0] == 1.5
    assert found.not_numbers.tolist() == [[False], [True]]
    assert reader.refused == {"malformed_line": 1, "unreadable_timestamp": 1}
    assert reader.examples == {"malformed_line": "x;y", "unreadable_timestamp": "2024-03-01 12:00:60"}

    reader = LineReader(describe_source(PLAIN))
    texts = ['\ufeff{"ts": 1709290800123, "T": true}', '{"ts": 1e30, "T": 2}', '{"ts": 7}', "x" * 2_000_000, '{"T": 2}']
    found = reader.read([*texts, '{"ts": 8, "T": "1 234,5"}', '{"ts": 9, "T": "1.5"}', '{"ts": -9e15, "T": 2}'])
    assert found.at.tolist() == [1_709_290_800_123_000, 7_000, 8_000, 9_000]
    assert (found.machine, found.segment) == (["machine"] * 4, ["all"] * 4)
    assert (found.values[0], found.values[2]) == (1.0, 1234.5)
    assert found.not_numbers.ravel().tolist() == [False, False, False, True]
    assert reader.refused == {"unreadable_timestamp": 2, "malformed_line": 1, "missing_timestamp": 1}
    reader = LineReader(describe_source(replace(PLAIN, timestamp_format=None)))
    assert not len(reader.read(['{"ts": "2024-03-01T12:00:00", "T": 2}']).at)
    assert reader.refused == {"naive_timestamp": 1}
    clocks = LineReader(describe_source(replace(PLAIN, timestamp_format=None, timezone="Europe/Berlin")))
    clocks.read(['{"ts": "2024-03-31T02:30:00"}', '{"ts": "2024-10-27T02:30:00"}'])
    assert clocks.refused == {"nonexistent_timestamp": 1, "ambiguous_timestamp": 1}


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"layout": "long"}, "put the values of a moment together"),
        ({"machine": "filename"}, "filename"),
        ({"segments": ("filename",)}, "filename"),
        ({"path_columns": "(?P<mill>[^/]+)"}, "source.path_columns"),
        ({"sensors": (Sensor("t", "T", quality="Q"),)}, "quality"),
        ({"milliseconds": "ms"}, "source.milliseconds"),
        ({"nanoseconds": "ns"}, "source.nanoseconds"),
    ],
)
def test_a_source_whose_rows_are_readings_by_more_than_a_line_holds_is_refused(other, named):
    with pytest.raises(SourceError, match=named):
        LineReader(describe_source(replace(SOURCE, **other)))


def test_the_header_has_to_have_the_columns_of_the_bundle():
    source = describe_source(SOURCE)
    with pytest.raises(SourceError, match=r"'T' is not in it \(1 of 5 are not\)"):
        LineReader(source, is_csv=True).read(["Date;Time;mill;recipe;other"])
    with pytest.raises(SourceError, match="5 of 5 are not"):
        LineReader(source, is_csv=True).read([ROW])
    reader = LineReader(source, is_csv=True)
    assert len(reader.read([f"\ufeff{HEADER};T", f"{ROW};7"]).at) == 1
    sensors = (Sensor("more", "recipe"), Sensor("t", "T"))
    later = reader.with_source(describe_source(replace(SOURCE, sensors=sensors)))
    assert later.read([f"{ROW};7"]).values[0, 1] == 1.5
    with pytest.raises(SourceError, match="'P' is not in it"):
        reader.with_source(describe_source(replace(SOURCE, sensors=(Sensor("p", "P"),))))


def test_csv_is_split_by_the_delimiter_of_its_header_and_what_cannot_be_split_is_counted():
    reader = LineReader(describe_source(replace(PLAIN, delimiter=None)), is_csv=True)
    found = reader.read(
        ["note\tT\tts\n", "\t1,5\t7\r\n", "\t\t8\n", f'"{"x" * 200_000}"\t1\t9', "a\rb\t1\t9", "\udcff\t1\t9"]
    )
    assert found.at.tolist() == [7_000, 8_000]
    assert found.values[0] == 1.5
    assert reader.refused == {"malformed_line": 3}
