"""SQL of analysts: it reads the published tables and can do nothing else, and it ends."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from pwflow_core.errors import QueryError
from pwflow_core.pipeline.publishing import publishing
from pwflow_core.pipeline.publishing.querying import query_published
from tests.conftest import reopen
from tests.faults.conftest import open_copy
from tests.processes import REPOSITORY

HOSTILE = {
    "writes": [
        "DELETE FROM mart.anomaly_scores",
        "UPDATE mart.clusters SET weight = 1",
        "INSERT INTO mart.clusters (cluster_key) VALUES ('c9999')",
        "DROP TABLE mart.anomaly_scores",
        "CREATE TABLE mart.mine (i INTEGER)",
        "CREATE VIEW mart.mine AS SELECT 1",
        "ALTER TABLE mart.clusters ADD COLUMN mine INTEGER",
        "COMMENT ON TABLE mart.clusters IS 'mine'",
        "WITH one AS (SELECT 1) INSERT INTO mart.clusters (cluster_key) FROM one",
    ],
    "writes files": [
        "COPY mart.clusters TO '{folder}/out.csv'",
        "COPY (SELECT 1) TO '{folder}/out.parquet' (FORMAT parquet)",
        "EXPORT DATABASE '{folder}/out'",
        "PRAGMA profiling_output = '{folder}/out.json'",
    ],
    "reads files": [
        "SELECT * FROM read_csv('{secret}')",
        "SELECT * FROM read_text('{secret}')",
        "SELECT * FROM read_blob('/etc/passwd')",
        "SELECT * FROM '{secret}'",
        "SELECT * FROM glob('{folder}/*')",
        "SELECT * FROM read_parquet('{folder}/*.parquet')",
        "SELECT * FROM parquet_metadata('{secret}')",
        "SELECT * FROM sniff_csv('{secret}')",
        "COPY mart.clusters FROM '{secret}'",
        "IMPORT DATABASE '{folder}'",
        "SELECT getenv('HOME')",
    ],
    "attaches and loads": [
        "ATTACH '{warehouse}' AS w",
        "ATTACH ':memory:' AS m",
        "INSTALL httpfs",
        "LOAD httpfs",
        "LOAD '{folder}/evil.duckdb_extension'",
        "CREATE SECRET s (TYPE s3, KEY_ID 'a', SECRET 'b')",
    ],
    "changes settings": [
        "SET enable_external_access = true",
        "SET memory_limit = '100GB'",
        "SET lock_configuration = false",
        "RESET enable_external_access",
        "SET temp_directory = '{folder}'",
        "PRAGMA enable_external_access = true",
        "SET python_enable_replacements = true",
    ],
    "reads this program": ["SELECT * FROM config", "SELECT * FROM frame_of_this_test"],
    "hides behind another": ["SELECT 1; DROP TABLE mart.clusters", "EXPLAIN ANALYZE DELETE FROM mart.clusters"],
}


@pytest.mark.parametrize(("kind", "statement"), [(kind, one) for kind, some in HOSTILE.items() for one in some])
def test_a_query_that_does_anything_but_read_is_refused_and_changes_nothing(
    published_plant, monkeypatch, kind, statement
):
    plant, folder = published_plant
    # where DuckDB looks for variables: in the function that hands it the query, and in the module of that
    monkeypatch.setattr(publishing, "frame_of_this_test", pd.DataFrame({"secret": ["hunter2"]}), raising=False)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    content = plant.config.published_path.read_bytes()
    filled = statement.format(folder=folder, secret=folder / "secret.csv", warehouse=plant.warehouse.path)
    with pytest.raises(QueryError) as refused:
        query_published(plant.config, filled, timeout_seconds=20)
    assert "hunter2" not in str(refused.value)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert plant.config.published_path.read_bytes() == content


@pytest.fixture(scope="module")
def published_plant(_trained_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("analyst") / "plant"
    shutil.copytree(_trained_folder, folder)
    (folder / "secret.csv").write_text("password\nhunter2\n")
    return open_copy(folder), folder


NEVER_END = [
    "WITH RECURSIVE t AS (SELECT 1 AS i UNION ALL SELECT i FROM t) SELECT count(*) FROM t",
    "SELECT max(hash(a.reading_id, b.reading_id, c.reading_id)) FROM mart.readings a, mart.readings b, mart.readings c",
    "SELECT count(*) FROM range(1000000000000) WHERE hash(range) = 1",
]


@pytest.mark.parametrize("query", NEVER_END, ids=["recursion", "product", "range"])
def test_a_query_that_never_ends_is_stopped(published_plant, query):
    started = time.monotonic()
    with pytest.raises(QueryError, match=r"stopped after 1 s.*--timeout"):
        query_published(published_plant[0].config, query, timeout_seconds=1)
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(
    "query",
    [
        "SELECT range AS i, repeat('x', 100) AS text FROM range(100000000)",
        "SELECT list(range) FROM range(500000000)",
        "SELECT * FROM range(300000000) ORDER BY hash(range)",
    ],
    ids=["many rows", "a large list", "a large sort"],
)
def test_a_query_that_takes_too_much_memory_is_refused(trained_plant, query):
    plant = reopen(trained_plant, compute={"memory_limit": "100MB"})
    with pytest.raises(QueryError, match=r"(?i)memory"):
        query_published(plant.config, query, timeout_seconds=60)
    assert not list(Path(plant.config.folder).glob("*.tmp"))


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT length(repeat('x', 4000000000::BIGINT))", "Error: The query cannot be answered"),
        (NEVER_END[0], "Error: The query was stopped after 2 s"),
    ],
    ids=["a large text", "recursion"],
)
def test_the_command_bounds_its_whole_process(published_plant, query, said):
    """DuckDB's own limits do not hold for every function."""
    _, folder = published_plant
    (folder / "pwflow.toml").write_text(
        '[source]\npath = "data/*"\n[warehouse]\nurl = "duckdb:///warehouse.duckdb"\npublished = "published.duckdb"\n'
        '[compute]\nmemory_limit = "200MB"\n'
    )
    ended = subprocess.run(
        [sys.executable, "-m", "pwflow_dagster", "sql", query, "--timeout", "2", "--config", folder / "pwflow.toml"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert said in ended.stderr


def test_a_query_gives_what_duckdb_gives(published_plant):
    plant, _ = published_plant
    query = "SELECT * FROM mart.anomaly_scores ORDER BY reading_id"
    with duckdb.connect(str(plant.config.published_path), read_only=True) as connection:
        expected = connection.execute(query).df()
    found = query_published(plant.config, query)
    assert found.equals(expected)
    assert query_published(plant.config, "SELECT 1 AS one WHERE false").columns.tolist() == ["one"]
