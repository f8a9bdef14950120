"""Two plants in one Dagster: the workspace of the documentation, read by `pwflow status --all`."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner

from pwflow_core.errors import ConfigurationError
from pwflow_dagster.cli import main
from pwflow_dagster.workspace import read_plants
from tests.dagster.conftest import CONFIG, copy_plant
from tests.processes import REPOSITORY

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "several-plants.md").read_text(encoding="utf-8")


def example(language: str) -> str:
    """Return the worked example of the page."""
    [block] = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return block


@pytest.fixture
def two_plants(finished, tmp_path: Path, monkeypatch) -> Path:
    """A folder with the workspace of the page, a plant that was run, and one that was not."""
    (tmp_path / "workspace.yaml").write_text(example("yaml"))
    for name in ("press_shop", "mill"):
        (tmp_path / f"{name}.py").write_text(example("py").replace("press-shop", name))
        (tmp_path / name).mkdir()
        (tmp_path / name / "pwflow.toml").write_text(CONFIG.replace('"small"', f'"{name}"'))
    (tmp_path / "press_shop" / "pwflow.toml").unlink()
    (tmp_path / "press_shop").rmdir()
    copy_plant(finished, tmp_path / "press_shop")
    (tmp_path / "press_shop" / "pwflow.toml").write_text(CONFIG.replace('"small"', '"press_shop"'))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.delenv("PWFLOW_CONFIG", raising=False)
    return tmp_path


def test_the_status_of_all_plants_says_how_each_is_also_where_one_cannot_be_read(two_plants):
    done = CliRunner().invoke(main, ["status", "--all"])
    assert done.exit_code == 1, done.output
    assert re.search(r"Plant press_shop\n  decide      [\d,]+ cases?, 0 verdicts on drift", done.stdout)
    assert re.search(r"last day    2026-01-07: 4,320 readings", done.stdout)
    assert re.search(
        r"Plant mill\n  cannot be read: There is no warehouse at .*/mill/warehouse.duckdb yet", done.stdout
    )
    plants = json.loads(CliRunner().invoke(main, ["status", "--all", "--json"]).stdout)["plants"]
    assert [(plant["plant"], plant["status"] is not None) for plant in plants] == [
        ("press_shop", True),
        ("mill", False),
    ]


def test_dagster_reads_the_same_workspace(two_plants):
    from dagster._core.workspace.load import location_origins_from_yaml_paths

    origins = location_origins_from_yaml_paths([str(two_plants / "workspace.yaml")])
    plants = [plant.name for plant in read_plants()]
    assert plants == ["press_shop", "mill"] == [origin.location_name for origin in origins]


def test_a_plant_that_cannot_be_loaded_is_named_and_the_others_are_shown(two_plants):
    (two_plants / "mill" / "pwflow.toml").write_text("[plant\n")
    (two_plants / "broken.py").write_text("1 / 0")
    with (two_plants / "workspace.yaml").open("a") as file:
        file.write("  - python_file: broken.py\n  - grpc_server: {port: 4000, location_name: far}\n")
    done = CliRunner().invoke(main, ["status", "--all"])
    assert done.exit_code == 1
    assert "Plant press_shop\n  decide " in done.stdout
    assert re.search(r"Plant mill\n  cannot be read: .*mill/pwflow\.toml is not valid TOML: .* line 1", done.stdout)
    assert "Plant broken.py\n  cannot be read: The code location broken.py cannot be loaded: ZeroDiv" in done.stdout
    assert "Plant far\n  cannot be read: Expected a location of kind python_file or python_module, got" in done.stdout
    plants = json.loads(CliRunner().invoke(main, ["status", "--all", "--json"]).stdout)["plants"]
    assert [plant["error"] is None for plant in plants] == [True, False, False, False]


@pytest.mark.quick
@pytest.mark.parametrize("text", ["", "load_from:", "load_from: []", "[]", "load_from: 3"])
def test_a_workspace_without_a_location_is_refused(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("workspace.yaml").write_text(text)
    done = CliRunner().invoke(main, ["status", "--all"])
    assert done.exit_code == 1
    assert (
        "Expected workspace.yaml to list code locations below load_from, as Dagster reads it, got none" in done.output
    )


@pytest.mark.quick
def test_the_workspace_of_the_repository_loads_one_plant(monkeypatch):
    monkeypatch.delenv("PWFLOW_CONFIG", raising=False)
    [plant] = read_plants(REPOSITORY / "workspace.yaml")
    assert plant.error is None


def test_a_workspace_that_cannot_be_used_says_why(two_plants):
    with pytest.raises(ConfigurationError, match=r"nowhere\.yaml to list code locations"):
        read_plants(Path("nowhere.yaml"))
    (two_plants / "mill.py").write_text("defs = None")
    assert re.search(r"Expected definitions of a pwflow plant as `defs` in .*mill\.py", read_plants()[1].error)
    (two_plants / "mill.py").write_text((two_plants / "press_shop.py").read_text())
    first, second = read_plants()
    assert first.error is None
    assert "a plant called 'press_shop' too" in second.error


def test_the_ui_of_several_plants_needs_a_home_that_they_share(two_plants, monkeypatch):
    refused = CliRunner().invoke(main, ["ui", "--workspace", "workspace.yaml"])
    assert refused.exit_code == 1
    assert re.search(
        r"Expected DAGSTER_HOME to be the full path .* got none: set it, such as DAGSTER_HOME=/", refused.output
    )
    both = CliRunner().invoke(main, ["ui", "--workspace", "workspace.yaml", "--config", "mill/pwflow.toml"])
    assert "one of --config, for one plant, and --workspace, for all" in both.output
    started = []
    monkeypatch.setenv("DAGSTER_HOME", str(two_plants / "shared"))
    monkeypatch.setattr("os.execv", lambda program, command: started.append(command))
    done = CliRunner().invoke(main, ["ui", "--workspace", "workspace.yaml", "--port", "3456"])
    assert done.exit_code == 0, done.output
    assert started[0][-6:] == ["-w", "workspace.yaml", "--host", "127.0.0.1", "--port", "3456"]
    assert "freshness" in (two_plants / "shared" / "dagster.yaml").read_text()


def test_the_union_shows_the_tables_of_all_plants_as_they_are_when_it_is_asked(two_plants, finished):
    alone = CliRunner().invoke(main, ["union", "all.duckdb"])
    assert alone.exit_code == 1
    assert "left out    mill: has published nothing yet" in alone.output
    shutil.rmtree(two_plants / "mill")
    copy_plant(finished, two_plants / "mill")
    (two_plants / "mill" / "pwflow.toml").write_text(CONFIG.replace('"small"', '"mill"'))
    done = CliRunner().invoke(main, ["union", "all.duckdb", "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert list(said["plants"]) == ["press_shop", "mill"]
    manifest = json.loads((two_plants / "all.duckdb.json").read_text())
    assert (manifest["tables"], manifest["left_out"]) == (said["tables"], [])
    with (
        duckdb.connect("all.duckdb", read_only=True) as union,
        duckdb.connect("mill/published.duckdb", read_only=True) as mill,
    ):
        for table in said["tables"]:
            rows = dict(union.execute(f"SELECT plant_name, count(*) FROM mart.{table} GROUP BY ALL").fetchall())
            [(n,)] = mill.execute(f"SELECT count(*) FROM mart.{table}").fetchall()
            assert rows == ({"press_shop": n, "mill": n} if n else {}), table
        [(before,)] = union.execute("SELECT count(*) FROM mart.readings").fetchall()
        for file in sorted((two_plants / "mill" / "published" / "readings").rglob("*.parquet"))[1:]:
            file.unlink()
        [(after,)] = union.execute("SELECT count(*) FROM mart.readings").fetchall()
        assert after < before


def test_a_union_is_not_written_over_what_a_plant_publishes(two_plants):
    before = (two_plants / "press_shop" / "published.duckdb").read_bytes()
    refused = CliRunner().invoke(main, ["union", "press_shop/published.duckdb"])
    assert refused.exit_code == 1
    assert "is what a plant publishes: give the union a name of its own" in refused.output
    assert (two_plants / "press_shop" / "published.duckdb").read_bytes() == before
