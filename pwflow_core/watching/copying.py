"""Copying the night: what the watch needs of the warehouse, written to a folder of its own and then pointed at.

It runs in a process of its own (`python -m pwflow_core.watching.copying`, with the configuration on standard input):
exporting models loads PyTorch, and the watch shall stay small.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb

from pwflow_core.config import parse_config
from pwflow_core.errors import NotFittedError, PwflowError, SourceError
from pwflow_core.pipeline.cases.deriving import rules_of
from pwflow_core.pipeline.readings.timing import read_timing
from pwflow_core.pipeline.source.source import find_files, know_files
from pwflow_core.pipeline.using.bundling import export_bundle
from pwflow_core.plant import Plant
from pwflow_core.storage import flush, working_folder
from pwflow_core.warehouse import FileWarehouse, fetch_value, quote_literal, read_sql
from pwflow_core.watching.night import BUNDLE, CASES, FACTS, POINTER

__all__ = ["copy_night"]

_ATTEMPTS = 3
_WHOLE = (
    "core.plant_facts",
    "core.progress",
    "core.model_sets",
    "core.calibration",
    "core.event_ids",
    "core.case_evidence",
    "core.case_profiles",
    "mart.cases",
    "mart.case_events",
    "mart.case_changes",
    "mart.told_cases",
    "mart.event_evidence",
    "mart.promise_days",
    "mart.clusters",
    "mart.drift_verdicts",
    "mart.regime_names",
    "mart.sensors",
)
_READING = "reading_id, machine_id, ts, segment, batch_id"
_AT_LEAST = timedelta(days=1)


def copy_night(plant: Plant, folder: Path) -> str:
    """Copy what the watch needs of the warehouse as it is now; return the name of the copy.

    Arguments:
        plant: The plant.
        folder: Of the watch; it is made if it is not there.

    Raises:
        NotFittedError: Nothing was scored yet, or a run is at work that finds other regimes.
        WarehouseLockedError: The warehouse was not free for too long.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with working_folder(folder, "night") as work:
        for _ in range(_ATTEMPTS):
            (work / CASES).unlink(missing_ok=True)
            facts = _copy_tables(plant, work / CASES)
            export_bundle(plant, work / BUNDLE)
            with plant.warehouse.snapshot() as connection:
                if plant.warehouse.commit_number(connection) == facts["commit"]:
                    break
        else:
            raise NotFittedError("A run is writing to the warehouse: it is copied again once the run has ended.")
        (work / FACTS).write_text(json.dumps(facts), encoding="utf-8")
        for path in (work / CASES, work / FACTS, work):
            flush(path)
        name = f"night-{facts['commit']}-{time.time_ns()}"
        (work / POINTER).write_text(name)
        flush(work / POINTER)
        target = folder / name
        target.mkdir()
        for part in (CASES, FACTS, BUNDLE):
            (work / part).replace(target / part)
        (work / POINTER).replace(folder / POINTER)
    flush(folder)
    for other in folder.glob("night-*"):
        if other.name != name:
            shutil.rmtree(other, ignore_errors=True)
    return name


def _copy_tables(plant: Plant, target: Path) -> dict[str, Any]:
    """Write the tables that cases are derived from to a warehouse of their own; return the facts of the night."""
    fresh = FileWarehouse(target, wait_seconds=1.0, memory_limit=plant.config.compute.memory_limit)
    with fresh.transaction():
        pass  # makes the tables
    with plant.warehouse.snapshot() as connection:
        since = _needed_since(plant, connection)
        connection.execute(f"ATTACH {quote_literal(str(target))} AS night (READ_WRITE)")
        for table in _WHOLE:
            connection.execute(f"INSERT INTO night.{table} BY NAME SELECT * FROM {table}")
        for table in ("mart.anomaly_scores", "mart.sensor_contributions"):
            connection.execute(f"INSERT INTO night.{table} BY NAME SELECT * FROM {table} WHERE ts >= ?", [since])
        connection.execute(
            f"INSERT INTO night.core.readings BY NAME SELECT {_READING} FROM core.readings WHERE ts >= ?", [since]
        )
        facts = {"commit": plant.warehouse.commit_number(connection), **_describe(plant, connection)}
        connection.commit()
        connection.execute("CHECKPOINT night")
        connection.execute("DETACH night")
    return facts


def _needed_since(plant: Plant, connection: duckdb.DuckDBPyConnection) -> object:
    """Return from when on the cases that go on, or may come back, depend on scores."""
    timing = read_timing(connection, plant.config)
    rules = rules_of(plant, timing.interval_seconds if timing else 60.0)
    values = {
        "at_least": max(_AT_LEAST, 3 * rules.gap),
        "quiet": rules.quiet,
        "comeback": rules.comeback,
        "gap": rules.gap,
        "patience": rules.patience,
    }
    return fetch_value(connection, read_sql(__package__, "needed_since.sql"), values)


def _describe(plant: Plant, connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    last_run = connection.execute(
        "SELECT job, outcome, epoch_us(ended_at) FROM mart.runs WHERE ended_at IS NOT NULL "
        "ORDER BY ended_at DESC LIMIT 1"
    ).fetchone()
    return {
        "scored_until": dict(
            connection.execute(
                "SELECT machine_id, epoch_us(max(ts)) FROM mart.anomaly_scores GROUP BY machine_id ORDER BY machine_id"
            ).fetchall()
        ),
        "files": _sizes(plant, connection),
        "last_run": None if last_run is None else dict(zip(("job", "outcome", "ended_at"), last_run, strict=True)),
        "scored_at": fetch_value(connection, "SELECT epoch_us(max(scored_at)) FROM mart.anomaly_scores"),
    }


def _sizes(plant: Plant, connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Return how many bytes of each file of the source were read."""
    if plant.config.source.path is None:
        return {}
    try:
        names = know_files(plant.config, find_files(plant.config))
    except SourceError:
        return {}
    sizes = dict(
        connection.execute(
            "SELECT path, size_bytes FROM ingest.files WHERE superseded_in IS NULL AND status = 'ingested'"
        ).fetchall()
    )
    return {path: sizes[name] for path, name in names.items() if name in sizes}


def main() -> int:
    """Copy the night of the plant whose configuration is on standard input into the folder that is named."""
    given = json.load(sys.stdin)
    try:
        config = parse_config(given["config"], name="the watch", folder=Path(given["folder"]))
        copy_night(Plant.open(config), Path(sys.argv[1]))
    except PwflowError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
