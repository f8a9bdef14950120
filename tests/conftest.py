"""Plants for tests: real files in, a real warehouse out, small enough to train in seconds.

A test is in one of three tiers, by its mark:

    quick    `make quick`      under a minute: laws, texts, configuration; no plant is trained, no process started
    (none)   `make test`       what a change has to pass, the quick ones too; at most 12 minutes on two cores
    long     `make test-all`   all of it, for the night: random kills, the soak, browsers, whole benchmarks

A test that is too long says why that is no loss at a push: `long(reason="30 CPU s: ...")`; CONTRIBUTING.md has the ways
to make it cheaper first. A whole file is marked with `pytestmark`. What runs is chosen by `-m`, and pyproject.toml
leaves out what is long: `pytest -m long tests/faults/test_soak.py` runs it, `pytest -m ""` runs everything. In
`make test-all` Hypothesis also tries more examples, by its profile `night`.
"""

from __future__ import annotations

import fcntl
import gc
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest
from hypothesis import settings

from pwflow_core.config import PlantConfig, parse_config
from pwflow_core.pipeline.flows.training import train_cluster_flows
from pwflow_core.pipeline.publishing.publishing import publish_warehouse
from pwflow_core.pipeline.readings.deriving import derive_readings
from pwflow_core.pipeline.regimes.assigning import assign_readings
from pwflow_core.pipeline.regimes.finding import fit_cluster_model
from pwflow_core.pipeline.scoring.densities import score_slices
from pwflow_core.pipeline.scoring.scores import derive_scores
from pwflow_core.pipeline.source.ingest import ingest_files
from pwflow_core.plant import Plant
from tests.processes import Stem, python_path

Content = str | bytes | pd.DataFrame
MakePlant = Callable[..., Plant]
MakeOnce = Callable[[str, Callable[[Path], None]], Path]

settings.register_profile("night")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

DEFAULTS: dict[str, Any] = {
    "source": {"path": "data/*", "timestamp": "ts", "machine": "machine", "timezone": "UTC"},
    "sensors": {"temperature": {"unit": "°C"}, "pressure": {"unit": "bar"}},
    "warehouse": {
        "url": os.environ.get("PWFLOW_TEST_WAREHOUSE", "duckdb:///warehouse.duckdb"),
        "published": "published.duckdb",
        "wait_seconds": 20.0,
    },
    "models": {"url": "models"},
}

