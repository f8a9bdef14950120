"""A look at the data: read as a run reads them, the plant as it was, and what a run leaves out."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pwflow_core.config import load_config
from pwflow_core.errors import SourceError
from pwflow_core.onboarding import initialise
from pwflow_core.pipeline.using import checking
from pwflow_core.pipeline.using.checking import check_data
from pwflow_core.plant import Plant
from tests.conftest import put_file, query, read_all

REJECTED = "SELECT reason, sensor, count(*) FROM mart.rejected_readings GROUP BY ALL ORDER BY ALL"


def readings(n=600, machine="A", seed=0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "ts": pd.date_range("2024-03-01", periods=n, freq="60s").strftime("%Y-%m-%dT%H:%M:%SZ"),
            "machine": machine,
            "temperature": np.round(rng.normal(20, 1, n), 2),
            "pressure": np.round(rng.normal(3, 0.2, n), 3),
            "setpoint": 5,
            "valve": np.where(np.arange(n) % 200 < 150, 1, 0),
        }
    )


def damaged() -> dict[str, object]:
    one = readings().astype({"temperature": object})
    one.loc[3, "ts"] = "yesterday"
    one.loc[[5, 6, 7, 8], "temperature"] = "No Data"
    return {"a.csv": pd.concat([one, one.iloc[[10]]]), "b.csv": readings(machine="B", seed=1), "c.csv": "\0\0\0"}


def test_it_refuses_what_a_run_refuses(make_plant):
    plant = make_plant(damaged())
    found = check_data(plant)
    assert not plant.warehouse.exists
    read_all(plant)
    told = sorted((row.reason, row.sensor or "", row.n_values) for row in found.data.rejections)
    assert told == sorted((reason, sensor or "", n) for reason, sensor, n in query(plant, REJECTED))
    assert {(reason, n) for reason, _, n in told} == {
        ("unreadable_timestamp", 1),
        ("not_a_number", 4),
        ("duplicate", 1),
    }
    examples = {row.reason: row.example for row in found.data.rejections}
    assert (examples["unreadable_timestamp"], examples["not_a_number"]) == ("yesterday", "No Data")
    assert (found.data.n_files, list(found.data.refused_files)) == (3, ["c.csv"])
    assert found.data.n_readings == query(plant, "SELECT count(*) FROM core.readings")[0][0]
    word = next(doubt for doubt in found.doubts if doubt.kind == "refused_word")
    assert word.values["words"] == '["No Data"]'


def test_the_plant_stays_as_it_was(make_plant, tmp_path, monkeypatch):
    monkeypatch.setattr(checking.tempfile, "gettempdir", lambda: str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    plant = make_plant({"a.csv": readings()})
    read_all(plant)
    put_file(tmp_path / "data" / "b.csv", readings(machine="B"))
    before = {
        path: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(tmp_path.rglob("*")) if path.is_file()
    }
    assert [machine.machine_id for machine in check_data(plant).data.machines] == ["A", "B"]
    after = {
        path: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(tmp_path.rglob("*")) if path.is_file()
    }
    assert after == before
    assert list((tmp_path / "scratch").iterdir()) == []


def test_channels_that_a_run_leaves_out_are_watched_all_the_same(make_plant):
    moved = readings(machine="B", seed=1)
    moved.loc[400:, "setpoint"] = 6
    found = check_data(make_plant({"a.csv": readings(), "b.csv": moved}))
    left_out = {one.column: one.seen for one in found.left_out}
    assert {name: seen.kind for name, seen in left_out.items()} == {"setpoint": "states", "valve": "binary"}
    assert (left_out["setpoint"].n_changes, left_out["valve"].n_changes) == (1, 10)
    assert left_out["setpoint"].n_values == 1200
    doubts = [(doubt.kind, doubt.about) for doubt in found.doubts]
    assert ("left_out_changed", "valve") in doubts
    assert {sensor.sensor for sensor in found.data.sensors} == {"temperature", "pressure"}


def test_what_a_run_settled_stays_settled(make_plant, tmp_path):
    plant = make_plant({"a.csv": readings()}, sensors={}, source={"timestamp": None})
    read_all(plant)
    put_file(tmp_path / "data" / "b.csv", readings(machine="B").assign(setpoint=np.arange(600) % 7 * 0.3))
    found = {sensor.sensor for sensor in check_data(plant).data.sensors}
    assert found == {"temperature", "pressure", "setpoint", "valve"}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "nothing matches"),
        ({"a.csv": readings().assign(ts="never")}, "Expected timestamps in column 'ts', got 'never'"),
        ({"a.csv": "\0\0\0"}, "None of the 1 files of the source could be read"),
    ],
)
def test_what_cannot_be_looked_at_is_said(make_plant, files, message):
    with pytest.raises(SourceError, match=message):
        check_data(make_plant(files))


def long_rows() -> str:
    wide = readings(300)
    lines = ["time,tag,value"]
    for row in wide.itertuples():
        lines += [f"{row.ts},Line1.Temp,{row.temperature}", f"{row.ts},Line1.Press,{row.pressure}"]
        lines += [f"{row.ts},Line1.Set,5"]
    return "\n".join(lines) + "\n"


def german() -> str:
    lines = ["Zeit;Druck [bar];Temp [°C]"]
    lines += [
        f"{pd.Timestamp(row.ts):%d.%m.%Y %H:%M:%S};{str(row.pressure).replace('.', ',')};"
        f"{str(row.temperature).replace('.', ',')}"
        for row in readings(300).itertuples()
    ]
    return "\n".join(lines) + "\n"


def with_sentinels() -> str:
    made = readings(300)
    made.loc[made.index % 50 == 3, "temperature"] = -9999
    return made.drop(columns=["setpoint", "valve"]).to_csv(index=False)


@pytest.mark.parametrize(
    ("spelling", "kinds"),
    [
        (long_rows, ["constant", "measurement", "measurement"]),
        (german, 2 * ["measurement"]),
        (with_sentinels, 2 * ["measurement"]),
    ],
)
def test_a_newcomer_gets_it_after_init(tmp_path, spelling, kinds):
    put_file(tmp_path / "exports" / "a.csv", spelling())
    initialise(tmp_path / "exports", tmp_path / "pwflow.toml")
    found = check_data(Plant.open(load_config(tmp_path / "pwflow.toml")))
    assert found.data.n_readings == 300
    assert sorted(sensor.kind for sensor in found.data.sensors) == kinds
    assert not any(one.seen for one in found.left_out)
    [machine] = found.data.machines
    assert (machine.interval_seconds, machine.n_gaps) == (60, 0)
    assert all(sensor.lowest > 0 for sensor in found.data.sensors)


def test_a_query_is_looked_at_too(make_plant, tmp_path):
    put_file(Path(tmp_path) / "a.csv", readings())
    query_text = f"SELECT * FROM read_csv('{tmp_path}/a.csv')"
    found = check_data(make_plant(source={"path": None, "sql": query_text}))
    assert found.data.n_readings == 600
    assert {one.column for one in found.left_out} == {"setpoint", "valve"}
