"""Data on S3: it answers 500 or 503, for a moment or for long, while files are written or read; and full disks.

The store is moto's server, a real HTTP server with the interface of S3, with a gate in front of it that refuses.
"""

from __future__ import annotations

import http.client
import shutil
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pwflow_core.errors import StorageFullError, WarehouseInterruptedError
from tests.conftest import query
from tests.processes import largest_file
from tests.warehouse.conftest import HAS_HTTPFS, Postgres, free_port, needs_lake, needs_postgres
from tests.warehouse.test_lake import SLICE, replace

WHOLE = [("c0001", 20_000, 1)]
TIMEOUT_SECONDS = 60


@dataclass
class Gate:
    """Passes requests on to a store, and refuses some.

    Attributes:
        url: Where it listens.
        status: What it answers to what it refuses.
        refused: Methods that it refuses, each as often as it says.
        n_refused: How many requests it refused.
    """

    url: str = ""
    status: int = 503
    refused: dict[str, int] = field(default_factory=dict)
    n_refused: int = 0

    def refuses(self, method: str) -> bool:
        if self.refused.get(method, 0) < 1:
            return False
        self.refused[method] -= 1
        self.n_refused += 1
        return True


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """A store with a bucket `plants`, behind a gate, which the environment names."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    gate = Gate()
    with passing(server.get_host_and_port()[1], gate) as url:
        for name, value in {"ACCESS_KEY_ID": "k", "SECRET_ACCESS_KEY": "s", "REGION": "us-east-1"}.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        made = http.client.HTTPConnection(urlsplit(url).netloc)
        made.request("PUT", "/plants")
        assert made.getresponse().status == 200
        yield gate
    server.stop()


@contextmanager
def passing(port: int, gate: Gate) -> Iterator[str]:
    class Passing(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if gate.refuses(self.command):
                said, status, headers = b"<Error><Code>SlowDown</Code></Error>", gate.status, []
            else:
                store = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
                store.request(self.command, self.path, body, dict(self.headers))
                answer = store.getresponse()
                said, status, headers = answer.read(), answer.status, answer.getheaders()
                store.close()
            self.send_response(status)
            kept = [(name, value) for name, value in headers if name.lower() not in ("connection", "transfer-encoding")]
            for name, value in kept:
                self.send_header(name, value)
            if "content-length" not in {name.lower() for name, _ in kept}:
                self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass  # noqa: N815 - their names

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Passing) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def on_store(make_plant, warehouse_of, gate):
    """A plant with its catalog in a file and its data in the store."""
    if not HAS_HTTPFS:
        pytest.skip("there is no extension httpfs for this DuckDB")
    return make_plant(warehouse={**warehouse_of("lake"), "data": "s3://plants/press_shop"})


@needs_lake
@pytest.mark.parametrize("status", [500, 503])
def test_a_store_that_refuses_for_long_is_named_nothing_is_lost_and_the_next_run_completes(on_store, gate, status):
    replace(on_store, "c0001", "first")
    gate.status, gate.refused = status, {"PUT": 1000, "POST": 1000}
    with pytest.raises(WarehouseInterruptedError, match=rf"s3://plants/press_shop.*{status}.*Nothing was written"):
        replace(on_store, "c0001", "second")
    assert gate.n_refused > 1, "it tries again before it gives up"
    gate.refused = {}
    assert query(on_store, SLICE) == WHOLE
    assert query(on_store, "SELECT DISTINCT flow_version FROM core.component_log_density") == [("first",)]
    replace(on_store, "c0001", "second")
    assert query(on_store, "SELECT DISTINCT flow_version FROM core.component_log_density") == [("second",)]

    gate.refused = {"GET": 1000, "HEAD": 1000}
    with pytest.raises(WarehouseInterruptedError, match="s3://plants/press_shop"):
        query(on_store, "SELECT sum(log_density) FROM core.component_log_density")
    gate.refused = {}
    assert query(on_store, SLICE) == WHOLE


@needs_lake
def test_a_store_that_refuses_for_a_moment_disturbs_nobody(on_store, gate):
    replace(on_store, "c0001", "first")
    gate.refused = {"PUT": 2, "GET": 1, "POST": 1}
    replace(on_store, "c0001", "second")
    assert query(on_store, SLICE) == WHOLE
    assert gate.n_refused > 1


def write_facts(plant, value, n_facts):
    with plant.warehouse.transaction() as connection:
        connection.execute("DELETE FROM core.plant_facts")
        facts = "SELECT uuid()::VARCHAR AS fact, ? AS value FROM range(?)"
        connection.execute(f"INSERT INTO core.plant_facts BY NAME {facts}", [value, n_facts])


FACTS = "SELECT value, count(*) FROM core.plant_facts GROUP BY value"


@needs_lake
def test_a_full_disk_under_the_data_is_named_and_the_next_run_completes(make_plant, warehouse_of):
    plant = make_plant(warehouse=warehouse_of("lake"))
    write_facts(plant, "first", 50_000)
    with (
        largest_file(64_000),
        pytest.raises(StorageFullError, match=f"{plant.config.folder}.*plant_facts takes no larger"),
    ):
        write_facts(plant, "second", 50_000)
    assert query(plant, FACTS) == [("first", 50_000)]
    write_facts(plant, "third", 50_000)
    assert query(plant, FACTS) == [("third", 50_000)]


@needs_lake
def test_a_full_disk_under_the_catalog_in_a_file_undoes_no_commit(make_plant, warehouse_of, caplog):
    """What was committed is in the log of the catalog, which the next run puts into the file."""
    plant = make_plant(warehouse=warehouse_of("lake"))
    write_facts(plant, "first", 1)
    with largest_file(8_000):
        write_facts(plant, "second", 1)
    assert "The last commit is in the warehouse, but there is little room left" in caplog.text
    assert query(plant, FACTS) == [("second", 1)]
    with largest_file(100), pytest.raises(StorageFullError, match=f"{plant.config.folder}"):
        write_facts(plant, "third", 1)
    assert query(plant, FACTS) == [("second", 1)]
    write_facts(plant, "fourth", 1)
    assert query(plant, FACTS) == [("fourth", 1)]


@pytest.fixture
def small_server() -> Iterator[Postgres]:
    """A Postgres on a disk of its own, which is small."""
    with tempfile.TemporaryDirectory(prefix="pwflow-small-") as folder:
        mount = ["mount", "-t", "tmpfs", "-o", "size=120m,mode=0777", "tmpfs", folder]
        if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("a disk cannot be mounted here")
        try:
            server = Postgres(Path(folder), free_port())
            server.make()
            server.start()
            yield server
            server.stop()
        finally:
            subprocess.run(["umount", "-l", folder], check=True)


@needs_lake
@needs_postgres
def test_a_full_disk_under_the_catalog_in_postgres_is_named_and_the_next_run_completes(make_plant, small_server):
    url = small_server.url("full")
    plant = make_plant(warehouse={"url": url, "data": "data-files", "wait_seconds": 5.0})
    replace(plant, "c0001", "first")
    filler = small_server.folder / "filler"
    filler.write_bytes(b"x" * shutil.disk_usage(small_server.folder).free)
    with pytest.raises(StorageFullError, match=f"disk of the server of .*{small_server.port}"):
        deque(replace(plant, "c0001", str(n)) for n in range(2000))  # some room for commits was there before
    filler.unlink()
    if not small_server.runs():
        small_server.start()
    assert query(plant, SLICE) == WHOLE
    replace(plant, "c0001", "third")
    assert query(plant, "SELECT DISTINCT flow_version FROM core.component_log_density") == [("third",)]
