"""The whole comparison on tiny data, and what goes wrong with a user's own."""

import csv

import numpy as np
import pandas as pd
import pytest

from pwflow_core.benchmarking import BenchmarkData, from_file, from_target, render_table, run_benchmark, write_csv
from pwflow_core.benchmarking.models import MODEL_TITLES, build_model, step_limit
from pwflow_core.benchmarking.worker import measure, reach
from pwflow_core.errors import ConfigurationError, SourceError


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"hour": range(1500), "load": rng.normal(size=1500), "name": "a", "still": 7.0})
    table["heat"] = table["load"] ** 2 + rng.normal(size=1500)
    table.loc[10:19, "heat"] = None
    path = tmp_path_factory.mktemp("bench") / "rows.csv"
    table.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("name", MODEL_TITLES)
def test_every_model_is_measured_in_full(name):
    found = measure(from_target("two_moons", 300), name, 0, max_steps=32)
    assert found["non_finite"] == 0
    assert found["kl"] > -0.02
    assert found["rows_per_second"] > 1000
    assert found["peak_memory_mb"] >= found["memory_before_mb"] > 50
    assert found["n_parameters"] > 5


@pytest.mark.long
def test_models_are_run_one_by_one_and_say_how_soon_they_match_the_single_flow():
    data, lines = from_target("two_moons", 300), []
    results = run_benchmark(data, ["gmm", "single", "piecewise"], max_steps=32, on_progress=lines.append)
    assert [r.model for r in results] == ["gmm", "single", "piecewise"]
    assert [r.error for r in results] == ["", "", ""]
    single = results[1]
    assert single.seconds_to_reach == single.train_cpu_seconds
    for result in results:
        assert (result.seconds_to_reach is not None) == (result.held_out >= single.held_out)
    table = render_table(data, results)
    assert all(MODEL_TITLES[r.model] in table for r in results)
    assert len(lines) >= 2 * len(results)


def test_own_data_keep_numeric_columns_that_change_and_complete_rows(file):
    data = from_file(file, 10_000)
    assert data.columns == ("hour", "load", "heat")
    assert len(data.train) + len(data.test) == 1490
    assert not set(map(tuple, data.train)) & set(map(tuple, data.test))


def test_held_out_rows_are_contiguous_blocks(file):
    data = from_file(file, 10_000, columns=["hour", "load"])
    for block in np.unique(data.block):
        hours = data.test[data.block == block][:, 0]
        assert np.array_equal(hours, np.arange(hours[0], hours[0] + len(hours)))


def test_rows_are_thinned_evenly(file):
    data = from_file(file, 300)
    assert len(data.train) + len(data.test) == 300
    assert max(data.train[:, 0].max(), data.test[:, 0].max()) == 1499


def test_data_survive_the_way_to_the_worker(file, tmp_path):
    data = from_file(file, 500)
    data.save(tmp_path / "data.npz")
    again = BenchmarkData.load(tmp_path / "data.npz")
    assert (again.name, again.columns, again.target) == (data.name, data.columns, data.target)
    for part in ("train", "test", "block"):
        assert np.array_equal(getattr(again, part), getattr(data, part))


def test_a_model_that_fails_is_named_and_the_others_go_on(monkeypatch):
    rows = np.random.default_rng(0).normal(size=(400, 2))
    rows[5, 1] = np.nan  # cannot come from `from_file`, so the failure is the worker's
    data = BenchmarkData("holes", ("a", "b"), rows, rows[:100][6:], np.arange(94))
    results = run_benchmark(data, ["gmm"])
    assert "NaN" in results[0].error
    assert "Gaussian mixture, K by BIC failed: " in render_table(data, results)


def test_csv_holds_every_figure(tmp_path):
    data = from_target("circle_of_gaussians", 300)
    results = run_benchmark(data, ["gmm"])
    write_csv(tmp_path / "table.csv", data, results)
    with (tmp_path / "table.csv").open() as opened:
        (row,) = csv.DictReader(opened)
    assert row["model"] == "gmm"
    assert row["train_rows"] == "300"
    assert float(row["held_out"]) == results[0].held_out


def test_a_goal_that_is_easy_is_reached_soon_and_one_out_of_reach_never():
    data = from_target("two_moons", 300)
    assert reach(data, "gmm", 0, -50.0)["seconds_to_reach"] > 0
    assert reach(data, "gmm", 0, 50.0)["seconds_to_reach"] is None


@pytest.mark.parametrize("name", MODEL_TITLES)
def test_a_step_limit_changes_nothing_else(name):
    limited, full = build_model(name, 3, 100).get_params(), build_model(name, 3).get_params()
    assert {k for k in full if limited[k] != full[k]} <= {"flow"}
    assert step_limit(name) == 0 if name == "gmm" else step_limit(name) > 100


def test_mistakes_end_in_one_sentence(tmp_path, file):
    with pytest.raises(SourceError, match="There is no file"):
        from_file(tmp_path / "nothing.csv", 1000)
    with pytest.raises(SourceError, match=r"Expected numeric columns .* got 'name'"):
        from_file(file, 1000, columns=["name"])
    (tmp_path / "broken.parquet").write_bytes(b"no parquet")
    with pytest.raises(SourceError, match="cannot be read"):
        from_file(tmp_path / "broken.parquet", 1000)
    (tmp_path / "short.csv").write_text("a,b\n1,2\n3,4\n")
    with pytest.raises(SourceError, match="Expected at least 200 complete rows"):
        from_file(tmp_path / "short.csv", 1000)
    with pytest.raises(ConfigurationError, match="Expected a target among"):
        from_target("three_moons", 1000)
    with pytest.raises(ConfigurationError, match="Expected models among"):
        run_benchmark(from_target("two_moons", 300), ["gmmm"])
