"""A lake holds what a file holds: turns, kills, lost servers; and what it says where it cannot be opened."""

import os
import re
import socket
import socketserver
import threading
import time
from contextlib import contextmanager, suppress
from inspect import getsource

import duckdb
import numpy as np
import pytest

from pwflow_core.errors import (
    ConfigurationError,
    NotFittedError,
    WarehouseDamagedError,
    WarehouseInterruptedError,
    WarehouseLockedError,
    WarehouseUnreachableError,
)
from pwflow_core.pipeline.looking.status import read_status
from pwflow_core.pipeline.publishing.publishing import publish_warehouse
from pwflow_core.pipeline.scoring.contributions import explain_anomalies
from pwflow_core.pipeline.scoring.densities import score_slices
from pwflow_core.pipeline.scoring.events import derive_events
from pwflow_core.pipeline.scoring.scores import derive_scores
from pwflow_core.warehouse import copy_warehouse
from tests.conftest import (
    TRAINED,
    learn_all,
    merge,
    open_plant,
    plant_readings,
    put_file,
    query,
    read_all,
    start_process,
)
from tests.warehouse.conftest import needs_lake, needs_postgres

LAKES = [pytest.param("lake", marks=needs_lake), pytest.param("postgres", marks=[needs_lake, needs_postgres])]
POSTGRES = LAKES[1:]

SMALL = merge(TRAINED, {"flow": {"max_steps": 10}, "scoring": {"alpha": 0.05, "min_calibration_rows": 15}})
HASHES = {
    "scores": "SELECT count(*), md5(string_agg((reading_id, cluster_key, log_density, p_value, status, flow_version)"
    "::VARCHAR, '|' ORDER BY reading_id)) FROM mart.anomaly_scores",
    "contributions": "SELECT count(*), md5(string_agg((reading_id, sensor, contribution, expected)::VARCHAR, '|' "
    "ORDER BY reading_id, sensor)) FROM mart.sensor_contributions",
    "events": "SELECT count(*), md5(string_agg(e::VARCHAR, '|' ORDER BY event_id)) FROM mart.anomaly_events AS e",
    "flows": "SELECT count(*), string_agg(flow_version, ',' ORDER BY cluster_key) FROM mart.flow_versions",
}
SLICE = (
    "SELECT cluster_key, count(*), count(DISTINCT flow_version) FROM core.component_log_density GROUP BY ALL ORDER BY 1"
)


def replace(plant, key, version):
    with plant.warehouse.transaction() as connection:
        connection.execute("DELETE FROM core.component_log_density WHERE cluster_key = ?", [key])
        connection.execute(
            "INSERT INTO core.component_log_density BY NAME SELECT ? AS cluster_key, range AS reading_id, "
            "random() AS log_density, ? AS flow_version FROM range(20_000)",
            [key, version],
        )


def hashes(plant):
    return {name: query(plant, statement)[0] for name, statement in HASHES.items()}


def derive_all(plant):
    read_all(plant)
    learn_all(plant)
    explain_anomalies(plant)
    derive_events(plant)


