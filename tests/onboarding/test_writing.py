"""The written configuration: it loads, says what was found, and shows every other key."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import duckdb
import pytest
from pydantic import BaseModel

from pwflow_core.config import PlantConfig, load_config
from pwflow_core.onboarding import initialise

pytestmark = pytest.mark.quick

HOSTILE = [
    "quote \"x\" and 'y'",
    "line\nbreak",
    "dots.in.name",
    "back\\slash",
    "Temp [°C]",
    "温度 🌡",
    "tab\there",
    "# comment",
    "bell\x07",
    "]]\n[plant]\nname='evil'",
    "ts",
    "Quality",
    "machine_id",
    "a",
    " ",
]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_column_names_survive_the_round_trip(tmp_path, name):
    path = tmp_path / "h.parquet"
    with duckdb.connect(":memory:") as connection:
        connection.execute(
            "COPY (SELECT TIMESTAMP '2024-01-01' + to_seconds(i) AS \"time of reading\", "
            f"sin(i) AS {_quoted(name)}, cos(i) AS other FROM range(300) AS rows(i)) TO '{path}'"
        )
    done = initialise(path, tmp_path / "pwflow.toml")
    config = load_config(done.path)
    columns = {sensor.column or key for key, sensor in config.sensors.items()}
    assert columns == {name, "other"}
    assert config.plant.name == "plant"


def test_hostile_text_values_stay_in_comments(tmp_path, write_csv, wave):
    modes = ("a", "b\n[plant]")
    path = write_csv("v.csv", "ts,mode,x", lambda i, t: f'{t},"{modes[i // 150]}",{wave(i)}')
    config = load_config(initialise(path, tmp_path / "pwflow.toml").path)
    assert config.source.segments == ("mode",)


def test_written_file_says_what_was_found(tmp_path, write_csv, wave):
    for k in range(3):
        write_csv(
            f"exports/line {k}/day.csv",
            "zeit;machine;rezept;p_bar;label",
            lambda i, t, k=k: f"{t.replace(month=k + 1):%d.%m.%Y %H:%M};M{k};{'AB'[i // 150]};{wave(i)};{i % 2}",
        )
    (tmp_path / "exports" / "notes.txt").write_text("hello")
    done = initialise(tmp_path / "exports", tmp_path, name="press_shop", timezone="Europe/Berlin")
    assert done.path == tmp_path / "pwflow.toml"
    config = load_config(done.path)
    assert config.plant.name == "press_shop"
    assert config.source.path == "exports/**/*.csv"
    assert config.source.timestamp_format == "%d.%m.%Y %H:%M"
    assert config.source.timezone == config.schedule.timezone == "Europe/Berlin"
    assert (config.source.machine, config.source.segments) == ("machine", ("rezept",))
    assert {name: sensor.unit for name, sensor in config.sensors.items()} == {"p_bar": "bar"}
    assert all(sensor.low is None and sensor.high is None for sensor in config.sensors.values())
    assert any("notes.txt" in sentence for sentence in done.assumptions)
    assert "# label = {}" in done.path.read_text()


def test_naive_times_are_written_as_utc_and_marked(tmp_path, plain_csv):
    done = initialise(plain_csv, tmp_path / "pwflow.toml")
    line = next(row for row in done.path.read_text().splitlines() if row.startswith("timezone"))
    assert line.startswith('timezone = "UTC"')
    assert "ASSUMED" in line
    assert "check source.timezone" in done.assumptions[0]


def test_times_with_offset_need_no_zone(tmp_path, write_csv, wave):
    path = write_csv("z.csv", "ts,x", lambda i, t: f"{t:%Y-%m-%dT%H:%M:%S}Z,{wave(i)}")
    assert load_config(initialise(path, tmp_path / "pwflow.toml").path).source.timezone is None


def test_every_key_is_shown_with_its_default(tmp_path, plain_csv):
    """Removing the # of the tour changes nothing but the keys that have no default."""
    text = initialise(plain_csv, tmp_path / "pwflow.toml").path.read_text()
    tour = text.split("# ----", 1)[1].split("\n", 2)[2]
    opened = re.sub(r"^# (?=\[|\w+ = )", "", tour, flags=re.MULTILINE)
    values = tomllib.loads(opened)
    alternatives = {"scoring": "alpha", "warehouse": "data"}  # or alarms_per_week; and only a lake has data
    kept = {
        section: {key: value for key, value in values[section].items() if key != other}
        for section, other in alternatives.items()
    }
    shown = PlantConfig.model_validate({**tomllib.loads(text), **values, **kept})
    written = PlantConfig.model_validate(tomllib.loads(text))
    for section, field in PlantConfig.model_fields.items():
        if section in ("plant", "source", "sensors", "schedule", "folder"):
            continue
        if field.default is None:  # without the section there is nothing, so there is no default to show
            continue
        assert isinstance(field.annotation, type)
        assert issubclass(field.annotation, BaseModel)
        tables = {"flow": {"clusters"}, "notify": {"targets"}}.get(section, set())  # by name: nothing to show
        assert set(values[section]) == set(field.annotation.model_fields) - tables, section
        for key, default in getattr(written, section):
            assert default is None or getattr(getattr(shown, section), key) == default
    for row in opened.splitlines():
        assert " = " not in row or "  # " in row, f"no explanation: {row}"


