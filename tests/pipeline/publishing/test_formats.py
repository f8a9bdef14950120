"""Published for everybody: a file that readers of other releases open, and Parquet that is never half of a version."""

import json
import os
import re
import shutil
import subprocess
import threading
from datetime import date

import duckdb
import polars as pl
import pytest

from pwflow_core.errors import ConfigurationError
from pwflow_core.pipeline.publishing import parquet
from pwflow_core.pipeline.publishing.publishing import publish_warehouse
from pwflow_core.pipeline.scoring.contributions import explain_anomalies
from pwflow_core.pipeline.scoring.events import derive_events
from pwflow_core.warehouse import PUBLIC_TABLES
from tests.conftest import plant_readings, put_file, query, read_all, score_all
from tests.pipeline.publishing.conftest import OLD_RELEASE
from tests.processes import REPOSITORY

ASK = """
import duckdb, json, sys
path, queries = sys.argv[1], json.loads(sys.argv[2])
with duckdb.connect(path, read_only=True) as connection:
    for query in queries:
        connection.execute(query).fetchall()
    print(duckdb.__version__, *connection.execute(
        "SELECT count(*), count(DISTINCT machine_id) FROM mart.anomaly_scores").fetchone(),
        connection.execute("SELECT comment FROM duckdb_columns() WHERE column_name = 'p_value'").fetchone()[0][:5])
"""
READ = """
import json, sys
from pathlib import Path
import pyarrow.parquet
folders = [folder for folder in Path(sys.argv[1]).iterdir() if folder.is_dir()]
found = {folder.name: pyarrow.parquet.read_table(folder).num_rows for folder in folders}
print(json.dumps(found))
"""
SQL = re.findall(r"```sql\n(.*?)```", (REPOSITORY / "README.md").read_text(encoding="utf-8"), re.DOTALL)


def files(folder):
    return {str(path.relative_to(folder)): path.stat().st_ino for path in folder.rglob("*.parquet")}


@pytest.mark.long(reason="15 CPU s and a download: the storage format is named in one line of publishing.py")
@pytest.mark.parametrize("release", [OLD_RELEASE, "1.5.5", "2.0.1"])
def test_duckdb_since_early_2025_opens_the_published_file_and_runs_the_queries_of_the_readme(
    trained_plant, python_with, release
):
    publish_warehouse(trained_plant)
    command = [python_with(f"duckdb=={release}"), "-c", ASK, trained_plant.config.published_path, json.dumps(SQL)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    n_scores, n_machines = query(trained_plant, "SELECT count(*), count(DISTINCT machine_id) FROM mart.anomaly_scores")[
        0
    ]
    assert len(SQL) > 1
    assert done.stdout.split() == [release, str(n_scores), str(n_machines), "Share"]


@pytest.mark.long(reason="10 CPU s and a download: the format is the same for all, and Polars reads it at each push")
def test_pyarrow_reads_all_tables(trained_plant, python_with):
    summary = publish_warehouse(trained_plant)
    command = [python_with("pyarrow"), "-c", READ, summary.parquet]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == summary.n_rows


def test_the_parquet_files_hold_the_tables_as_they_are(trained_plant):
    summary = publish_warehouse(trained_plant)
    for table, n_rows in summary.n_rows.items():
        found = summary.parquet / table
        with duckdb.connect() as connection:
            read = f"read_parquet('{found}/**/*.parquet', hive_partitioning = false)"
            count, total = connection.execute(f"SELECT count(*), sum(hash(t)) FROM {read} AS t").fetchone()
            connection.execute(f"ATTACH '{summary.path}' AS published (READ_ONLY)")
            expected = connection.execute(f"SELECT sum(hash(t)) FROM published.mart.{table} AS t").fetchone()[0]
        assert (count, total) == (n_rows, expected), table
    days = {path.name for path in (summary.parquet / "readings").iterdir()}
    in_table = query(trained_plant, "SELECT DISTINCT 'day=' || ts::DATE FROM core.readings")
    assert days == {day for (day,) in in_table}


def test_polars_finds_one_day_by_the_names_of_the_folders(trained_plant):
    summary = publish_warehouse(trained_plant)
    [(day, count)] = query(
        trained_plant, "SELECT ts::DATE, count(*) FROM mart.anomaly_scores GROUP BY 1 ORDER BY 1 LIMIT 1"
    )
    scores = pl.scan_parquet(summary.parquet / "anomaly_scores")
    assert scores.filter(pl.col("day") == day).collect().height == count


def test_a_night_writes_the_days_that_changed_and_takes_over_the_others(trained_plant):
    folder = publish_warehouse(trained_plant).parquet
    before = files(folder / "anomaly_scores")
    put_file(trained_plant.config.folder / "data" / "night.csv", plant_readings(30, seed=7, start="2024-04-01"))
    read_all(trained_plant)
    score_all(trained_plant)
    publish_warehouse(trained_plant)
    after = files(folder / "anomaly_scores")
    new = {name for name, inode in after.items() if before.get(name) != inode}
    assert before.keys() < after.keys()
    assert {name.split("/")[0] for name in new} == {f"day={date(2024, 4, 1)}"}


def test_a_reader_of_the_version_before_is_not_disturbed(trained_plant):
    folder = publish_warehouse(trained_plant).parquet
    held = folder.resolve()
    before = {name: (held / name).read_bytes() for name in files(held)}
    publish_warehouse(trained_plant)
    assert folder.resolve() != held
    assert {name: (held / name).read_bytes() for name in files(held)} == before
    publish_warehouse(trained_plant)
    assert not held.exists(), "of earlier versions the last is kept"


def test_a_version_whose_files_were_damaged_or_removed_is_written_again(trained_plant):
    folder = publish_warehouse(trained_plant).parquet
    shutil.rmtree(folder / "anomaly_scores")
    publish_warehouse(trained_plant)
    assert files(folder / "anomaly_scores")
    (folder / "manifest.json").write_text("{")
    publish_warehouse(trained_plant)
    assert files(folder / "anomaly_scores")


def test_without_hard_links_the_files_are_written(trained_plant, monkeypatch):
    folder = publish_warehouse(trained_plant).parquet

    def refuse(*_):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    before = files(folder)
    publish_warehouse(trained_plant)
    assert files(folder).keys() == before.keys()
    assert not set(files(folder).values()) & set(before.values())


def test_a_folder_of_somebody_else_is_not_replaced(trained_plant):
    folder = trained_plant.config.published_folder
    publish_warehouse(trained_plant)
    folder.unlink()
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match="move it away"):
        publish_warehouse(trained_plant)
    assert (folder / "mine.txt").read_text() == "mine"


