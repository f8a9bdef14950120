"""`pwflow bench` as a user runs it: on a file, on the plant, on a toy target, and by mistake."""

from __future__ import annotations

import duckdb
import pandas as pd
import pytest
from click.testing import CliRunner

from pwflow_dagster.cli import main


def invoke(*arguments: object):
    return CliRunner().invoke(main, ["bench", *map(str, arguments)])


def test_a_file_is_compared_and_written_as_csv(tmp_path):
    rows = pd.DataFrame({"load": range(300), "heat": [(7919 * i) % 101 for i in range(300)], "name": "a"})
    with duckdb.connect() as connection:
        connection.register("rows_frame", rows)
        connection.execute(f"COPY (FROM rows_frame) TO '{tmp_path}/rows.parquet' (FORMAT parquet)")
    shown = invoke(tmp_path / "rows.parquet", "--models", "gmm", "--csv", tmp_path / "table.csv")
    assert shown.exit_code == 0, shown.output
    assert "Columns of rows.parquet: load, heat" in shown.output
    assert "Gaussian mixture, K by BIC" in shown.stdout
    assert pd.read_csv(tmp_path / "table.csv").loc[0, "n_features"] == 2


def test_the_readings_of_a_plant_are_compared(finished, monkeypatch):
    from pwflow_core import benchmarking
    from pwflow_core.benchmarking.running import BenchmarkResult

    monkeypatch.setattr("pwflow_dagster.cli.modelling.configuration_in_force", lambda _: finished.config)
    monkeypatch.setattr(
        benchmarking, "run_benchmark", lambda *_, **__: [BenchmarkResult("gmm")]
    )  # measured in tests/benchmarking
    shown = invoke("--rows", 1000)
    assert shown.exit_code == 0, shown.output
    assert "Columns of small: " in shown.output
    assert "800 training and 200 held-out rows" in shown.stdout


MISTAKES = {
    "no such file": (["nowhere.csv"], "There is no file nowhere.csv"),
    "no such target": (["--target", "three_moons"], "Expected a target among two_moons"),
    "no such model": (["--target", "two_moons", "--models", "gmn"], "Expected models among piecewise"),
    "no run yet": ([], "run `pwflow run` first"),
    "a file and a target": (["x.csv", "--target", "two_moons"], "Give one of FILE, --target and --config"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_end_in_one_sentence(mistake, tmp_path, monkeypatch):
    arguments, sentence = MISTAKES[mistake]
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PWFLOW_CONFIG", raising=False)
    (tmp_path / "pwflow.toml").write_text('[source]\npath = "data/*.csv"\n')
    shown = invoke(*arguments)
    assert shown.exit_code in (1, 2)
    assert sentence in shown.output
    assert "Traceback" not in shown.output
