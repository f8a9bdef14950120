"""Daily files of the simulated plant as a historian writes them, and the truth in a folder of its own.

    <folder>/exports/2026-01-05.parquet   what the pipeline reads, one file per day
    <folder>/truth/truth.parquet          regime, fault, wear and blemish of every reading
    <folder>/truth/faults.parquet         one row per fault
    <folder>/truth/manifest.json          the plant's parameters and a hash of every file

The pipeline never reads the truth.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from pwflow_core.errors import ConfigurationError
from pwflow_core.simulation.faults import Fault
from pwflow_core.simulation.physics import AGEING_DAYS, AGEING_END_SHIFT, AGEING_REGIME
from pwflow_core.simulation.plant import (
    DEFAULT_AGEING_DAY,
    DEFAULT_SEED,
    DEFAULT_START,
    PlantReadings,
    SimulatedPlant,
)
from pwflow_core.simulation.sensors import SENSOR_NAMES
from pwflow_core.storage import replacing

__all__ = ["ExportedPlant", "write_exports"]

_DATA_VERSION = 1
"""Raised whenever equal parameters no longer give equal files."""

_TRUTH_TABLES = """
CREATE TABLE truth (
    "timestamp" TIMESTAMPTZ, machine VARCHAR, recipe VARCHAR, regime VARCHAR,
    fault_kind VARCHAR, fault_id VARCHAR, is_aged BOOLEAN, blemish VARCHAR
);
CREATE TABLE faults (
    fault_id VARCHAR, kind VARCHAR, machine VARCHAR, "start" TIMESTAMPTZ, "end" TIMESTAMPTZ,
    sensors VARCHAR[], magnitude DOUBLE, donor_regime VARCHAR, detail VARCHAR
);
"""
_FAULT_COLUMNS = tuple(field.name for field in fields(Fault))


@dataclass(frozen=True)
class ExportedPlant:
    """Where the files of a plant are, and what writing them came to.

    Attributes:
        exports: The daily files, by day.
        truth: Truth per reading.
        faults: Truth per fault.
        n_written: Files that were written.
        n_kept: Files that were there already, with the same content, and were not touched.
    """

    exports: tuple[Path, ...]
    truth: Path
    faults: Path
    n_written: int
    n_kept: int


def write_exports(
    folder: str | Path,
    days: int = 60,
    seed: int = DEFAULT_SEED,
    start: date = DEFAULT_START,
    *,
    ageing_from_day: int | None = DEFAULT_AGEING_DAY,
    with_faults: bool = True,
    with_blemishes: bool = True,
) -> ExportedPlant:
    """Write the first days of a simulated plant as daily Parquet files, with the truth beside them.

    Files that are there with the right content are left as they are, so a second call changes nothing, and a
    call for more days adds only those.

    Arguments:
        folder: Created if need be.
        days: Number of days, counted from the start.
        seed: Non-negative; equal seeds give equal files.
        start: Date of the first file, UTC.
        ageing_from_day: Day on which the tool of recipe B's roughing begins to wear, None for never.
        with_faults: Whether there are faults.
        with_blemishes: Whether there are missing, impossible and repeated readings.

    Raises:
        ConfigurationError: Fewer than one day, or the folder holds a plant with other parameters.
    """
    if days < 1:
        raise ConfigurationError(
            f"The simulated plant needs at least 1 day, got {days}. Ask for 1 or more; 60 is the default."
        )
    plant = SimulatedPlant(seed, start, ageing_from_day, with_faults, with_blemishes)
    root = Path(folder)
    truth_folder = root / "truth"
    manifest_path = truth_folder / "manifest.json"
    manifest = _read_manifest(manifest_path, plant)
    known_hashes: dict[str, str] = manifest["files"]

    exports = tuple(root / "exports" / f"{start + timedelta(days=day)}.parquet" for day in range(days))
    truth, faults = truth_folder / "truth.parquet", truth_folder / "faults.parquet"
    named = {path.relative_to(root).as_posix(): path for path in (*exports, truth, faults)}
    if days <= manifest["days"] and all(_is_intact(path, known_hashes.get(key)) for key, path in named.items()):
        return ExportedPlant(exports, truth, faults, n_written=0, n_kept=len(named))

    # Days that were exported before are never dropped from the truth.
    all_days = max(days, int(manifest["days"]))
    written = 0
    with duckdb.connect(":memory:", config={"threads": 1}) as connection:
        connection.execute(_TRUTH_TABLES)
        for day, readings in enumerate(plant.days(0, all_days - 1)):
            day_truth = _truth_frame(readings)  # noqa: F841 -- DuckDB finds it by its name
            connection.execute("INSERT INTO truth BY NAME FROM day_truth")
            if day < days:
                key = exports[day].relative_to(root).as_posix()
                if not _is_intact(exports[day], known_hashes.get(key)):
                    written += _write_parquet(connection.from_df(_export_frame(readings)), exports[day])
        for fault in plant.faults(0, all_days - 1):
            row = [getattr(fault, name) for name in _FAULT_COLUMNS]
            connection.execute("INSERT INTO faults VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        written += _write_parquet(connection.table("truth"), truth)
        written += _write_parquet(connection.table("faults"), faults)

    hashes = known_hashes | {key: _sha256(path) for key, path in named.items()}
    content = json.dumps(_manifest(plant, all_days, hashes), indent=2, ensure_ascii=False) + "\n"
    _replace(manifest_path, lambda path: path.write_text(content, encoding="utf-8"))
    return ExportedPlant(exports, truth, faults, n_written=written, n_kept=len(named) - written)


def _manifest(plant: SimulatedPlant, days: int, hashes: dict[str, str]) -> dict[str, Any]:
    return {
        "data_version": _DATA_VERSION,
        "plant": asdict(plant) | {"start": plant.start.isoformat()},
        "ageing": None
        if plant.ageing_from_day is None
        else {
            "regime": AGEING_REGIME,
            "from_date": (plant.start + timedelta(days=plant.ageing_from_day)).isoformat(),
            "full_after_days": AGEING_DAYS,
            "end_shift": AGEING_END_SHIFT,
        },
        "days": days,
        "files": dict(sorted(hashes.items())),
    }


def _read_manifest(path: Path, plant: SimulatedPlant) -> dict[str, Any]:
    fresh = _manifest(plant, 0, {})
    if not path.exists():
        return fresh
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:  # damaged: what it says about the files cannot be relied on, the files can be compared
        return fresh
    wanted, there = ({key: m.get(key) for key in ("data_version", "plant", "ageing")} for m in (fresh, found))
    if wanted != there:
        plant_there = there["plant"] or {}
        differing = ", ".join(
            f"{key} is {plant_there.get(key)!r} there and {value!r} here"
            for key, value in fresh["plant"].items()
            if plant_there.get(key) != value
        )
        raise ConfigurationError(
            f"{path.parent.parent} already holds a simulated plant with other parameters "
            f"({differing or 'from another version of the simulation'}). "
            "Give another folder, or delete this one first."
        )
    return found


def _export_frame(readings: PlantReadings) -> pd.DataFrame:
    """Lay out one day as the historian does: by time, repeated rows included, no truth."""
    order = np.lexsort((readings.machine, readings.timestamp))
    order = np.repeat(order, np.where(readings.blemish[order] == "duplicate", 2, 1))
    columns: dict[str, Any] = {
        "timestamp": pd.DatetimeIndex(readings.timestamp[order], tz="UTC"),
        "machine": readings.machine[order].astype(object),
        "recipe": readings.recipe[order].astype(object),
    }
    columns |= {name: readings.values[order, column] for column, name in enumerate(SENSOR_NAMES)}
    return pd.DataFrame(columns)


def _truth_frame(readings: PlantReadings) -> pd.DataFrame:
    order = np.lexsort((readings.machine, readings.timestamp))
    frame = pd.DataFrame({"timestamp": pd.DatetimeIndex(readings.timestamp[order], tz="UTC")})
    for name in ("machine", "recipe", "regime", "fault_kind", "fault_id", "blemish"):
        text = getattr(readings, name)[order].astype(object)
        frame[name] = np.where(text == "", np.array(None), text)
    frame["is_aged"] = readings.is_aged[order]
    return frame


def _write_parquet(relation: duckdb.DuckDBPyRelation, path: Path) -> bool:
    """Write Parquet unless the file is there with the same bytes; say whether it was written."""
    return _replace(path, lambda temporary: relation.write_parquet(str(temporary), compression="zstd"))


def _replace(path: Path, write: Callable[[Path], object]) -> bool:
    """Let a file appear whole or not at all, and leave one with equal bytes untouched."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as fresh:
        write(fresh)
        equal = path.exists() and fresh.read_bytes() == path.read_bytes()
        if equal:
            fresh.unlink()
    return not equal


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _is_intact(path: Path, sha256: str | None) -> bool:
    return sha256 is not None and path.exists() and _sha256(path) == sha256
