"""A small plant that went through the whole path once, copied for every test that changes it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest

from pwflow_core.config import PlantConfig, parse_config
from pwflow_core.plant import Plant
from pwflow_core.simulation import SENSORS, write_exports
from pwflow_dagster.runs import RunOutcome, run_plant


@dataclass
class DagsterPlant:
    """A plant, its files and its Dagster instance."""

    folder: Path
    config: PlantConfig

    @property
    def plant(self) -> Plant:
        return Plant.open(self.config)

    def instance(self) -> dg.DagsterInstance:
        return dg.DagsterInstance.local_temp(str(self.folder / "dagster"), overrides={"telemetry": {"enabled": False}})

    def run(self) -> list[RunOutcome]:
        with self.instance() as instance:
            return list(run_plant(self.config, instance))

    def query(self, sql: str) -> list[tuple]:
        with self.plant.warehouse.snapshot() as connection:
            return connection.execute(sql).fetchall()


def small_config(folder: Path) -> PlantConfig:
    return parse_config(
        {
            "plant": {"name": "small"},
            "source": {
                "path": "exports/*.parquet",
                "timestamp": "timestamp",
                "machine": "machine",
                "segments": ["recipe"],
            },
            "sensors": {s.name: {"unit": s.unit, "low": s.low, "high": s.high} for s in SENSORS},
            "clustering": {"n_clusters": 2},
            "flow": {"max_rows": 1000},
            "warehouse": {"url": "duckdb:///warehouse.duckdb", "published": "published.duckdb"},
            "models": {"url": "models"},
        },
        name="test",
        folder=folder,
    )


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> DagsterPlant:
    folder = tmp_path_factory.mktemp("finished")
    write_exports(folder, days=3)
    (folder / "dagster").mkdir()
    made = DagsterPlant(folder, small_config(folder))
    outcomes = made.run()
    assert [outcome.error for outcome in outcomes] == [None, None]
    return made


@pytest.fixture
def plant(finished: DagsterPlant, tmp_path: Path) -> DagsterPlant:
    folder = tmp_path / "plant"
    shutil.copytree(finished.folder, folder)
    made = DagsterPlant(folder, small_config(folder))
    # the copies keep their content; only their paths are new
    with made.plant.warehouse.transaction() as connection:
        connection.execute("UPDATE ingest.files SET path = replace(path, ?, ?)", [str(finished.folder), str(folder)])
    return made
