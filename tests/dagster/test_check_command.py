"""`pwflow check` as people and programs see it: a table that fits, JSON, and mistakes in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from pwflow_dagster.cli import main
from pwflow_dagster.cli.tables import Column, fit_table, text_width

CONFIG = """
[source]
path = "data/*.csv"
timestamp = "ts"
machine = "machine"
[sensors]
temperature = { unit = "°C" }
"the pressure behind the second filter of the line" = { column = "pressure", unit = "bar" }
"温度センサー" = { column = "third" }
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(
        {
            "ts": pd.date_range("2024-03-01", periods=500, freq="60s").strftime("%Y-%m-%dT%H:%M:%SZ"),
            "machine": "A",
            "temperature": np.round(rng.normal(20, 1, 500), 2),
            "pressure": np.round(rng.normal(3, 0.2, 500), 3),
            "third": np.round(rng.normal(7, 0.2, 500), 1),
            "setpoint": 5,
        }
    )
    rows.loc[rows.index % 60 == 0, "temperature"] = -50.0
    rows = rows[(rows.index < 200) | (rows.index > 260)]
    (tmp_path / "data").mkdir()
    rows.to_csv(tmp_path / "data" / "a.csv", index=False)
    (tmp_path / "pwflow.toml").write_text(CONFIG)
    return tmp_path


def invoke(*arguments: str, code: int = 0, columns: int = 100):
    done = CliRunner(env={"COLUMNS": str(columns)}).invoke(main, ["check", *arguments])
    assert done.exit_code == code, done.output
    return done


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_the_table_fits_the_terminal(folder, columns):
    lines = invoke(columns=columns).stdout.splitlines()
    assert max(map(text_width, lines)) <= columns
    text = "\n".join(lines)
    assert "439 in 1 of 1 files, 0 refused" in text
    assert "temperature" in text
    assert "温度センサー" in text
    assert "setpoint" in text
    assert text.index("missing = [-50]") < text.index("setpoint = { state = true }")
    assert ("°C" in text) == (columns > 60)


def test_json_has_the_same_facts_with_zoned_times(folder):
    found = json.loads(invoke("--json").stdout)
    assert list(found) == ["plant", "data", "left_out", "look_at"]
    [machine] = found["data"]["machines"]
    assert machine["machine_id"] == "A"
    assert machine["first"] == "2024-03-01T00:00:00+00:00"
    assert machine["longest_gap_at"].endswith("+00:00")
    assert machine["gap_days"] == ["2024-03-01"]
    assert [sensor["unit"] for sensor in found["data"]["sensors"]] == ["°C", "bar", ""]
    assert found["data"]["sensors"][0]["suspected_missing"] == [{"value": -50.0, "n_values": 8}]
    assert found["left_out"][0]["seen"]["kind"] == "constant"
    assert [one["kind"] for one in found["look_at"]] == ["sentinel", "gaps", "left_out_constant"]
    assert found["look_at"][0]["next"].endswith("add `missing = [-50]` to temperature under [sensors]")


def test_what_it_says_to_write_is_right(folder):
    advised = CONFIG.replace('unit = "°C"', 'unit = "°C", missing = [-50]') + "setpoint = { state = true }\n"
    (folder / "pwflow.toml").write_text(advised)
    found = json.loads(invoke("--json").stdout)
    assert [one["kind"] for one in found["look_at"]] == ["gaps"]
    assert found["left_out"] == []


def test_init_names_it_before_the_next_steps(folder):
    done = CliRunner().invoke(main, ["init", "data", "--yes", "--output", "other.toml"])
    _, _, steps = done.stdout.partition("`pwflow check --config other.toml` shows what a run will read. Next:\n")
    assert steps.splitlines()[0].strip() == "pwflow run --config other.toml"
    made = json.loads(CliRunner().invoke(main, ["init", "data", "--json", "--output", "third.toml"]).stdout)
    assert Path(made["path"]).name == "third.toml"
    assert made["assumptions"]


def test_without_a_configuration_it_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "`pwflow init FILE_OR_FOLDER` writes one" in invoke(code=1).stderr
    error = json.loads(invoke("--json", code=1).stdout)["error"]
    assert (error["kind"], error["exit_code"]) == ("ConfigurationError", 1)


def test_without_files_or_readings_it_says_why(folder):
    (folder / "data" / "a.csv").write_text("ts,machine,temperature,pressure,third\nnever,A,1,2,3\n")
    assert "Expected timestamps in column 'ts', got 'never'" in invoke(code=1).stderr
    (folder / "data" / "a.csv").unlink()
    assert "nothing matches" in invoke(code=1).stderr
    assert json.loads(invoke("--json", code=1).stdout)["error"]["kind"] == "SourceError"


def test_a_table_leaves_out_columns_before_it_cuts_names_short():
    columns = [
        Column("sensor", ["a very long name of a sensor", "温度"], shrinks=True),
        Column("low", ["1.5", "20"], is_number=True),
        Column("less", ["aaaaaaaa", "b"], rank=1),
        Column("least", ["cccccccc", "d"], rank=2),
        Column("none", ["", ""], rank=3),
    ]
    wide = fit_table(columns, 100)
    assert wide[0].split() == ["sensor", "low", "less", "least"]
    assert fit_table(columns, 36)[0].split() == ["sensor", "low", "less"]
    narrow = fit_table(columns, 24, indent=2)
    assert narrow[0].split() == ["sensor", "low"]
    assert narrow[1] == "  a very long name…  1.5"
    assert all(text_width(line) <= 24 for line in narrow)
    assert {text_width(line) for line in narrow} == {24}
