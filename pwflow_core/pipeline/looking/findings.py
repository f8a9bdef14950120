"""What is wrong with a plant, as far as its warehouse and its disk tell, each with what to do about it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import duckdb

from pwflow_core.config import PlantConfig
from pwflow_core.errors import count, list_few
from pwflow_core.pipeline.decisions.verdicts import open_verdicts
from pwflow_core.pipeline.looking.status import next_step
from pwflow_core.pipeline.regimes.naming import read_names
from pwflow_core.pipeline.scoring.sight import blind_sensors, read_sight
from pwflow_core.plant import Plant
from pwflow_core.warehouse import fetch_value

__all__ = ["Finding", "examine_disk", "examine_warehouse"]

_SPARE_BYTES = 1_000_000_000
_SILENT = timedelta(hours=24)
_GIGABYTE = 1e9


@dataclass(frozen=True)
class Finding:
    """What was found out about one thing.

    Attributes:
        about: The thing, in a word or two.
        is_well: Whether nothing has to be done.
        sentence: What is so.
        next_step: What to do; empty where nothing has to be done.
    """

    about: str
    is_well: bool
    sentence: str
    next_step: str = ""


def examine_disk(config: PlantConfig) -> Finding:
    """Say whether the disk has room for the next runs: for all that is there a second time, and a gigabyte."""
    wanted_on: dict[Path, int] = {}
    for path in _stored(config):
        mount = _mount(path)
        wanted_on[mount] = wanted_on.get(mount, _SPARE_BYTES) + _size(path)
    free_on = {mount: shutil.disk_usage(mount).free for mount in wanted_on}
    folder = min(wanted_on, key=lambda mount: free_on[mount] - wanted_on[mount])
    free, wanted = free_on[folder], wanted_on[folder]
    sentence = f"{free / _GIGABYTE:,.1f} GB are free at {folder}; a run may need {wanted / _GIGABYTE:,.1f} GB"
    if free >= wanted:
        return Finding("disk", True, sentence)
    return Finding("disk", False, sentence, "make room, or move the plant to a larger disk")


def examine_warehouse(plant: Plant, *, now: datetime) -> list[Finding]:
    """Say whether data arrives, what the regimes see, and what waits for a decision; `now` is UTC.

    Raises:
        NotFittedError: The plant has not been run yet.
    """
    with plant.warehouse.snapshot() as connection:
        return [
            _examine_arrival(connection, plant.config, now),
            _examine_machines(connection),
            _examine_sight(connection),
            *_examine_verdicts(connection, plant.config.drift.policy),
        ]


def _stored(config: PlantConfig) -> Iterator[Path]:
    """Yield what of a plant lies on disks of this machine: the warehouse, a file or a folder, and what is published."""
    yield config.warehouse_path
    yield config.published_path
    if config.warehouse.is_lake and "://" not in config.lake_data:
        data = Path(config.lake_data)
        if not data.is_relative_to(config.warehouse_path):
            yield data


def _mount(path: Path) -> Path:
    """Return the highest folder of the disk on which a path lies or will lie."""
    folder = next(parent for parent in (path, *path.parents) if parent.is_dir())
    device = folder.stat().st_dev
    return [parent for parent in (folder, *folder.parents) if parent.stat().st_dev == device][-1]


def _size(path: Path) -> int:
    if not path.is_dir():
        return path.stat().st_size if path.exists() else 0
    size = 0
    for file in path.rglob("*"):
        with suppress(FileNotFoundError):  # a run may remove it meanwhile
            size += file.stat().st_size if file.is_file() else 0
    return size


def _examine_arrival(connection: duckdb.DuckDBPyConnection, config: PlantConfig, now: datetime) -> Finding:
    last = fetch_value(connection, "SELECT max(ts) FROM core.readings")
    if last is None:
        return Finding("data", False, "there are no readings yet", "run `pwflow run`")
    if config.source.simulated_days is not None:
        return Finding("data", True, "the plant is simulated; no more data arrives")
    hours = (now - last) / timedelta(hours=1)
    sentence = f"the last reading is of {last:%Y-%m-%d %H:%M} UTC, {_say_hours(hours)} ago"
    usual = _usual_pause(connection)
    if now - last <= max(3 * usual, 2 * _SILENT):
        return Finding("data", True, sentence)
    return Finding(
        "data", False, sentence, "look whether exports still arrive where source.path says, then `pwflow run`"
    )


def _usual_pause(connection: duckdb.DuckDBPyConnection) -> timedelta:
    """Return the median time between days on which files arrived; a day where it is not known."""
    pause = fetch_value(
        connection,
        "SELECT median(pause) FROM (SELECT day - lag(day) OVER (ORDER BY day) AS pause "
        "FROM (SELECT DISTINCT ingested_at::DATE AS day FROM ingest.files))",
    )
    return timedelta(days=float(pause or 1))


def _examine_machines(connection: duckdb.DuckDBPyConnection) -> Finding:
    rows = connection.execute(
        "SELECT machine_id, hours_silent FROM mart.machines ORDER BY hours_silent DESC"
    ).fetchall()
    silent = [f"{machine} ({_say_hours(hours)})" for machine, hours in rows if hours > _SILENT / timedelta(hours=1)]
    if not silent:
        return Finding("machines", True, f"{count(len(rows), 'machine')}: all were read on the last day")
    sentence = f"{len(silent)} of {len(rows)} machines stopped while others go on: {list_few(silent, 8)}"
    return Finding("machines", False, sentence, "find out whether they stand still or their data is lost")


def _examine_sight(connection: duckdb.DuckDBPyConnection) -> Finding:
    blind = blind_sensors(read_sight(connection))
    if not blind:
        return Finding("regimes", True, "every regime sees lasting shifts of every sensor")
    which = list_few(read_names(connection).labels(blind), 8)
    number = f"{len(blind)} {'regime misses' if len(blind) == 1 else 'regimes miss'}"
    step = "`pwflow status` says of each which shifts, why, and what to do"
    return Finding("regimes", False, f"{number} lasting shifts of some sensors: {which}", step)


def _examine_verdicts(connection: duckdb.DuckDBPyConnection, policy: str) -> Iterator[Finding]:
    waiting = open_verdicts(connection)
    if not waiting:
        yield Finding("verdicts", True, "no verdict waits for an answer")
    names = read_names(connection)
    for verdict in waiting:
        said = f"{verdict.verdict_id} waits since {verdict.night}: {verdict.summary}"
        yield Finding("verdicts", verdict.status == "requested", names.spell_out(said), next_step(verdict, policy))


def _say_hours(hours: float) -> str:
    return count(round(hours), "hour") if hours < 72 else count(round(hours / 24), "day")
