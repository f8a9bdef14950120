"""Warehouses on each backend: a file, a lake with its catalog in a file, a lake with its catalog in Postgres."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
import pytest

SERVERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


def _has(extension: str) -> bool:
    spec = find_spec(f"duckdb_extension_{extension}")
    places = spec.submodule_search_locations if spec else ()
    return any((Path(place) / "extensions" / f"v{duckdb.__version__}").is_dir() for place in places or ())


HAS_LAKE = _has("ducklake") and _has("postgres_scanner")
HAS_HTTPFS = _has("httpfs")

needs_lake = pytest.mark.skipif(not HAS_LAKE, reason=f"there is no extension ducklake for DuckDB {duckdb.__version__}")
needs_postgres = pytest.mark.skipif(not SERVERS, reason="Debian's package postgresql is not installed")


@dataclass
class Postgres:
    """A server of Postgres on this machine, which may be stopped and started."""

    folder: Path
    port: int

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        self._run("pg_ctl", "-w", "-D", "data", "-l", "log.txt", "-o", options, "start")

    def stop(self, mode: str = "immediate") -> None:
        self._run("pg_ctl", "-w", "-D", "data", "-m", mode, "stop")

    def make(self) -> None:
        if os.geteuid() == 0:  # Postgres does not run as root
            shutil.chown(self.folder, "postgres", "postgres")
        self._run("initdb", "-D", "data", "-U", "pwflow", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C")

    def runs(self) -> bool:
        """Whether it takes connections, or will within a moment."""
        try:
            self._run("pg_isready", "-q", "-t", "10", "-h", "127.0.0.1", "-p", str(self.port))
        except AssertionError:
            return False
        return True

    def url(self, schema: str) -> str:
        return f"ducklake+postgres://pwflow@127.0.0.1:{self.port}/postgres?schema={schema}"

    def _run(self, program: str, *words: str) -> None:
        user = ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups") if os.geteuid() == 0 else ()
        command = [*user, str(SERVERS[-1] / program), *words]
        done = subprocess.run(command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        assert done.returncode == 0, done.stdout.decode()


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Return a server that runs."""
    with tempfile.TemporaryDirectory(prefix="pwflow-postgres-") as folder:  # pytest's own let nobody else in
        server = Postgres(Path(folder), free_port())
        server.make()
        server.start()
        yield server
        server.stop()


@pytest.fixture
def warehouse_of(request: pytest.FixtureRequest) -> Callable[[str], dict[str, Any]]:
    """Return a function that returns the section `[warehouse]` of a backend; each test has a warehouse of its own."""

    def find(backend: str) -> dict[str, Any]:
        if backend == "file":
            return {"url": "duckdb:///warehouse.duckdb"}
        if backend == "lake":
            return {"url": "ducklake:///lake"}
        server = request.getfixturevalue("postgres")
        return {"url": server.url(f"t{uuid4().hex[:8]}"), "data": "data-files"}

    return find
