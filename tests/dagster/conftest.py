"""A small plant that went through the whole path once, copied for every test that changes it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.defs_state.base import set_defs_state_storage

from pwflow_core.config import PlantConfig, ReportConfig, parse_config
from pwflow_core.pipeline.decisions.kinds import KINDS
from pwflow_core.plant import Plant
from pwflow_core.simulation import SENSORS, write_exports
from pwflow_dagster.definitions import build
from pwflow_dagster.runs import Runner, RunOutcome, run_plant
from pwflow_dagster.sensors import DRIFT_SENSOR
from tests.conftest import MakeOnce, copy_folder

VERDICT = "0123456789ab"
KEYS = ["c0001", "c0002", "c0003", "c0004"]
SLICE_HASHES = """
    SELECT cluster_key, md5(string_agg(concat_ws('|', reading_id, log_density, flow_version, scored_at), ','
                                       ORDER BY reading_id))
    FROM core.component_log_density GROUP BY cluster_key ORDER BY cluster_key
"""
UNCHALLENGED = {"ops": {"small__cluster_flow": {"config": {"challenge": False, "reason": "another seed"}}}}
"""Puts in use what comes out of a training, better or not: which seed wins depends on the processor."""
SETTINGS = {
    "telemetry": {"enabled": False},
    "compute_logs": {  # else each step starts four processes that copy its output
        "module": "dagster._core.storage.noop_compute_log_manager",
        "class": "NoOpComputeLogManager",
    },
}
CONFIG = """
[plant]
name = "small"
[source]
path = "exports/*.parquet"
timestamp = "timestamp"
machine = "machine"
segments = ["recipe"]
[clustering]
n_clusters = 2
[flow]
max_rows = 1000
max_steps = 300
[warehouse]
url = "duckdb:///warehouse.duckdb"
published = "published.duckdb"
[models]
url = "models"
[report]
languages = []
""" + "".join(f'[sensors.{s.name}]\nunit = "{s.unit}"\nlow = {s.low}\nhigh = {s.high}\n' for s in SENSORS)


@dataclass
class DagsterPlant:
    """A plant, its files and its Dagster instance."""

    folder: Path
    config: PlantConfig

    @property
    def plant(self) -> Plant:
        return Plant.open(self.config)

    def instance(self) -> dg.DagsterInstance:
        return dg.DagsterInstance.local_temp(str(self.folder / "dagster"), overrides=SETTINGS)

    def runner(self, instance: dg.DagsterInstance) -> Runner:
        return Runner(self.config, instance, build(self.config).resolve_job_def)

    def run(self) -> list[RunOutcome]:
        with self.instance() as instance:
            return list(run_plant(self.runner(instance)))

    def query(self, sql: str) -> list[tuple]:
        with self.plant.warehouse.snapshot() as connection:
            return connection.execute(sql).fetchall()


def small_config(folder: Path) -> PlantConfig:
    return parse_config(tomllib.loads(CONFIG), name="test", folder=folder)


def write_config(made: DagsterPlant) -> Path:
    """Write the configuration of a plant to its folder, for commands and daemons; return the file."""
    path = made.folder / "pwflow.toml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


def add_verdict(made, *keys, verdict_id=VERDICT, answer="retrain", status="open"):
    """Put a verdict on drift into the warehouse of a plant."""
    kind = next(kind.name for kind in KINDS if kind.answer == answer)
    with made.plant.warehouse.transaction() as connection:
        connection.execute(
            "INSERT INTO mart.drift_verdicts BY NAME SELECT $id AS verdict_id, DATE '2026-01-07' AS night, "
            "$kind AS verdict, $keys AS cluster_keys, DATE '2026-01-06' AS since, "
            "'Regime c0002 moved' AS summary, $answer AS answer, $status AS status",
            {"id": verdict_id, "kind": kind, "keys": list(keys), "answer": answer, "status": status},
        )


def tick(made, instance, sensor=DRIFT_SENSOR):
    """Let a sensor look once, as the daemon does."""
    context = dg.build_sensor_context(instance=instance)
    return build(made.config).resolve_sensor_def(sensor).evaluate_tick(context)


def materialize(made, job, **options):
    """Run a job of a plant in this process."""
    with made.instance() as instance:
        quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
        run_config = quiet | options.pop("run_config", {})
        return (
            build(made.config)
            .resolve_job_def(job)
            .execute_in_process(instance=instance, run_config=run_config, raise_on_error=False, **options)
        )


@pytest.fixture(autouse=True)
def no_instance_of_an_earlier_test() -> Iterator[None]:
    """Dagster looks at the last instance when definitions load; a test that had one may leave it behind, closed."""
    with set_defs_state_storage(None):
        yield


@pytest.fixture(scope="session")
def finished(make_once: MakeOnce) -> DagsterPlant:
    """A plant that has been run once, for tests that only look."""

    def reported(folder: Path) -> DagsterPlant:
        return DagsterPlant(folder, small_config(folder).model_copy(update={"report": ReportConfig()}))

    def make(folder: Path) -> None:
        write_exports(folder, days=3)
        (folder / "dagster").mkdir()
        assert [outcome.error for outcome in reported(folder).run()] == [None, None]

    return reported(make_once("finished", make))


def copy_plant(made: DagsterPlant, folder: Path) -> DagsterPlant:
    """Copy a plant; the runs of the copy write no report, which takes long."""
    copy_folder(made.folder, folder)
    return DagsterPlant(folder, small_config(folder))


@pytest.fixture
def plant(finished: DagsterPlant, tmp_path: Path) -> DagsterPlant:
    """A copy of that plant, to be changed."""
    return copy_plant(finished, tmp_path / "plant")


@pytest.fixture
def here(plant, monkeypatch):
    """A finished plant as the folder that the command line starts in."""
    write_config(plant)
    (plant.folder / "dagster" / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    monkeypatch.chdir(plant.folder)
    monkeypatch.setenv("DAGSTER_HOME", str(plant.folder / "dagster"))
    monkeypatch.delenv("PWFLOW_CONFIG", raising=False)
    return plant
