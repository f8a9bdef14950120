"""`pwflow ui` for real: webserver and daemon on loopback, on the same data."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from pwflow_core.simulation import write_exports

CONFIG = """
[plant]
name = "shown"
[source]
path = "exports/*.parquet"
timestamp = "timestamp"
machine = "machine"
[clustering]
n_clusters = 2
[flow]
max_rows = 1000
"""
QUERY = """
{ assetNodes {
    assetKey { path } partitionStats { numMaterialized } assetMaterializations(limit: 1) { runId }
} }
"""


def ask(port: int, deadline: float) -> dict:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql",
        json.dumps({"query": QUERY}).encode(),
        {"Content-Type": "application/json"},
    )
    while True:
        try:
            with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 - loopback
                answer = json.load(response)
            if answer["data"]["assetNodes"]:
                return answer["data"]
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            pass
        assert time.monotonic() < deadline, "the webserver did not answer in time"
        time.sleep(0.5)


def test_the_ui_shows_what_a_run_made(tmp_path: Path):
    write_exports(tmp_path, days=1)
    (tmp_path / "pwflow.toml").write_text(CONFIG)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PWFLOW_", "DAGSTER_"))}
    program = [sys.executable, "-m", "pwflow_dagster"]
    done = subprocess.run([*program, "run"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen(
        [*program, "ui", "--port", str(port)],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as server:
        try:
            nodes = {node["assetKey"]["path"][-1]: node for node in ask(port, time.monotonic() + 120)["assetNodes"]}
            with socket.socket() as outside:
                outside.settimeout(2)
                host = socket.gethostbyname(socket.gethostname())
                reachable = not host.startswith("127.") and outside.connect_ex((host, port)) == 0
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            try:
                server.wait(timeout=30)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
    assert len(nodes) == 12
    assert nodes["cluster_flow"]["partitionStats"]["numMaterialized"] == 2
    assert all(node["assetMaterializations"] for node in nodes.values())
    assert not reachable
