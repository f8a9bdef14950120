"""However files are split into runs, in whatever order they come, it ends with the tables of one load.

A file may come again as it was, and be corrected later. What the law does not promise, it says: where two files hold a
reading of the same machine at the same time, that of the file that came first is kept, and a file that is corrected
comes anew, behind those that are there by then.
"""

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pwflow_core.pipeline.drift.evidence import follow_drift
from pwflow_core.pipeline.drift.health import derive_health
from pwflow_core.pipeline.scoring.contributions import explain_anomalies
from pwflow_core.pipeline.scoring.events import derive_events
from pwflow_core.plant import Plant
from pwflow_core.warehouse import quote_identifier
from tests.conftest import (
    TRAINED,
    copy_folder,
    examples,
    learn_all,
    merge,
    open_plant,
    plant_readings,
    put_file,
    query,
    read_all,
    score_all,
)
from tests.faults.conftest import open_copy

N_FILES = 4
CONFIG = merge(
    TRAINED,
    {
        "features": {"windows": [5]},
        "flow": {"max_steps": 32},
        "source": {"segments": []},
        "events": {"min_readings": 1},
        "scoring": {"alpha": 0.05},
    },
)
COMPARED = (
    "core.readings",
    "core.filled_values",
    "core.cluster_assignments",
    "core.component_log_density",
    "core.drift_blocks",
    "mart.anomaly_scores",
    "mart.sensor_contributions",
    "mart.anomaly_events",
    "mart.cluster_health",
)
LEFT_OUT = ("file_id", "row_number", "batch_id", "model_set_id", "scored_at", "channels", "sensors", "improbable")
"""Columns that say which file or run came when, and means whose last digits depend on the order of addition."""

Coming = tuple[int, bool]
"""A file that comes in a run, and whether it is a draft that will be corrected."""


def overlapping(number: int) -> pd.DataFrame:
    """Readings of half an hour, the last third of which is also, and differently, in the next file."""
    return plant_readings(30, seed=10 + number, start=f"2024-04-01 {number // 3:02d}:{20 * (number % 3):02d}")


def draft(readings: pd.DataFrame) -> pd.DataFrame:
    """Readings before they were corrected: some are off, some are missing."""
    return readings.assign(pressure=readings.pressure + 3.0).iloc[: 2 * len(readings) // 3]


FILES = [overlapping(number) for number in range(N_FILES)]
APART = [readings.groupby("machine").head(20) for readings in FILES]


@st.composite
def histories(draw: st.DrawFn) -> list[list[Coming]]:
    """Draw runs: every file comes for good in one of them; before that its draft may have, afterwards it may again."""
    runs: list[list[Coming]] = [[] for _ in range(draw(st.integers(1, 3)))]
    last = len(runs) - 1
    for number in draw(st.permutations(range(N_FILES))):
        for_good = draw(st.integers(0, last))
        if for_good and draw(st.booleans()):
            runs[draw(st.integers(0, for_good - 1))].append((number, True))
        runs[for_good].append((number, False))
        if for_good < last and draw(st.booleans()):
            runs[draw(st.integers(for_good + 1, last))].append((number, False))
    return runs


def come(plant: Plant, runs: Iterable[Iterable[Coming]], files: Sequence[pd.DataFrame]) -> None:
    """Let the files of each run come, and do what a night does."""
    for moment, run in enumerate(runs, 1):
        for number, is_draft in run:
            path = plant.config.folder / "data" / f"{number}.csv"
            put_file(path, draft(files[number]) if is_draft else files[number])
            os.utime(path, (moment, moment))
        read_all(plant)
        score_all(plant)
        explain_anomalies(plant)
        derive_events(plant)
        derive_health(plant)
        follow_drift(plant)


@pytest.fixture(scope="module")
def learned(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("any-order") / "learned"
    put_file(folder / "data" / "first.csv", plant_readings(500))
    plant = open_plant(folder, CONFIG)
    read_all(plant)
    learn_all(plant)
    come(plant, [[]], [])
    return folder


def end_of(learned: Path, runs: Iterable[Iterable[Coming]], files: Sequence[pd.DataFrame]) -> dict[str, list[tuple]]:
    """Return what a history of files ends with."""
    folder = learned.with_name("plant")
    shutil.rmtree(folder, ignore_errors=True)
    plant = open_copy(copy_folder(learned, folder))
    come(plant, runs, files)
    found = {}
    for table in COMPARED:
        columns = query(
            plant,
            "SELECT column_name FROM duckdb_columns() WHERE schema_name || '.' || table_name = ? "
            "AND NOT list_contains(?, column_name)",
            table,
            LEFT_OUT,
        )
        names = [quote_identifier(name) for (name,) in columns]
        found[table] = query(plant, f"SELECT {', '.join(names)} FROM {table} ORDER BY ALL")
    found["mart.cluster_health"] = [
        (*row[:3], None if row[3] is None else round(row[3], 6), *row[4:]) for row in found["mart.cluster_health"]
    ]
    return found


LAW = settings(
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
    max_examples=examples(2, 100),
)


@pytest.fixture(scope="module")
def at_once(learned) -> dict[str, list[tuple]]:
    return end_of(learned, [[(number, False) for number in range(N_FILES)]], APART)


@LAW
@given(runs=histories())
def test_files_that_share_no_reading_end_with_the_tables_of_one_load(learned, at_once, runs):
    assert end_of(learned, runs, APART) == at_once


@pytest.mark.long
@LAW
@given(runs=histories())
def test_of_files_that_share_readings_those_that_came_first_are_kept_and_a_corrected_file_comes_anew(learned, runs):
    known: dict[int, bool] = {}
    for number, is_draft in (coming for run in runs for coming in sorted(run)):
        if known.get(number) != is_draft:
            known.pop(number, None)  # it goes to the end
            known[number] = is_draft
    kept = pd.concat([FILES[number] for number in known]).drop_duplicates(["machine", "ts"])
    one_file = [kept.sort_values(["machine", "ts"])]
    assert end_of(learned, runs, FILES) == end_of(learned, [[(0, False)]], one_file)
