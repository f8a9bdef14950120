"""The drift sensor under a real daemon, which is killed at each point of a tick: what was asked for runs once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import dagster as dg
import pytest

from pwflow_core.config import load_config
from pwflow_dagster.names import ANSWER_DRIFT
from pwflow_dagster.partitions import add_clusters, cluster_partitions
from tests.dagster.conftest import add_verdict, tick, write_config

DAEMON = """
import os, signal, sys
trap = sys.argv.pop(1)
if trap:
    import dagster._daemon.sensor as sensor
    from dagster._core.instance import DagsterInstance
    owner, name = {
        "before the run is made": (sensor, "_submit_run_request"),
        "before the run is launched": (DagsterInstance, "submit_run"),
        "before the tick is written": (sensor.SensorLaunchContext, "add_run_info"),
    }[trap]
    setattr(owner, name, lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGKILL))
from dagster._daemon.cli import cli
cli(["run", "-m", "pwflow_dagster.definitions"], prog_name="dagster-daemon")
"""
PATIENCE_SECONDS = 240


@pytest.fixture
def waiting(plant):
    """A plant whose mix of regimes moved, with its configuration in a file and its schedule and sensors in a daemon."""
    plant.config = load_config(write_config(plant))
    (plant.folder / "dagster" / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    add_verdict(plant, "c0001", "c0002", answer="update_weights")
    with plant.instance() as instance:
        add_clusters(instance, cluster_partitions("small"), ["c0001", "c0002", "c0003", "c0004"])
    return plant


@contextmanager
def daemon(plant, trap=""):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PWFLOW_", "DAGSTER_"))}
    environment |= {
        "PWFLOW_CONFIG": str(plant.folder / "pwflow.toml"),
        "DAGSTER_HOME": str(plant.folder / "dagster"),
        "PYTHONWARNINGS": "ignore",
    }
    with (plant.folder / "daemon.log").open("a") as log:
        process = subprocess.Popen([sys.executable, "-c", DAEMON, trap], env=environment, stdout=log, stderr=log)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(timeout=60)


def wait_until_done(plant):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while plant.query("SELECT status FROM mart.drift_verdicts") != [("done",)]:
        assert time.monotonic() < deadline, (plant.folder / "daemon.log").read_text()[-4000:]
        time.sleep(1)


def runs_of(plant):
    with plant.instance() as instance:
        return [record.dagster_run for record in instance.get_run_records(dg.RunsFilter(job_name=ANSWER_DRIFT))]


@pytest.mark.parametrize(
    "point",
    [
        pytest.param("before the run is made", marks=pytest.mark.long),
        pytest.param("before the run is launched", marks=pytest.mark.long),
        "before the tick is written",
    ],
)
def test_a_daemon_that_is_killed_in_a_tick_neither_loses_nor_repeats_the_run(waiting, point):
    models = waiting.query("SELECT count(*) FROM core.cluster_models")[0][0]
    with daemon(waiting, point) as killed:
        assert killed.wait(timeout=PATIENCE_SECONDS) == -signal.SIGKILL
    with daemon(waiting):
        wait_until_done(waiting)
    assert len(runs_of(waiting)) == 1
    with waiting.instance() as instance:
        assert not tick(waiting, instance).run_requests
    assert waiting.query("SELECT count(*) FROM core.cluster_models") == [(models + 1,)]


@pytest.mark.long
def test_two_daemons_at_once_answer_once(waiting):
    models = waiting.query("SELECT count(*) FROM core.cluster_models")[0][0]
    with daemon(waiting), daemon(waiting):
        wait_until_done(waiting)
    assert waiting.query("SELECT count(*) FROM core.cluster_models") == [(models + 1,)]
    assert waiting.query("SELECT count(*) FROM mart.drift_verdicts") == [(1,)]
