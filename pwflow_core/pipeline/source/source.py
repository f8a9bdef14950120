"""The source of readings, settled: which files there are, and which columns mean what."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
from collections import Counter
from dataclasses import MISSING, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from pwflow_core.config import PlantConfig
from pwflow_core.errors import SourceError, first_line
from pwflow_core.files import escape_glob, is_remote, match_files, readable_name
from pwflow_core.opening import is_packed, list_members, looks_like_export, split_member
from pwflow_core.redaction import name_file
from pwflow_core.warehouse import in_utc
from pwflow_core.warehouse.progress import read_fact

__all__ = [
    "FileState",
    "Sensor",
    "Source",
    "digest_files",
    "find_files",
    "know_files",
    "label_files",
    "look_at_file",
    "name_files",
    "read_source",
]

SOURCE_FACT = "source"
_ESCAPED = re.compile(r"\[([*?\[])\]")
_ESCAPED_OR_WILD = re.compile(r"\[[*?\[]\]|([*?\[])")


@dataclass(frozen=True)
class Sensor:
    """One sensor: its name, its column, its unit, physical limits (in that unit), and the marks of a missing value.

    In a long layout the column is what the tag column says. It may have a time column and a quality column of its own.
    A `state` is watched by what it was before, and no model learns its value.
    """

    name: str
    column: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    timestamp: str | None = None
    quality: str | None = None
    period: float | None = None
    cut: float = 0.0
    missing: tuple[float, ...] = ()
    state: bool = False


@dataclass(frozen=True)
class Source:
    """How rows of the source become readings.

    Attributes:
        timestamp: Timestamp column; several, such as date and time of day, are joined by a space.
        timestamp_format: strptime format, a number format such as `unix_s`, or None for ISO 8601.
        timezone: Zone of timestamps that carry none, or None to refuse them.
        machine: Machine column, or None if all readings belong to one machine.
        segments: Columns of known process conditions.
        sensors: The sensors, in order.
        delimiter: CSV delimiter, or None to sniff it.
        decimal: Decimal separator in CSV files.
        layout: `wide`, or `long` with a row per value.
        tag: Column that names the sensor of a long layout.
        value: Columns that may hold its value.
        quality: Column that says whether that is good.
        good_quality: What a quality column says of a good value.
        milliseconds: Column of the milliseconds that belong to the timestamp.
        nanoseconds: Column of the nanoseconds that belong to the timestamp.
        path_columns: Regular expression whose named groups are columns found in the path.
        encoding: Encoding of CSV files that are not UTF-8.
        thousands: Comma or point between thousands in CSV files, or None.
        missing_words: Further words for a missing value in CSV files.
        future_hours: How far ahead of the present a reading may be.
        header: Whether CSV files begin with the names of their columns.
    """

    timestamp: str | tuple[str, ...]
    timestamp_format: str | None
    timezone: str | None
    machine: str | None
    segments: tuple[str, ...]
    sensors: tuple[Sensor, ...]
    delimiter: str | None
    decimal: str
    layout: str = "wide"
    tag: str | None = None
    value: tuple[str, ...] = ()
    quality: str | None = None
    good_quality: tuple[str, ...] = ()
    milliseconds: str | None = None
    nanoseconds: str | None = None
    path_columns: str | None = None
    encoding: str | None = None
    thousands: str | None = None
    missing_words: tuple[str, ...] = ()
    future_hours: float = 24.0
    header: bool = True

    @property
    def fraction(self) -> tuple[str, int] | None:
        """Column of the fractions of a second, and the digits that they have, or None."""
        if self.milliseconds is not None:
            return self.milliseconds, 3
        return None if self.nanoseconds is None else (self.nanoseconds, 9)

    @property
    def timestamp_columns(self) -> tuple[str, ...]:
        """The columns that make up the time."""
        return (self.timestamp,) if isinstance(self.timestamp, str) else self.timestamp

    @property
    def measured(self) -> tuple[str, ...]:
        """Names of the sensors whose values the models learn."""
        return tuple(sensor.name for sensor in self.sensors if not sensor.state)

    @property
    def states(self) -> tuple[str, ...]:
        """Names of the sensors that are states."""
        return tuple(sensor.name for sensor in self.sensors if sensor.state)

    @property
    def hash(self) -> str:
        """Fingerprint: files read under another one are read again."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """Return the source as JSON, without what is not used: a new key with a default is not another source."""
        values = _used(self) | {"sensors": [_used(sensor) for sensor in self.sensors]}
        return json.dumps(values, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Source:
        """Return the source that `to_json` wrote."""
        values = _with_tuples(json.loads(text))
        sensors = tuple(Sensor(**_with_tuples(sensor)) for sensor in values.pop("sensors"))
        return cls(sensors=sensors, **values)


_ALWAYS = frozenset({"unit", "low", "high"})
"""Keys with a default that have been in the fingerprint from the first."""


def _used(item: Source | Sensor) -> dict[str, object]:
    return {
        field.name: getattr(item, field.name)
        for field in fields(item)
        if field.default is MISSING or field.name in _ALWAYS or getattr(item, field.name) != field.default
    }


def _with_tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


@dataclass(frozen=True)
class FileState:
    """A file of the source as it stands now: its path, size in bytes and time of last change (UTC)."""

    path: str
    size_bytes: int
    modified_at: datetime


def find_files(config: PlantConfig) -> list[FileState]:
    """Return the files that the configured paths and globs match, sorted by path.

    Raises:
        SourceError: A path or glob matches nothing.
    """
    found: dict[str, FileState] = {}
    with duckdb.connect(":memory:") as connection:
        for pattern in config.source.patterns:
            where = _glob(config, pattern)
            try:
                if is_remote(pattern):
                    query = "SELECT filename, size, last_modified::TIMESTAMP FROM read_blob(?)"
                    files = [FileState(*row) for row in connection.execute(query, [where]).fetchall()]
                else:
                    paths = _matches(connection, where)
                    # DuckDB's glob skips names with a backslash
                    matched = glob.glob(where, recursive=True)  # noqa: PTH207 - a whole pattern, not one below a folder
                    paths += [path for path in matched if "\\" in path and path not in paths]
                    base = _fixed_folder(where)
                    paths = [path for path in paths if not _is_hidden(path, base)]
                    if config.resolve_path(pattern).is_dir():
                        paths = [path for path in paths if looks_like_export(path) or is_packed(path)]
                    paths = [member for path in paths if not Path(path).is_dir() for member in _members(path)]
                    files = [look_at_file(path) for path in paths]
            except (duckdb.Error, OSError) as error:
                if "No files found" not in str(error):
                    raise SourceError(
                        f"source.path = '{pattern}' cannot be read: {first_line(error)}. Correct the path, or give "
                        "this user the right to read it."
                    ) from None
                files = []
            if not files:
                raise SourceError(
                    f"Expected files at source.path = '{pattern}', but nothing matches {where}: correct "
                    "the path in the configuration, or put the exports there."
                )
            found |= {file.path: file for file in files}
    return [found[path] for path in sorted(found)]


def digest_files(config: PlantConfig) -> str | None:
    """Return what changes when, and only when, a file of the source does; None where only reading tells.

    Raises:
        SourceError: A path or glob matches nothing.
    """
    if config.source.path is None:
        return None
    states = (f"{file.path}\0{file.size_bytes}\0{file.modified_at.isoformat()}" for file in find_files(config))
    return hashlib.sha256("\n".join(states).encode(errors="surrogateescape")).hexdigest()


def _matches(connection: duckdb.DuckDBPyConnection, pattern: str) -> list[str]:
    """Return what a glob matches; DuckDB gives up on a name that is not UTF-8."""
    try:
        return [row[0] for row in connection.execute("SELECT file FROM glob(?)", [pattern]).fetchall()]
    except (duckdb.InvalidInputException, RuntimeError) as error:
        if "utf" not in str(error).lower() and "unicode" not in str(error).lower():
            raise
        return match_files(pattern)


def _members(path: str) -> list[str]:
    """Return the exports in an archive, or the file itself; an archive that cannot be read is refused like a file."""
    if not is_packed(path):
        return [path]
    try:
        return [f"{path}/{name}" for name, _, _ in list_members(Path(path))] or [path]
    except SourceError:
        return [path]


def look_at_file(path: str) -> FileState:
    """Return the state of a local file as it is now; of what is inside an archive, that of the archive."""
    status = split_member(path)[0].stat()
    return FileState(path, status.st_size, in_utc(datetime.fromtimestamp(status.st_mtime, UTC)))


def name_files(files: list[FileState]) -> dict[str, str]:
    """Return what each file is known by in the warehouse, by path; no two have the same name, no name has a secret."""
    names = {file.path: name_file(file.path) for file in files}
    bearers = Counter(names.values())
    return {
        path: name if bearers[name] == 1 else f"{name}#{hashlib.sha256(path.encode()).hexdigest()[:8]}"
        for path, name in names.items()
    }


def know_files(config: PlantConfig, files: list[FileState]) -> dict[str, str]:
    """Return what each file is known by in the warehouse: its path below `source.path`, wherever that folder lies."""
    names, labels = name_files(files), label_files(config, files)
    return {path: name if is_remote(path) else labels[path] or readable_name(name) for path, name in names.items()}


def label_files(config: PlantConfig, files: list[FileState]) -> dict[str, str]:
    """Return the name of each file for readers: its path below the fixed part of the configured paths.

    Files that arrive later do not change it, so it can name a segment.
    """
    folders = [_fixed_folder(_glob(config, pattern)) for pattern in config.source.patterns]
    base = os.path.commonpath(folders) if folders else ""
    names = name_files(files)
    return {path: readable_name(name.removeprefix(base).lstrip("/")) for path, name in names.items()}


def _is_hidden(path: str, base: str) -> bool:
    """Whether a file below the folder `base` is hidden, or lies in a hidden folder such as `.pwflow`."""
    return any(part.startswith(".") for part in Path(os.path.relpath(path, base)).parts if part != "..")


def _glob(config: PlantConfig, pattern: str) -> str:
    """Return the configured path as a glob; only what the user wrote as one is one."""
    if is_remote(pattern):
        return pattern
    path = config.resolve_path(pattern)
    if path.is_dir():
        return f"{escape_glob(str(path))}/**/*"
    if path.exists():
        return escape_glob(str(path))
    written = Path(pattern).expanduser()
    return str(written) if written.is_absolute() else f"{escape_glob(str(config.folder.absolute()))}/{written}"


def _fixed_folder(pattern: str) -> str:
    """Return the folder that a glob starts from."""
    wild = next((match.start() for match in _ESCAPED_OR_WILD.finditer(pattern) if match[1]), len(pattern))
    return os.path.dirname(_ESCAPED.sub(r"\1", pattern[:wild]))  # noqa: PTH120 - may be a URL


def read_source(connection: duckdb.DuckDBPyConnection) -> Source:
    """Return the source as the last ingest settled it.

    Raises:
        SourceError: Nothing has been ingested yet.
    """
    text = read_fact(connection, SOURCE_FACT)
    if text is None:
        raise SourceError("Nothing has been ingested yet: materialize raw_readings, or run `pwflow run`.")
    return Source.from_json(text)