@pytest.mark.long(reason="150 CPU s: three plants are trained; the other tests write, kill and restart at each push")
@needs_lake
@needs_postgres
def test_each_backend_derives_and_publishes_the_same(tmp_path, warehouse_of):
    """As do a copy of it, a maintained one, and four processes on one Postgres, each with a regime of its own."""
    found, published = {}, {}
    for backend in ("file", "lake", "postgres"):
        folder = tmp_path / backend
        put_file(folder / "data" / "first.parquet", plant_readings(400))
        changes = {"source": {"path": str(folder / "data" / "*")}, "warehouse": warehouse_of(backend)}
        plant = open_plant(folder, merge(SMALL, changes))
        derive_all(plant)
        publish_warehouse(plant)
        found[backend] = hashes(plant)
        with duckdb.connect(str(plant.config.published_path), read_only=True) as connection:
            published[backend] = connection.execute(
                "SELECT table_name, column_name, data_type, comment FROM duckdb_columns() WHERE schema_name = 'mart' "
                "ORDER BY ALL"
            ).fetchall()
    assert found["file"]["scores"][0] == 800
    assert found["file"]["events"][0]
    assert found["lake"] == found["file"]
    assert found["postgres"] == found["file"]
    assert published["lake"] == published["file"] == published["postgres"]

    (tmp_path / "moved").mkdir()
    moved = open_plant(tmp_path / "moved", merge(SMALL, {"warehouse": warehouse_of("lake")}))
    copied = copy_warehouse(plant.warehouse, moved.warehouse)
    assert {table.name: table.n_rows for table in copied}["mart.anomaly_scores"] == 800
    assert hashes(moved) == found["file"]
    assert moved.warehouse.maintain(1).n_files[1] > 0
    assert hashes(moved) == found["file"]
    with pytest.raises(ConfigurationError, match="has rows"):
        copy_warehouse(plant.warehouse, moved.warehouse)

    keys = [key for (key,) in query(plant, "SELECT cluster_key FROM mart.clusters ORDER BY 1")]
    assert len(keys) == 4
    with plant.warehouse.transaction() as connection:
        connection.execute("DELETE FROM core.component_log_density; DELETE FROM core.progress WHERE step = 'score'")
    code = "from pwflow_core.pipeline.scoring.densities import score_slices\nlist(score_slices(plant, [{!r}]))"
    processes = [start_process(plant, code.format(key)) for key in keys]
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    assert list(score_slices(plant, [])) == []
    derive_scores(plant)
    assert hashes(plant)["scores"] == found["file"]["scores"]


@pytest.mark.parametrize("backend", LAKES)
def test_numbers_that_are_written_row_by_row_come_back_bit_by_bit(make_plant, warehouse_of, backend):
    plant = make_plant(warehouse=warehouse_of(backend))
    written = [(place, float(x)) for place, x in enumerate(np.random.default_rng(0).lognormal(0, 3, 60))]
    with plant.warehouse.transaction() as connection:
        for place, x in written:
            connection.execute(
                "INSERT INTO core.component_log_density BY NAME SELECT 'c0001' AS cluster_key, ? AS reading_id, "
                "? AS log_density, 'v' AS flow_version",
                [place, x],
            )
    found = query(plant, "SELECT reading_id, log_density FROM core.component_log_density ORDER BY reading_id")
    assert found == written


@pytest.mark.parametrize("backend", POSTGRES)
def test_maintenance_of_a_plant_leaves_the_files_of_another_one_in_the_same_place(
    make_plant, warehouse_of, tmp_path, backend
):
    """Two plants have a schema each, in one database, and name the same folder."""
    data = tmp_path / "shared"
    plants = [make_plant(warehouse={**warehouse_of(backend), "data": str(data)}) for _ in range(2)]
    for plant in plants:
        replace(plant, "c0001", "first")
    assert {path.name for path in data.iterdir()} == {plant.config.warehouse.catalog_schema for plant in plants}
    for file in data.rglob("*.parquet"):
        os.utime(file, (0, 0))  # nobody who writes now may still need it
    for plant in plants:
        plant.warehouse.maintain(1)
    for plant in plants:
        assert query(plant, SLICE) == [("c0001", 20_000, 1)]


@pytest.mark.parametrize("backend", POSTGRES)
def test_asking_whether_there_is_a_lake_disturbs_no_other_query(make_plant, warehouse_of, backend):
    warehouse = make_plant(warehouse=warehouse_of(backend)).warehouse
    connection = warehouse._engine().connection
    connection.execute("FROM range(3)")
    assert not warehouse.exists
    assert len(connection.fetchall()) == 3


@pytest.mark.parametrize("backend", ["file", LAKES[0]])
def test_what_a_plant_looks_like_can_be_asked_with_the_duckdb_of_a_lake(make_plant, warehouse_of, backend):
    """Version 1.5 does not know all that 2.0 does."""
    plant = make_plant(warehouse=warehouse_of(backend))
    with plant.warehouse.transaction():
        pass
    assert read_status(plant).regimes == ()


