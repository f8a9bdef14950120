"""A look at the data behind a configuration: read as a run reads them, and nothing is learned.

The files are read into a warehouse of their own, which is thrown away. So they are parsed and refused as in a run, and
the warehouse of the plant stays as it is. Columns that a run leaves out are read too, in the same way, apart from it.
"""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from pwflow_core.config import FeaturesConfig, PlantConfig, SensorConfig
from pwflow_core.errors import SourceError, list_few
from pwflow_core.onboarding.names import name_sensors
from pwflow_core.pipeline.looking.data.doubts import Doubt, find_doubts, find_left_out_doubts, in_order
from pwflow_core.pipeline.looking.data.profile import DataProfile, profile_channels, profile_data
from pwflow_core.pipeline.looking.data.sensors import SensorProfile
from pwflow_core.pipeline.readings.deriving import derive_readings
from pwflow_core.pipeline.readings.parsing import parse_rows
from pwflow_core.pipeline.readings.timing import read_timing
from pwflow_core.pipeline.source.ingest import ingest_files, list_source_files
from pwflow_core.pipeline.source.settling import find_earlier_source, look_into_files
from pwflow_core.pipeline.source.source import SOURCE_FACT, Source, read_source
from pwflow_core.pipeline.using.apart import open_apart
from pwflow_core.plant import Plant
from pwflow_core.spelling.numbers import finite
from pwflow_core.storage import working_folder
from pwflow_core.warehouse import quote_identifier, utc_now
from pwflow_core.warehouse.progress import write_fact

__all__ = ["DataCheck", "LeftOut", "check_data"]

_log = logging.getLogger("pwflow.check")

_MOST_LEFT_OUT = 100
"""Columns that are left out and are read all the same."""


@dataclass(frozen=True)
class LeftOut:
    """A column that a run does not read.

    Attributes:
        column: Its name in the files.
        reason: Why, by a look at a sample.
        seen: What all of its values are like; None where they are no numbers.
    """

    column: str
    reason: str
    seen: SensorProfile | None


@dataclass(frozen=True)
class DataCheck:
    """What was found.

    Attributes:
        data: The readings.
        left_out: Columns that a run does not read.
        doubts: What a person should look at, the most doubtful first.
    """

    data: DataProfile
    left_out: tuple[LeftOut, ...]
    doubts: tuple[Doubt, ...]


def check_data(plant: Plant) -> DataCheck:
    """Look at the data of a plant.

    Raises:
        SourceError: No file can be read, or no row of them is a reading.
        StorageFullError: The folder for temporary files is too full for the readings.
    """
    is_settled = plant.config.source.timestamp is not None and bool(plant.config.sensors)
    earlier = None if is_settled else find_earlier_source(plant)
    with working_folder(Path(tempfile.gettempdir()), "check") as folder:
        _log.info("check", extra={"job": "check", "n_steps": 4})
        apart = open_apart(plant, folder, _without_features(plant.config))
        _read(apart, earlier)
        _ended("the files are read")
        derive_readings(apart)
        _ended("readings are made")
        with apart.warehouse.snapshot() as connection:
            source = read_source(connection)
            data = profile_data(connection, plant.config)
            timing = read_timing(connection, plant.config)
        _ended("machines and sensors are looked at")
        interval_seconds = timing.interval_seconds if timing else None
        left_out = _look_at_left_out(apart, source, interval_seconds, folder)
        _ended("columns that are left out are looked at")
    doubts = (
        *find_doubts(data, plant.config),
        *find_left_out_doubts([one.seen for one in left_out if one.seen is not None]),
    )
    return DataCheck(data, left_out, in_order(doubts))


def _ended(message: str) -> None:
    _log.info("%s", message, extra={"is_step_end": True})


def _without_features(config: PlantConfig) -> PlantConfig:
    """Return the configuration without features over time: what files hold does not depend on them."""
    features = FeaturesConfig(windows=(), gap_seconds=config.features.gap_seconds)
    return config.model_copy(update={"features": features})


def _read(apart: Plant, earlier: Source | None) -> None:
    """Read the files; what an earlier run of the plant settled about them stays settled."""
    if earlier is not None:
        with apart.warehouse.transaction() as connection:
            write_fact(connection, SOURCE_FACT, earlier.to_json())
    ingest_files(apart)


def _look_at_left_out(
    apart: Plant, source: Source, interval_seconds: float | None, folder: Path
) -> tuple[LeftOut, ...]:
    """Return the columns that a run does not read, those of numbers with what all of their values are like."""
    try:
        seen = look_into_files(apart, list_source_files(apart), source)
    except SourceError:
        return ()  # a sample of the files shows nothing beside what the configuration names
    used: set[str | None] = {*source.timestamp_columns, *source.segments, *source.value}
    used |= {source.machine, source.tag, source.quality, source.milliseconds, source.nanoseconds}
    for sensor in source.sensors:
        used |= {sensor.column, sensor.timestamp, sensor.quality}
    reasons = {sensor.column: "is not listed under [sensors]" for sensor in seen.sensors} | seen.ignored
    reasons = {column: reason for column, reason in reasons.items() if column not in used}
    numeric = {sensor.column for sensor in seen.sensors} | seen.optional
    columns = [column for column in reasons if column in numeric][:_MOST_LEFT_OUT]
    profiles = _profile_left_out(apart, columns, interval_seconds, folder) if columns else {}
    return tuple(LeftOut(column, reason, profiles.get(column)) for column, reason in reasons.items())


def _profile_left_out(
    apart: Plant, columns: list[str], interval_seconds: float | None, folder: Path
) -> dict[str, SensorProfile]:
    """Read columns as sensors, into another warehouse; return what each is like, by column."""
    _log.info("reading what a run leaves out: %s", list_few(columns))
    names = name_sensors(columns)
    sensors = {names[column]: SensorConfig(column=column) for column in columns}
    target = folder / "left_out"
    target.mkdir()
    other = open_apart(apart, target, apart.config.model_copy(update={"sensors": sensors}))
    try:
        ingest_files(other)
    except SourceError as error:
        _log.warning("what a run leaves out cannot be read: %s", error)
        return {}
    with other.warehouse.transaction() as connection:
        source = read_source(connection)
        connection.execute("CREATE TEMP TABLE gone_files (file_id BIGINT)")
        connection.execute(
            "CREATE TEMP TABLE fresh_files AS SELECT file_id FROM ingest.files WHERE status = 'ingested'"
        )
        parse_rows(connection, source, utc_now())
        values = ", ".join(f"{finite(c)} AS {c}" for c in (quote_identifier(sensor.name) for sensor in source.sensors))
        timed = "instant IS NOT NULL AND machine_id IS NOT NULL"
        rows = f"(SELECT machine_id, instant AS ts, {values} FROM parsed WHERE {timed})"
        found = profile_channels(connection, rows, source.sensors, interval_seconds)
    return {
        sensor.column: replace(seen, sensor=sensor.column) for sensor, seen in zip(source.sensors, found, strict=True)
    }