def test_a_plant_that_was_copied_with_its_links_followed_publishes_again(trained_plant):
    folder = publish_warehouse(trained_plant).parquet
    real = shutil.copytree(folder, folder.with_name("copy"))
    folder.unlink()
    real.rename(folder)
    assert publish_warehouse(trained_plant).parquet.is_symlink()
    assert files(folder)


def test_a_run_that_publishes_waits_for_another_one_and_removes_nothing_of_it(trained_plant, monkeypatch):
    link = publish_warehouse(trained_plant).parquet
    made, finish = threading.Event(), threading.Event()
    swap_in = parquet.swap_in

    def pause(folder, link):
        made.set()
        assert finish.wait(30)
        swap_in(folder, link)

    monkeypatch.setattr("pwflow_core.pipeline.publishing.publishing.swap_in", pause)
    first = threading.Thread(target=publish_warehouse, args=[trained_plant])
    first.start()
    assert made.wait(30)
    monkeypatch.undo()
    second = threading.Thread(target=publish_warehouse, args=[trained_plant])
    second.start()
    second.join(1.0)
    assert second.is_alive(), "it waits"
    finish.set()
    for thread in (first, second):
        thread.join(30)
    assert (link / "manifest.json").is_file()
    assert len(list(parquet._home(link).iterdir())) == 2, "the version in use and the one before"


def all_published(plant) -> dict[str, tuple]:
    """Return how many rows each published table has, in the file and as Parquet, and a sum of their hashes."""
    found = {}
    with duckdb.connect(str(plant.config.published_path), read_only=True) as connection:
        for table in ("readings", *PUBLIC_TABLES):
            files = f"read_parquet('{plant.config.published_folder}/{table}/**/*.parquet', hive_partitioning = false)"
            sums = [
                connection.execute(f"SELECT count(*), sum(hash(t)) FROM {source} AS t").fetchone()
                for source in (f"mart.{table}", files)
            ]
            assert sums[0] == sums[1], table
            found[table] = sums[0]
    return found


@pytest.mark.parametrize(
    "compared",
    [
        "at the end",
        pytest.param("after each night", marks=pytest.mark.long(reason="15 CPU s: the copy of the last night stays")),
    ],
)
def test_days_that_are_written_one_night_after_the_other_end_in_the_copy_of_one_load(trained_plant, compared):
    """A new night, a corrected file, readings of an earlier time: what changed is written, and nothing else."""
    data = trained_plant.config.folder / "data"
    night, other = (plant_readings(60, seed=seed, start=f"2024-04-0{seed - 6} 23:30") for seed in (7, 8))
    nights = [
        ("night.csv", night),
        ("late.csv", plant_readings(30, seed=9, start="2024-02-01")),
        ("night.csv", night.assign(pressure=night.pressure + 5).iloc[:-10]),
        ("other.csv", other),
    ]
    for number, (name, readings) in enumerate(nights, 1):
        put_file(data / name, readings)
        read_all(trained_plant)
        score_all(trained_plant)
        explain_anomalies(trained_plant)
        derive_events(trained_plant)
        publish_warehouse(trained_plant)
        if compared == "at the end" and number < len(nights):
            continue
        one_by_one, size = all_published(trained_plant), trained_plant.config.published_path.stat().st_size
        (trained_plant.config.published_folder / "manifest.json").unlink()
        publish_warehouse(trained_plant)
        assert all_published(trained_plant) == one_by_one
        assert trained_plant.config.published_path.stat().st_size <= size + 2**20
