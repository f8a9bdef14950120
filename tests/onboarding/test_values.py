"""Times and numbers of exports as historians, loggers and spreadsheets write them: what is found is right."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from pwflow_core.config import load_config
from pwflow_core.errors import SourceError
from pwflow_core.onboarding.initialising import initialise
from pwflow_core.pipeline.readings.deriving import derive_readings
from pwflow_core.pipeline.source.ingest import ingest_files
from pwflow_core.plant import Plant
from tests.conftest import query

START = datetime(2026, 3, 1)  # noqa: DTZ001 - what the exports mean, in UTC
AT_NIGHT = pytest.mark.long(reason="1 CPU s each: one spelling of its kind stays at each push")


def at_night(*values):
    return pytest.param(*values, marks=AT_NIGHT)


def take(tmp_path: Path, text: str, **options) -> tuple[Plant, list[str]]:
    """Write an export, have it looked at, and read it; return the plant and what was assumed."""
    folder = tmp_path / "exports"
    folder.mkdir()
    (folder / "data.csv").write_text(text, encoding="utf-8")
    done = initialise(folder, tmp_path, **options)
    plant = Plant.open(load_config(tmp_path / "pwflow.toml"))
    ingest_files(plant)
    derive_readings(plant)
    return plant, list(done.assumptions)


def rows(time, wave, n: int = 200, step: timedelta = timedelta(minutes=10), header: str = "Time,a,b") -> str:
    return (
        "\n".join([header, *(f"{time(i, START + i * step)},{wave(i):.4f},{wave(i, 11):.4f}" for i in range(n))]) + "\n"
    )


def times(plant: Plant) -> list[datetime]:
    return [row[0] for row in query(plant, "SELECT ts FROM core.readings ORDER BY row_number")]


def refused(plant: Plant) -> dict[str, int]:
    return dict(query(plant, "SELECT reason, count(*) FROM mart.rejected_readings GROUP BY reason"))


def _at_24(time: datetime, format: str) -> str:
    """Return a time with midnight written as the end of the day before."""
    is_midnight = (time.hour, time.minute) == (0, 0) and time > START
    return (time - timedelta(days=1)).strftime(format).replace(" 00:", " 24:") if is_midnight else time.strftime(format)


def _days(time: datetime) -> float:
    return (time - datetime(1899, 12, 30)) / timedelta(days=1)  # noqa: DTZ001 - UTC


def _micros(time: datetime) -> int:
    return (time - datetime(1970, 1, 1)) // timedelta(microseconds=1)  # noqa: DTZ001 - UTC


@pytest.mark.parametrize(
    "time",
    [
        lambda i, t: f"{t + timedelta(hours=9):%Y/%m/%d %H:%M} JST",
        at_night(lambda i, t: f"{t + timedelta(hours=1):%d.%m.%Y %H:%M:%S} MEZ"),
        at_night(lambda i, t: f"{t - timedelta(hours=5):%Y-%m-%dT%H:%M:%S} EST"),
        lambda i, t: f"{t + timedelta(hours=5.5):%Y-%m-%d %H:%M:%S} Asia/Kolkata",
        lambda i, t: f"{t + timedelta(hours=1):%Y-%m-%dT%H:%M:%S}+01:00[Europe/Berlin]",
        at_night(lambda i, t: f"{t + timedelta(hours=3):%Y-%m-%d %H:%M:%S} UTC+3"),
        lambda i, t: f"{t - timedelta(hours=8):%m/%d/%Y %I:%M:%S %p} GMT-8",
        lambda i, t: f"{_micros(t)}",
        at_night(lambda i, t: f"{_micros(t)}000"),
        lambda i, t: f"{_micros(t) / 1e6:.1f}",
        at_night(lambda i, t: f"{_days(t):.9f}"),
        lambda i, t: f"{_days(t):.6f}" if i % 2 else f"{_days(t):.10f}",
        lambda i, t: f"{t:%d.%m.%Y %H:%M:%S}" + (".000" if i % 7 else ""),
        at_night(lambda i, t: f"{t:%Y-%m-%d %H:%M:%S}" + (".000" if i % 3 else "")),
        lambda i, t: f"{t:%a %b %d %Y %H:%M:%S} GMT+0000 (Coordinated Universal Time)",
        lambda i, t: f"{t:%y/%m/%d %H:%M:%S}",
        lambda i, t: f"{t:%d-%b-%Y %I:%M:%S.000 %p}",
        at_night(lambda i, t: f"{t + timedelta(hours=5.5):%Y-%m-%d %H:%M:%S} +0530"),
        lambda i, t: f"{_micros(t) // 1_000_000 + 2_082_844_800}",
        at_night(lambda i, t: f"{_micros(t) / 1e6 + 2_082_844_800:.3f}"),
        lambda i, t: _at_24(t, "%d.%m.%Y %H:%M"),
        at_night(lambda i, t: _at_24(t, "%m/%d/%Y %H:%M:%S")),
        at_night(lambda i, t: _at_24(t, "%Y-%m-%d %H:%M:%S")),
    ],
)
def test_times_of_any_spelling_are_found_and_read(tmp_path, wave, time):
    plant, _ = take(tmp_path, rows(time, wave))
    assert refused(plant) == {}
    assert max(abs(found - (START + i * timedelta(minutes=10))) for i, found in enumerate(times(plant))) < timedelta(
        seconds=0.1
    )


@pytest.mark.parametrize(
    ("header", "time"),
    [
        ("Date,Time,a,b", lambda i, t: f"{t:%m/%d/%Y},{t:%H:%M:%S}"),
        ("Datum,Uhrzeit,a,b", lambda i, t: f"{t:%d.%m.%Y},{t:%H:%M}"),
        ("Clock,Day,a,b", lambda i, t: f"{t:%I:%M:%S %p},{t:%Y-%m-%d}"),
    ],
)
def test_date_and_time_of_day_in_two_columns_are_joined(tmp_path, wave, header, time):
    plant, _ = take(tmp_path, rows(time, wave, header=header))
    assert isinstance(plant.config.source.timestamp, tuple)
    assert times(plant) == [START + i * timedelta(minutes=10) for i in range(200)]


@pytest.mark.parametrize(
    ("name", "hours"),
    [
        ("Time (UTC+9)", 9),
        at_night("Timestamp [CET]", 1),
        ("time_utc", 0),
        at_night("Zeit (+05:30)", 5.5),
        ("Date (Asia/Tokyo)", 9),
    ],
)
def test_a_zone_in_the_name_of_the_time_column_is_used(tmp_path, wave, name, hours):
    plant, said = take(
        tmp_path, rows(lambda i, t: f"{t + timedelta(hours=hours):%d.%m.%Y %H:%M}", wave, header=f"{name},a,b")
    )
    assert times(plant)[0] == START
    assert any("tells its time zone" in sentence for sentence in said)


def test_a_zone_with_several_meanings_in_the_name_of_the_time_column_is_refused(tmp_path, wave):
    with pytest.raises(SourceError, match=r"'Time \(CST\)', got 'CST'.*--timezone"):
        take(tmp_path, rows(lambda i, t: f"{t:%d.%m.%Y %H:%M}", wave, header="Time (CST),a,b"))


def test_an_abbreviation_that_the_zone_of_the_plant_makes_doubtful_is_refused(tmp_path, wave):
    with pytest.raises(SourceError, match="'EST' is not known, or has several meanings"):
        take(tmp_path, rows(lambda i, t: f"{t:%Y-%m-%d %H:%M:%S} EST", wave), timezone="Australia/Sydney")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("%m/%d/%Y %H:%M", "%d/%m/%Y %H:%M:%S"),
        ("%m/%d/%Y %H:%M", "%d/%m/%Y %H:%M"),
        ("%m-%d-%y %H:%M", "%d-%m-%y %H:%M"),
    ],
)
def test_days_and_months_that_a_spreadsheet_swapped_are_shown(tmp_path, wave, first, second):
    text = rows(lambda i, t: t.strftime(first if t.day <= 12 else second), wave, n=480, step=timedelta(hours=1))
    with pytest.raises(SourceError, match=r"got '(03|13).* and '(03|13).*no single format"):
        take(tmp_path, text)


def test_a_zone_with_several_meanings_is_shown_and_the_zone_of_the_plant_makes_it_certain(tmp_path, wave):
    text = rows(lambda i, t: f"{t:%Y-%m-%d %H:%M:%S} CST", wave)
    with pytest.raises(SourceError, match=r"00:00 CST': 'CST' is not known, or has several meanings.*--timezone"):
        take(tmp_path, text)
    (tmp_path / "again").mkdir()
    plant, _ = take(tmp_path / "again", text, timezone="America/Chicago")
    assert times(plant)[0] == START + timedelta(hours=6)


def numbers(spell, header="Time;Speed;Power;Level", n=300, delimiter=";") -> tuple[str, list[tuple[float, ...]]]:
    """Return an export of three columns around a thousand, and its numbers: two whole ones and one with a decimal."""
    swing = [math.sin(i / 17) + math.sin(i * 12.9898) / 10 for i in range(n)]
    values = [(round(1000 + 300 * x), round(1200 - 450 * x), round(995 + 40 * x, 1)) for x in swing]
    values = [tuple(map(float, row)) for row in values]
    lines = [
        delimiter.join(
            [
                f"{START + i * timedelta(minutes=1):%Y-%m-%dT%H:%M:%SZ}",
                *(spell(v, d) for v, d in zip(row, (0, 0, 1), strict=True)),
            ]
        )
        for i, row in enumerate(values)
    ]
    return "\n".join([header, *lines]) + "\n", values


def _swapped(text: str) -> str:
    return text.translate(str.maketrans(",.", ".,"))


@pytest.mark.parametrize(
    ("spell", "delimiter"),
    [
        (lambda v, d: _swapped(f"{v:,.{d}f}"), ";"),
        (lambda v, d: f'"{v:,.{d}f}"', ","),
        (lambda v, d: f"{v:,.{d}f}".replace(",", "\u00a0").replace(".", ","), ";"),
        at_night(lambda v, d: f"{v:,.{d}f}".replace(",", "\u202f").replace(".", ","), "\t"),
        (lambda v, d: f"{v:,.{d}f}".replace(",", "’"), ";"),
        (lambda v, d: f"{v:,.{d}f} kg", ";"),
        at_night(lambda v, d: _swapped(f"{v:,.{d}f}") + "%", ";"),
        at_night(lambda v, d: f'"{v:,.0f}"' if d == 0 else f"{v:.1f}", ","),
    ],
)
def test_thousands_and_units_behind_numbers_are_read(tmp_path, spell, delimiter):
    text, values = numbers(spell, delimiter=delimiter, header="Time;Speed;Power;Level".replace(";", delimiter))
    plant, _ = take(tmp_path, text)
    assert refused(plant) == {}
    assert query(plant, 'SELECT "Speed", "Power", "Level" FROM core.readings ORDER BY ts') == values


@pytest.mark.parametrize("sign", [".", ","])
def test_a_column_that_goes_over_a_thousand_decides_where_another_has_no_whole_numbers(tmp_path, sign):
    text, values = numbers(
        lambda v, d: f"{v:,.0f}".replace(",", sign) if d == 0 else f"{v * 20:,.0f}".replace(",", sign)
    )
    plant, said = take(tmp_path, text)
    found = query(plant, 'SELECT "Speed", "Power", "Level" FROM core.readings ORDER BY ts')
    assert found == [(speed, power, float(f"{level * 20:.0f}")) for speed, power, level in values]
    assert any("could be 1014 or 1.014" in sentence for sentence in said)


def test_a_column_with_another_style_than_the_others_is_left_out_by_name(tmp_path):
    text, _ = numbers(lambda v, d: f"{v:,.0f}".replace(",", ".") if d == 0 else f"{v:.1f}")
    plant, said = take(tmp_path, text)
    assert list(plant.config.sensors) == ["Level"]
    assert sum("which would be 1014" in sentence for sentence in said) == 2


def test_spaces_between_thousands_in_every_number_are_read(tmp_path):
    text, values = numbers(lambda v, d: f"{v + 5000:,.0f}".replace(",", " "))
    plant, _ = take(tmp_path, text)
    found = query(plant, 'SELECT "Speed", "Power" FROM core.readings ORDER BY ts')
    assert found == [(speed + 5000, power + 5000) for speed, power, _ in values]


def test_numbers_that_can_be_read_in_two_ways_are_named_with_what_decided(tmp_path):
    text, values = numbers(lambda v, d: f'"{v:,.0f}"', delimiter=",", header="Time,Speed,Power,Level")
    plant, said = take(tmp_path, text)
    assert [row[0] for row in query(plant, 'SELECT "Speed" FROM core.readings ORDER BY ts')] == [
        row[0] for row in values
    ]
    [sentence] = [s for s in said if "could be" in s]
    assert "1014 or 1.014" in sentence
    assert "because" in sentence


def test_three_digits_behind_a_point_are_decimals_where_nothing_else_is_seen(tmp_path, wave):
    text = rows(lambda i, t: f"{t:%Y-%m-%dT%H:%M:%SZ}", lambda i, p=37.0: 55.5 + wave(i, p))
    text = "\n".join(
        line if i == 0 else ",".join([line.split(",")[0], *(f"{float(v):.3f}" for v in line.split(",")[1:])])
        for i, line in enumerate(text.splitlines())
    )
    plant, _ = take(tmp_path, text)
    assert query(plant, "SELECT max(a) < 60 FROM core.readings") == [(True,)]


@pytest.mark.parametrize(
    "mark",
    [
        "-9999",
        "32767",
        "1e30",
        *map(at_night, ["-32768", "65535", "1.7976931348623157e308", "2147483647", "-999.0", "9999999"]),
    ],
)
def test_marks_of_missing_values_are_found_named_and_missing(tmp_path, wave, mark):
    lines = rows(lambda i, t: f"{t:%Y-%m-%dT%H:%M:%SZ}", wave).splitlines()
    for i in range(20, 200, 25):
        lines[i] = ",".join([lines[i].split(",")[0], mark, lines[i].split(",")[2]])
    plant, said = take(tmp_path, "\n".join(lines) + "\n")
    assert plant.config.sensors["a"].missing == (float(mark),)
    assert not plant.config.sensors["b"].missing
    assert any("taken for a missing value" in sentence for sentence in said)
    assert query(plant, "SELECT count(a), count(b), max(abs(a)) < 10 FROM core.readings") == [(192, 200, True)]
    assert refused(plant) == {}


def test_marks_of_missing_values_are_found_in_a_long_export(tmp_path, wave):
    at = [f"{START + i * timedelta(minutes=1):%Y-%m-%dT%H:%M:%SZ}" for i in range(200)]
    lines = [
        f"{time},{tag},{-9999 if tag == 'a' and i % 20 == 3 else round(wave(i, period), 4)}"
        for i, time in enumerate(at)
        for tag, period in (("a", 37.0), ("b", 11.0))
    ]
    plant, said = take(tmp_path, "\n".join(["time,tag,value", *lines]) + "\n")
    assert plant.config.sensors["a"].missing == (-9999.0,)
    assert any("-9999 (10 times) is taken for a missing value" in sentence for sentence in said)
    assert query(plant, "SELECT count(a), count(b), min(a) > -5 FROM core.readings") == [(190, 200, True)]


def test_values_that_are_merely_high_are_no_marks(tmp_path, wave):
    lines = rows(lambda i, t: f"{t:%Y-%m-%dT%H:%M:%SZ}", lambda i, p=37.0: 9000 + 900 * wave(i, p)).splitlines()
    lines[50] = ",".join([lines[50].split(",")[0], "9999", "32767"])
    lines[60] = ",".join([lines[60].split(",")[0], "9999", "12345"])
    plant, _ = take(tmp_path, "\n".join(lines) + "\n")
    assert not plant.config.sensors["a"].missing


def test_a_query_without_sensors_is_looked_at_by_its_first_rows(tmp_path, wave):
    (tmp_path / "data.csv").write_text(rows(lambda i, t: f"{t:%m/%d/%Y},{t:%H:%M:%S}", wave, header="Date,Time,a,b"))
    sql = f"SELECT * FROM read_csv('{tmp_path}/data.csv', all_varchar = true)"
    (tmp_path / "pwflow.toml").write_text(f'[source]\nsql = "{sql}"\ntimestamp = ["Date", "Time"]\ntimezone = "UTC"\n')
    plant = Plant.open(load_config(tmp_path / "pwflow.toml"))
    ingest_files(plant)
    derive_readings(plant)
    assert times(plant) == [START + i * timedelta(minutes=10) for i in range(200)]
    assert query(plant, "SELECT count(a), count(b) FROM core.readings") == [(200, 200)]
