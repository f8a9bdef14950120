"""Every kind of export, in spellings of its own: what goes in comes out, to the last reading, or is refused.

Each is looked at by `pwflow init` and read by what that wrote; counts, times and values are compared by SQL.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from pwflow_core.config import load_config, parse_config
from pwflow_core.errors import PwflowError
from pwflow_core.onboarding import initialise
from pwflow_core.pipeline.source.source import read_source
from pwflow_core.plant import Plant
from pwflow_core.warehouse import quote_identifier
from tests.conftest import put_file, query, read_all
from tests.exports import in_columns, in_files, in_numbers, in_rows, in_times  # noqa: F401 - they register their kinds
from tests.exports.export import KINDS, Export

NIGHT = pytest.mark.long(reason="0.5 CPU s each: one spelling of every kind stays at each push")


def take_in(export: Export, folder: Path) -> tuple[Plant, list[str]]:
    for name, content in export.files.items():
        put_file(folder / "exports" / name, content)
    if export.sql:
        source = {"sql": export.sql.format(folder=folder / "exports"), "timezone": "UTC", **export.source}
        plant = Plant.open(parse_config({"source": source}, name="the test", folder=folder))
        said: list[str] = []
    else:
        made = initialise(folder / "exports", folder, **{"timezone": "UTC", **export.options})
        plant, said = Plant.open(load_config(made.path)), list(made.assumptions)
    read_all(plant)
    return plant, said


def is_same(got: object, wanted: object, turn: float | None) -> bool:
    if turn and isinstance(got, float) and isinstance(wanted, float):
        return abs(math.remainder(got - wanted, turn)) < 1e-9
    return got == wanted


@pytest.mark.parametrize("kind", [name if name.endswith("_1") else pytest.param(name, marks=NIGHT) for name in KINDS])
def test_what_goes_in_comes_out(tmp_path, kind):
    export = KINDS[kind]()
    if export.error:
        with pytest.raises(PwflowError, match=export.error):
            take_in(export, tmp_path)
        return
    plant, said = take_in(export, tmp_path)
    with plant.warehouse.snapshot() as connection:
        sensors = {sensor.name: sensor for sensor in read_source(connection).sensors}
    assert sorted(sensors) == sorted(export.sensors)
    columns = ", ".join(map(quote_identifier, export.sensors))
    found = query(plant, f"SELECT machine_id, ts, {columns} FROM core.readings ORDER BY machine_id, ts")
    expected = [(machine, time, *values) for machine, time, values in sorted(export.rows, key=lambda row: row[:2])]
    assert (len(found), *found[:1], *found[-1:]) == (len(expected), *expected[:1], *expected[-1:]) or export.circles
    turns = [None, None, *(export.circles.get(name) for name in export.sensors)]
    wrong = [(g, w) for g, w in zip(found, expected, strict=True) if not all(map(is_same, g, w, turns))]
    assert wrong[:3] == []
    refused = dict(query(plant, "SELECT reason, count(*) FROM mart.rejected_readings GROUP BY reason"))
    assert refused == dict(export.refused)
    if export.n_raw is not None:
        assert query(plant, "SELECT count(*) FROM ingest.raw_readings") == [(export.n_raw,)]
    assert {row[0] for row in query(plant, "SELECT DISTINCT segment FROM core.readings")} == export.segments
    for pattern in export.says:
        assert any(re.search(pattern, sentence) for sentence in said), (pattern, said)
    if export.units is not None:
        assert tuple(sensors[name].unit for name in export.sensors) == export.units
    assert {name: sensor.period for name, sensor in sensors.items() if sensor.period} == dict(export.circles)
