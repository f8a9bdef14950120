"""Whole nights as a scheduler starts them, each a process of its own: many of one plant at once."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence

import duckdb
import pytest

from pwflow_core.config import load_config
from pwflow_core.pipeline.scoring.checks import check_scores
from pwflow_core.plant import Plant
from tests.conftest import plant_readings, put_file, query
from tests.faults.conftest import leftovers
from tests.processes import REPOSITORY

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


def start_night(folder, configuration="pwflow.toml") -> subprocess.Popen[str]:
    """Start `pwflow run` on the plant of a folder."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PWFLOW_", "DAGSTER_"))}
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "pwflow_dagster", "run", "--config", configuration],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A folder with a plant that has had its first night, and two configurations that differ in how long they wait."""
    folder = tmp_path_factory.mktemp("nights")
    put_file(folder / "data" / "first.csv", plant_readings(800))
    for name, wait_seconds in (("pwflow.toml", 120), ("impatient.toml", 0.05)):
        (folder / name).write_text('[plant]\nname = "plant"\n' + CONFIGURATION.format(wait_seconds=wait_seconds))
    _, errors = (first := start_night(folder)).communicate(timeout=900)
    assert first.returncode == 0, errors
    return folder


def start_at_once(folder, configurations: Sequence[str], start: str) -> int:
    """Start nights at the same moment on a new day, look at what they left, and return how many were green."""
    plant = Plant.open(load_config(folder / "pwflow.toml"))
    [(n_before,)] = query(plant, "SELECT count(*) FROM mart.anomaly_scores")
    put_file(folder / "data" / f"{start}.csv", plant_readings(60, seed=7, start=start))
    nights = [(configuration, start_night(folder, configuration)) for configuration in configurations]
    pids = {night.pid for _, night in nights}
    n_green = 0
    for configuration, night in nights:
        _, errors = night.communicate(timeout=900)
        n_green += night.returncode == 0
        if night.returncode != 0:
            assert configuration == "impatient.toml", errors
            holder = HELD.search(errors)
            assert holder, errors
            assert int(holder[1]) in pids
    assert n_green
    if n_green < len(nights):
        _, errors = (last := start_night(folder)).communicate(timeout=900)
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
    return n_green


@pytest.mark.long
def test_of_four_nights_at_once_each_ends_green_or_names_the_holder_and_nothing_is_lost(learned):
    """Those that wait for long enough are green; what the others left undone the next night does."""
    assert start_at_once(learned, 2 * ["pwflow.toml", "impatient.toml"], "2024-04-01") >= 2


@pytest.mark.long
@pytest.mark.parametrize(("configuration", "start"), [("pwflow.toml", "2024-05-01"), ("impatient.toml", "2024-06-01")])
def test_of_ten_nights_at_once_each_ends_green_or_names_the_holder_and_nothing_is_lost(learned, configuration, start):
    assert start_at_once(learned, 10 * [configuration], start) >= 1
