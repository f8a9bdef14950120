"""The source settled: what the configuration leaves open is found in the files, once, and stays."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from pwflow_core.errors import ConfigurationError, NotFittedError, SourceError, first_line
from pwflow_core.marks import FILE_NAME_COLUMN
from pwflow_core.pipeline.source.source import SOURCE_FACT, FileState, Sensor, Source
from pwflow_core.plant import Plant
from pwflow_core.spelling import NUMERIC_FORMATS, parse_format
from pwflow_core.storage import working_folder
from pwflow_core.warehouse import quote_literal
from pwflow_core.warehouse.progress import read_fact

if TYPE_CHECKING:
    from pwflow_core.onboarding import Inspection

__all__ = ["find_earlier_source", "look_into_files", "settle_source"]

_ROWS_OF_QUERY = 50_000
"""Rows of `source.sql` that are looked at."""


def settle_source(plant: Plant, files: list[FileState]) -> Source:
    """Return the source with everything that the configuration leaves open found in the data.

    What an earlier run found stays: tonight's first file must not change what the columns mean.

    Raises:
        SourceError: No timestamp or no numeric column is found.
        ConfigurationError: Times cannot be read by the configured format.
    """
    config = plant.config.source
    named = tuple(
        Sensor(
            name,
            sensor.column or name,
            sensor.unit,
            sensor.low,
            sensor.high,
            sensor.timestamp,
            sensor.quality,
            sensor.period,
            sensor.cut,
            sensor.missing,
            sensor.state,
        )
        for name, sensor in plant.config.sensors.items()
    )
    source = Source(
        timestamp=config.timestamp or "",
        timestamp_format=config.timestamp_format,
        timezone=config.timezone,
        machine=config.machine,
        segments=config.segments,
        sensors=named,
        delimiter=config.delimiter,
        decimal=config.decimal,
        layout=config.layout,
        tag=config.tag,
        value=(config.value,) if isinstance(config.value, str) else config.value or (),
        quality=config.quality,
        good_quality=config.good_quality if config.quality or any(sensor.quality for sensor in named) else (),
        milliseconds=config.milliseconds,
        nanoseconds=config.nanoseconds,
        path_columns=config.path_columns,
        encoding=config.encoding,
        thousands=config.thousands,
        missing_words=config.missing_words,
        future_hours=config.future_hours,
        header=config.header,
    )
    _check_format(config.timestamp_format)
    if source.timestamp and named:
        return source
    earlier = find_earlier_source(plant)
    if earlier is None:
        return _look(plant, files, source)
    return replace(
        source,
        timestamp=source.timestamp or earlier.timestamp,
        timestamp_format=source.timestamp_format or earlier.timestamp_format,
        milliseconds=source.milliseconds or (None if source.timestamp else earlier.milliseconds),
        sensors=named or earlier.sensors,
        delimiter=source.delimiter or earlier.delimiter,
        thousands=source.thousands or earlier.thousands,
        header=source.header and earlier.header,
    )


def _check_format(format: str | None) -> None:
    if format is None or format in NUMERIC_FORMATS:
        return
    try:
        parse_format(format)
    except ValueError as error:
        raise ConfigurationError(f"source.timestamp_format: {error}; or one of {', '.join(NUMERIC_FORMATS)}.") from None


def _look(plant: Plant, files: list[FileState], source: Source) -> Source:
    """Return the source with what its files show of what it leaves open."""
    seen = look_into_files(plant, files, source)
    return replace(
        source,
        timestamp=source.timestamp or seen.timestamp,
        timestamp_format=source.timestamp_format or seen.timestamp_format,
        milliseconds=source.milliseconds or (None if source.timestamp else seen.milliseconds),
        sensors=source.sensors
        or tuple(Sensor(s.name, s.column, s.unit, missing=s.missing, state=s.is_state) for s in seen.sensors),
        delimiter=source.delimiter or seen.delimiter,
        thousands=source.thousands or seen.thousands,
        header=source.header and seen.header,
    )


def look_into_files(plant: Plant, files: list[FileState], source: Source) -> Inspection:
    """Return what a look into the files of a source shows; what the source says is not guessed.

    Raises:
        SourceError: They cannot be read, or have no timestamp or no numeric column.
    """
    from pwflow_core.onboarding import inspect_source

    beside = (FILE_NAME_COLUMN, *plant.config.source.path_names)
    with _readable(plant, files) as paths:
        return inspect_source(
            paths,
            delimiter=source.delimiter,
            decimal=source.decimal,
            thousands=source.thousands,
            timestamp=plant.config.source.timestamp,
            timestamp_format=source.timestamp_format,
            timezone=source.timezone,
            machine=None if source.machine in beside else source.machine,
            segments=[column for column in source.segments if column not in beside],
            encoding=source.encoding,
        )


@contextmanager
def _readable(plant: Plant, files: list[FileState]) -> Iterator[list[Path]]:
    """Give the files to look at; of a query, one with its first rows.

    Raises:
        SourceError: The query cannot be run.
    """
    query = plant.config.source.sql
    if query is None:
        yield [Path(file.path) for file in files]
        return
    with plant.warehouse.scratch() as scratch, working_folder(plant.warehouse.folder, "looking") as folder:
        path = folder / "source.sql.parquet"
        rows = f"SELECT * FROM ({query.rstrip().rstrip(';')}\n) LIMIT {_ROWS_OF_QUERY:d}"
        try:
            scratch.execute(f"COPY ({rows}) TO {quote_literal(str(path))} (FORMAT parquet)")
        except duckdb.Error as error:
            raise SourceError(
                f"Expected a query that DuckDB runs, but source.sql cannot be read: {first_line(error)}. Correct "
                "source.sql in pwflow.toml."
            ) from None
        yield [path]


def find_earlier_source(plant: Plant) -> Source | None:
    """Return the source as an earlier ingest settled it; None if there was none."""
    try:
        with plant.warehouse.snapshot() as connection:
            text = read_fact(connection, SOURCE_FACT)
    except NotFittedError:
        return None
    return Source.from_json(text) if text else None