@pytest.mark.parametrize("backend", LAKES)
def test_a_writer_is_waited_for_and_then_named(make_plant, warehouse_of, backend):
    plant = make_plant(warehouse={**warehouse_of(backend), "wait_seconds": 0.5})
    with plant.warehouse.transaction():
        pass
    process = start_process(
        plant, "with plant.warehouse.transaction():\n    print('held', flush=True)\n    sys.stdin.readline()"
    )
    try:
        assert process.stdout.readline() == "held\n", process.communicate()
        started = time.monotonic()
        with (
            pytest.raises(WarehouseLockedError, match=rf"process {process.pid}\).*within 0\.5 s"),
            plant.warehouse.transaction(),
        ):
            pass
        assert time.monotonic() - started >= 0.5
        if backend == "postgres":
            assert query(plant, "SELECT count(*) FROM core.plant_facts") == [(0,)], "readers do not wait"
    finally:
        process.communicate("go\n", timeout=60)
    with plant.warehouse.transaction() as connection:
        connection.execute("INSERT INTO core.plant_facts VALUES ('answer', '42')")
    assert query(plant, "SELECT value FROM core.plant_facts") == [("42",)]


@pytest.mark.parametrize("backend", LAKES)
def test_a_snapshot_sees_one_commit_and_an_error_rolls_all_back(make_plant, warehouse_of, backend):
    plant = make_plant(warehouse=warehouse_of(backend))
    with pytest.raises(NotFittedError):
        query(plant, "SELECT 1")
    with pytest.raises(duckdb.ConversionException), plant.warehouse.transaction() as connection:
        connection.execute("INSERT INTO core.plant_facts VALUES ('answer', '42'); SELECT 'x'::INTEGER")
    assert query(plant, "FROM core.plant_facts") == []
    before = plant.warehouse.last_commit_number()
    with plant.warehouse.transaction() as connection:
        connection.execute("INSERT INTO core.plant_facts VALUES ('answer', '42')")
    assert plant.warehouse.last_commit_number() == before + 1
    if backend == "postgres":
        with plant.warehouse.snapshot() as connection:
            assert len(connection.execute("FROM core.plant_facts").fetchall()) == 1
            with plant.warehouse.transaction() as writer:
                writer.execute("INSERT INTO core.plant_facts VALUES ('question', '')")
            assert len(connection.execute("FROM core.plant_facts").fetchall()) == 1
    files = sorted(path.name for path in plant.config.folder.iterdir())
    assert "warehouse.duckdb" not in files


@pytest.mark.parametrize("n_kills", [3, pytest.param(10, marks=pytest.mark.long(reason="30 CPU s: twenty are killed"))])
@pytest.mark.parametrize("backend", LAKES)
def test_a_killed_writer_leaves_whole_slices_and_no_lock(make_plant, warehouse_of, backend, n_kills):
    plant = make_plant(warehouse=warehouse_of(backend))
    for key in ("c0001", "c0002"):
        replace(plant, key, "first")
    code = getsource(replace) + "print('on', flush=True)\nfor n in range(10_000):\n    replace(plant, {!r}, str(n))"
    for n_kill in range(n_kills):
        processes = [start_process(plant, code.format(key)) for key in ("c0001", "c0002")]
        for process in processes:
            assert process.stdout.readline() == "on\n", process.communicate()
        time.sleep(0.3 + 0.4 * (n_kill % 4))
        if backend == "postgres":  # readers wait for nobody
            assert query(plant, SLICE) == [("c0001", 20_000, 1), ("c0002", 20_000, 1)]
        for process in processes:
            process.kill()
            process.communicate()
        assert query(plant, SLICE) == [("c0001", 20_000, 1), ("c0002", 20_000, 1)]
    replace(plant, "c0001", "last")
    assert query(plant, "SELECT DISTINCT flow_version FROM core.component_log_density WHERE cluster_key = 'c0001'") == [
        ("last",)
    ]


@pytest.mark.parametrize("backend", POSTGRES)
def test_four_processes_write_eight_slices_at_once_and_all_succeed(make_plant, warehouse_of, backend):
    plant = make_plant(warehouse=warehouse_of(backend))
    with plant.warehouse.transaction():
        pass
    keys = [f"c{number:04}" for number in range(1, 9)]
    code = getsource(replace) + "for key in {!r}:\n    replace(plant, key, key)"
    processes = [start_process(plant, code.format(keys[first::4])) for first in range(4)]
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    assert query(plant, SLICE) == [(key, 20_000, 1) for key in keys]