TRAINED: dict[str, Any] = {
    "source": {"segments": ["recipe"]},
    "sensors": {"temperature": {"unit": "°C", "low": -100.0, "high": 100.0}, "pressure": {"unit": "bar"}},
    "clustering": {"n_clusters": 2},
    "scoring": {"alpha": 0.01},
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest file: no core has it alone at the end, and another makes the plants that most ask for."""
    items.sort(key=lambda item: item.path.name != "test_points.py")


def pytest_collection_finish() -> None:
    """Leave what was imported out of each later garbage collection: it is most of what that would look through."""
    gc.collect()
    gc.freeze()


def examples(n_push: int, n_night: int) -> int:
    """Return how many examples Hypothesis is to try: more in `make test-all`."""
    return n_night if settings.get_current_profile_name() == "night" else n_push


def merge(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `values` with `changes` on top; sections are merged, `sensors` are replaced, None removes a key."""
    merged = {**values}
    for key, change in changes.items():
        if isinstance(change, Mapping) and isinstance(merged.get(key), Mapping) and key != "sensors":
            merged[key] = {k: v for k, v in {**merged[key], **change}.items() if v is not None}
        else:
            merged[key] = change
    return merged


def put_file(path: Path, content: Content) -> Path:
    """Write a file of the source; a frame becomes Parquet or CSV by the ending of the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, pd.DataFrame):
        if path.suffix == ".parquet":
            with duckdb.connect() as connection:
                connection.execute("SET TimeZone = 'UTC'")
                connection.register("frame", content)
                target = str(path).replace("'", "''")
                connection.execute(f"COPY (FROM frame) TO '{target}' (FORMAT parquet)")
        else:
            content.to_csv(path, index=False)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content, encoding="utf-8")
    return path


WITH_STATES: dict[str, Any] = {
    **TRAINED,
    "sensors": {**TRAINED["sensors"], **{name: {"state": True} for name in ("pump", "heater", "setpoint")}},
}


def open_plant(folder: Path, changes: Mapping[str, Any] | None = None) -> Plant:
    """Open the plant of a folder with the default configuration and some changes to it."""
    values = merge(DEFAULTS, changes or {})
    (folder / "config.json").write_text(json.dumps(values))
    return Plant.open(parse_config(values, name="the test", folder=folder))


def read_all(plant: Plant) -> None:
    """Ingest and make readings."""
    ingest_files(plant)
    derive_readings(plant)


def learn_all(plant: Plant) -> None:
    """Find the regimes, assign, train, and score."""
    fit_cluster_model(plant)
    assign_readings(plant)
    train_cluster_flows(plant, reason="first", promoted_by="test")
    score_all(plant)


def score_all(plant: Plant) -> None:
    """Assign, score, and derive what is missing."""
    assign_readings(plant)
    list(score_slices(plant))
    derive_scores(plant)


def query(plant: Plant, sql: str, *values: object) -> list[tuple[Any, ...]]:
    """Return the rows of a query on the warehouse."""
    with plant.warehouse.snapshot() as connection:
        return connection.execute(sql, list(values)).fetchall()


def frame(plant: Plant, sql: str, *values: object) -> pd.DataFrame:
    """Return a query on the warehouse as a frame."""
    with plant.warehouse.snapshot() as connection:
        return connection.execute(sql, list(values)).df()


def plant_readings(n_times: int = 1500, seed: int = 0, start: str = "2024-03-01") -> pd.DataFrame:
    """Two machines, two recipes, two overlapping regimes in each; a few readings without or with bad values."""
    rng = np.random.default_rng(seed)
    parts = []
    for number, machine in enumerate(("press-1", "press-2")):
        recipe = np.where((np.arange(n_times) // 25 + number) % 2, "A", "B")
        regime = rng.random(n_times) < 0.4
        temperature = rng.normal(20, 1, n_times) + 5 * regime + 10 * (recipe == "B")
        pressure = 0.1 * (temperature - 20) ** 2 + rng.normal(3, 0.5, n_times)
        temperature[rng.random(n_times) < 0.01] = np.nan
        temperature[rng.random(n_times) < 0.01] = 500.0
        parts.append(
            pd.DataFrame(
                {
                    "ts": pd.date_range(start, periods=n_times, freq="60s").strftime("%Y-%m-%dT%H:%M:%SZ"),
                    "machine": machine,
                    "recipe": recipe,
                    "temperature": temperature,
                    "pressure": pressure,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def with_states(readings: pd.DataFrame) -> pd.DataFrame:
    """Add a pump that runs for 30 minutes of 40, a heater that is on for the first 10 of these, and a setpoint."""
    minute = readings.groupby("machine").cumcount() % 40
    return readings.assign(pump=(minute < 30).astype(int), heater=(minute < 10).astype(int), setpoint=4.5)


@pytest.fixture
def make_plant(tmp_path: Path) -> MakePlant:
    """Return a function that writes files to `data/` and opens the plant that reads them."""

    def make(files: Mapping[str, Content] | None = None, **changes: Any) -> Plant:
        for name, content in (files or {}).items():
            put_file(tmp_path / "data" / name, content)
        return open_plant(tmp_path, changes)

    return make


@pytest.fixture(scope="session")
def make_once(tmp_path_factory: pytest.TempPathFactory) -> MakeOnce:
    """Return a function that fills a folder once in a run, in whichever of its processes is the first to ask.

    All of them get the same folder: it is there to be copied or looked at.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent

    def find(name: str, make: Callable[[Path], None]) -> Path:
        folder, is_made = shared / name, shared / f"{name}.made"
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not is_made.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                is_made.touch()
        return folder

    return find


@pytest.fixture(scope="session")
def stem(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stem]:
    """Return the process that others are forked from."""
    made = Stem(tmp_path_factory.mktemp("stem"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def _trained_folder(make_once: MakeOnce) -> Path:
    def make(folder: Path) -> None:
        put_file(folder / "data" / "first.parquet", plant_readings())
        plant = open_plant(folder, TRAINED)
        read_all(plant)
        learn_all(plant)
        publish_warehouse(plant)
        shutil.rmtree(folder / "data")  # what was ingested stays; a test has only the files that it adds

    return make_once("trained", make)


@pytest.fixture
def trained_plant(_trained_folder: Path, tmp_path: Path) -> Plant:
    """Return a copy of a plant that has read, learned, scored and published once."""
    shutil.copytree(_trained_folder, tmp_path, dirs_exist_ok=True)
    return open_plant(tmp_path, TRAINED)


@pytest.fixture(scope="session")
def _states_folder(make_once: MakeOnce) -> Path:
    def make(folder: Path) -> None:
        put_file(folder / "data" / "first.parquet", with_states(plant_readings()))
        plant = open_plant(folder, WITH_STATES)
        read_all(plant)
        learn_all(plant)
        shutil.rmtree(folder / "data")

    return make_once("states", make)


@pytest.fixture
def plant_with_states(_states_folder: Path, tmp_path: Path) -> Plant:
    """Return a copy of a plant that has read, learned and scored once, with three states."""
    shutil.copytree(_states_folder, tmp_path, dirs_exist_ok=True)
    return open_plant(tmp_path, WITH_STATES)


def copy_folder(source: Path, target: Path) -> Path:
    """Copy the folder of a plant with the files of its source.

    Files are known by their whole paths: those of the copy get theirs, or each would count as a new one, and all rows
    of a corrected one would be refused as duplicates.
    """
    shutil.copytree(source, target)
    renamed = "UPDATE ingest.files SET path = replace(path, ?, ?)", [str(source), str(target)]
    if (target / "warehouse.duckdb").exists():
        with duckdb.connect(str(target / "warehouse.duckdb")) as connection:
            connection.execute(*renamed)
    else:
        values = json.loads((target / "config.json").read_text())
        with Plant.open(parse_config(values, name="the test", folder=target)).warehouse.transaction() as connection:
            connection.execute(*renamed)
    return target


def reopen(plant: Plant, **changes: Any) -> Plant:
    """Open the same trained plant under a changed configuration."""
    return open_plant(plant.config.folder, merge(TRAINED, changes))


_PREAMBLE = """
import importlib, json, os, pathlib, signal, sys
folder = pathlib.Path(sys.argv[1])
from pwflow_core.config import parse_config
from pwflow_core.plant import Plant
plant = Plant.open(parse_config(json.loads((folder / "config.json").read_text()), name="the test", folder=folder))
"""


def start_process(plant: Plant, code: str) -> subprocess.Popen[str]:
    """Start another process that runs `code`, with `plant` opened in it."""
    return subprocess.Popen(
        [sys.executable, "-c", _PREAMBLE + code, str(plant.config.folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": python_path()},
    )


def kill_at(stem: Stem, plant: Plant, module: str, function: str, code: str) -> None:
    """Run `code` in another process that is killed with SIGKILL when it first calls `module.function`."""
    trap = f"""
import importlib, signal
setattr(importlib.import_module({module!r}), {function!r}, lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL))
"""
    ended = stem.run(plant, trap + code)
    assert ended.was_killed, ended.output


def config_of(**changes: Any) -> PlantConfig:
    """Return a valid configuration with changes."""
    return parse_config(merge(DEFAULTS, changes), name="pwflow.toml", folder=Path("/plant"))
