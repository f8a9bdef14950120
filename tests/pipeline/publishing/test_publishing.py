"""Publishing: a read-only copy that is never half, never in the way, and says what its columns mean."""

import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import date

import duckdb
import pandas as pd
import pytest

from pwflow_core.errors import NotFittedError, QueryError, WarehouseDamagedError
from pwflow_core.pipeline.publishing import publishing
from pwflow_core.pipeline.publishing.contents import (
    DAILY,
    Manifest,
    identify,
    read_contents,
    read_manifest,
    write_manifest,
)
from pwflow_core.pipeline.publishing.publishing import publish_warehouse
from pwflow_core.pipeline.publishing.querying import query_published
from pwflow_core.pipeline.source.ingest import ingest_files
from pwflow_core.warehouse import PUBLIC_TABLES
from tests.conftest import learn_all, plant_readings, put_file, query, read_all, score_all

QUERY = "SELECT count(*), sum(hash(s)) FROM mart.anomaly_scores s"

KEEPS_OPEN = f"""
import duckdb, sys
connection = duckdb.connect(sys.argv[1], read_only=True)
first = connection.execute({QUERY!r}).fetchall()
print("open", flush=True)
n = 0
import select
while not select.select([sys.stdin], [], [], 0.1)[0]:
    assert connection.execute({QUERY!r}).fetchall() == first
    n += 1
print(n)
"""
OPENS_AFRESH = f"""
import duckdb, select, sys
print("open", flush=True)
n, seen = 0, set()
while not select.select([sys.stdin], [], [], 0.1)[0]:
    with duckdb.connect(sys.argv[1], read_only=True) as connection:
        seen.add(connection.execute({QUERY!r}).fetchone()[0])
        n += 1
print(n, *sorted(seen))
"""


