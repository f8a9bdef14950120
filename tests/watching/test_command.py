"""`pwflow watch` as people type it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.processes import REPOSITORY, clean_environment
from tests.watching.conftest import add_lines, later_readings, live

PLANT = """
[source]
path = "data/*"
timestamp = "ts"
machine = "machine"
timezone = "UTC"
segments = ["recipe"]
[sensors]
temperature = { unit = "°C", low = -100.0, high = 100.0 }
pressure = { unit = "bar" }
[clustering]
n_clusters = 2
[scoring]
alpha = 0.01
[warehouse]
url = "duckdb:///warehouse.duckdb"
published = "published.duckdb"
[models]
url = "models"
[watch]
poll_seconds = 0.1
listen = ""
"""


@pytest.fixture
def folder(watched):
    found = watched.config.folder
    (found / "pwflow.toml").write_text(PLANT)
    return found


def test_what_has_arrived_is_scored_once_and_the_summary_says_so(watched, folder, stem):
    add_lines(watched, later_readings(50))
    done = stem.command(folder, "watch", "--once", "--json")
    assert done.code == 0, done.errors
    said = json.loads(done.output)["watched"]
    assert (said["readings"], said["is_ok"], said["refused"]) == (100, True, {})
    done = stem.command(folder, "watch", "--once")
    assert done.output == "0 readings, 0 anomalies; not judged: none; refused: none.\n"
    done = stem.command(folder, "sql", "SELECT count(*) AS n FROM mart.live_scores", "--csv")
    assert done.output == "n\n100\n"
    done = stem.command(folder, "watch", "--csv")
    assert done.code == 2
    assert "--csv goes with --stdin" in done.errors


def test_ctrl_c_ends_it_with_a_summary_and_it_loads_neither_torch_nor_dagster(watched, folder):
    code = (
        "import sys; from pwflow_dagster.cli import main\n"
        "try: main(['watch', '--stdin', '--csv'])\n"
        "finally: print({'torch', 'dagster', 'sklearn'} & {*sys.modules})"
    )
    started = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=folder,
        env=clean_environment() | {"PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    os.write(started.stdin.fileno(), later_readings(20).to_csv(index=False).encode())
    until = time.monotonic() + 60
    while not (folder / "warehouse.watch" / "live.sqlite").exists() or len(live(watched)) < 40:
        assert time.monotonic() < until
        time.sleep(0.1)
    started.send_signal(signal.SIGINT)
    output, errors = started.communicate(timeout=60)
    assert started.returncode == 0, errors.decode()
    assert output.decode().startswith("40 readings, ")
    assert output.decode().endswith("set()\n")