def test_exports_outside_of_the_folder_are_named_absolutely(tmp_path, plain_csv):
    output = tmp_path / "project" / "pwflow.toml"
    done = initialise(plain_csv, output)
    assert done.patterns == (str(plain_csv),)
    assert load_config(output).resolve_path(done.patterns[0]) == plain_csv


def test_written_pattern_matches_what_was_looked_at(tmp_path, plain_csv):
    folder = tmp_path / "plant [1]" / "a*b"
    folder.mkdir(parents=True)
    for name in ("x.csv", "Y.CSV"):
        (folder / name).write_bytes(plain_csv.read_bytes())
    done = initialise(tmp_path / "plant [1]", tmp_path / "pwflow.toml")
    with duckdb.connect(":memory:") as connection:
        found = {
            Path(row[0])
            for pattern in done.patterns
            for row in connection.execute("SELECT file FROM glob(?)", [str(tmp_path / pattern)]).fetchall()
        }
    assert found == {folder / "x.csv", folder / "Y.CSV"}


def test_no_temporary_file_is_left(tmp_path, plain_csv):
    initialise(plain_csv, tmp_path / "new" / "pwflow.toml")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["pwflow.toml"]


@pytest.mark.parametrize(
    ("column", "unit"),
    [
        ("temp [°C]", "°C"),
        ("Kühlung °C", "°C"),
        ("Feuchte %", "%"),
        ("Pump A", ""),
        ("pressure_bar", "bar"),
        ("flow_l_min", "l/min"),
        ("Speed (rpm)", "rpm"),
        ("valve [open]", ""),
        ("sensor [1]", ""),
        ("phase_a", ""),
        ("crowbar", ""),
        ("vendor_C", ""),
    ],
)
def test_unit_is_taken_only_from_a_name_that_spells_it_out(tmp_path, write_csv, column, unit, wave):
    path = write_csv("u.csv", f"ts,{column}", lambda i, t: f"{t},{wave(i)}")
    assert load_config(initialise(path, tmp_path / "pwflow.toml").path).sensors[column].unit == unit


def test_simultaneous_names_get_different_sensors(tmp_path, write_csv, wave):
    path = write_csv(
        "n.csv", "time,ts,ts_sensor,Temp,temp", lambda i, t: f"{t}," + ",".join(str(wave(i, p)) for p in (3, 5, 7, 9))
    )
    config = load_config(initialise(path, tmp_path / "pwflow.toml").path)
    assert len(config.sensors) == 4
    assert "ts" not in config.sensors
