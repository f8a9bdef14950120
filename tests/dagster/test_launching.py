"""Runs that Dagster launches: several at once, their steps in processes of their own, killed in the middle."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest
from dagster._core.run_coordinator import DefaultRunCoordinator, QueuedRunCoordinator

from pwflow_core.config import load_config
from pwflow_core.simulation import write_exports
from pwflow_dagster.definitions import build
from pwflow_dagster.launching import find_launcher
from pwflow_dagster.names import LEARN_REGIMES, NIGHTLY_SCORING, TRAIN_REGIMES
from pwflow_dagster.partitions import partition_range_tags
from tests.dagster.conftest import CONFIG, SLICE_HASHES, DagsterPlant, copy_folder
from tests.processes import clean_environment

SPREAD = '[compute]\nexecutor = "multiprocess"\nregimes_per_run = 2\n'
PATIENCE_SECONDS = 600
RESULT = (
    "SELECT count(*), md5(string_agg((reading_id, cluster_key, log_density, p_value, status, flow_version)::VARCHAR, "
    "'|' ORDER BY reading_id)) FROM mart.anomaly_scores",
    "SELECT count(*), md5(string_agg((reading_id, sensor, contribution, expected)::VARCHAR, '|' "
    "ORDER BY reading_id, sensor)) FROM mart.sensor_contributions",
    "SELECT count(*), md5(string_agg(e::VARCHAR, '|' ORDER BY event_id)) FROM mart.anomaly_events AS e",
    "SELECT count(*), string_agg(flow_version, ',' ORDER BY cluster_key) FROM mart.flow_versions WHERE in_force",
)


def origin(name: str = "here") -> SimpleNamespace:
    return SimpleNamespace(repository_origin=name)


@pytest.mark.quick
@pytest.mark.parametrize(
    ("coordinator", "remote", "is_launched"),
    [
        (QueuedRunCoordinator(), origin(), True),
        (QueuedRunCoordinator(), None, False),
        (QueuedRunCoordinator(max_concurrent_runs=1), origin(), False),
        (DefaultRunCoordinator(), origin(), False),
    ],
    ids=["launched", "executed by a program", "one run at a time", "without a queue"],
)
def test_a_run_has_others_launched_only_where_they_can_start_beside_it(coordinator, remote, is_launched):
    with dg.DagsterInstance.ephemeral() as instance:
        instance._run_coordinator = coordinator
        run = SimpleNamespace(remote_job_origin=remote, job_code_origin=origin())
        assert (find_launcher(instance, run) is not None) == is_launched


@pytest.mark.quick
def test_the_configuration_chooses_the_executor_and_how_many_regimes_a_backfill_run_is_for(tmp_path):
    def made(text: str) -> tuple[str, set]:
        (tmp_path / "pwflow.toml").write_text(CONFIG + text)
        definitions = build(load_config(tmp_path / "pwflow.toml"))
        job = definitions.resolve_job_def(TRAIN_REGIMES)
        assets = definitions.resolve_asset_graph()
        policies = {assets.get(key).backfill_policy for key in job.asset_layer.executable_asset_keys}
        return job.executor_def.name, policies

    assert made("") == ("in_process", {dg.BackfillPolicy.single_run()})
    assert made(SPREAD) == ("multiprocess", {dg.BackfillPolicy.multi_run(2)})


def environment_of(made: DagsterPlant) -> dict[str, str]:
    return clean_environment() | {
        "PWFLOW_CONFIG": str(made.folder / "pwflow.toml"),
        "DAGSTER_HOME": str(made.folder / "dagster"),
        "PYTHONWARNINGS": "ignore",
    }


def spread(made: DagsterPlant) -> DagsterPlant:
    """Let the runs of a plant that Dagster launches spread over processes."""
    (made.folder / "pwflow.toml").write_text(CONFIG + SPREAD)
    return DagsterPlant(made.folder, load_config(made.folder / "pwflow.toml"))


def test_steps_in_processes_of_their_own_find_all_they_need_in_warehouse_and_model_store(plant):
    made = spread(plant)
    before = made.query(SLICE_HASHES)
    with made.plant.warehouse.transaction() as connection:
        connection.execute("DELETE FROM core.component_log_density WHERE cluster_key = 'c0002'")
    tags = json.dumps(partition_range_tags(["c0001", "c0002"]))
    words = ["job", "execute", "-m", "pwflow_dagster.definitions", "-j", TRAIN_REGIMES, "--tags", tags]
    nothing_to_train = {"ops": {"small__cluster_flow": {"config": {"only_missing": True}}}}
    (made.folder / "run.json").write_text(json.dumps(nothing_to_train))
    command = [sys.executable, "-m", "dagster", *words, "--config", str(made.folder / "run.json")]
    done = subprocess.run(command, env=environment_of(made), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pids = set(re.findall(r"pid: (\d+)", done.stderr))
    assert len(pids) == 4, "the run itself, and its three steps"
    assert [row[0] for row in made.query(SLICE_HASHES)] == [row[0] for row in before]


@contextmanager
def daemon(made: DagsterPlant):
    """Dagster's daemon with the plant; whatever it started is killed at the end of the block."""
    home = made.folder / "dagster"
    words = [sys.executable, "-m", "dagster._daemon", "run", "-m", "pwflow_dagster.definitions"]
    with (made.folder / "daemon.log").open("a") as log:
        process = subprocess.Popen(words, env=environment_of(made), stdout=log, stderr=log)
    try:
        yield process
    finally:
        for pid in processes_of(home):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait(timeout=60)


