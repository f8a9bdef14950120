"""`pwflow poc` as a user runs it: on a plant that was never run, on one that was, and by mistake."""

from __future__ import annotations

import json

import duckdb
import pytest
from click.testing import CliRunner

from pwflow_core import poc
from pwflow_core.pipeline.publishing.publishing import publish_warehouse
from pwflow_core.pipeline.publishing.querying import query_published
from pwflow_dagster.cli import main
from tests.conftest import query
from tests.poc.conftest import measure_here


def invoke(*arguments: object):
    return CliRunner().invoke(main, ["poc", *map(str, arguments)])


@pytest.fixture
def few_readings(tmp_path, monkeypatch):
    with duckdb.connect() as connection:
        connection.execute(
            "COPY (SELECT TIMESTAMPTZ '2024-01-01 00:00:00Z' + to_minutes(i) AS ts, sin(i) AS load, cos(3 * i) AS heat "
            f"FROM range(300) AS r(i)) TO '{tmp_path}/few.parquet' (FORMAT parquet)"
        )
    (tmp_path / "pwflow.toml").write_text('[source]\npath = "few.parquet"\ntimestamp = "ts"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PWFLOW_CONFIG", raising=False)
    return tmp_path


def test_a_plant_that_was_never_run_is_read_first_and_too_few_readings_are_said(few_readings):
    shown = invoke("--language", "ja", "--output", "out/poc.html")
    assert shown.exit_code == 0, shown.output
    assert "3,200" in shown.stdout
    assert '<html lang="ja">' in (few_readings / "out" / "poc.html").read_text(encoding="utf-8")


def test_json_is_all_that_stands_on_the_output(few_readings):
    shown = invoke("--json")
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout)["recommendation"] == "too_little_data"
    assert (few_readings / ".pwflow" / "plant-poc-en.html").is_file()


def test_the_comparison_of_a_plant_is_published_with_its_scores(plant, monkeypatch):
    monkeypatch.setattr("pwflow_dagster.cli.modelling.configuration_in_force", lambda _: plant.config)
    whole = poc.prove_plant
    monkeypatch.setattr(
        poc,
        "prove_plant",
        lambda *a, **k: whole(*a, **k, rivals=["gaussian"], rows=1000, max_steps=20, run=measure_here),
    )
    shown = invoke("--regimes", "1")
    assert shown.exit_code == 0, shown.output
    assert "one Gaussian" in shown.stdout
    [(n_faults,)] = query(plant.plant, "SELECT DISTINCT n_faults FROM mart.model_comparison")
    assert n_faults > 0
    publish_warehouse(plant.plant)
    rows = query_published(plant.config, "SELECT model, is_recommended FROM mart.model_comparison ORDER BY model")
    assert rows["model"].to_list() == ["gaussian", "pwflow_1"]
    assert rows["is_recommended"].sum() == 1


MISTAKES = {
    "no number": (["--regimes", "two"], "Expected numbers such as 1,2,4,8"),
    "no regimes": (["--regimes", ","], "Expected numbers of regimes from 1"),
    "too many regimes": (["--regimes", "1,1000"], "Expected numbers of regimes from 1"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_end_in_one_sentence(mistake, few_readings):
    arguments, sentence = MISTAKES[mistake]
    shown = invoke(*arguments)
    assert shown.exit_code in (1, 2)
    assert sentence in shown.output
    assert "Traceback" not in shown.output
