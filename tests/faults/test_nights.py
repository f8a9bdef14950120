"""Whole nights as a scheduler starts them, each a process of its own: many of one plant at once."""

import os
import re
import subprocess
import sys

import duckdb
import pytest

from pwflow_core.config import load_config
from pwflow_core.pipeline.scoring.checks import check_scores
from pwflow_core.plant import Plant
from tests.conftest import REPOSITORY, plant_readings, put_file, query
from tests.faults.conftest import leftovers

CONFIGURATION = """
[source]
path = "data/*.csv"
timestamp = "ts"
machine = "machine"

[sensors.temperature]
low = -100
high = 100

[sensors.pressure]

[clustering]
n_clusters = 2

[warehouse]
url = "duckdb:///warehouse.duckdb"
published = "published.duckdb"
wait_seconds = {wait_seconds}

[models]
url = "models"
"""
HELD = re.compile(r"is held by .+ \(process (\d+)\), and it was not free within [\d.]+ s: .+", re.DOTALL)
TABLES = {
    "mart.anomaly_scores": "reading_id",
    "core.readings": "reading_id",
    "core.component_log_density": "(cluster_key, reading_id)",
    "core.cluster_assignments": "(cluster_key, reading_id)",
    "mart.sensor_contributions": "(reading_id, sensor)",
    "mart.anomaly_events": "event_id",
    "mart.flow_versions": "(cluster_key, flow_version)",
}


def start_night(folder) -> subprocess.Popen[str]:
    """Start `pwflow run` on the plant of a folder."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PWFLOW_", "DAGSTER_"))}
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "pwflow_dagster", "run"],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A folder with a plant that has had its first night."""
    folder = tmp_path_factory.mktemp("nights")
    put_file(folder / "data" / "first.csv", plant_readings(800))
    (folder / "pwflow.toml").write_text(CONFIGURATION.format(wait_seconds=120))
    _, errors = (first := start_night(folder)).communicate(timeout=300)
    assert first.returncode == 0, errors
    return folder


@pytest.mark.parametrize("wait_seconds", [120, 0.05], ids=["patient", "impatient"])
def test_of_ten_nights_at_once_each_ends_green_or_names_the_holder_and_nothing_is_lost(learned, wait_seconds):
    """Those that waited for long enough are green, at least one is; what the others left undone the next night does."""
    (learned / "pwflow.toml").write_text(CONFIGURATION.format(wait_seconds=wait_seconds))
    plant = Plant.open(load_config(learned / "pwflow.toml"))
    start = "2024-04-01" if wait_seconds > 1 else "2024-05-01"
    [(n_before,)] = query(plant, "SELECT count(*) FROM mart.anomaly_scores")
    put_file(learned / "data" / f"{start}.csv", plant_readings(60, seed=7, start=start))
    nights = [start_night(learned) for _ in range(10)]
    ended = [(night.pid, *night.communicate(timeout=900), night.returncode) for night in nights]
    pids = {night.pid for night in nights}
    for _, _, errors, code in ended:
        if code != 0:
            holder = HELD.search(errors)
            assert holder, errors
            assert int(holder[1]) in pids
    assert any(code == 0 for *_, code in ended)
    if wait_seconds > 1:
        assert [errors for *_, errors, code in ended if code != 0] == []
    _, errors = (last := start_night(learned)).communicate(timeout=300)
    assert last.returncode == 0, errors
    [(n_after,)] = query(plant, "SELECT count(*) FROM mart.anomaly_scores")
    assert n_after == n_before + 120
    for table, key in TABLES.items():
        assert query(plant, f"SELECT count(*) - count(DISTINCT {key}) FROM {table}") == [(0,)], table
    with duckdb.connect(str(plant.config.published_path), read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM mart.anomaly_scores").fetchall() == [(n_after,)]
    assert query(plant, "SELECT noticed_at, what FROM core.recoveries") == []
    assert all(result.passed for result in check_scores(plant) if result.is_blocking)
    assert leftovers(plant) == []