def start(code: str, plant) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(plant.config.published_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "open\n", process.communicate()
    return process


def published(plant, sql: str) -> list[tuple]:
    with duckdb.connect(str(plant.config.published_path), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def test_readers_go_on_while_new_copies_are_published(trained_plant):
    keeps, afresh = start(KEEPS_OPEN, trained_plant), start(OPENS_AFRESH, trained_plant)
    before = published(trained_plant, QUERY)[0][0]
    put_file(trained_plant.config.folder / "data" / "night.csv", plant_readings(30, seed=7, start="2024-04-01"))
    read_all(trained_plant)
    score_all(trained_plant)
    for _ in range(3):
        publish_warehouse(trained_plant)
    after = published(trained_plant, QUERY)[0][0]
    for process in (keeps, afresh):
        out, errors = process.communicate("stop\n", timeout=30)
        assert process.returncode == 0, errors
        n, *seen = map(int, out.split())
        assert n > 5
        assert set(seen) <= {before, after}, "never half a night"
    assert after == before + 60


def as_published(query, table):
    """Return a query on the rows of a table with ids of readings as text."""
    text = f"(SELECT * REPLACE ('R-' || printf('%016x', reading_id) AS reading_id) FROM mart.{table})"
    return query.replace(f"mart.{table}", text) if table in DAILY else query


def test_the_copy_holds_the_public_tables_as_they_are(trained_plant):
    summary = publish_warehouse(trained_plant)
    tables = {name for (name,) in published(trained_plant, "SELECT table_name FROM duckdb_tables()")}
    assert tables == {"readings", *PUBLIC_TABLES} == set(summary.n_rows)
    for table in PUBLIC_TABLES:
        checksum = f"SELECT count(*), sum(hash(t)) FROM mart.{table} AS t"
        assert published(trained_plant, checksum) == query(trained_plant, as_published(checksum, table))
        assert summary.n_rows[table] == query(trained_plant, checksum)[0][0]
    assert summary.size_bytes == trained_plant.config.published_path.stat().st_size


def test_every_table_and_column_of_the_copy_is_described(trained_plant):
    assert published(trained_plant, "SELECT table_name FROM duckdb_tables() WHERE coalesce(comment, '') = ''") == []
    columns = "SELECT table_name, column_name FROM duckdb_columns() WHERE schema_name = 'mart' AND comment IS NULL"
    assert published(trained_plant, columns) == []
    unit = "SELECT comment FROM duckdb_columns() WHERE table_name = 'readings' AND column_name = 'temperature'"
    assert published(trained_plant, unit) == [("Sensor, in °C",)]


def test_nothing_but_the_copy_is_left_in_the_folder(trained_plant):
    publish_warehouse(trained_plant)
    left = {path.name for path in trained_plant.config.folder.iterdir()}
    assert left == {
        ".published.versions",
        "config.json",
        "models",
        "published",
        "published.duckdb",
        "warehouse.duckdb",
        "warehouse.duckdb.ledger",
        "warehouse.duckdb.lock",
    }


def test_publishing_before_scoring_is_an_error_and_leaves_no_file(make_plant):
    plant = make_plant({"a.csv": "ts,machine,temperature,pressure\n2024-01-01,m,1,2\n"})
    ingest_files(plant)
    with pytest.raises(NotFittedError, match="no scores to publish yet"):
        publish_warehouse(plant)
    assert not plant.config.published_path.exists()
    assert not list(plant.config.folder.glob(".publishing-*"))


def spoil(path, statement) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute(statement)


def test_a_copy_that_does_not_hold_what_the_warehouse_holds_is_written_from_nothing(trained_plant):
    """Also where no day changed: the whole copy is compared."""
    folder, target = publish_warehouse(trained_plant).parquet, trained_plant.config.published_path
    spoil(
        target,
        "UPDATE mart.anomaly_scores SET p_value = 2 WHERE reading_id = (SELECT min(reading_id) FROM mart.readings)",
    )
    write_manifest(folder, replace(read_manifest(folder), file=identify(target)))
    publish_warehouse(trained_plant)
    checksum = "SELECT count(*), sum(hash(t)) FROM mart.anomaly_scores AS t"
    assert published(trained_plant, checksum) == query(trained_plant, as_published(checksum, "anomaly_scores"))


def test_a_copy_that_lost_a_row_while_it_was_written_does_not_take_the_place_of_the_one_in_use(
    trained_plant, monkeypatch
):
    publish_warehouse(trained_plant)
    before, write_tables = trained_plant.config.published_path.read_bytes(), publishing._write_tables

    def lose_a_row(connection, contents, fresh):
        write_tables(connection, contents, fresh)
        connection.execute("DELETE FROM published.mart.flow_versions WHERE cluster_key = 'c0001'")

    monkeypatch.setattr(publishing, "_write_tables", lose_a_row)
    with pytest.raises(WarehouseDamagedError, match="Nothing was published"):
        publish_warehouse(trained_plant)
    assert trained_plant.config.published_path.read_bytes() == before


def test_a_day_that_is_gone_goes_from_the_copy(trained_plant):
    """The warehouse was put back to a backup from before a night that had been published."""
    plant, warehouse = trained_plant, trained_plant.warehouse
    backup = {path: path.read_bytes() for path in (warehouse.path, warehouse.ledger_path)}
    put_file(plant.config.folder / "data" / "night.csv", plant_readings(30, seed=7, start="2024-04-01"))
    read_all(plant)
    score_all(plant)
    publish_warehouse(plant)
    for path, content in backup.items():
        path.write_bytes(content)
    with warehouse.snapshot() as connection:
        changed = read_contents(connection, read_manifest(plant.config.published_folder)).changed
    assert date(2024, 4, 1) in changed
    summary = publish_warehouse(plant)
    assert published(plant, "SELECT max(ts) < '2024-04-01' FROM mart.readings") == [(True,)]
    assert not (summary.parquet / "anomaly_scores" / "day=2024-04-01").exists()


def test_each_view_is_computed_once_for_a_copy(trained_plant):
    views = query(
        trained_plant,
        "SELECT view_name FROM duckdb_views() WHERE schema_name = 'mart' AND list_contains($1, view_name)",
        list(PUBLIC_TABLES),
    )
    assert ("regimes",) in views
    with trained_plant.warehouse.snapshot() as connection:
        contents = read_contents(connection, Manifest())
        for (view,) in views:
            plan = connection.execute(f"EXPLAIN {contents.sources[view]}").fetchall()[0][1]
            assert plan.count("Table: ") == plan.count(f"computed_{view}") == 1, plan


def test_what_a_run_that_failed_left_attached_is_not_in_the_way(trained_plant, tmp_path):
    with trained_plant.warehouse.snapshot() as connection:
        contents = read_contents(connection, Manifest())
        for name in ("failed.duckdb", "next.duckdb"):
            publishing._write_tables(connection, contents, tmp_path / name)
            connection.commit()
        databases = "SELECT path FROM duckdb_databases() WHERE database_name = 'published'"
        assert connection.execute(databases).fetchall() == [(str(tmp_path / "next.duckdb"),)]


def test_a_copy_that_is_mostly_free_blocks_is_not_compact(tmp_path):
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{tmp_path / 'copy.duckdb'}' AS published")
        connection.execute("CREATE TABLE published.t AS SELECT random() AS value FROM range(1_000_000)")
        assert publishing._is_compact(connection)
        connection.execute("CREATE OR REPLACE TABLE published.t AS SELECT 1 AS value")
        assert not publishing._is_compact(connection)


def test_sensors_with_hostile_names_go_the_whole_way(make_plant):
    names = {"temperature": "it's; DROP TABLE x", "pressure": 'a "b" /*now*/ $now'}
    readings = plant_readings(400).rename(columns=names)
    plant = make_plant(
        {"a.parquet": readings}, sensors={name: {} for name in names.values()}, clustering={"n_clusters": 1},
        flow={"min_rows": 10_000},
    )  # fmt: skip
    read_all(plant)
    learn_all(plant)
    publish_warehouse(plant)
    with duckdb.connect(str(plant.config.published_path), read_only=True) as connection:
        table = connection.execute("SELECT * FROM mart.readings ORDER BY machine_id, ts").df()
    expected = readings.sort_values(["machine", "ts"])
    for name in names.values():
        pd.testing.assert_series_equal(table[name], expected[name].reset_index(drop=True))


REFUSALS = {
    "SELEC 1": 'syntax error near "SELEC"',
    "SELECT * FROM nosuch": "there is no table nosuch; there are mart.alarm_log, mart.alarm_precision",
    "SELECT * FROM anomaly_scores": "there is no table anomaly_scores; write mart.anomaly_scores.",
    "SELECT machin FROM mart.readings": 'there is no column machin; did you mean "machine_id"',
    "DELETE FROM mart.readings": "the published tables are read-only; ask with SELECT.",
    "COPY (SELECT 1) TO 'out.csv'": "it can read the published tables and nothing else",
    "SET memory_limit = '1TB'": "it can read the published tables and nothing else",
    "SELECT 'a'::INTEGER": "could not convert string 'a' to INT32.",
    "SELECT error('')": "DuckDB gives no reason.",
    "BEGIN; SELECT * FROM nosuch": "there is no table nosuch; there are mart.alarm_log",
    "": "Expected a query such as SELECT",
}


@pytest.mark.parametrize("text", REFUSALS)
def test_a_query_that_cannot_be_answered_is_refused_in_one_line_that_says_why(trained_plant, text):
    with pytest.raises(QueryError) as refused:
        query_published(trained_plant.config, text)
    assert REFUSALS[text] in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "Error: " not in str(refused.value)


@pytest.mark.parametrize("fails", [True, False], ids=["its head does not fit", "its head fits"])
def test_a_query_that_opens_the_copy_while_another_takes_its_place_is_answered_from_the_new_one(
    trained_plant, monkeypatch, fails
):
    """DuckDB reads the head of the one and opens the other, which fails or does not."""
    connect, target = duckdb.connect, trained_plant.config.published_path
    fresh = target.with_name("fresh.duckdb")
    shutil.copy(target, fresh)
    with connect(str(fresh)) as connection:
        connection.execute("CREATE TABLE mart.new AS SELECT 'new' AS state")
    opened = []

    def connect_late(*arguments, **options):
        opened.append(target.stat().st_ino)
        if len(opened) > 1:
            return connect(*arguments, **options)
        old = None if fails else connect(*arguments, **options)
        fresh.replace(target)
        if fails:
            raise duckdb.IOException("IO Error: No more data remaining in MetadataReader")
        return old

    monkeypatch.setattr(duckdb, "connect", connect_late)
    assert query_published(trained_plant.config, "SELECT state FROM mart.new").state.tolist() == ["new"]
    assert len(opened) == 2


def test_a_copy_that_cannot_be_opened_is_tried_once(trained_plant, monkeypatch):
    opened = []

    def fail(*_, **__):
        opened.append(1)
        raise duckdb.IOException("IO Error: no")

    monkeypatch.setattr(duckdb, "connect", fail)
    with pytest.raises(duckdb.IOException, match="no"):
        query_published(trained_plant.config, "SELECT 1")
    assert opened == [1]
