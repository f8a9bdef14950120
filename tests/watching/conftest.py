"""A plant whose cases were told once, and watches of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest

from pwflow_core.config import PlantConfig
from pwflow_core.pipeline.cases.deriving import derive_cases
from pwflow_core.pipeline.decisions.verdicts import Decider
from pwflow_core.pipeline.scoring.contributions import explain_anomalies
from pwflow_core.pipeline.scoring.events import derive_events
from pwflow_core.plant import Plant
from pwflow_core.watching.arriving import Source
from pwflow_core.watching.copying import copy_night
from pwflow_core.watching.folder import Folder
from pwflow_core.watching.service import Watch
from tests.conftest import TRAINED, copy_folder, merge, open_plant, plant_readings, put_file, read_all, score_all

LATER = "2024-03-02T01:00:00"
"""Where the readings of the trained plant end."""
WATCHED = {"watch": {"poll_seconds": 0.02, "publish_seconds": 0.1, "listen": ""}}
FAULT = slice(200, 230)


def open_watched(folder: Path, **changes: Any) -> Plant:
    return open_plant(folder, merge(merge(TRAINED, WATCHED), changes))


def tell_cases(plant: Plant, run: str = "run-1") -> None:
    explain_anomalies(plant)
    derive_events(plant)
    derive_cases(plant, by=Decider(run, run))


def have_a_night(plant: Plant, run: str = "run-2") -> None:
    """Do what a nightly run does with the files of the source."""
    read_all(plant)
    score_all(plant)
    tell_cases(plant, run)


@pytest.fixture(scope="session")
def _watched_folder(make_once, _trained_folder):
    def make(folder: Path) -> None:
        copy = copy_folder(_trained_folder, folder / "plant")
        plant = open_watched(copy)
        tell_cases(plant)
        copy_night(plant, plant.config.watch_folder)

    return make_once("watched", make)


@pytest.fixture
def watched(_watched_folder, tmp_path) -> Plant:
    """Return a copy of a plant that has learned, scored, told its cases, and was copied for a watch."""
    return open_watched(copy_folder(_watched_folder / "plant", tmp_path / "plant"))


def later_readings(n_times: int = 300, *, seed: int = 7, start: str = LATER, fault: bool = True) -> pd.DataFrame:
    """Return readings after those of the trained plant, in the order of time; press-1 has a fault for a while."""
    readings = plant_readings(n_times, seed=seed, start=start)
    if fault:
        rows = readings.index[readings.machine == "press-1"][FAULT]
        readings.loc[rows, "pressure"] += 25.0
    return readings.sort_values("ts", kind="stable", ignore_index=True)


def add_lines(plant: Plant, readings: pd.DataFrame, name: str = "later.csv") -> Path:
    """Append readings to a file of the source; the first ones bring the header."""
    path = plant.config.folder / "data" / name
    if not path.exists():
        return put_file(path, readings)
    with path.open("a") as file:
        readings.to_csv(file, index=False, header=False)
    return path


def in_this_process(config: PlantConfig, folder: Path) -> None:
    copy_night(Plant.open(config), folder)


def make_watch(plant: Plant, source: Callable[..., Source] | None = None, **options: Any) -> Watch:
    options = {"once": True, "copy_night": in_this_process} | options
    return Watch(
        plant, source or (lambda night, positions: Folder(plant.config, positions(Folder.name), night.files)), **options
    )


def live(plant: Plant, sql: str = "SELECT * FROM live_scores ORDER BY machine_id, ts") -> pd.DataFrame:
    """Return a query on what the watch keeps."""
    with closing(sqlite3.connect(plant.config.watch_folder / "live.sqlite")) as connection:
        return pd.read_sql_query(sql, connection)


def published(plant: Plant, sql: str) -> list[tuple[Any, ...]]:
    """Return a query on the live scores as analysts have them."""
    with duckdb.connect(str(plant.config.live_path), read_only=True) as connection:
        return connection.execute(sql).fetchall()