@pytest.mark.parametrize("backend", POSTGRES)
def test_a_server_that_restarts_in_a_transaction_is_named_and_the_next_one_succeeds(
    make_plant, warehouse_of, postgres, backend
):
    plant = make_plant(warehouse=warehouse_of(backend))
    with plant.warehouse.transaction() as connection:
        connection.execute("INSERT INTO core.plant_facts VALUES ('kept', '')")

    def write_while_it_restarts():
        with plant.warehouse.transaction() as connection:
            connection.execute("INSERT INTO core.plant_facts VALUES ('lost', '')")
            postgres.stop()
            postgres.start()

    with pytest.raises(WarehouseInterruptedError, match="Nothing of it was written: run again"):
        write_while_it_restarts()
    assert query(plant, "SELECT fact FROM core.plant_facts") == [("kept",)]
    with plant.warehouse.transaction() as connection:
        connection.execute("INSERT INTO core.plant_facts VALUES ('again', '')")
    assert query(plant, "SELECT fact FROM core.plant_facts ORDER BY 1") == [("again",), ("kept",)]


@pytest.mark.parametrize("backend", POSTGRES)
def test_a_commit_whose_answer_is_lost_is_found_and_not_repeated(make_plant, warehouse_of, postgres, backend):
    section = warehouse_of(backend)
    with silencer(postgres.port) as (port, commits):
        plant = make_plant(warehouse={**section, "url": section["url"].replace(f":{postgres.port}/", f":{port}/")})
        with plant.warehouse.transaction():
            pass
        with plant.warehouse.transaction() as connection:
            connection.execute("INSERT INTO core.plant_facts VALUES ('once', '')")
            commits.set()
        assert not commits.is_set(), "the connection was cut behind a commit"
        assert query(plant, "SELECT count(*) FROM core.plant_facts") == [(1,)]


@contextmanager
def silencer(port):
    """Stand between a client and a server; the next COMMIT while the event is set is carried out without an answer."""
    commits = threading.Event()

    class Between(socketserver.BaseRequestHandler):
        def handle(self):
            with socket.create_connection(("127.0.0.1", port)) as server:
                back = threading.Thread(target=self._answer, args=(server,), daemon=True)
                back.start()
                while asked := self.request.recv(65536):
                    is_last = commits.is_set() and b"COMMIT" in asked
                    if is_last:
                        self.is_silent = True
                    server.sendall(asked)
                    if is_last:
                        time.sleep(0.5)
                        commits.clear()
                        return

        is_silent = False

        def _answer(self, server):
            with suppress(OSError):
                while (answer := server.recv(65536)) and not self.is_silent:
                    self.request.sendall(answer)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Between) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield listening.server_address[1], commits
        listening.shutdown()


def test_what_cannot_be_opened_is_said(make_plant, monkeypatch):
    plant = make_plant(warehouse={"url": "ducklake:///lake"})
    monkeypatch.setattr("pwflow_core.warehouse.engine._locate", lambda name: "'/nowhere/ducklake.duckdb_extension'")
    with pytest.raises(ConfigurationError, match=r"extension ducklake.*pwflow\[lake\]"), plant.warehouse.transaction():
        pass


@needs_lake
@needs_postgres
def test_a_catalog_that_does_not_answer_and_data_elsewhere_are_said(make_plant, warehouse_of, postgres):
    silent = {"url": "ducklake+postgres://pwflow@127.0.0.1:1/postgres", "data": "data-files"}
    with pytest.raises(WarehouseUnreachableError, match=r"127\.0\.0\.1:1/postgres.*PGPASSWORD"):
        query(make_plant(warehouse=silent), "SELECT 1")
    section = warehouse_of("postgres")
    with make_plant(warehouse=section).warehouse.transaction():
        pass
    moved = make_plant(warehouse={**section, "data": "elsewhere"})
    with pytest.raises(ConfigurationError, match=re.escape(f"{moved.config.folder}/data-files")):
        query(moved, "SELECT 1")


@pytest.mark.parametrize("backend", LAKES)
def test_a_data_file_that_is_gone_is_named(make_plant, warehouse_of, backend):
    plant = make_plant(warehouse=warehouse_of(backend))
    with plant.warehouse.transaction() as connection:
        connection.execute("INSERT INTO core.plant_facts SELECT range::VARCHAR, '' FROM range(1000)")
    files = list(plant.config.folder.rglob("plant_facts/*.parquet"))
    file = max(files, key=lambda path: path.stat().st_size)
    file.unlink()
    with pytest.raises(WarehouseDamagedError, match=re.escape(file.name)):
        query(plant, "SELECT max(fact) FROM core.plant_facts")