def processes_of(home: Path) -> list[int]:
    """Return the processes that have a Dagster home: daemon, code servers, runs, and the processes of their steps."""
    mark = f"DAGSTER_HOME={home}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def wait_for(made: DagsterPlant, is_reached) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    with made.instance() as instance:
        while not is_reached(instance):
            assert time.monotonic() < deadline, (made.folder / "daemon.log").read_text()[-4000:]
            time.sleep(0.5)


def runs_of(instance: dg.DagsterInstance, job: str, *statuses: dg.DagsterRunStatus) -> list[dg.DagsterRun]:
    return list(instance.get_runs(dg.RunsFilter(job_name=job, statuses=list(statuses) or None)))


@pytest.mark.long(reason="200 CPU s: a daemon, and a process for each step; the parts are run at each push")
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
def test_two_runs_of_regimes_at_once_killed_in_the_middle_end_as_one_run_in_one_process(tmp_path):
    write_exports(tmp_path / "one", days=3)
    (tmp_path / "one" / "pwflow.toml").write_text(CONFIG)
    (tmp_path / "one" / "dagster").mkdir()
    (tmp_path / "one" / "dagster" / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    one = DagsterPlant(tmp_path / "one", load_config(tmp_path / "one" / "pwflow.toml"))
    with one.instance() as instance:
        assert one.runner(instance).run(LEARN_REGIMES).error is None
    copy_folder(one.folder, tmp_path / "many")
    many = spread(DagsterPlant(tmp_path / "many", one.config))
    assert [outcome.error for outcome in one.run()] == [None]

    started, done = dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.SUCCESS
    with daemon(many):  # its sensor sees that flows are missing
        wait_for(many, lambda instance: len(runs_of(instance, TRAIN_REGIMES, started)) == 2)
        time.sleep(5)
    with many.instance() as instance:
        killed = [run for run in instance.get_runs() if not run.is_finished]
        assert len(killed) > 2
        for run in killed:
            instance.report_run_failed(run)  # as somebody does who looks at them
    with daemon(many):
        wait_for(many, lambda instance: runs_of(instance, NIGHTLY_SCORING, done))
    for query in RESULT:
        assert many.query(query) == one.query(query)
    with many.instance() as instance:
        (night,) = runs_of(instance, NIGHTLY_SCORING, done)
        said = [entry.message for entry in instance.all_logs(night.run_id)]
        assert any("multiprocess executor" in message for message in said)
        assert any(name.startswith(".dagster/grpc") for name in night.tags), "the launcher started it"
